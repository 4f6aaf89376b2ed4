"""`Board`: what the service shows of itself; the schema of `standfast status --json`.

Invariant: it looks and changes nothing, and whoever asks is answered at once, from what was seen last.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import structlog

from standfast import __version__
from standfast.errors import StandfastError
from standfast.health.database import DatabaseWatch
from standfast.health.document import DatabaseSection
from standfast.postgres.pool import Database
from standfast.service.files_mode import FilesMode
from standfast.service.simulator import Simulator
from standfast.sessions.gateway import Gateway
from standfast.sessions.hosts import Hosts
from standfast.sessions.pool import SessionPool
from standfast.vault.outage import State
from standfast.vault.status import status_of
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
INTERVAL_S = 2.0


class Board:
    """Looks at the database every two seconds (`run`)."""

    def __init__(
        self,
        state_dir: str,
        database: Database,
        watch: DatabaseWatch,
        vault: Vault,
        gateway: Gateway,
        hosts: Hosts,
        pool: SessionPool,
        simulator: Simulator | None,
        files: FilesMode,
    ) -> None:
        self._began = time.monotonic()
        self._state_dir = state_dir
        self._database = database
        self._watch = watch
        self._vault = vault
        self._gateway = gateway
        self._hosts = hosts
        self._pool = pool
        self._simulator = simulator
        self._files = files
        self._seen: dict[str, Any] = {"state": "unknown"}
        self._vault_seen: dict[str, Any] = {"companies": []}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                # In an outage the heartbeat alone knocks at the door.
                if self._vault.outage.state is not State.OUTAGE:
                    await self._look_at_database()
            except Exception:
                log.exception("looking at the database failed")
            await asyncio.sleep(INTERVAL_S)

    async def _look_at_database(self) -> None:
        try:
            await self._watch.look()
        except StandfastError as error:
            self._seen = _unavailable(error)
            return
        self._seen = {
            "state": "online",
            "latency_ms": self._watch.latency_ms,
            "server": self._watch.server,
            "connections": self._database.statistics().size,
        }

    def database(self) -> dict[str, Any]:
        """What is known of PostgreSQL now: the outage clock knows of its end before the next look does."""
        outage = self._vault.outage
        if outage.state is State.OUTAGE and outage.cause is not None:
            return _unavailable(outage.cause)
        return self._seen

    def database_section(self) -> DatabaseSection:
        """The same for the health document."""
        outage = self._vault.outage
        return self._watch.section(outage.cause if outage.state is State.OUTAGE else None)

    def vault(self) -> dict[str, Any]:
        """A file that is just being rebuilt cannot be counted; whoever looks must see that, and not fail."""
        try:
            self._vault_seen = status_of(self._vault)
        except StandfastError as error:
            outage = self._vault.outage
            now = {"state": outage.state.value, "since_s": round(outage.since_s(), 1), "error": error.message}
            return self._vault_seen | now
        return self._vault_seen

    def document(self) -> dict[str, Any]:
        """The operator's picture."""
        hosts = [member.as_wire() for member in self._hosts.members]
        return {
            "service": f"standfast/{__version__}",
            "uptime_s": round(time.monotonic() - self._began, 1),
            "simulator": self._simulator.ready.admin if self._simulator else None,
            "python": sys.version.split()[0],
            "state_dir": self._state_dir,
            "gateway": str(self._gateway.path),
            "database": self.database(),
            "vault": self.vault(),
            "files": self._files.status(),
            "host": self._host(hosts),
            "hosts": hosts,
            "sessions": [session.as_wire() for session in self._pool.sessions()],
        }

    @staticmethod
    def _host(hosts: list[dict[str, Any]]) -> dict[str, Any]:
        """All hosts as if they were one: the oldest one's pid, the sum of the rest."""
        return {
            "pid": hosts[0]["pid"] if hosts else None,
            "ready": any(host["ready"] for host in hosts),
            "restarts": sum(host["restarts"] for host in hosts),
            "rss_mb": round(sum(host["rss_mb"] for host in hosts), 1),
            "event_loop_delay_ms": max((host["event_loop_delay_ms"] or 0 for host in hosts), default=None),
        }


def _unavailable(error: StandfastError) -> dict[str, Any]:
    return {"state": "unavailable", "error": error.message, "next_step": error.next_step}
