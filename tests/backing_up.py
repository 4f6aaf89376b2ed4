"""What tests of backups share: a job's context that remembers what it was told, rows, pg_dump caught at work."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from standfast.alert import Alert
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.manifest import Validation
from standfast.jobs.context import JobContext
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.settings import Settings

CATCH_TIMEOUT_S = 10.0
FILL = """
insert into whatsapp_auth (company_id, creds) select 'company-' || c, '{{}}' from generate_series(1, {companies}) c;
insert into whatsapp_keys (company_id, key_type, key_id, value)
select 'company-' || c, 'session', k::text, to_jsonb(repeat(md5((c * 10000 + k)::text), 8))
from generate_series(1, {companies}) c, generate_series(1, 50) k
"""


@dataclass
class Sink:
    """Alerts, as they were raised."""

    alerts: list[Alert] = field(default_factory=list)

    def take(self, alert: Alert) -> None:
        self.alerts.append(alert)

    @property
    def names(self) -> list[str]:
        return [alert.name for alert in self.alerts]


@dataclass
class Steps:
    """A job's progress. `on_step` is called in the middle of it."""

    on_step: Callable[[str], None] = lambda _name: None
    names: list[str] = field(default_factory=list)
    done: int = 0

    def step(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.names.append(name)
        self.on_step(name)

    def advance(self, done: int) -> None:
        self.done += done

    def note(self, text: str) -> None:
        pass


@dataclass
class Job:
    """`context` of a job at `root`, and what it said."""

    root: Path
    database: Database
    sink: Sink
    steps: Steps
    context: JobContext

    def catalogue(self) -> Catalogue:
        return Catalogue(self.root)

    def names(self) -> list[str]:
        """What lies in the directory of backups, its lock aside."""
        return (
            sorted(one.name for one in self.root.iterdir() if one.name != ".lock")
            if self.root.exists()
            else []
        )


def job(root: Path, database: Database, **settings: Any) -> Job:
    sink, steps = Sink(), Steps()
    given = Settings(state_dir=root.parent / "state", backup_root=root, **settings)
    context = JobContext(given, database, sink, str(uuid.uuid4()), "here", steps)
    return Job(root, database, sink, steps, context)


def fill(options: DatabaseOptions, companies: int) -> None:
    """51 rows a company."""
    execute(options, *FILL.format(companies=companies).split(";"))


def execute(options: DatabaseOptions, *statements: str) -> None:
    with psycopg.connect(options.to_conninfo(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def found_good(context: JobContext, backup: Backup) -> Validation:
    """A validator that finds nothing wrong."""
    return Validation(at=time.time(), ok=True, duration_s=0.0)


async def found_bad(context: JobContext, backup: Backup) -> Validation:
    return Validation(at=time.time(), ok=False, duration_s=0.0, message="its checksum differs")


@dataclass
class Caught:
    """The pg_dump that was caught, and the command lines and environments' keys of every process at that moment."""

    process: psutil.Process | None = None
    command_lines: list[str] = field(default_factory=list)


@contextmanager
def caught(then: signal.Signals, parent: int | None = None) -> Iterator[Caught]:
    """Stop the first pg_dump that this process (or `parent`) starts, as soon as it is there, then send it `then`.
    SIGSTOP leaves it stopped."""
    found, leave = Caught(), threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + CATCH_TIMEOUT_S
        while time.monotonic() < deadline and not leave.is_set():
            if _catch(found, parent or os.getpid(), then):
                return
            time.sleep(0.0005)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        leave.set()
        watching.join()


def _catch(found: Caught, parent: int, then: signal.Signals) -> bool:
    with suppress(psutil.Error):
        for child in psutil.Process(parent).children():
            if child.name() == "pg_dump" and any("--snapshot" in part for part in child.cmdline()):
                child.suspend()
                found.command_lines = list(_command_lines())
                found.process = child
                child.send_signal(then)
                return True
    return False


def _command_lines() -> Iterator[str]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield " ".join([process.name(), *process.cmdline()])
