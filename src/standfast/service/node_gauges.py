"""`NodeGauges`: health of this very node: sessions, machine, backups, PostgreSQL as seen from it.

Invariant: each answers from what was seen last; only `run` waits for anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import structlog

from standfast.health import backups as backup_health
from standfast.health import database as database_health
from standfast.health import machine as machine_health
from standfast.health import sessions as session_health
from standfast.health.backups import BackupWatch
from standfast.health.document import Finding
from standfast.health.event_loop import LoopLag
from standfast.health.machine import MachineWatch
from standfast.health.sessions import SessionTrend, sessions_section
from standfast.health.thresholds import Thresholds
from standfast.messaging.messenger import Messenger
from standfast.service.backup_outlook import BackupOutlook
from standfast.service.backup_scan import catalogued
from standfast.service.board import Board
from standfast.service.changelog import ChangeLog
from standfast.service.foundation import together
from standfast.service.keeping import Keeping
from standfast.sessions.hosts import Hosts
from standfast.sessions.pool import SessionPool
from standfast.settings import Settings
from standfast.state_dir import StateDirectory
from standfast.vault.clock import Clock

log = structlog.get_logger(__name__)
INTERVAL_S = 10.0

Measured = tuple[Any, list[Finding]]


class NodeGauges:
    """Each gauge gives its section and what was found in it."""

    def __init__(
        self,
        settings: Settings,
        thresholds: Thresholds,
        board: Board,
        pool: SessionPool,
        hosts: Hosts,
        messenger: Messenger,
        clock: Clock,
        keeping: Keeping,
        change_log: ChangeLog,
    ) -> None:
        self._thresholds = thresholds
        self._board = board
        self._pool = pool
        self._hosts = hosts
        self._messenger = messenger
        self._trend = SessionTrend()
        self._lag = LoopLag()
        state = StateDirectory(settings.state_dir)
        places = {"state": state.path}
        if settings.database_is_embedded:
            places["database"] = state.postgres_dir
        self._machine = MachineWatch(places, self._lag, clock)
        root = settings.backup_root or state.path / "backups"
        self._backups = BackupWatch(
            root, named=settings.backup_root is not None, beside=state.path, scan=catalogued
        )
        self._outlook = BackupOutlook(
            settings, keeping.scheduler.jobs, lambda: keeping.sending.report, change_log.status
        )
        self._backups_changed = asyncio.Event()
        keeping.on_backups = self._backups_changed.set

    async def run(self) -> None:
        """Until cancelled."""
        await together(self._lag.run(), self._look())

    async def _look(self) -> None:
        while True:
            try:
                if self._backups_changed.is_set():
                    self._backups_changed.clear()
                    self._backups.hurry()
                await self._backups.look()
            except Exception:
                log.exception("looking at the backups failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._backups_changed.wait()

    def database(self, _verbose: bool) -> Measured:
        section = self._board.database_section()
        return section, database_health.findings(section, self._thresholds)

    def sessions(self, verbose: bool) -> Measured:
        section = sessions_section(
            [session.as_wire() for session in self._pool.sessions()],
            self._host_wires(),
            sum(self._messenger.outbox.waiting().values()),
            self._trend,
        )
        findings = session_health.findings(section, self._thresholds)
        if not verbose:
            section.troubled = []
        return section, findings

    def machine(self, _verbose: bool) -> Measured:
        elsewhere = self._backups.disk
        section = self._machine.look(self._host_wires(), [] if elsewhere is None else [elsewhere])
        return section, machine_health.findings(section, self._thresholds)

    def backups(self, _verbose: bool) -> Measured:
        section = self._backups.section(self._thresholds)
        if section is None:
            return None, []
        self._outlook.tell(section, self._backups.good)
        return section, backup_health.findings(section, self._thresholds)

    def _host_wires(self) -> list[dict[str, Any]]:
        return [member.as_wire() for member in self._hosts.members]
