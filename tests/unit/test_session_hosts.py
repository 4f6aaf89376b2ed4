"""Which Node host has which session, and what is made of what hosts tell of their sockets; without Node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import msgspec
import pytest

from standfast.alert import Alert
from standfast.authstate.company import Company
from standfast.errors import NodeError, ServiceUnavailable
from standfast.sessions.backoff import Backoff
from standfast.sessions.engine import Engine, HostListener
from standfast.sessions.events import EventBus
from standfast.sessions.hosts import Hosts, HostsOptions
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Session, State
from standfast.sessions.watch import HostWatch, WatchOptions
from tests.messaging import Wants
from tests.support import until
from tests.unit.test_session_pool import Nobody

NAMES = [Company(name) for name in ("acme", "bolt", "coal", "dusk", "echo")]
QUIET = {
    "last_frame_age_ms": 100,
    "ping_ms": 20.0,
    "ping_waits_ms": None,
    "unconfirmed_ms": None,
    "retries_sent": 0,
    "retries_received": 0,
}


class FakeEngine:
    """A host whose every session opens as soon as it is started."""

    def __init__(self, listener: HostListener, number: int, world: World) -> None:
        self.listener, self.pid, self.world = listener, 1_000 + number, world
        self.restarts, self.killed, self.stopped, self.is_ready = 0, 0, 0, False
        self.held: dict[str, int] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.host = {"rss_bytes": 100 * 2**20, "event_loop_delay_ms": 1.0}
        self.is_silent = False

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.world.start_fails:
            raise NodeError("the Node host did not come up")
        self.is_ready = True
        self.listener.ready()

    async def came_up(self) -> bool:
        await asyncio.sleep(0.01)
        return self.is_ready

    async def stop(self) -> None:
        self.is_ready, self.stopped = False, self.stopped + 1

    def kill(self) -> None:
        self.killed += 1

    def dies(self) -> None:
        self.is_ready, self.held = False, {}
        self.listener.lost("exit code 70")

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw:
        await asyncio.sleep(0)
        if self.is_silent or not self.is_ready:
            raise ServiceUnavailable("no answer")
        return msgspec.Raw(msgspec.json.encode(self._answer(method, params)))

    def _answer(self, method: str, params: Any) -> Any:
        company, generation = params.get("company"), params.get("generation")
        if method == "session.start":
            holders = [one for one in self.world.engines if company in one.held]
            assert holders in ([], [self]), "the company is held by another host"
            self.held[company] = generation
            event = {"company": company, "generation": generation, "kind": "open", "jid": "x"}
            asyncio.get_running_loop().call_soon(
                self.listener.told, "session.event", msgspec.Raw(msgspec.json.encode(event))
            )
        elif method == "session.stop":
            assert self.held.pop(company) == generation
        elif method == "host.stats":
            rows = [
                {"company": one, "generation": number, **QUIET, **self.rows.get(one, {})}
                for one, number in self.held.items()
            ]
            return {"pid": self.pid, "sessions": rows, **self.host}
        return None


class Wanted(Wants):
    async def wanted(self) -> list[Company]:
        return NAMES


class World:
    """A pool on hosts of two sessions each."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.quiet: list[Alert] = []
        self.engines: list[FakeEngine] = []
        self.start_fails = False
        self.pool = SessionPool(Wanted(), EventBus(), Nobody(), Backoff(base_s=60, jitter=0), alerts=self)
        options = HostsOptions(sessions_per_host=2, idle_s=0.0, retry_s=0.01)
        make = cast("Callable[[HostListener], Engine]", self._engine)
        self.hosts = Hosts(make, self.pool.hearing, self.pool.runs, self, options)
        self.pool.use_hosts(self.hosts)
        limits = WatchOptions(deaf_after_s=90, host_age_s=0.0, host_silent_s=0.02, host_slow_for_s=0.02)
        self.watch = HostWatch(self.hosts, self.pool, self, limits)

    def _engine(self, listener: HostListener) -> FakeEngine:
        self.engines.append(FakeEngine(listener, len(self.engines), self))
        return self.engines[-1]

    def take(self, alert: Alert) -> None:
        (self.quiet if alert.quiet else self.alerts).append(alert)

    @property
    def names(self) -> list[str]:
        return [alert.name for alert in self.alerts]

    def session(self, name: str) -> Session:
        session = self.pool.session(Company(name))
        assert session is not None
        return session

    def are_open(self, names: Iterable[str] = NAMES) -> bool:
        return all(self.session(name).state is State.OPEN for name in names)

    def placed(self) -> list[set[str]]:
        return [set(engine.held) for engine in self.engines]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.hosts.start()
    await made.pool.start_wanted()
    await until(made.are_open, 2)
    yield made
    await made.pool.halt()
    await made.hosts.stop()
    await made.pool.close()


