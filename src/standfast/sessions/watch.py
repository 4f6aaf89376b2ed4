"""`HostWatch`: looks at every host and every socket by what passes through them, not by what they say of themselves.

Invariant: a session that is open and hears nothing within its limit is connected anew; a host that answers nothing is
killed, and one that leaks is replaced, its sessions one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import structlog

from standfast.alert import Alert, AlertSink
from standfast.authstate.company import Company
from standfast.errors import StandfastError
from standfast.sessions.hosts import Hosts, Member
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Session, State, Traffic

log = structlog.get_logger(__name__)
STATS_TIMEOUT_S = 5.0
_TAGS = {"component": "sessions"}
_STEP = (
    "Nothing, unless it comes often: then fewer sessions for each host (STANDFAST_SESSIONS_PER_HOST), or more memory "
    "(STANDFAST_HOST_MEMORY_MB); 'standfast status' shows the hosts."
)


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """`deaf_after_s`: for how long an open session may hear nothing. `unconfirmed_s`: for how long WhatsApp may leave a
    message unconfirmed; doubled each time that connecting anew did not help, up to `unconfirmed_cap_s`."""

    deaf_after_s: float = 90.0
    unconfirmed_s: float = 60.0
    unconfirmed_cap_s: float = 1_800.0
    host_memory_mb: int = 2_048
    host_delay_ms: float = 1_000.0
    host_slow_for_s: float = 60.0
    host_silent_s: float = 30.0
    # A limit that is too low for what a host holds must not replace it without end.
    host_age_s: float = 600.0
    move_s: float = 15.0

    @property
    def interval_s(self) -> float:
        return min(2.0, self.deaf_after_s / 6)

    @property
    def ping_idle_s(self) -> float:
        """A socket that has heard nothing for this long is asked for a sign of life."""
        return min(20.0, self.deaf_after_s / 3)


class HostWatch:
    """`run()` beside everything."""

    def __init__(
        self, hosts: Hosts, pool: SessionPool, alerts: AlertSink, options: WatchOptions | None = None
    ) -> None:
        self._hosts = hosts
        self._pool = pool
        self._alerts = alerts
        self._options = options or WatchOptions()
        self._answered: dict[Member, float] = {}
        self._slow_since: dict[Member, float] = {}
        self._replacing: asyncio.Task[None] | None = None
        self._renewing: set[Company] = set()
        self.looked_at = time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(self._options.interval_s)
        finally:
            if self._replacing is not None:
                self._replacing.cancel()

    async def look(self) -> None:
        """Look at every host once. `looked_at` is when that was done last."""
        try:
            await asyncio.gather(*(self._look_at(member) for member in self._hosts.members))
            self._hosts.look()
        except Exception:
            log.exception("looking at the Node hosts failed")
        self.looked_at = time.monotonic()

    async def _look_at(self, member: Member) -> None:
        if not member.engine.is_ready:
            self._answered.pop(member, None)
            self._slow_since.pop(member, None)
            return
        self._answered.setdefault(member, time.monotonic())
        asked_at = time.monotonic()
        params = {"ping_idle_ms": round(self._options.ping_idle_s * 1000)}
        timeout_s = min(STATS_TIMEOUT_S, self._options.host_silent_s)
        try:
            raw = await member.engine.request("host.stats", params, timeout_s=timeout_s)
        except StandfastError:
            self._silent(member)
            return
        self._answered[member] = time.monotonic()
        member.stats = msgspec.json.decode(raw)
        for row in member.stats["sessions"]:
            self._heard(row)
        self._find_strays(member, asked_at)
        self._judge(member)

    def _find_strays(self, member: Member, asked_at: float) -> None:
        """A session that counts as open and that its host does not know would stay so for ever."""
        known = {(row["company"], row["generation"]) for row in member.stats["sessions"]}
        for company in tuple(member.companies):
            session = self._pool.session(company)
            if session is None or not session.is_active or session.launched_at > asked_at:
                continue
            if session.state is State.OPEN and (company, session.generation) not in known:
                log.error("a host does not know a session", company=company, pid=member.engine.pid)
                self._pool.hearing.lost("it did not know the session", [company])
                self._pool.hearing.ready()

    def _silent(self, member: Member) -> None:
        silent_s = time.monotonic() - self._answered.get(member, time.monotonic())
        if silent_s >= self._options.host_silent_s and member.engine.is_ready:
            self._answered.pop(member, None)
            message = (
                f"a Node host answered nothing for {silent_s:.0f} s and is killed; another takes its place"
            )
            facts = {"pid": member.engine.pid, "next_step": _STEP}
            self._alerts.take(Alert("host_hung", "error", message, _TAGS, facts))
            member.engine.kill()

    def _heard(self, row: dict[str, Any]) -> None:
        session = self._pool.session(Company(row["company"]))
        if session is None or row["generation"] != session.generation:
            return
        session.traffic = Traffic(
            time.monotonic(),
            _seconds(row["last_frame_age_ms"]),
            _seconds(row["ping_ms"]),
            _seconds(row["unconfirmed_ms"]),
        )
        session.retried(row["retries_sent"], row["retries_received"])
        if session.state is not State.OPEN or session.company in self._renewing:
            return
        why = self._deafness(session, _seconds(row["ping_waits_ms"]))
        if why is not None:
            self._renewing.add(session.company)
            self._hosts.spawn(self._renew(session, why))

    def _deafness(self, session: Session, ping_waits_s: float | None) -> str | None:
        options, traffic = self._options, session.traffic
        assert traffic is not None
        if traffic.frame_age_s is not None and traffic.frame_age_s > options.deaf_after_s:
            return f"nothing was heard from WhatsApp for {traffic.frame_age_s:.0f} s"
        if ping_waits_s is not None and ping_waits_s > options.deaf_after_s / 3:
            return f"a ping was not answered for {ping_waits_s:.0f} s"
        if traffic.unconfirmed_s is None:
            session.silences = 0
            return None
        limit_s = min(options.unconfirmed_cap_s, options.unconfirmed_s * 2.0 ** min(session.silences, 16))
        if traffic.unconfirmed_s <= limit_s:
            return None
        session.silences += 1
        return f"WhatsApp answers, and has not confirmed a message for {traffic.unconfirmed_s:.0f} s"

    async def _renew(self, session: Session, why: str) -> None:
        try:
            await self._pool.renew(session, why)
        finally:
            self._renewing.discard(session.company)

    def _judge(self, member: Member) -> None:
        options, now = self._options, time.monotonic()
        rss_mb = member.stats["rss_bytes"] / 2**20
        if member.stats["event_loop_delay_ms"] > options.host_delay_ms:
            slow_s = now - self._slow_since.setdefault(member, now)
        else:
            self._slow_since.pop(member, None)
            slow_s = 0.0
        if rss_mb > options.host_memory_mb:
            self.replace(member, f"it uses {rss_mb:.0f} MB, more than {options.host_memory_mb} MB")
        elif slow_s >= options.host_slow_for_s:
            self.replace(member, f"its event loop has been late for {slow_s:.0f} s")

    def replace(self, member: Member, why: str) -> None:
        """Begin to move the host's sessions to a new one, unless it is too young or another is just being replaced."""
        is_busy = self._replacing is not None and not self._replacing.done()
        if is_busy or member.retiring or time.monotonic() - member.began < self._options.host_age_s:
            return
        self._replacing = asyncio.get_running_loop().create_task(self._replaced(member, why))

    async def _replaced(self, old: Member, why: str) -> None:
        """The new host first, then the sessions one after the other, then the old one's end."""
        pid = old.engine.pid
        new = self._hosts.add()
        new.reserved = True
        if not await new.engine.came_up():
            return  # `Hosts` has told why; the old one goes on, and is looked at again
        old.retiring = True
        facts = {"pid": pid, "new_pid": new.engine.pid, "sessions": len(old.companies)}
        message = f"a Node host is replaced: {why}"
        self._alerts.take(Alert("host_recycled", "warning", message, _TAGS, {**facts, "next_step": _STEP}))
        for company in sorted(old.companies):
            session = self._pool.session(company)
            if session is None or not session.runs:
                continue
            if await self._pool.move(session, partial(self._hosts.assign, company, new)):
                with contextlib.suppress(TimeoutError):
                    # Open again, or not to be waited for: few sessions are closed at once.
                    await asyncio.wait_for(session.settled.wait(), self._options.move_s)
        new.reserved = False
        await self._hosts.end(old)
        log.info("a Node host was replaced", pid=pid)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
