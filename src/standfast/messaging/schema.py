"""The tables of the messages' file, and how a connection to it is made.

Invariant: every connection that writes is in WAL mode with `synchronous=FULL`: a commit that returned is on the disk.
Addresses stand in it only as keyed digests (`Seals.tag`), texts and contents only sealed.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

VERSION = 1
APPLICATION_ID = 0x53544D53
_BUSY_TIMEOUT_S = 2.0

# `outgoing.state` and `outgoing.reached` are ranks of `outgoing.State`. `events.tag` tells a message's second delivery
# from its first, `events.name` finds it by its id alone. `chats.read` is the newest event that was marked as read,
# `chats.known_as` the phone-number form of a chat. `deliveries` are what a webhook is still owed, in lanes, one
# for each chat; `dead_at` says since when one was given up.
_TABLES = """
create table notes (name text primary key, note blob not null) without rowid;
create table outgoing (
    number integer primary key autoincrement, company text not null, message_id text not null, chat blob not null,
    idempotency blob, state integer not null, at real not null, changed_at real not null, expires_at real not null,
    attempts integer not null default 0, body blob not null, error blob, content blob, unique (company, message_id)
);
create unique index outgoing_idempotency on outgoing (company, idempotency) where idempotency is not null;
create index outgoing_open on outgoing (number) where state < 2;
create index outgoing_chat on outgoing (company, chat, number);
create index outgoing_age on outgoing (at);
create table chats (
    company text not null, chat blob not null, met_at real not null, answered integer not null,
    read integer not null default 0, known_as blob,
    primary key (company, chat)
) without rowid;
create index chats_age on chats (met_at);
create table events (
    number integer primary key autoincrement, company text not null, kind text not null, chat blob, tag blob,
    name blob, at real not null, body blob not null, attachment blob
);
create unique index events_tag on events (tag) where tag is not null;
create index events_name on events (name) where name is not null;
create index events_chat on events (company, chat, number);
create index events_age on events (at);
create table consumers (name text primary key, done integer not null, changed_at real not null) without rowid;
create table webhooks (
    name text primary key, spec blob not null, changed_at real not null, failing_since real
) without rowid;
create table deliveries (
    webhook text not null, number integer not null, company text not null, lane blob not null,
    queued_at real not null, attempts integer not null default 0, error blob, dead_at real,
    primary key (webhook, number)
) without rowid;
create index deliveries_lane on deliveries (webhook, company, lane, number);
"""


class SchemaUnknown(Exception):
    """The file is an SQLite database that this version did not make."""


def connect(file: Path) -> sqlite3.Connection:
    """A connection that commits durably. Only one thread at a time may use it."""
    connection = sqlite3.connect(
        file, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=128
    )
    try:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        # Checkpoints are made beside the commits, in a thread of their own.
        connection.execute("pragma wal_autocheckpoint=0")
        connection.execute("pragma foreign_keys=off")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty file, wholly or not at all; raises `SchemaUnknown` where it is not one of ours."""
    found = (
        connection.execute("pragma application_id").fetchone()[0],
        connection.execute("pragma user_version").fetchone()[0],
    )
    if found == (0, 0) and not connection.execute("select 1 from sqlite_master limit 1").fetchone():
        connection.executescript(
            f"begin immediate; {_TABLES} pragma application_id={APPLICATION_ID}; pragma user_version={VERSION}; commit;"
        )
    elif found != (APPLICATION_ID, VERSION):
        raise SchemaUnknown(f"not a messages' file of version {VERSION}: {found}")
    connection.execute(
        "select 1 from notes, outgoing, chats, events, consumers, webhooks, deliveries limit 0"
    )
