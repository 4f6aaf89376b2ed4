"""Keys in bare SQLite, WAL and `synchronous=FULL`: the least that a durable local store can cost.

Invariant: what `commit` has returned from is fsynced. No journal, no encryption, no other process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from standfast.authstate.store import KeyBatch

_SCHEMA = """
create table keys (
    company integer not null, key_type text not null, key_id text not null, value blob not null,
    primary key (company, key_type, key_id)
)
"""
_GET = "select value from keys where company = ? and key_type = ? and key_id = ?"
_PUT = (
    "insert into keys (company, key_type, key_id, value) values (?, ?, ?, ?)"
    " on conflict (company, key_type, key_id) do update set value = excluded.value"
)
_DELETE = "delete from keys where company = ? and key_type = ? and key_id = ?"


class SqliteKeys:
    """Synchronous: a caller that writes for several companies commits once for all of them."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = wal", "synchronous = full"):
            self._connection.execute(f"pragma {pragma}")
        self._connection.execute(_SCHEMA)

    def get(self, company: int, key_type: str, ids: Sequence[str]) -> dict[str, bytes]:
        found = {}
        for key_id in ids:
            row = self._connection.execute(_GET, (company, key_type, key_id)).fetchone()
            if row is not None:
                found[key_id] = row[0]
        return found

    def begin(self) -> None:
        self._connection.execute("begin immediate")

    def put(self, company: int, batch: KeyBatch) -> None:
        for key_type, values in batch.items():
            for key_id, value in values.items():
                if value is None:
                    self._connection.execute(_DELETE, (company, key_type, key_id))
                else:
                    self._connection.execute(_PUT, (company, key_type, key_id, value))

    def commit(self) -> None:
        self._connection.execute("commit")

    def close(self) -> None:
        self._connection.close()