async def test_a_host_holds_so_many_sessions_and_more_are_started_as_needed(world: World) -> None:
    """Five companies on hosts of two need three; a company that stops makes room for another."""
    assert [len(held) for held in world.placed()] == [2, 2, 1]
    moved = next(iter(world.engines[0].held))
    await world.pool.stop(moved)
    (last,) = world.engines[2].held
    await world.pool.stop(last)
    await world.pool.start(last)
    await until(lambda: world.are_open([last]), 2)
    assert last in world.engines[2].held, "the host that it had before remembers what was sent"


async def test_a_host_that_dies_takes_its_own_sessions_with_it_only(world: World) -> None:
    """They wait for it to be restarted, and nobody else's socket or host changes."""
    before, dead = world.placed(), world.engines[1]
    generations = {name: world.session(name).generation for name in NAMES}
    dead.dies()
    assert {name for name in NAMES if not world.session(name).is_active} == before[1]
    dead.is_ready = True
    dead.listener.ready()
    await until(world.are_open, 2)
    assert world.placed() == before
    assert {name for name in NAMES if world.session(name).generation != generations[name]} == before[1]


async def test_a_host_that_does_not_come_up_is_tried_again(world: World) -> None:
    """Who waits for it is told so by an alert, and opens when a host comes up at last."""
    world.start_fails = True
    for name in ("flow", "gold"):
        await world.pool.start(name)
    await until(lambda: "host_not_started" in world.names, 2)
    world.quiet.clear()
    await world.watch.look()
    assert not world.quiet, "sessions wait still"
    world.start_fails = False
    await until(lambda: world.are_open(["flow", "gold"]), 2)
    assert max(len(held) for held in world.placed()) == 2
    await asyncio.sleep(0.03)
    await world.watch.look()
    await world.watch.look()
    assert [alert.ends for alert in world.quiet if "host" in alert.name] == [("host_not_started",)]


async def test_a_host_without_sessions_ends_and_one_stays(world: World) -> None:
    """However many sessions there were, the last host is kept for the next one."""
    for name in NAMES:
        await world.pool.stop(name)
    for _ in range(2):
        await world.watch.look()
    await until(lambda: len(world.hosts.members) == 1, 2)
    assert [engine.stopped for engine in world.engines] == [0, 1, 1]


@pytest.mark.parametrize(
    ("row", "is_deaf"),
    [
        ({"last_frame_age_ms": 89_000}, False),
        ({"last_frame_age_ms": 91_000}, True),
        ({"ping_waits_ms": 29_000}, False),
        ({"ping_waits_ms": 31_000}, True),
        ({"unconfirmed_ms": 59_000}, False),
        ({"unconfirmed_ms": 61_000}, True),
        ({"last_frame_age_ms": None, "ping_ms": None}, False),
    ],
)
async def test_a_session_is_deaf_by_its_traffic(world: World, row: dict[str, Any], is_deaf: bool) -> None:
    """No frame, no answer to a ping, or no confirmation for longer than the limit: it is connected anew, alone."""
    engine = next(engine for engine in world.engines if "acme" in engine.held)
    engine.rows["acme"] = row
    await world.watch.look()
    del engine.rows["acme"]
    await until(lambda: world.are_open() and world.session("acme").generation == 1 + is_deaf, 2)
    await asyncio.sleep(0.01)
    assert world.names == ["session_deaf"] * is_deaf
    assert [world.session(name).generation for name in NAMES[1:]] == [1] * 4


async def test_a_message_that_is_never_confirmed_costs_ever_fewer_connections(world: World) -> None:
    """Connecting anew did not help: the limit doubles, until everything is confirmed again."""
    engine = next(engine for engine in world.engines if "acme" in engine.held)

    async def renewed(unconfirmed_ms: int | None) -> bool:
        generation = world.session("acme").generation
        engine.rows["acme"] = {"unconfirmed_ms": unconfirmed_ms}
        await world.watch.look()
        engine.rows["acme"] = {"unconfirmed_ms": 1}
        await asyncio.sleep(0.02)
        return world.session("acme").generation > generation

    assert await renewed(61_000)
    assert not await renewed(61_000)
    assert await renewed(121_000)
    assert not await renewed(121_000)
    assert not await renewed(None)
    assert await renewed(61_000)


