"""The circuit breaker of a session, and what is told when nothing follows by itself; without a Node host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from standfast.alert import Alert
from standfast.authstate.company import Company
from standfast.errors import CompanyUnknown, DatabaseUnavailable, ServiceUnavailable, StandfastError
from standfast.sessions.backoff import Backoff
from standfast.sessions.breaker import Breaker, BreakerLimits, BreakerState, pause_s
from standfast.sessions.driver import STARTS_AT_ONCE
from standfast.sessions.events import EventBus
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Session, State
from tests.messaging import Wants
from tests.support import until
from tests.unit.test_session_pool import Nobody

ACME = Company("acme")
AWAY = DatabaseUnavailable("PostgreSQL does not answer", cause="timeout")
LIMITS = BreakerLimits(failures=3, open_s=0.08, jitter=0)
QUICK = Backoff(base_s=0.005, cap_s=0.01, jitter=0, steady_s=0.05, breaker=LIMITS)


class Wanted(Wants):
    def __init__(self, companies: list[Company]) -> None:
        self.companies = companies

    async def wanted(self) -> list[Company]:
        return self.companies


class Host:
    """Answers each start by `react`, once it has returned."""

    def __init__(self, react: Callable[[dict[str, Any]], None]) -> None:
        self.is_ready = True
        self.react = react
        self.starts = 0
        self.fails: StandfastError | None = None

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw:
        if self.fails is not None:
            raise self.fails
        if method == "session.start":
            self.starts += 1
            asyncio.get_running_loop().call_soon(self.react, params)
        return msgspec.Raw(b"null")


class World:
    """A pool on one host; `answer` is the event that follows a start."""

    def __init__(self, companies: list[Company]) -> None:
        self.answer: dict[str, Any] | None = {"kind": "closed", "status": 503, "reason": "try later"}
        self.alerts: list[Alert] = []
        self.quiet: list[Alert] = []
        self.host = Host(self._react)
        self.pool = SessionPool(Wanted(companies), EventBus(), Nobody(), QUICK, alerts=self)
        self.pool.use_host(self.host)

    def take(self, alert: Alert) -> None:
        (self.quiet if alert.quiet else self.alerts).append(alert)

    def _react(self, params: dict[str, Any]) -> None:
        if self.answer is not None:
            self.event(params["company"], params["generation"], **self.answer)

    def event(self, company: str, generation: int, **data: Any) -> None:
        raw = msgspec.json.encode({"company": company, "generation": generation, **data})
        self.pool.hearing.told("session.event", msgspec.Raw(raw))

    @property
    def session(self) -> Session:
        session = self.pool.session(ACME)
        assert session is not None
        return session

    @property
    def names(self) -> list[str]:
        return [alert.name for alert in self.alerts]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World([ACME])
    yield made
    await made.pool.close()


async def test_a_session_that_keeps_failing_is_left_alone_and_then_tried_once(world: World) -> None:
    """The breaker opens after so many failures in a row, says when it tries next and alerts once; a trial that fails
    opens it again in silence."""
    await world.pool.start_wanted()
    await until(lambda: world.session.breaker.state is BreakerState.OPEN, 2)
    assert world.host.starts == LIMITS.failures
    wire = world.session.as_wire()
    assert (wire["breaker"], wire["failures"]) == ("open", 3)
    assert 0 < wire["retry_in_s"] <= 0.1
    assert "3 failures in a row" in wire["reason"]
    assert "try later" in wire["reason"]
    await asyncio.sleep(LIMITS.open_s / 2)
    assert world.host.starts == LIMITS.failures, "it is left alone"
    await until(lambda: world.host.starts >= LIMITS.failures + 2, 2)
    assert world.names == ["session_breaker_open"]


async def test_only_a_connection_that_lasts_closes_the_breaker(world: World) -> None:
    """An open that is lost at once is a failed trial; one that has lasted closes the breaker, and that is told."""
    await world.pool.start_wanted()
    await until(lambda: world.session.breaker.state is BreakerState.OPEN, 2)
    world.answer = {"kind": "open", "jid": "79990000001:1@s.whatsapp.net"}
    await until(lambda: world.session.state is State.OPEN, 2)
    assert world.session.as_wire()["breaker"] == "half-open"
    world.event(ACME, world.session.generation, kind="closed", status=428, reason="lost")
    assert world.session.as_wire()["breaker"] == "open"
    await until(lambda: world.session.state is State.OPEN, 2)
    await until(lambda: world.session.breaker.state is BreakerState.CLOSED, 2)
    assert (world.session.failures, world.names) == (0, ["session_breaker_open", "session_breaker_closed"])


async def test_what_an_earlier_process_told_of_a_session_is_ended(world: World) -> None:
    """A session that stands for long enough, and one that an operator stops, is nobody's trouble any more."""
    world.answer = {"kind": "open", "jid": "79990000001:1@s.whatsapp.net"}
    await world.pool.start_wanted()
    await until(lambda: bool(world.quiet), 2)
    await world.pool.stop(ACME)
    with pytest.raises(CompanyUnknown):
        await world.pool.stop("gone")
    ended = [(alert.name, alert.subject) for alert in world.quiet]
    assert ended == [
        ("session_stands", "company_id=acme"),
        ("session_unwanted", "company_id=acme"),
        ("session_unwanted", "company_id=gone"),
    ]
    assert all("session_replaced" in alert.ends for alert in world.quiet)
    assert world.alerts == []


