"""`AlertFile`: the SQLite file of alerts. Used by one thread at a time; raises what SQLite raises.

Invariant: a write is whole or not at all, and survives the end of the process; a file that is no such file is moved
aside before a new one is begun.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import structlog

from standfast.alerts.records import Incident, Trouble

log = structlog.get_logger(__name__)
T = TypeVar("T")
VERSION = 1
APPLICATION_ID = 0x53544141
HISTORY_S = 30 * 86_400.0
HISTORY_ROWS = 20_000
BUSY_S = 2.0
_SUFFIXES = ("-wal", "-shm", "")
_STATE_TABLES = ("troubles", "held", "waiting")
_TABLE = (
    "create table {name} (key text primary key, at real not null, boot_id text not null, boottime real not null,"
    " wall real not null, body blob not null) without rowid"
)
_INDEX = "create index incidents_at on incidents (at)"
_PUT = (
    "insert into {name} values (?, ?, ?, ?, ?, ?) on conflict (key) do update set at = excluded.at,"
    " boot_id = excluded.boot_id, boottime = excluded.boottime, wall = excluded.wall, body = excluded.body"
)
_HISTORY = "select body from incidents where at >= ? order by at desc limit ?"
_TIDY = (
    "delete from incidents where at < ? or key not in (select key from incidents order by at desc limit ?)"
)


class NotOurs(sqlite3.DatabaseError):
    """An SQLite file, but none of these alerts."""


class Row(NamedTuple):
    """`at` orders history; the rest says which clocks stood where when it was written."""

    at: float
    boot_id: str
    boottime: float
    wall: float
    body: bytes


class AlertFile:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "alerts.db"
        self._connection: sqlite3.Connection | None = None

    def open(self) -> bool:
        """Whether it had to be begun anew because it was damaged."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        try:
            self._connection = self._opened()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)
            return True
        return False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def rows(self) -> Iterator[tuple[str, str, Row]]:
        """What stands there but for the history, as (table, key, row)."""
        connection = self._open_connection()
        for table in _STATE_TABLES:
            for key, *row in connection.execute(f"select * from {table} order by key"):
                yield table, key, Row(*row)

    def write(self, batch: Sequence[tuple[str, str, Row | None]], tidy_before: float | None = None) -> bool:
        """Put rows, or remove those that are None, in one transaction; with `tidy_before` forget older history. True
        where the file was begun anew, so that what was written earlier is not in it."""
        anew = self._connection is None and self.open()
        try:
            self._write(batch, tidy_before)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)
            self._write(batch, tidy_before)
            return True
        return anew

    def incidents(self, since: float, limit: int) -> list[Incident]:
        """Those reported after `since`, as they were written."""
        return _history(self._open_connection(), since, limit)

    def _write(self, batch: Sequence[tuple[str, str, Row | None]], tidy_before: float | None) -> None:
        connection = self._open_connection()
        connection.execute("begin immediate")
        try:
            for table, key, row in batch:
                if row is None:
                    connection.execute(f"delete from {table} where key = ?", (key,))
                else:
                    connection.execute(_PUT.format(name=table), (key, *row))
            if tidy_before is not None:
                connection.execute(_TIDY, (tidy_before, HISTORY_ROWS))
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("rollback")
            raise

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        if not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        self.close()
        target = self.directory / f"damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}"
        target.mkdir(mode=0o700, exist_ok=True)
        for suffix in _SUFFIXES:
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                file.replace(target / file.name)
        log.error(
            "the file of alerts cannot be read; a new one is begun", moved_to=str(target), reason=str(error)
        )
        self._connection = self._opened()


def history_of(directory: Path, since: float, limit: int) -> list[Incident]:
    """Incidents in the file of that directory that were reported after `since`, and all that go on, the newest first;
    none where there is no file. Nothing is changed in it. Raises `sqlite3.Error` and `OSError`."""
    path = directory / "alerts.db"
    if not path.exists():
        return []
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
    try:
        found = {one.id: one for one in _history(connection, since, limit)}
        for (body,) in connection.execute("select body from troubles"):
            for trouble in _decoded(body, Trouble):
                if trouble.is_open:
                    found[trouble.incident.id] = trouble.incident
    finally:
        connection.close()
    return sorted(found.values(), key=lambda one: one.since, reverse=True)


def _history(connection: sqlite3.Connection, since: float, limit: int) -> list[Incident]:
    return [
        one for (body,) in connection.execute(_HISTORY, (since, limit)) for one in _decoded(body, Incident)
    ]


def _decoded(body: bytes, record: type[T]) -> Iterator[T]:
    """The record; nothing where another version of this program wrote it so that it cannot be read."""
    with contextlib.suppress(msgspec.MsgspecError):
        yield msgspec.json.decode(body, type=record)


def _prepare(connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("pragma application_id").fetchone()
    (version,) = connection.execute("pragma user_version").fetchone()
    if (application, version) == (APPLICATION_ID, VERSION):
        connection.execute("select count(*) from troubles").fetchone()
        return
    if connection.execute("select 1 from sqlite_master limit 1").fetchone() is not None:
        raise NotOurs(f"it has version {version} of application {application:#x}")
    connection.execute("begin immediate")
    for name in (*_STATE_TABLES, "incidents"):
        connection.execute(_TABLE.format(name=name))
    connection.execute(_INDEX)
    connection.execute(f"pragma application_id = {APPLICATION_ID}")
    connection.execute(f"pragma user_version = {VERSION}")
    connection.execute("commit")
