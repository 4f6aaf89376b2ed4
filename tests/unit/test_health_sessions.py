"""What health says of sessions: of one, and of a thousand."""

from __future__ import annotations

import time
from typing import Any

import pytest

from standfast.authstate.company import Company
from standfast.health.sessions import SessionTrend, findings, session_verdict, sessions_section
from standfast.health.thresholds import Thresholds
from standfast.sessions.session import Session, State

HOST: dict[str, Any] = {"pid": 7, "ready": True, "restarts": 0, "retiring": False}


def wire(company: str = "acme", **more: Any) -> dict[str, Any]:
    """A session that stands, as the service shows it."""
    session = Session(Company(company), State.OPEN, wanted=True)
    return session.as_wire() | {"since_s": 600.0, "last_frame_age_s": 3.0} | more


DOWN: dict[str, Any] = {"state": "closed", "failures": 3, "since_s": 5.0, "reason": "code 503"}


def found(*wires: dict[str, Any], hosts: Any = (HOST,)) -> list[tuple[str, str]]:
    section = sessions_section(wires, list(hosts), 0)
    return [(one.code, one.level) for one in findings(section, Thresholds())]


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({}, "ok"),
        ({"last_frame_age_s": None}, "ok"),
        ({"last_frame_age_s": 91.0}, "quiet"),
        ({"state": "qr", "wanted": False}, "pairing"),
        ({"state": "pairing"}, "pairing"),
        ({"state": "closed"}, "down"),
        ({"state": "replaced"}, "down"),
        ({"state": "closed", "wanted": False}, "stopped"),
    ],
)
def test_a_session_is_judged_by_its_traffic(more: dict[str, Any], verdict: str) -> None:
    """Open is not enough; and nobody misses a session that nobody wants."""
    assert session_verdict(wire(**more)) == verdict


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, []),
        ({"state": "connecting", "since_s": 3.0}, []),
        ({"state": "closed", "failures": 1, "since_s": 5.0}, []),
        ({"state": "connecting", "since_s": 31.0}, [("session_down", "warning")]),
        (DOWN, [("session_down", "warning")]),
        ({"state": "replaced", "since_s": 0.0}, [("session_down", "warning")]),
        ({"state": "logged_out", "wanted": False}, [("session_logged_out", "warning")]),
        ({"state": "logged_out", "wanted": False, "unlinking": True}, []),
        ({"state": "closed", "wanted": False}, []),
        ({"last_frame_age_s": 200.0}, [("session_quiet", "warning")]),
    ],
)
def test_a_reconnect_is_no_trouble_and_what_lasts_is(
    more: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """What is over in seconds is not told; what an operator did neither."""
    assert found(wire("acme", **more), *(wire(f"ok{number}") for number in range(20))) == expected


def test_many_are_worse_than_one_and_all_are_the_worst() -> None:
    """One of many is a warning; a tenth of them, or everything there is, an error."""
    stand = [wire(f"ok{number}") for number in range(28)]
    assert found(wire(**DOWN), *stand) == [("session_down", "warning")]
    three = [wire(f"down{number}", **DOWN) for number in range(4)]
    assert set(found(*three, *stand)) == {("session_down", "error")}
    assert found(wire(**DOWN)) == [("session_down", "error")]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([HOST, HOST | {"ready": False}], [("hosts_not_ready", "warning")]),
        ([HOST | {"ready": False}], [("hosts_not_ready", "error")]),
        ([], [("hosts_not_ready", "error")]),
        ([HOST, HOST | {"ready": False, "retiring": True}], []),
    ],
)
def test_hosts_that_are_not_there_are_told(hosts: list[Any], expected: list[tuple[str, str]]) -> None:
    """One that is being replaced is not missed."""
    assert found(wire(), hosts=hosts) == expected


def test_a_thousand_sessions_are_judged_quickly_and_told_of_briefly() -> None:
    """Five are named, the others counted; the section names fifty, the worst first."""
    wires = [wire(f"c{number:04}", **(DOWN if number % 2 else {})) for number in range(1000)]
    wires[500] |= {"state": "replaced", "next_step": "Stop the other client."}
    trend = SessionTrend()
    began = time.perf_counter()
    section = sessions_section(wires, [HOST] * 5, 12, trend)
    told = findings(section, Thresholds())
    assert time.perf_counter() - began < 0.2  # 4 ms where nothing else runs
    assert (section.down, len(section.troubled), section.waiting) == (501, 50, 12)
    assert [one.code for one in told] == ["session_down"] * 5 + ["sessions_down"]
    assert (told[0].company, told[0].recommendation) == ("c0500", "Stop the other client.")
    assert "496 more of 1000" in told[5].message
    assert section.verdicts == {"ok": 499, "down": 501}


def test_a_rise_of_what_cannot_be_decrypted_is_told_with_whose_it_is() -> None:
    """What happened before the window, and a few among many, is no news; it ends when the window has passed."""
    now = 1000.0
    trend = SessionTrend(lambda: now)

    def look(failed: int, received: int) -> list[str]:
        wires = [wire(undecryptable=failed, messages_received=received), wire("beta", undecryptable=3)]
        return [one.message for one in findings(sessions_section(wires, [HOST], 0, trend), Thresholds())]

    assert look(500, 1000) == []
    now += 60
    assert look(509, 1000) == []
    assert look(510, 5000) == []
    assert look(520, 1100) == ["20 messages could not be decrypted within 10 minutes (100 could): acme"]
    now += 700
    assert look(520, 1100) == []