@pytest.mark.parametrize("verb", ["start", "restart"])
async def test_an_operator_closes_the_breaker(world: World, verb: str) -> None:
    """Who starts a session wants it tried now, with all its attempts."""
    await world.pool.start_wanted()
    await until(lambda: world.session.breaker.state is BreakerState.OPEN, 2)
    world.answer = None
    await getattr(world.pool, verb)(ACME)
    assert (world.session.state, world.session.failures) == (State.CONNECTING, 0)
    assert world.session.breaker.state is BreakerState.CLOSED


async def test_what_this_side_hinders_opens_no_breaker(world: World) -> None:
    """Without PostgreSQL attempts go on with growing pauses, and no failure is counted against the session."""
    world.host.fails = AWAY
    await world.pool.start_wanted()
    await until(lambda: world.session.hindrances > LIMITS.failures + 1, 2)
    assert (world.session.failures, world.session.breaker.state) == (0, BreakerState.CLOSED)
    assert world.session.reason == AWAY.message
    assert world.alerts == []


async def test_a_session_without_a_host_waits_for_it_and_for_nothing_else(world: World) -> None:
    """A host that is gone is no failure: the session is started as soon as there is one, and only then."""
    world.host.is_ready, world.host.fails = False, ServiceUnavailable("the host is gone")
    await world.pool.start_wanted()
    await until(lambda: world.session.awaits_host, 2)
    assert (world.session.failures, world.session.timer) == (0, None)
    world.host.is_ready, world.host.fails = True, None
    world.answer = {"kind": "open", "jid": "x"}
    world.pool.hearing.ready()
    await until(lambda: world.session.state is State.OPEN, 2)


async def test_a_lost_host_leaves_sessions_in_backoff_to_their_backoff(world: World) -> None:
    """Only sockets that were lost with a host start at once with the next one; a breaker stays open."""
    await world.pool.start_wanted()
    await until(lambda: world.session.breaker.state is BreakerState.OPEN, 2)
    starts, timer = world.host.starts, world.session.timer
    world.pool.hearing.lost("exit code 70", [ACME])
    world.pool.hearing.ready()
    await asyncio.sleep(0.01)
    assert (world.host.starts, world.session.timer) == (starts, timer)


async def test_a_replaced_session_is_told_once_with_the_new_holder() -> None:
    """440: an alert names who took over, as far as that can be known, and nothing is started."""
    world = World([ACME])

    async def find(company: Company) -> str:
        return "the node b"

    world.pool = SessionPool(Wanted([ACME]), EventBus(), Nobody(), QUICK, alerts=world, find_holder=find)
    world.pool.use_host(world.host)
    world.answer = {"kind": "closed", "status": 440, "reason": "replaced"}
    await world.pool.start_wanted()
    await until(lambda: bool(world.alerts), 2)
    (alert,) = world.alerts
    assert (alert.name, alert.level, alert.facts["holder"]) == ("session_replaced", "error", "the node b")
    assert str(world.session.reason).endswith(": the node b")
    world.pool.hearing.ready()
    assert world.pool.retry_now() == 0
    await world.pool.close()
    assert world.host.starts == 1


async def test_sixty_sessions_start_a_few_at_a_time() -> None:
    """A start keeps its turn until its socket is open, shows a QR or has failed; nobody's turn lasts for ever."""
    companies = [Company(f"company{number:02}") for number in range(60)]
    world = World(companies)
    world.answer = None
    most = 0
    await world.pool.start_wanted()
    for _ in range(400):
        connecting = [one for one in world.pool.sessions() if one.state is State.CONNECTING]
        most = max(most, len(connecting))
        for session in connecting[:3]:
            kind = "qr" if session.company.endswith("7") else "open"
            world.event(session.company, session.generation, kind=kind, qr="2@x", jid="x")
        if not connecting and world.host.starts == len(companies):
            break
        await asyncio.sleep(0)
    assert world.host.starts == len(companies)
    assert most == STARTS_AT_ONCE
    await world.pool.close()


def test_a_breakers_pause_spreads_upwards() -> None:
    """Sessions that failed together are not tried together, and none before its time."""
    pauses = [pause_s(BreakerLimits()) for _ in range(50)]
    assert all(300 <= pause <= 330 for pause in pauses)
    assert len(set(pauses)) > 40


def test_a_breaker_opens_at_its_limit_and_not_before() -> None:
    """Five failures in a row by default; a reset forgets them."""
    breaker = Breaker()
    for _ in range(4):
        breaker.failed()
    assert not breaker.opens(BreakerLimits())
    breaker.failed()
    assert breaker.opens(BreakerLimits())
    breaker.tried()
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.reset()
    assert not breaker.reset()


def test_thirty_seconds_of_being_open_reset_the_backoff_and_less_does_not() -> None:
    """The default of the backoff in force."""
    for lasted_s, failures in ((29.0, 4), (30.5, 1)):
        session = Session(ACME, state=State.OPEN, breaker=Breaker(3), since=time.monotonic() - lasted_s)
        session.closed(503, "x", steady_s=Backoff().steady_s)
        assert session.failures == failures
