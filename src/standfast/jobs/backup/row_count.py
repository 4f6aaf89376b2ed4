"""Counting the rows in what `pg_restore --data-only` writes.

Invariant: a table is counted only up to the line that ends its data; one that was cut off is no count, it is damage.
"""

from __future__ import annotations

import re
from typing import IO

from standfast.errors import BackupDamaged

_CHUNK_BYTES = 1 << 20
_COPY = re.compile(rb"^COPY (.+?) \(.*\) FROM stdin;$")
_END = b"\n\\.\n"


class RowCount:
    """`rows` by table, without its schema. Of the tables in `kept` the text stands in `texts`."""

    def __init__(self, kept: frozenset[str] = frozenset()) -> None:
        self.rows: dict[str, int] = {}
        self.texts: dict[str, bytes] = {}
        self._kept = kept
        self._table: str | None = None
        self._left = b""

    def read(self, pipe: IO[bytes]) -> None:
        """Take everything. `BackupDamaged` where it ends within a table."""
        while chunk := pipe.read(_CHUNK_BYTES):
            self.take(chunk)
        if self._table is not None:
            raise BackupDamaged(f"the data of {self._table} is cut off")

    def take(self, chunk: bytes) -> None:
        """The next piece, cut anywhere."""
        rest = self._left + chunk
        while True:
            end = self._through_table(rest) if self._table is not None else self._to_table(rest)
            rest = rest[end:]
            if end == 0 or not rest:
                break
        self._left = rest

    def _to_table(self, text: bytes) -> int:
        """How much of `text` is behind; up to the line break before a table's first row, if one begins here."""
        position = 0
        while (end := text.find(b"\n", position)) >= 0:
            begun = _COPY.match(text[position:end]) if text.startswith(b"COPY ", position) else None
            if begun is not None:
                self._table = _name(begun[1].decode("utf-8", "replace"))
                # That line break counts as a row of its own.
                self.rows[self._table] = self.rows.get(self._table, 0) - 1
                return end
            position = end + 1
        return position

    def _through_table(self, text: bytes) -> int:
        """The same up to the table's end, or as far as it has certainly not ended."""
        table = self._table
        assert table is not None
        # Most pieces hold no end, and Python looks for one from behind in half the time.
        found = text.find(_END) if text.rfind(_END) >= 0 else -1
        end = found + 1 if found >= 0 else max(0, len(text) - len(_END) + 1)
        self.rows[table] += text.count(b"\n", 0, end)
        if table in self._kept:
            self.texts[table] = self.texts.get(table, b"") + text[:end]
        if found >= 0:
            self._table = None
            return found + len(_END)
        return end


def _name(qualified: str) -> str:
    if qualified.endswith('"'):
        return qualified[:-1].rpartition('."')[2].replace('""', '"')
    return qualified.rpartition(".")[2]
