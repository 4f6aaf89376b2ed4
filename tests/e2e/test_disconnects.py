"""What WhatsApp's disconnect codes lead to: reconnect, restart, or stop for good."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from standfast.authstate.company import company_id
from standfast.errors import CompanyUnknown
from standfast.postgres.options import DatabaseOptions
from standfast.sessions.session import State
from tests.e2e.conftest import Line, make_line, shares_loop, stays, until


def alerts(line: Line, company: str) -> list[str]:
    return [data["name"] for data in line.events(company, "alert")]


async def fault(line: Line, company: str, **fields: Any) -> None:
    await line.simulator.ask("POST", "/faults", {"phone": line.phones[company], **fields})


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "close", "code": 503},
        {"kind": "close", "code": 428},
        {"kind": "close", "code": 408},
        {"kind": "drop"},
    ],
    ids=["503", "428", "408", "drop"],
)
@shares_loop
async def test_a_lost_connection_comes_back(shared_pair: Line, kind: dict[str, Any]) -> None:
    """A session that was closed or cut opens again after a backoff, without pairing, and gets what it missed."""
    line, session = shared_pair, shared_pair.session("acme")
    since, reconnects = len(line.heard), session.reconnects
    others = line.session("bolt").reconnects
    await fault(line, "acme", **kind, for_ms=600)
    await line.state("acme", State.CLOSED)
    await line.send("bolt", "acme", "are you there?")
    await line.state("acme", State.OPEN)
    await until(lambda: line.texts("acme", since) == ["are you there?"], "the message, once")
    closed = [data["status"] for data in line.events("acme", "closed", since)]
    assert closed[0] == kind.get("code", 428), closed
    assert session.reconnects == reconnects + len(closed)
    assert line.session("bolt").reconnects == others


@shares_loop
async def test_a_restart_that_whatsapp_asks_for_is_no_failure(shared_pair: Line) -> None:
    """515 makes a new socket at once: no backoff, no failure counted."""
    line, session = shared_pair, shared_pair.session("acme")
    generation, reconnects = session.generation, session.reconnects
    await fault(line, "acme", kind="close", code=515)
    await until(lambda: session.generation == generation + 1, "another socket")
    await line.state("acme", State.OPEN)
    assert session.reconnects == reconnects
    await line.send("acme", "bolt", "back already")
    await line.received("bolt", ["back already"])


async def test_a_refused_login_is_tried_again_and_a_ban_is_not(
    line: Line, new_phone: Callable[[], str]
) -> None:
    """Logins that are refused are repeated with growing pauses until one succeeds; after 403 somebody must look at
    the phone: an alert says so, the auth state stays, and an operator's restart tries again."""
    session = await line.pair("acme", new_phone())
    await fault(line, "acme", kind="refuse-login", reason=503, count=2)
    await fault(line, "acme", kind="drop")
    await until(lambda: session.failures == 3, "three failures")
    await line.state("acme", State.OPEN)
    assert [data["status"] for data in line.events("acme", "closed")].count(503) == 2

    await fault(line, "acme", kind="refuse-login", reason=403, count=1)
    await fault(line, "acme", kind="drop")
    await line.state("acme", State.FORBIDDEN)
    assert "session_forbidden" in alerts(line, "acme")
    await stays(lambda: session.state is State.FORBIDDEN, "it reconnected", for_s=0.6)
    await line.service.pool.restart("acme")
    await line.state("acme", State.OPEN)


async def test_an_unlinked_device_is_not_started_again(line: Line, new_phone: Callable[[], str]) -> None:
    """401 ends the session for good, over a restart too; the dead auth state is archived and removed at once, and a
    new pairing works."""
    phone = new_phone()
    await line.pair("acme", phone)
    await line.simulator.ask("POST", f"/phones/{phone}/unlink", {"device": 1})
    session = await line.state("acme", State.LOGGED_OUT)
    assert session.next_step == "Pair again: 'standfast pair acme'."
    assert "session_logged_out" in alerts(line, "acme")
    archive = line.settings.state_dir / "archive"
    await until(lambda: list(archive.glob("acme-*/creds.json")), "an archived auth state")

    async def is_removed() -> bool:
        try:
            await line.service.roster.check_known(company_id("acme"))
        except CompanyUnknown:
            return True
        return False

    await until(is_removed, "no auth state")
    await line.restart()
    assert line.service.pool.sessions() == []

    await line.pair("acme", phone)
    assert len(list(archive.iterdir())) == 1
    await line.restart()
    await line.state("acme", State.OPEN)


@pytest.fixture
async def second_line(line: Line, database_options: DatabaseOptions) -> AsyncIterator[Line]:
    """Another service, with a state directory of its own, on the same database; not started."""
    state = Path(tempfile.mkdtemp(prefix="sf-"))
    other = make_line(state, line.simulator, database_options)
    other.phones = line.phones
    yield other
    if hasattr(other, "service"):
        await other.stop()
    shutil.rmtree(state, ignore_errors=True)


@shares_loop
async def test_a_session_that_was_replaced_stays_so_until_an_operator_takes_it_back(
    shared_pair: Line,
) -> None:
    """440 means that somebody else logged in with this auth state: reconnecting would evict him, and he us."""
    line, since = shared_pair, len(shared_pair.heard)
    await fault(line, "acme", kind="close", code=440, count=1)
    session = await line.state("acme", State.REPLACED)
    assert session.status == 440
    assert session.next_step == "Stop the other client, then 'standfast restart acme'."
    await until(lambda: "session_replaced" in alerts(line, "acme"), "an alert")
    assert (
        session.reason
        == "another client logged in with this company's auth state: another client of WhatsApp"
    )
    await line.send("bolt", "acme", "while you were out")
    await stays(lambda: session.state is State.REPLACED, "it reconnected by itself", for_s=0.8)
    await line.service.pool.restart("acme")
    await line.state("acme", State.OPEN)
    await until(lambda: line.texts("acme", since) == ["while you were out"], "the message, once")


async def test_two_nodes_on_one_database_do_not_evict_each_other(
    line: Line, second_line: Line, new_phone: Callable[[], str]
) -> None:
    """The node that has a company keeps it; once it has stopped it, an operator may start it at the other."""
    await line.pair("acme", new_phone())
    await line.pair("bolt", new_phone())
    await line.acquaint("bolt", "acme")
    await second_line.start()
    refused = await until(
        lambda: next((one for one in second_line.service.pool.sessions() if one.reason), None), "a refusal"
    )
    assert "is held by the node" in refused.reason
    for company in ("acme", "bolt"):
        assert line.session(company).state is State.OPEN
    await line.service.pool.stop("acme")

    async def opens_at_the_other() -> bool:
        return (await second_line.service.pool.start("acme")).state is State.OPEN

    await until(opens_at_the_other, "acme open at the second node")
    await line.send("bolt", "acme", "are you there now?")
    await second_line.received("acme", ["are you there now?"])
    await line.service.pool.start("acme")
    await until(lambda: "is held by the node" in str(line.session("acme").reason), "a refusal")
    assert second_line.session("acme").state is State.OPEN
    assert (await line.simulator.ask("GET", "/stats"))["evictions"] == 0
