"""`Webhooks`: programs elsewhere that are told, by HTTP, of what happens here.

Invariant: an event that a webhook is owed is on the disk from the event's own transaction until the receiver has
acknowledged it, or it was given up and listed. Secrets are shown once, where they are made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import structlog

from standfast.alert import AlertSink
from standfast.errors import StandfastError, UsageError
from standfast.messaging import webhooks_alarms as alarms
from standfast.messaging.deliveries import Backlog, DeliveryTable, Owed
from standfast.messaging.events import EventLog, LoggedEvent
from standfast.messaging.file import MessageFile
from standfast.messaging.outside import Outside
from standfast.messaging.webhooks_courier import Courier, CourierOptions, Failure
from standfast.messaging.webhooks_registry import Registry, Webhook, checked_filter, checked_name
from standfast.messaging.webhooks_signature import new_secret, signature

log = structlog.get_logger(__name__)
T = TypeVar("T")
AT_ONCE = 64
HOUR_S = 3_600.0
DAY_S = 86_400.0
TIDY_INTERVAL_S = 600.0
KEPT_DAYS = 30
FAILING_ALERT_S = 900.0
REPLAY_NUMBERS = 10_000
_STATUS_AGE_S = 1.0
_STATUS_REST = 50  # times as long as counting took
STOP_PATIENCE_S = 1.0


@dataclass(slots=True)
class _Running:
    courier: Courier
    task: asyncio.Task[None]
    told_failing: bool = False
    buried: int = 0
    buried_told_at: float = field(default=-HOUR_S)


class Webhooks:
    """`load()` once the file is open and before the first event; `start()` delivers, `stop()` ends that."""

    def __init__(
        self,
        file: MessageFile,
        events: EventLog,
        outside: Outside,
        alerts: AlertSink,
        options: CourierOptions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._events = events
        self._outside = outside
        self._alerts = alerts
        self._options = options or CourierOptions()
        self._clock = clock
        self._registry = Registry(file, clock)
        self._table = DeliveryTable(file, clock)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._running: dict[str, _Running] = {}
        self._failing: dict[str, float] = {}
        self._backlogs: tuple[float, dict[str, Backlog]] = (0.0, {})
        self._unwake: Callable[[], None] = lambda: None
        self._tidying: asyncio.Task[None] | None = None
        self._notes: set[asyncio.Task[Any]] = set()

    def load(self) -> None:
        """Read the webhooks, and owe them every event from now on."""
        self._failing = self._registry.load()
        self._events.on_added(self._registry.owe)

    def start(self) -> None:
        for webhook in self._registry.all():
            self._begin(webhook)
        self._unwake = self._events.wake(self._wake)
        self._tidying = asyncio.create_task(self._tidy(), name="webhooks")

    async def stop(self) -> None:
        """Begin nothing more, and wait a moment for what is under way; what was acknowledged is written down, what was
        not is delivered again."""
        self._unwake()
        couriers = [one.courier for one in self._running.values()]
        await asyncio.gather(*(courier.wind_down(STOP_PATIENCE_S) for courier in couriers))
        tasks = [one.task for one in self._running.values()] + ([self._tidying] if self._tidying else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._notes, return_exceptions=True)
        for running in self._running.values():
            try:
                await running.courier.flush()
            except StandfastError as error:
                log.warning("what was delivered is not noted and comes again", error=error.code)
        self._running.clear()

    def all(self) -> list[dict[str, Any]]:
        """Every webhook, and how it stands."""
        return [self._view(webhook) for webhook in self._registry.all()]

    def show(self, name: str) -> dict[str, Any]:
        """One of them, with its URL in full; `UsageError` where there is none."""
        webhook = self._registry.get(name)
        secrets = [{"until": secret.until} for secret in webhook.secrets]
        return {**self._view(webhook), "url": webhook.url, "secrets": secrets}

    async def add(
        self,
        name: str,
        url: str,
        *,
        secret: str | None = None,
        companies: list[str] | None = None,
        kinds: list[str] | None = None,
    ) -> dict[str, Any]:
        """Owe `url` every such event from now on. The answer holds the secret, for the only time. `Conflict` where the
        name is taken; `UsageError`."""
        checked_name(name)
        self._outside.reach.check_url(url)
        chosen, wanted = checked_filter(companies or [], kinds or [])
        made = new_secret(secret)
        webhook = Webhook(name, url, (made,), chosen, wanted, self._clock())
        await self._registry.add(webhook)
        self._begin(webhook)
        return {**self.show(name), "secret": made.value}

    async def remove(self, name: str) -> None:
        """Owe it nothing any more, and forget what it was owed."""
        await self._registry.remove(name)
        running = self._running.pop(name, None)
        if running is not None:
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)
        self._alerts.take(alarms.settled(name, "was removed"))
        await self._table.forget(name)

    async def pause(self, name: str, why: str | None = None) -> dict[str, Any]:
        """Deliver nothing, and keep what it is owed."""
        self._set_paused(name, True)
        await self._registry.change(name, paused=True, paused_why=why)
        if name in self._running:
            self._running[name].told_failing = False
        self._alerts.take(alarms.settled(name, "was paused"))
        return self.show(name)

    async def resume(self, name: str) -> dict[str, Any]:
        """Deliver again, the oldest first."""
        now = self._clock()
        await self._registry.change(name, paused=False, paused_why=None, resumed_at=now)
        self._set_paused(name, False, now)
        self._alerts.take(alarms.resumed(name))
        return self.show(name)

    async def rotate(self, name: str, secret: str | None = None, keep_h: float = 24.0) -> dict[str, Any]:
        """Sign with a new secret, and for `keep_h` hours with the former ones too. The answer holds the new one."""
        now, made = self._clock(), new_secret(secret)
        until = now + max(0.0, keep_h) * HOUR_S
        kept = [
            msgspec.structs.replace(one, until=min(until, one.until or until))
            for one in self._registry.get(name).secrets
            if one.value != made.value and (one.until is None or one.until > now)
        ]
        await self._registry.change(name, secrets=(made, *(one for one in kept if (one.until or 0) > now)))
        return {**self.show(name), "secret": made.value}

    async def test(self, name: str) -> dict[str, Any]:
        """Deliver an event of kind `test`, number 0, at once, past everything that waits."""
        began = time.monotonic()
        event = LoggedEvent(0, "", "test", round(self._clock(), 3), {})
        failure = await self._post(self._registry.get(name), event)
        took_ms = round((time.monotonic() - began) * 1000, 1)
        return {"delivered": failure is None, "error": failure and failure.why, "took_ms": took_ms}

    def dead(self, name: str, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """What was given up above `after`, oldest first."""
        self._registry.get(name)
        return self._table.dead(name, after, min(max(limit, 1), 500))

    async def replay(
        self,
        name: str,
        *,
        dead: bool = False,
        since: float | None = None,
        numbers: list[int] | None = None,
    ) -> int:
        """Owe it anew what was given up, or every event since a time, or those of these numbers; how many. What is owed
        already stays owed once."""
        webhook = self._registry.get(name)
        if [dead, since is not None, numbers is not None].count(True) != 1:
            raise UsageError("replay either what is dead, or since a time, or numbers")
        if numbers is not None and len(numbers) > REPLAY_NUMBERS:
            raise UsageError(f"no more than {REPLAY_NUMBERS:,} numbers at once")

        def change() -> Awaitable[int]:
            if since is not None:
                return self._table.replay_since(webhook, since)
            if numbers is not None:
                return self._table.replay_numbers(webhook, numbers)
            return self._table.replay_dead(name)

        running = self._running.get(name)
        return await (running.courier.around(change) if running else change())

    def _view(self, webhook: Webhook) -> dict[str, Any]:
        backlog = self._backlog().get(webhook.name, Backlog())
        running = self._running.get(webhook.name)
        failing_since = running.courier.failing_since if running else self._failing.get(webhook.name)
        error = (running.courier.last_error if running else None) or (
            self._table.last_error(webhook.name) if failing_since is not None else None
        )
        oldest_s = None if backlog.oldest_at is None else round(self._clock() - backlog.oldest_at, 1)
        return {
            "name": webhook.name,
            "target": self._outside.reach.origin(webhook.url),
            "companies": list(webhook.companies),
            "kinds": list(webhook.kinds),
            "created_at": round(webhook.created_at, 3),
            "paused": webhook.paused,
            "paused_why": webhook.paused_why,
            "waiting": backlog.waiting,
            "oldest_waiting_s": oldest_s,
            "dead": backlog.dead,
            "delivered": running.courier.delivered if running else 0,
            "down": bool(running and running.courier.is_down),
            "failing_since": failing_since,
            "last_error": error if failing_since is not None else None,
        }

    def _backlog(self) -> dict[str, Backlog]:
        """Counting rows takes its time where millions wait, and whoever watches asks often."""
        due, known = self._backlogs
        began = time.monotonic()
        if began >= due:
            known = self._table.backlogs()
            now = time.monotonic()
            self._backlogs = (now + max(_STATUS_AGE_S, _STATUS_REST * (now - began)), known)
        return known

    def _begin(self, webhook: Webhook) -> None:
        name = webhook.name
        courier = Courier(
            name,
            self._table,
            lambda owed: self._deliver(name, owed),
            self._options,
            failing=lambda since: self._note_failing(name, since),
            buried=lambda count: self._note_buried(name, count),
            gone=lambda: self._note_gone(name),
            failing_since=self._failing.get(name),
            clock=self._clock,
        )
        courier.paused, courier.resumed_at = webhook.paused, webhook.resumed_at
        task = asyncio.create_task(courier.run(), name=f"webhook {name}")
        self._running[name] = _Running(courier, task)
        if not webhook.paused and name not in self._failing:
            self._alerts.take(alarms.settled(name, "works"))

    def _wake(self) -> None:
        for running in self._running.values():
            running.courier.wake()

    def _set_paused(self, name: str, paused: bool, resumed_at: float | None = None) -> None:
        running = self._running.get(name)
        if running is not None:
            courier = running.courier
            courier.paused = paused
            courier.resumed_at = courier.resumed_at if resumed_at is None else resumed_at
            courier.wake()

    async def _deliver(self, name: str, owed: Owed) -> Failure | None:
        event = self._events.event(owed.number)
        if event is None:
            return None  # nothing is left to be told
        async with self._slots:
            return await self._post(self._registry.get(name), event)

    async def _post(self, webhook: Webhook, event: LoggedEvent) -> Failure | None:
        body = msgspec.json.encode(
            {
                "number": event.number,
                "company": event.company,
                "kind": event.kind,
                "at": event.at,
                "data": event.data,
            }
        )
        timestamp = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "Standfast-Event-Number": str(event.number),
            "Standfast-Timestamp": str(timestamp),
            "Standfast-Signature": signature(webhook.secrets, timestamp, body),
        }
        try:
            status = await self._outside.post(webhook.url, body, headers, self._options.timeout_s)
        except StandfastError as error:
            return Failure(error.message)
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            return Failure(f"answered {status}: redirects are not followed")
        return Failure(f"answered {status}", gone=status == 410)

    def _note_failing(self, name: str, since: float | None) -> None:
        if self._failing.get(name) != since:
            if since is None:
                self._failing.pop(name, None)
            else:
                self._failing[name] = since
            self._registry.note_failing(name, since)
        running = self._running.get(name)
        if running is None:
            return
        if since is None:
            self._alerts.take(alarms.back(name, quiet=not running.told_failing))
            running.told_failing = False
        elif not running.told_failing and self._clock() - since >= FAILING_ALERT_S:
            running.told_failing = True
            why = running.courier.last_error
            self._alerts.take(alarms.failing(name, FAILING_ALERT_S / 60, why))

    def _note_buried(self, name: str, count: int) -> None:
        running = self._running.get(name)
        if running is None:
            return
        running.buried += count
        if time.monotonic() - running.buried_told_at >= HOUR_S:
            running.buried_told_at = time.monotonic()
            told, running.buried = running.buried, 0
            self._alerts.take(alarms.dead_letters(name, told, self._options.give_up_s / HOUR_S))

    def _note_gone(self, name: str) -> None:
        self._set_paused(name, True)
        why = "it answered 410 Gone"
        self._alerts.take(alarms.gone(name, why))
        task = asyncio.get_running_loop().create_task(self._pause_for_good(name, why))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _pause_for_good(self, name: str, why: str) -> None:
        try:
            await self._registry.change(name, paused=True, paused_why=why)
        except StandfastError as error:
            log.warning("a pause was not written down", webhook=name, error=error.code)

    async def _tidy(self) -> None:
        while True:
            try:
                await self._table.tidy(self._clock() - KEPT_DAYS * DAY_S)
            except StandfastError as error:
                log.warning("old deliveries were not removed", error=error.code)
            await asyncio.sleep(TIDY_INTERVAL_S)
