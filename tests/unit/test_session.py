"""The session state machine, without sockets."""

import time

import pytest

from standfast.authstate.company import company_id
from standfast.sessions.backoff import Backoff
from standfast.sessions.breaker import Breaker
from standfast.sessions.session import Next, Pairing, Session, State


def session(**values: object) -> Session:
    made = Session(company_id("acme"))
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("status", "follow", "state"),
    [
        (515, Next.RESTART, State.CONNECTING),
        (440, Next.STOP, State.REPLACED),
        (401, Next.STOP, State.LOGGED_OUT),
        (403, Next.STOP, State.FORBIDDEN),
        (406, Next.STOP, State.FORBIDDEN),
        (408, Next.RECONNECT, State.CLOSED),
        (428, Next.RECONNECT, State.CLOSED),
        (503, Next.RECONNECT, State.CLOSED),
        (500, Next.RECONNECT, State.CLOSED),
        (0, Next.RECONNECT, State.CLOSED),
    ],
)
def test_a_close_of_an_open_session_is_followed_by_what_its_code_means(
    status: int, follow: Next, state: State
) -> None:
    """515 restarts at once, 440, 401, 403 and 406 stop for good, everything else reconnects."""
    one = session(state=State.OPEN)
    assert one.closed(status, "x", steady_s=30) is follow
    assert one.state is state
    assert one.status == status


@pytest.mark.parametrize("status", [401, 408])
def test_an_uncompleted_pairing_stops_instead_of_asking_for_ever(status: int) -> None:
    """No QR storm, and a refused pairing is not taken for a logout of a paired company."""
    one = session(state=State.QR, pairing=Pairing("qr"))
    assert one.closed(status, "x", steady_s=30) is Next.STOP
    assert one.state is State.CLOSED
    assert one.next_step is not None
    assert "standfast pair acme" in one.next_step


def test_a_momentary_open_does_not_reset_the_backoff() -> None:
    """Only a connection that lasted counts as a success."""
    one = session(state=State.OPEN, breaker=Breaker(4))
    one.closed(503, "x", steady_s=30)
    assert one.failures == 5
    lasted = session(state=State.OPEN, breaker=Breaker(4), since=time.monotonic() - 31)
    lasted.closed(503, "x", steady_s=30)
    assert lasted.failures == 1


def test_pairing_ends_with_the_restart_that_follows_it() -> None:
    """After pair-success the next socket logs in; it does not pair again."""
    one = session(state=State.QR, pairing=Pairing("qr"))
    one.paired("79990000001:1@s.whatsapp.net", None)
    assert one.closed(515, "restart", steady_s=30) is Next.RESTART
    assert one.pairing is None


def test_a_prompt_is_forgotten_once_it_is_answered() -> None:
    """A QR or code never outlives its state, and never shows in what operators see."""
    one = session()
    one.prompted(State.QR, "the-qr", 20)
    assert "the-qr" not in str(one.as_wire())
    one.opened("x", None)
    assert one.prompt is None


def test_backoff_doubles_to_its_cap_and_spreads() -> None:
    """5 s × 2ⁿ up to 60 s, with jitter on both sides."""
    exact = Backoff(jitter=0)
    assert [exact.delay_s(n) for n in (1, 2, 3, 4, 5, 50)] == [5, 10, 20, 40, 60, 60]
    spread = {Backoff().delay_s(1) for _ in range(50)}
    assert len(spread) > 40
    assert all(4 <= delay <= 6 for delay in spread)
