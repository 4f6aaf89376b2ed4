"""The session pool without a Node host: what it makes of obstacles, losses and refused sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from standfast.alert import Alert
from standfast.authstate.company import Company
from standfast.errors import (
    CompanyInUse,
    DatabaseUnavailable,
    GraceExpired,
    JournalUnwritable,
    SendFailed,
    StandfastError,
)
from standfast.sessions.backoff import Backoff
from standfast.sessions.events import EventBus
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Session, State
from tests.messaging import Wants
from tests.support import until

ACME = Company("acme")
SLOW = Backoff(base_s=60, cap_s=60, jitter=0)
AWAY = DatabaseUnavailable("PostgreSQL does not answer", cause="timeout")
EXPIRED = GraceExpired("PostgreSQL has been away for 400 s, longer than the grace period of 300 s")
TAKEN = CompanyInUse(
    "this node no longer owns acme: the node b took it", next_step="Stop the other owner first."
)


class Nobody:
    """Keeps no messages."""

    async def take(
        self, company: Company, message: dict[str, Any], attachment: bytes | None = None
    ) -> int | None:
        return 1

    def knows(self, company: Company, chat: str, message_id: str) -> bool:
        return False

    def sent_content(self, company: Company, message_id: str) -> bytes | None:
        return None


class Host:
    """Takes every request; `fails` is raised by the next ones."""

    is_ready = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails: StandfastError | None = None

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw:
        self.asked.append(method)
        if self.fails is not None:
            raise self.fails
        return msgspec.Raw(b'{"message_id": "A", "jid": "j", "timestamp_s": 1}')


class World:
    def __init__(self) -> None:
        self.host = Host()
        self.unwritable: JournalUnwritable | None = None
        self.alerts: list[Alert] = []
        self.pool = SessionPool(
            Wants(), EventBus(), Nobody(), SLOW, check=self._check, alerts=self, find_holder=self._find
        )
        self.pool.use_host(self.host)

    def take(self, alert: Alert) -> None:
        if not alert.quiet:
            self.alerts.append(alert)

    async def _find(self, company: Company) -> str | None:
        return "the node b"

    def _check(self) -> None:
        if self.unwritable:
            raise self.unwritable

    @property
    def session(self) -> Session:
        session = self.pool.session(ACME)
        assert session is not None
        return session

    async def launched(self, times: int = 1) -> None:
        await until(lambda: self.host.asked.count("session.start") == times, 2)
        assert self.session.state is State.CONNECTING

    def event(self, kind: str, **data: Any) -> None:
        event = {"company": ACME, "generation": self.session.generation, "kind": kind, **data}
        self.pool.hearing.told("session.event", msgspec.Raw(msgspec.json.encode(event)))

    def not_opened(self, error: StandfastError) -> None:
        """What the host tells of a socket whose auth state could not be opened."""
        self.event("error", message=error.message, error=error.as_wire())
        self.event("closed", status=0, reason="not started")

    def opened(self) -> None:
        self.event("open", jid="79990000001:1@s.whatsapp.net", lid=None)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.pool.start_wanted()
    await made.launched()
    yield made
    await made.pool.close()


@pytest.mark.parametrize("error", [AWAY, EXPIRED])
async def test_a_session_that_cannot_be_opened_now_says_why_and_opens_when_postgresql_is_back(
    world: World, error: StandfastError
) -> None:
    """The reason is the store's, and no backoff stands between PostgreSQL's return and the next attempt."""
    world.not_opened(error)
    session = world.session
    assert (session.state, session.reason, session.next_step) == (
        State.CLOSED,
        error.message,
        error.next_step,
    )
    assert session.timer is not None
    assert world.pool.retry_now() == 1
    await world.launched(2)
    world.opened()
    assert session.reason is None
    assert world.pool.retry_now() == 0


async def test_an_attempt_that_postgresqls_return_overtook_is_repeated_at_once(world: World) -> None:
    """One that began before PostgreSQL was back and failed after it does not wait for its backoff."""
    assert world.pool.retry_now() == 0
    world.not_opened(AWAY)
    await world.launched(2)
    world.not_opened(AWAY)
    assert world.session.state is State.CLOSED
    assert world.session.timer is not None, "the second failure is one of its own"


async def test_only_what_waits_for_postgresql_is_tried_again(world: World) -> None:
    """A session that WhatsApp closed keeps to its backoff, whatever kept it from opening before."""
    world.event("error", message=AWAY.message, error=AWAY.as_wire())
    world.opened()
    world.event("closed", status=503, reason="try later")
    assert (world.session.state, world.session.reason) == (State.CLOSED, "try later")
    assert world.pool.retry_now() == 0


async def test_a_company_that_somebody_holds_is_not_taken_in_a_moment_between_two_connections(
    world: World,
) -> None:
    """It is not tried again by backoff: a node that lives gives its lease back whenever it connects anew."""
    held = CompanyInUse("acme is held by the node b (its lease runs for 9 s more)", holder="b")
    world.not_opened(held)
    assert (world.session.state, world.session.reason) == (State.CLOSED, held.message)
    assert world.session.timer is None
    assert world.pool.retry_now() == 0


async def test_a_session_that_was_lost_stays_away_until_an_operator_takes_it_back(world: World) -> None:
    """No reconnect, no wait for PostgreSQL's return; the reason and the next step are told."""
    world.opened()
    world.pool.lost(ACME, TAKEN)
    session = world.session
    assert (session.state, session.reason) == (State.REPLACED, TAKEN.message)
    assert session.next_step == "Stop the other owner first. Then 'standfast restart acme' takes it back."
    world.event("error", message=TAKEN.message, error=TAKEN.as_wire())
    world.event("closed", status=0, reason="lost to another owner")
    assert (session.state, session.timer) == (State.REPLACED, None)
    assert world.pool.retry_now() == 0
    world.pool.hearing.ready()
    await asyncio.sleep(0)
    assert world.host.asked == ["session.start"]
    await world.pool.restart(ACME)
    await world.launched(2)


async def test_losing_what_is_not_open_here_changes_nothing(world: World) -> None:
    """A session that is closed, or a company of a bot of one's own, is not this pool's to lose."""
    await world.pool.stop(ACME)
    world.pool.lost(ACME, TAKEN)
    world.pool.lost(Company("bolt"), TAKEN)
    assert world.session.state is State.CLOSED


async def test_nothing_is_sent_while_its_keys_could_not_be_stored(world: World) -> None:
    """The host is not even asked; what the host refuses for the same reason is told as it is, other things not."""
    world.opened()
    world.unwritable = JournalUnwritable("the disk is full")
    with pytest.raises(JournalUnwritable):
        await world.pool.send(ACME, "79990000002@s.whatsapp.net", {"text": "x"})
    assert "message.send" not in world.host.asked
    world.unwritable = None
    for fails, told in [(JournalUnwritable("the disk is full"), JournalUnwritable), (TAKEN, SendFailed)]:
        world.host.fails = fails
        with pytest.raises(told):
            await world.pool.send(ACME, "79990000002@s.whatsapp.net", {"text": "x"})
    world.host.fails = None
    assert (await world.pool.send(ACME, "79990000002@s.whatsapp.net", {"text": "x"}))["message_id"] == "A"
