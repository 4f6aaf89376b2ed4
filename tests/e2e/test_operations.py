"""What operators do to sessions: start, stop, restart, log out, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from standfast.authstate.company import company_id
from standfast.errors import CompanyUnknown, SessionNotOpen, UsageError
from standfast.postgres import sessions_table
from standfast.sessions.phone import address
from standfast.sessions.session import Pairing, State
from tests.e2e.conftest import Line, shares_loop, stays, until


@shares_loop
async def test_stop_start_and_restart(shared_pair: Line) -> None:
    """A stopped session refuses to send and stays stopped; started, it opens; restarted, it is another socket."""
    line, pool = shared_pair, shared_pair.service.pool
    session = await pool.stop("acme")
    assert (session.state, session.reason) == (State.CLOSED, "stopped by an operator")
    with pytest.raises(SessionNotOpen, match="closed: stopped by an operator"):
        await line.send("acme", "bolt", "never sent")
    await line.send("bolt", "acme", "kept for you")
    await stays(lambda: session.state is State.CLOSED, "it reconnected", for_s=0.5)

    await pool.start("acme")
    await line.state("acme", State.OPEN)
    await line.received("acme", ["kept for you"])

    generation = session.generation
    await pool.start("acme")
    assert session.generation == generation, "starting an open session does nothing"
    await pool.restart("acme")
    await line.state("acme", State.OPEN)
    assert session.generation == generation + 1
    await line.send("acme", "bolt", "still here")
    await line.received("bolt", ["still here"])
    assert "never sent" not in line.texts("bolt")


async def test_a_stopped_session_stays_stopped_over_a_restart(pair_of: Line) -> None:
    """Which sessions are wanted is remembered: only those are opened when the service starts."""
    line = pair_of
    await line.service.pool.stop("acme")
    await line.restart()
    await line.state("bolt", State.OPEN)
    assert [session.company for session in line.service.pool.sessions()] == ["bolt"]
    await line.service.pool.start("acme")
    await line.state("acme", State.OPEN)


@shares_loop
async def test_logout_unlinks_the_device(shared_pair: Line, new_phone: Callable[[], str]) -> None:
    """After a logout the phone lists no device, the session says how to pair again, and that works."""
    line, phone = shared_pair, new_phone()
    await line.pair("leaver", phone)
    await line.service.pool.logout("leaver")
    session = await line.state("leaver", State.LOGGED_OUT)
    assert session.next_step == "Pair again: 'standfast pair leaver'."
    assert (await line.simulator.ask("GET", f"/phones/{phone}/devices"))["devices"] == []
    with pytest.raises(SessionNotOpen):
        await line.service.pool.logout("leaver")
    await line.pair("leaver", phone)


@shares_loop
async def test_what_cannot_be_sent_is_refused(shared_pair: Line, new_phone: Callable[[], str]) -> None:
    """A bad address, an empty text and an unknown company are named as such, and the session stays open."""
    pool, session = shared_pair.service.pool, shared_pair.session("acme")
    for wrong in ("not an address", "", "@"):
        with pytest.raises(UsageError, match="not a WhatsApp address"):
            await pool.send("acme", wrong, {"text": "hello"})
    for wrong in ("12", "nobody", "12@example.org"):
        with pytest.raises(UsageError, match=r"not a (phone number|WhatsApp address)"):
            address(wrong)
    with pytest.raises(UsageError, match="content cannot be sent"):
        await shared_pair.service.messenger.send("acme", new_phone(), {"type": "text", "text": ""})
    with pytest.raises(CompanyUnknown, match="'cargo'"):
        await pool.send("cargo", f"{new_phone()}@s.whatsapp.net", {"text": "hello"})
    with pytest.raises(UsageError, match="company"):
        await pool.start("no such/company")
    assert session.state is State.OPEN


async def test_an_absent_company_is_not_started(line: Line) -> None:
    """A wanted company without auth state closes with the next step; nothing is minted, nothing repeated."""
    await sessions_table.set_wanted(line.service.database, company_id("ghost"), wanted=True)
    await line.restart()
    session = await line.state("ghost", State.CLOSED)
    await until(lambda: "no auth state" in str(session.reason), "the reason")
    assert session.next_step is not None
    assert "standfast pair" in session.next_step
    await stays(lambda: session.generation == 1, "it was started again", for_s=0.6)
    assert line.events("ghost", "qr") == []
    for verb in (line.service.pool.stop, line.service.pool.logout):
        with pytest.raises(CompanyUnknown):
            await verb("nobody")


@shares_loop
async def test_a_pairing_can_be_given_up(shared_pair: Line, new_phone: Callable[[], str]) -> None:
    """Stopping a session that shows a QR ends it; a new pairing shows another QR."""
    line = shared_pair
    await line.service.pool.pair("undecided", Pairing("qr"))
    await line.state("undecided", State.QR)
    session = await line.service.pool.stop("undecided")
    assert (session.state, session.prompt) == (State.CLOSED, None)
    await stays(lambda: session.state is State.CLOSED, "it went on", for_s=0.5)
    await line.pair("undecided", new_phone())
