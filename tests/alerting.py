"""A desk before a clock that is moved by hand, and channels that only note what they are told."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import msgspec

from standfast.alert import Alert, Level
from standfast.alerts.channel import Channel, Note, Undelivered, at_least
from standfast.alerts.courier import CourierOptions
from standfast.alerts.desk import AlertDesk
from standfast.alerts.store import AlertStore
from standfast.service.alerting import Alerting
from standfast.sessions.events import Event, EventBus
from standfast.settings import Settings
from standfast.vault.clock import Clock, SystemClock

DAY_S = 86_400.0
LEVELS: dict[str, Level] = {"sentry": "warning", "telegram": "error"}


class HandClock:
    """Moved by `later`; its wall clock is set apart with `wall_s`."""

    def __init__(self, boot: float = 1_000.0, wall: float | None = None, boot_id: str = "one") -> None:
        self.boot, self.wall_s, self.id = boot, time.time() if wall is None else wall, boot_id

    def boottime(self) -> float:
        return self.boot

    def wall(self) -> float:
        return self.wall_s

    def boot_id(self) -> str:
        return self.id

    def later(self, seconds: float) -> None:
        self.boot += seconds
        self.wall_s += seconds


class Told:
    """What each channel was told, at which moment of the boot clock."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.notes: list[tuple[float, str, Note]] = []

    def channels_for(self, level: Level) -> tuple[str, ...]:
        return tuple(name for name, minimum in LEVELS.items() if at_least(level, minimum))

    def tell(self, note: Note, channels: Iterable[str]) -> None:
        self.notes += [(self._clock.boot, channel, note) for channel in channels]


class Desk:
    """The desk with everything round it; `seconds` lets time pass, with a tick each second."""

    def __init__(self, clock: HandClock | None = None, store: AlertStore | None = None) -> None:
        self.clock = clock or HandClock()
        self.told = Told(self.clock)
        self.heard: list[Note] = []
        self.logged: list[Alert] = []
        self.store = store or AlertStore(None, self.clock)
        self.desk = AlertDesk(
            "one", self.clock, self.store, self.told, self.heard.append, log_to=_Log(self.logged)
        )

    def report(self, name: str = "pool_usage_high", level: Level = "error", **more: Any) -> None:
        company = more.pop("company", None)
        tags = {"component": "health"} | ({} if company is None else {"company_id": company})
        more.setdefault("lasts", True)
        self.desk.take(Alert(name, level, more.pop("message", f"{name} is so"), tags, **more))

    def end(self, name: str = "pool_usage_high", **more: Any) -> None:
        self.report(f"{name}_over", "info", lasts=False, ends=(name,), quiet=True, **more)

    def seconds(self, count: float) -> None:
        for _ in range(int(count)):
            self.clock.later(1)
            self.desk.tick()

    def kinds(self, channel: str = "telegram") -> list[str]:
        """The kinds of what a channel was told, in order."""
        return [note.kind for _, name, note in self.told.notes if name == channel]

    def notes(self, channel: str = "telegram") -> list[Note]:
        return [note for _, name, note in self.told.notes if name == channel]


class _Log:
    def __init__(self, logged: list[Alert]) -> None:
        self._logged = logged

    def take(self, alert: Alert) -> None:
        self._logged.append(alert)


class HttpChannel:
    """A channel to a receiver on this machine; 429 and 5xx can be tried again, 4xx not before somebody acts."""

    def __init__(self, url: str, name: str = "http", level: Level = "warning") -> None:
        self.url, self.name, self.level = url, name, level

    async def deliver(self, note: Note) -> None:
        try:
            async with httpx.AsyncClient(timeout=30) as client:
                answer = await client.post(self.url, content=msgspec.json.encode(note))
        except httpx.HTTPError as error:
            raise Undelivered(f"{self.name} is not reached ({type(error).__name__})") from error
        if answer.status_code >= 300:
            after = answer.headers.get("retry-after")
            raise Undelivered(
                f"{self.name} answered {answer.status_code}",
                retry_after_s=None if after is None else float(after),
                permanent=answer.status_code in (401, 403),
                next_step="Give it another token." if answer.status_code in (401, 403) else None,
            )


QUICK = CourierOptions(timeout_s=0.4, retry_base_s=0.02, retry_cap_s=0.1, stop_s=0.3)


def alerting_of(
    state_dir: Path, *channels: Channel, clock: Clock | None = None, options: CourierOptions = QUICK
) -> tuple[Alerting, list[Event]]:
    """The service's alerts, apart from a service, and the events that they made."""
    bus, heard = EventBus(), list[Event]()
    bus.subscribe(heard.append)
    given = Settings(state_dir=state_dir, node_name="one")
    return Alerting(given, bus, clock or SystemClock(), channels, options), heard
