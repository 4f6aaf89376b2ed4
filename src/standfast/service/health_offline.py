"""How things are where no service tells: measured from outside.

Invariant: it ends within its limit whatever hangs, starts nothing, mends nothing and holds nothing up; it says what
could not be measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from standfast.errors import (
    DatabaseUnavailable,
    ProtocolError,
    ServiceUnavailable,
    StandfastError,
)
from standfast.health import backups as backup_health
from standfast.health import database as database_health
from standfast.health import key_section
from standfast.health import machine as machine_health
from standfast.health import queries as query_health
from standfast.health.backups import BackupWatch
from standfast.health.database import DatabaseWatch
from standfast.health.document import DatabaseSection, Finding, Health, KeySection
from standfast.health.keys import last_known
from standfast.health.machine import MachineWatch
from standfast.health.queries import QueryMetrics
from standfast.health.thresholds import thresholds_of
from standfast.health.verdict import by_weight, verdict_of
from standfast.postgres.pool import Database
from standfast.service.backup_scan import catalogued
from standfast.service.database import SERVICE_PURPOSE, reachable_options
from standfast.service.health_glance import vault_findings, vault_section
from standfast.service.vault import vault_directory, vault_key
from standfast.settings import Settings
from standfast.state_dir import Holder, StateDirectory
from standfast.vault.storage.glance import GlanceFailed, glance

LIMIT_S = 1.5
_LOOKS = 5
_ANSWER_SHARE = 0.8  # of the limit; the rest is for closing
_CLOSE_TIMEOUT_S = 0.2


class Outside:
    """One look. What was found before the limit counts, also where the rest did not come. Raises `StateDirectoryError`
    where nobody may look into the state directory."""

    def __init__(self, settings: Settings, limit_s: float = LIMIT_S) -> None:
        self._settings = settings
        self._limit_s = limit_s
        self._thresholds = thresholds_of(settings)
        self._holder = StateDirectory(settings.state_dir).holder()
        self._sections: dict[str, Any] = {}
        self._findings: list[Finding] = []

    async def look(self) -> None:
        """Measure, within the limit and a moment."""
        await asyncio.gather(
            self._bounded("database", self._database()),
            self._bounded("vault", asyncio.to_thread(self._vault)),
            self._bounded("backups", self._backups()),
        )

    def health(self, why: StandfastError) -> Health:
        """The picture; `why` the service did not give its own."""
        found = by_weight([self._service(why), *self._findings])
        return Health(
            verdict=verdict_of(found),
            measured_by="command",
            at=time.time(),
            findings=found,
            **self._sections,
        )

    async def _bounded(self, section: Any, work: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await work
        except TimeoutError:
            if section not in self._sections:
                told = f"the {section} could not be measured within {self._limit_s:g} s"
                self._findings.append(
                    Finding(code=f"{section}_not_measured", section=section, level="unknown", message=told)
                )

    def _service(self, why: StandfastError) -> Finding:
        holder = self._holder
        if isinstance(why, ProtocolError):
            return _of_service("service_differs", "unknown", f"the service cannot tell: {why}", why.next_step)
        if holder is not None and holder.purpose == SERVICE_PURPOSE:
            return _silent(holder, why)
        if (vault_directory(self._settings) / "vault.db").exists():
            return _of_service(
                "service_down", "critical", "no service runs: no session stands", why.next_step
            )
        told = f"no service has run in {self._settings.state_dir} yet"
        return _of_service("service_absent", "warning", told, why.next_step)

    async def _database(self) -> None:
        options = reachable_options(self._settings)
        if options is None:
            self._no_embedded_server()
            return
        limit_s = _ANSWER_SHARE * self._limit_s
        limited = replace(
            options,
            max_connections=1,
            connect_timeout_s=min(options.connect_timeout_s, limit_s),
            checkout_timeout_s=limit_s,
            statement_timeout_s=min(options.statement_timeout_s, limit_s),
            application_name="standfast-health",
        )
        metrics = QueryMetrics(self._thresholds)
        database = Database(limited, metrics)
        watch = DatabaseWatch(database, embedded=self._settings.database_is_embedded)
        await database.open()
        try:
            async with asyncio.timeout(limit_s):
                for _ in range(_LOOKS):
                    await watch.look()
                self._database_section(watch.section())
                await self._keys(database)
                self._queries(metrics)
        except TimeoutError:
            told = f"PostgreSQL at {database.where} does not answer within {limit_s:g} s"
            self._database_failed(DatabaseUnavailable(told), watch)
        except StandfastError as error:
            self._database_failed(error, watch)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await database.close()

    def _database_section(self, section: DatabaseSection) -> None:
        self._sections["database"] = section
        self._findings += database_health.findings(section, self._thresholds)

    async def _keys(self, database: Database) -> None:
        """What the fleet's nodes have counted last: to count is not for somebody who passes by."""
        error: StandfastError | None = None
        section: KeySection | None = None
        try:
            section = await last_known(database)
        except StandfastError as failure:
            error = failure
        if section is not None:
            self._sections["keys"] = section
        self._findings += key_section.findings(section, self._thresholds, time.time(), error=error)

    def _queries(self, metrics: QueryMetrics) -> None:
        section = metrics.section(self._thresholds)
        self._sections["queries"] = section
        self._findings += query_health.findings(section, self._thresholds)

    def _database_failed(self, error: StandfastError, watch: DatabaseWatch) -> None:
        if "database" in self._sections:
            return
        self._sections["database"] = watch.section(away=error)
        self._findings.append(
            Finding(
                code=error.code,
                section="database",
                level="critical",
                message=error.message,
                recommendation=error.next_step,
            )
        )

    def _no_embedded_server(self) -> None:
        told, step = "the embedded PostgreSQL does not run", "It runs with the service: standfast up"
        self._sections["database"] = DatabaseSection(
            state="unavailable", where="embedded", embedded=True, error=told, next_step=step
        )
        # Without a service that is as it should be, and tells nothing about what it holds.
        level: Any = "critical" if self._holder and self._holder.purpose == SERVICE_PURPOSE else "unknown"
        self._findings.append(
            Finding(
                code="database_unavailable",
                section="database",
                level=level,
                message=told,
                recommendation=step,
            )
        )

    async def _backups(self) -> None:
        """Backups, and with them the disks: a mount that hangs is waited for in a thread that nobody waits for."""
        settings = self._settings
        root, named = settings.backup_root or settings.state_dir / "backups", settings.backup_root is not None
        limit_s = _ANSWER_SHARE * self._limit_s
        watch = BackupWatch(root, named=named, timeout_s=limit_s, beside=settings.state_dir, scan=catalogued)
        await watch.look()
        section = watch.section(self._thresholds)
        if section is not None:
            self._sections["backups"] = section
            self._findings += backup_health.findings(section, self._thresholds)
        disks = [] if watch.disk is None else [watch.disk]
        machine = MachineWatch({"state": settings.state_dir}).look(disks=disks)
        self._sections["machine"] = machine
        self._findings += machine_health.findings(machine, self._thresholds)

    def _vault(self) -> None:
        try:
            found = glance(
                vault_directory(self._settings), vault_key(self._settings), timeout_s=self._limit_s / 2
            )
        except (GlanceFailed, StandfastError) as error:
            self._findings.append(
                Finding(
                    code="vault_unreadable",
                    section="vault",
                    level="unknown",
                    message=str(error),
                    recommendation="The next 'standfast up' mends what is damaged, and tells.",
                )
            )
            return
        if found is not None:
            is_held = self._holder is not None
            self._sections["vault"] = vault_section(found, self._settings, is_held=is_held)
            self._findings += vault_findings(found)


def _silent(holder: Holder, why: StandfastError) -> Finding:
    """A process holds the state directory as its service and gives no answer."""
    who = f"the service (pid {holder.pid})"
    if isinstance(why, ServiceUnavailable) and not why.facts.get("hangs"):
        step = "Where it is neither starting nor ending, see its log, end it and start it again: standfast up"
        return _of_service("service_silent", "error", f"{who} does not answer: {why.message}", step)
    step = f"See its log and its load; where it stays so: kill {holder.pid} (then kill -9), and standfast up"
    return _of_service("service_hangs", "critical", f"{who} {why.message}", step)


def _of_service(code: str, level: Any, message: str, step: str) -> Finding:
    return Finding(code=code, section="sessions", level=level, message=message, recommendation=step)
