"""What the status tells an operator who was woken."""

from __future__ import annotations

from typing import Any

import pytest

from standfast.cli.standing import company_lines, node_line, outage_lines, vault_line

CAUSE = {
    "code": "database_unavailable",
    "message": "nothing accepts connections",
    "next_step": "Start PostgreSQL.",
}


def status(state: str, sessions: tuple[str, ...] = (), **vault: Any) -> dict[str, Any]:
    """As `Service.status` makes it."""
    given = {
        "state": state,
        "since_s": 61.0,
        "outage_s": 63.0 if state == "outage" else None,
        "cause": CAUSE if state in ("suspect", "outage") else None,
        "confirmed_s": 65.0,
        "grace_s": 300.0,
        "durability": "local",
        "cache_mode": "read-write",
        "journal": {"batches": 12, "bytes": 3400, "carried": 5},
        "replica": {"bytes": 10_000, "companies": 2, "writable": True},
        "quarantine": 0,
        "companies": [],
        "node": {"id": "1234567890", "name": "alpha"},
    }
    rows = [{"company": f"c{n}", "state": state_, "wanted": True} for n, state_ in enumerate(sessions)]
    return {"vault": given | vault, "sessions": rows}


def told(document: dict[str, Any]) -> list[str]:
    return [line.plain for line in outage_lines(document)]


def test_nothing_is_told_while_all_is_well() -> None:
    """Also by a service of before the vault."""
    assert told(status("online")) == []
    assert told({}) == []


def test_an_outage_says_what_stands_and_what_to_do() -> None:
    """What is away since when, that sessions stand, where the writes are, the grace that is left, the next step."""
    away, stand, grace, do = told(status("outage", ("open", "open")))
    assert away.startswith("PostgreSQL has been away for 1 m 03 s, since ")
    assert away.endswith("nothing accepts connections")
    assert stand.startswith("2 of 2 sessions stand")
    assert "12 batches (3.4 kB) are safe on this machine's disk" in stand
    assert "3 m 55 s left" in grace
    assert do == "Do: Start PostgreSQL."


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"confirmed_s": 400.0}, "Grace is over since 1 m 40 s"),
        ({"confirmed_s": None}, "never confirmed this node"),
        ({"grace_s": None}, "Grace: unlimited"),
        ({"journal": {"batches": 1, "bytes": 9}}, "1 batch (9 B) is safe"),
        ({"journal": {"batches": 0, "bytes": 0}}, "nothing waits to be written"),
        ({"replica": {"writable": False}}, "sends are refused"),
        ({"cache_mode": "read-only", "companies": [{"skipped": 7, "open": True}]}, "7 writes skipped"),
    ],
)
def test_what_is_special_about_an_outage_is_said(given: dict[str, Any], words: str) -> None:
    """Each in its own words."""
    assert words in "\n".join(told(status("outage", ("open",), **given)))


def test_sessions_that_do_not_stand_are_counted() -> None:
    """An operator sees at once that some need somebody."""
    assert "1 of 3 sessions stand" in told(status("outage", ("open", "closed", "connecting")))[1]


def test_suspicion_and_recovery_ask_for_nothing() -> None:
    """Both pass by themselves."""
    assert "being looked at" in told(status("suspect"))[0]
    (line,) = told(status("recovering"))
    assert "Nothing to do" in line
    assert "12 batches" in line


def test_the_vault_in_one_line() -> None:
    """State, journal, replica; quarantine with its command; a disk that takes no writes."""
    vault = status("online", quarantine=2, replica={"bytes": 5, "companies": 1, "writable": False})["vault"]
    line = vault_line(vault).plain
    for words in (
        "online for 1 m 01 s",
        "journal 12 batches",
        "1 company",
        "not writable",
        "quarantine list",
    ):
        assert words in line
    assert node_line(vault) == "alpha (12345678), grace 5 m 00 s, durability local"


def test_companies_that_need_somebody_are_named() -> None:
    """Stuck or fenced off; others are not worth a line."""
    rows = [
        {"company": "acme", "stuck": "a constraint refused the row", "lease": "held"},
        {"company": "bolt", "stuck": None, "lease": "fenced"},
        {"company": "coral", "stuck": None, "lease": "held"},
    ]
    assert [line.plain.split(":")[0] for line in company_lines({"companies": rows})] == ["acme", "bolt"]
