"""The tables of the vault's file, and how a connection to it is made.

Invariant: every connection that writes is in WAL mode with `synchronous=FULL`: a commit that returned is on the disk.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

VERSION = 1
APPLICATION_ID = 0x53544656
PAGE_BYTES = 4096
CREDS = ("", "")  # where a company's creds lie among its keys; no key has an empty type
_BUSY_TIMEOUT_S = 2.0
_CACHE_KIB = 8 * 1024

# `state`, `value`, `change` and `note` are sealed. Rowid tables: large values would spread over the inner nodes of a
# WITHOUT ROWID tree and double what each commit writes. The journal only grows at its end, which is its cheapest place.
_TABLES = """
create table notes (name text primary key, note blob not null) without rowid;
create table companies (
    number integer primary key autoincrement, company text not null unique, state blob not null
);
create table replica (
    number integer not null, type text not null, id text not null, value blob not null, unique (number, type, id)
);
create table journal (
    position integer primary key, number integer not null, first integer not null, last integer not null,
    at real not null, size integer not null, change blob not null
);
create table quarantine (
    id integer primary key autoincrement, company text not null, epoch integer not null, fenced_by integer not null,
    at real not null, reason text not null
);
create table quarantined (
    id integer not null, first integer not null, last integer not null, at real not null, size integer not null,
    change blob not null, primary key (id, first)
);
create table wishes (
    company text primary key, wanted integer not null, unlinked integer not null, dirty integer not null
) without rowid;
"""


class SchemaUnknown(Exception):
    """The file is an SQLite database that this version did not make."""


def connect(file: Path, *, in_threads: bool = True) -> sqlite3.Connection:
    """A connection that commits durably. Only one thread at a time may use it."""
    connection = sqlite3.connect(
        file,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=not in_threads,
        cached_statements=64,
    )
    try:
        connection.execute(f"pragma page_size={PAGE_BYTES}")
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        # Checkpoints are made beside the commits, in a thread of their own.
        connection.execute("pragma wal_autocheckpoint=0")
        # The log keeps the length that it was given.
        connection.execute("pragma journal_size_limit=-1")
        # Values are encrypted: overwriting what is deleted would only make commits larger.
        connection.execute("pragma secure_delete=off")
        connection.execute(f"pragma cache_size=-{_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty file, wholly or not at all."""
    connection.executescript(
        f"begin immediate; {_TABLES} pragma application_id={APPLICATION_ID}; pragma user_version={VERSION}; commit;"
    )


def check_tables(connection: sqlite3.Connection) -> None:
    """Raises `SchemaUnknown` unless the file is one of ours."""
    found = (
        connection.execute("pragma application_id").fetchone()[0],
        connection.execute("pragma user_version").fetchone()[0],
    )
    if found != (APPLICATION_ID, VERSION):
        raise SchemaUnknown(f"not a vault's file of version {VERSION}: {found}")
    connection.execute(
        "select 1 from companies, replica, journal, quarantine, quarantined, wishes, notes limit 0"
    )


def first_page(pages: int) -> bytes:
    """The page that every file of ours begins with, for one of so many pages."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(f"pragma page_size={PAGE_BYTES}")
        create_tables(connection)
        page = bytearray(connection.serialize()[:PAGE_BYTES])
    finally:
        connection.close()
    page[18:20] = b"\x02\x02"  # in WAL mode
    page[28:32] = pages.to_bytes(4, "big")
    page[32:40] = bytes(8)  # no free pages are known
    return bytes(page)