async def test_retry_receipts_count_over_all_sockets_of_a_session(world: World) -> None:
    """A host counts anew with each socket; an operator sees the sum since the service was started."""
    engine = next(engine for engine in world.engines if "acme" in engine.held)
    for sent, received in ((1, 0), (3, 2), (3, 2)):
        engine.rows["acme"] = {"retries_sent": sent, "retries_received": received}
        await world.watch.look()
    engine.rows["acme"] = {"retries_sent": 2, "retries_received": 5}
    await world.pool.restart("acme")
    await until(world.are_open, 2)
    await world.watch.look()
    wire = world.session("acme").as_wire()
    assert (wire["retry_receipts_sent"], wire["retry_receipts_received"]) == (5, 7)


async def test_what_operators_see_of_a_socket_is_what_passed_through_it(world: World) -> None:
    """Age of the last frame, round trip of the last ping, oldest unconfirmed message."""
    await world.watch.look()
    wire = world.session("acme").as_wire()
    assert 0.1 <= wire["last_frame_age_s"] < 2
    assert (wire["ping_ms"], wire["unconfirmed_s"]) == (20.0, None)


@pytest.mark.parametrize("trouble", ["memory", "delay"])
async def test_a_host_that_leaks_or_lags_is_replaced_one_session_after_the_other(
    world: World, trouble: str
) -> None:
    """The new host comes first; no company is ever at two hosts; the old one ends."""
    old = world.engines[0]
    its = set(old.held)
    if trouble == "memory":
        old.host["rss_bytes"] = 3_000 * 2**20
    else:
        old.host["event_loop_delay_ms"] = 2_000.0

    async def is_replaced() -> bool:
        await world.watch.look()
        await asyncio.sleep(0.005)
        return old.stopped == 1

    await until(is_replaced, 2)
    assert world.names == ["host_recycled"]
    assert set(world.engines[-1].held) == its
    assert world.are_open()


async def test_a_host_stays_where_no_other_comes_up(world: World) -> None:
    """A replacement that fails costs nobody a connection."""
    old, world.start_fails = world.engines[0], True
    old.host["rss_bytes"] = 3_000 * 2**20
    await world.watch.look()
    await until(lambda: "host_not_started" in world.names, 2)
    await asyncio.sleep(0.02)
    assert old.stopped == 0
    assert world.are_open()


async def test_what_was_given_to_a_host_that_is_ending_opens_elsewhere(world: World) -> None:
    """No session counts as open while its host is gone."""
    ending, stop = world.engines[2], world.engines[2].stop
    member = world.hosts.members[2]
    (name,) = ending.held

    async def slow() -> None:
        await asyncio.sleep(0.02)
        await stop()

    ending.stop = slow  # type: ignore[method-assign]
    await world.pool.stop(name)
    gone = asyncio.create_task(world.hosts.end(member))
    await asyncio.sleep(0)
    world.hosts.assign(Company(name), member)
    member.retiring = False
    await world.pool.start(name)
    member.retiring = True
    assert name in ending.held
    await gone
    ending.held.clear()
    await until(lambda: any(name in engine.held for engine in world.engines) and world.are_open(), 2)
    assert world.session(name).generation == 3


async def test_a_session_that_its_host_does_not_know_is_made_again(world: World) -> None:
    """Whatever went wrong, nobody waits for a socket that does not exist."""
    engine = next(engine for engine in world.engines if "acme" in engine.held)
    del engine.held["acme"]
    await world.watch.look()
    await until(lambda: "acme" in engine.held and world.are_open(), 2)
    assert world.session("acme").generation == 2


async def test_a_host_that_answers_nothing_is_killed(world: World) -> None:
    """Not at its first silence: it may just be busy."""
    silent = world.engines[1]
    await world.watch.look()
    silent.is_silent, began = True, time.monotonic()
    await world.watch.look()
    assert silent.killed == 0
    while not silent.killed:
        assert time.monotonic() - began < 2
        await world.watch.look()
        await asyncio.sleep(0.005)
    assert [engine.killed for engine in world.engines] == [0, 1, 0]
    assert "host_hung" in world.names
