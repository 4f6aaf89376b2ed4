"""Gateway-only services for tests, before a database that a proxy can take away."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from standfast.alerts.channel import Channel
from standfast.authstate.company import Company
from standfast.health.monitor import Pace
from standfast.postgres.options import DatabaseOptions
from standfast.service.service import Service, ServiceOptions
from standfast.sessions.events import Event
from standfast.settings import Settings
from tests.support import until

ACME = Company("acme")
QUICK_SETTINGS: dict[str, Any] = {
    "postgres_connect_timeout_ms": 800,
    "postgres_checkout_timeout_ms": 800,
    "postgres_statement_timeout_ms": 1500,
    "lease_ttl_ms": 5000,
    "node_name": "one",
    "http": "off",
}


@dataclass
class Running:
    """A service, and what was heard from it."""

    service: Service
    heard: list[Event] = field(default_factory=list)

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """Every alert of that name, as subscribers of events see it."""
        return [event.data for event in self.heard if event.kind == "alert" and event.data["name"] == name]

    async def in_state(self, state: str, timeout_s: float = 10.0) -> None:
        await until(lambda: self.service.vault.outage.state == state, timeout_s)


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A state directory whose path a socket can have."""
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def settings_of(state_dir: Path, options: DatabaseOptions | None, **more: Any) -> Settings:
    """Settings with short deadlines; without `options` the database is the embedded one."""
    given: dict[str, Any] = {**QUICK_SETTINGS, **more}
    if options is not None:
        bare = replace(options, statement_timeout_s=1.5)
        given["database_url"] = SecretStr(bare.to_conninfo())
    return Settings(state_dir=state_dir, **given)


@contextlib.asynccontextmanager
async def running(
    state_dir: Path,
    options: DatabaseOptions | None,
    *,
    pace: Pace | None = None,
    channels: Sequence[Channel] | None = None,
    **more: Any,
) -> AsyncIterator[Running]:
    """A gateway-only service on that state directory, whose alerts go to `channels`."""
    service = Service(
        settings_of(state_dir, options, **more),
        ServiceOptions(gateway_only=True, pace=pace or Pace(), channels=channels),
    )
    heard = Running(service)
    service.bus.subscribe(heard.heard.append)
    async with service:
        yield heard
