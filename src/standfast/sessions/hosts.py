"""`Hosts`: the Node hosts of this service, and which of them has which company.

Invariant: a company has one host at a time, stays with it while its session runs, and waits for it while it restarts;
at least one host is kept, and a host that has ended concerns its own companies only.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import structlog

from standfast.alert import Alert, AlertSink
from standfast.authstate.company import Company
from standfast.errors import ServiceUnavailable, StandfastError
from standfast.sessions.engine import Engine, HostListener
from standfast.sessions.wire import Connection

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HostsOptions:
    """How many sessions a host holds, for how long one without any is kept, and when one that did not come up is tried
    again."""

    sessions_per_host: int = 200
    idle_s: float = 60.0
    retry_s: float = 5.0


class HostsListener(Protocol):
    """Who is told about hosts, hears their notifications and answers their requests."""

    def ready(self) -> None:
        """A host takes requests; also: what waits for one may be placed anew."""
        ...

    def lost(self, reason: str, companies: Iterable[Company]) -> None:
        """A host is gone with the sockets of these companies."""
        ...

    def told(self, method: str, params: msgspec.Raw) -> None:
        """A notification of a host."""
        ...

    async def asked(self, method: str, params: msgspec.Raw) -> Any:
        """Answer a request of a host."""
        ...


@dataclass(slots=True, eq=False)
class Member:
    """One host. `stats`: its last answer to `host.stats`."""

    number: int
    engine: Engine
    companies: set[Company] = field(default_factory=set)
    retiring: bool = False
    reserved: bool = False  # for what is about to be moved to it
    stats: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    idle_since: float | None = None

    def as_wire(self) -> dict[str, Any]:
        return {
            "pid": self.engine.pid,
            "ready": self.engine.is_ready,
            "restarts": self.engine.restarts,
            "sessions": len(self.stats.get("sessions", ())),
            "rss_mb": round(self.stats.get("rss_bytes", 0) / 2**20, 1),
            "event_loop_delay_ms": self.stats.get("event_loop_delay_ms"),
            "retiring": self.retiring,
        }


@dataclass(frozen=True, slots=True)
class _Ears:
    """What one engine tells, told on with whose it is."""

    hosts: Hosts
    member: Callable[[], Member]

    def ready(self) -> None:
        self.hosts.listener.ready()

    def lost(self, reason: str) -> None:
        member = self.member()
        member.stats = {}
        self.hosts.listener.lost(reason, tuple(member.companies))

    def told(self, method: str, params: msgspec.Raw) -> None:
        self.hosts.listener.told(method, params)

    async def asked(self, method: str, params: msgspec.Raw) -> Any:
        return await self.hosts.listener.asked(method, params)


class Hosts:
    """Satisfies `gateway.HostPort` and `host.HostChoice`. `runs` says whether a company's session needs its place."""

    def __init__(
        self,
        make_engine: Callable[[HostListener], Engine],
        listener: HostsListener,
        runs: Callable[[Company], bool],
        alerts: AlertSink,
        options: HostsOptions | None = None,
    ) -> None:
        self.listener = listener
        self.options = options or HostsOptions()
        self._make_engine = make_engine
        self._runs = runs
        self._alerts = alerts
        self._members: list[Member] = []
        self._of: dict[Company, Member] = {}
        self._connections: dict[Connection, Engine] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._failed_at: float | None = None

    @property
    def members(self) -> tuple[Member, ...]:
        """Every host, oldest first."""
        return tuple(self._members)

    async def start(self) -> None:
        """Start one host. Raises `NodeError` where it does not come up."""
        member = self._new()
        try:
            await member.engine.start()
        except BaseException:
            self._forget(member)
            raise
        self._alerts.take(_hosts_stand())

    async def stop(self) -> None:
        """End every host in order, all at once."""
        self._stopping = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(member.engine.stop() for member in self._members))

    def of(self, company: Company) -> Engine | None:
        """See `host.HostChoice`."""
        member = self._of.get(company)
        return member.engine if member else None

    def place(self, company: Company) -> Engine | None:
        """See `host.HostChoice`. Starts another host where every one is full."""
        member = self._of.get(company)
        if member is None or member.retiring or company not in member.companies:
            member = self._choose(member)
            self.assign(company, member)
        return member.engine if member.engine.is_ready else None

    def assign(self, company: Company, member: Member) -> None:
        """Give the company to this host."""
        former = self._of.get(company)
        if former is not None:
            former.companies.discard(company)
        self._of[company] = member
        member.companies.add(company)
        member.idle_since = None

    def _choose(self, former: Member | None) -> Member:
        for member in self._members:
            member.companies = {one for one in member.companies if self._runs(one)}
        with_room = [
            one
            for one in self._members
            if not one.retiring and len(one.companies) < self.options.sessions_per_host
        ]
        # The one that it had before, if it can: that one remembers what was sent. Then the oldest, so that young ones
        # become idle and end.
        best = sorted(with_room, key=lambda one: (one is not former, not one.engine.is_ready, one.number))
        return best[0] if best else self.add()

    def add(self) -> Member:
        """Another host, which is started in the background."""
        member = self._new()
        log.info("another Node host is started", hosts=len(self._members))
        self.spawn(self._bring_up(member))
        return member

    def _new(self) -> Member:
        ears = _Ears(self, lambda: member)
        member = Member(next(self._numbers), self._make_engine(ears))
        self._members.append(member)
        return member

    async def _bring_up(self, member: Member) -> None:
        try:
            await member.engine.start()
        except StandfastError as error:
            self._forget(member)
            self._failed_at = time.monotonic()
            self._alerts.take(_not_started(error, len(self._members)))
            # Whoever waited for it is placed anew, which starts another one where that is needed.
            await asyncio.sleep(self.options.retry_s)
            self.listener.ready()

    def _forget(self, member: Member) -> None:
        if member in self._members:
            self._members.remove(member)
        for company in member.companies:
            if self._of.get(company) is member:
                del self._of[company]
        member.companies.clear()

    async def end(self, member: Member) -> None:
        """End a host that is needed no more; what it still held is placed anew."""
        member.retiring = True
        await member.engine.stop()
        # Only now: until the host has gone something may still have been given to it.
        left = tuple(one for one in member.companies if self._runs(one))
        self._forget(member)
        if left and not self._stopping:
            self.listener.lost("it was replaced", left)
            self.listener.ready()

    def look(self) -> None:
        """To be called now and then: end what is not needed, and tell once nothing waits for a host that fails."""
        self._end_idle()
        has_settled = self._failed_at is None or time.monotonic() - self._failed_at > 2 * self.options.retry_s
        if self._failed_at is not None and has_settled and all(one.engine.is_ready for one in self._members):
            self._failed_at = None
            self._alerts.take(_hosts_stand())

    def _end_idle(self) -> None:
        """End what has had no session for a while; one host always stays."""
        now = time.monotonic()
        for member in reversed(self._members):
            others = [one for one in self._members if one is not member and not one.retiring]
            is_used = member.reserved or any(self._runs(one) for one in member.companies)
            if member.retiring or not others or is_used or not member.engine.is_ready:
                member.idle_since = None
            elif member.idle_since is None:
                member.idle_since = now
            elif now - member.idle_since >= self.options.idle_s:
                log.info("a Node host without sessions is ended", pid=member.engine.pid)
                member.retiring = True
                self.spawn(self.end(member))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background until `stop`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the Node hosts failed", exc_info=task.exception())

    def host_attached(self, token: str, connection: Connection) -> bool:
        """See `gateway.HostPort`."""
        for member in self._members:
            if member.engine.host_attached(token, connection):
                self._connections[connection] = member.engine
                return True
        return False

    def host_notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        """See `gateway.HostPort`."""
        engine = self._connections.get(connection)
        if engine is not None:
            engine.host_notified(connection, method, params)

    async def host_asked(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        """See `gateway.HostPort`."""
        engine = self._connections.get(connection)
        if engine is None:
            raise ServiceUnavailable("this host has been given up")
        return await engine.host_asked(connection, method, params)

    def host_detached(self, connection: Connection) -> None:
        """See `gateway.HostPort`."""
        engine = self._connections.pop(connection, None)
        if engine is not None:
            engine.host_detached(connection)


def _not_started(error: StandfastError, hosts: int) -> Alert:
    return Alert(
        "host_not_started",
        "error",
        f"another Node host did not come up; sessions wait for it: {error.message}",
        {"component": "sessions"},
        {"hosts": hosts, "next_step": error.next_step},
        lasts=True,
    )


def _hosts_stand() -> Alert:
    return Alert(
        "hosts_stand",
        "info",
        "no session waits for a Node host that does not come up",
        {"component": "sessions"},
        ends=("host_not_started",),
        quiet=True,
    )
