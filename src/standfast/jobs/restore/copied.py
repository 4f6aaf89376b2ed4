"""The rows of a backup, read out of its archive by `pg_restore` as COPY's text, without a server.

Invariant: an end that is not an error means that every row of the tables asked for has been yielded: the archive was
read to its end, and every process that took part has ended well.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

from standfast.errors import BackupDamaged, StandfastError
from standfast.redaction import redact_text

T = TypeVar("T")
STALL_S = 60.0
_CHUNK_BYTES = 1 << 18
_END_S = 10.0
_COPY = re.compile(rb'COPY (?:"?[^".]+"?\.)?"?(\w+)"? \((.*)\) FROM stdin;')
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_NAMED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}

Row = list[bytes]
Archive = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens pg_dump's plain archive for reading; called in a thread."""


class Rows:
    """A run of rows of one table: `columns` by name, in the order of each row's fields."""

    def __init__(self, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        self.table = table
        self.columns = columns
        self.rows = rows


def value(field: bytes) -> bytes | None:
    """A field of COPY's text format, as it was; None: null."""
    if field == rb"\N":
        return None
    return _ESCAPED.sub(lambda found: _NAMED.get(found[1], found[1]), field) if b"\\" in field else field


async def rows_of(archive: Archive, pg_restore: Path, tables: Iterable[str]) -> AsyncGenerator[Rows, None]:
    """The rows of these tables, as they come. `BackupDamaged` where the archive cannot be read to its end."""
    process = _Restoring(archive, pg_restore, tables)
    try:
        splitter = _Splitter()
        while data := await _in_time(process.read):
            for rows in splitter.feed(data):
                yield rows
        await _in_time(process.finish)
        if not splitter.is_whole:
            raise BackupDamaged("the archive ends amid a table")
    finally:
        await asyncio.shield(asyncio.to_thread(process.end))


async def _in_time(call: Callable[[], T]) -> T:
    try:
        async with asyncio.timeout(STALL_S):
            return await asyncio.to_thread(call)
    except TimeoutError:
        raise BackupDamaged(
            f"pg_restore has given nothing of the backup for {STALL_S:g} s",
            next_step="Look whether the disk of the backup answers; then try again.",
        ) from None


class _Restoring:
    """A `pg_restore` that is fed from a thread; `read`, `finish` and `end` block."""

    def __init__(self, archive: Archive, pg_restore: Path, tables: Iterable[str]) -> None:
        self._archive = archive
        self._failure: Exception | None = None
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        named = [part for table in tables for part in ("--table", table)]
        self._process = subprocess.Popen(
            [str(pg_restore), "--data-only", "--file=-", *named],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,
        )
        self._feeding = threading.Thread(target=self._feed, name="restore-feed", daemon=True)
        self._feeding.start()

    def _feed(self) -> None:
        assert self._process.stdin is not None
        try:
            with self._archive() as stream:
                # Closing the pipe may write once more, to a pg_restore that has all it wants.
                with contextlib.suppress(BrokenPipeError), self._process.stdin as target:
                    shutil.copyfileobj(stream, target, _CHUNK_BYTES)
                # Only the end tells whether what was read is what was written.
                while stream.read(_CHUNK_BYTES):
                    pass
        except Exception as error:  # noqa: BLE001  # told by `finish`, on the thread that waits
            self._failure = error
            with contextlib.suppress(OSError):
                self._process.kill()

    def read(self) -> bytes:
        assert self._process.stdout is not None
        data: bytes = self._process.stdout.read1(_CHUNK_BYTES)  # type: ignore[attr-defined]  # a buffered reader
        return data

    def finish(self) -> None:
        code = self._process.wait(_END_S)
        self._feeding.join(STALL_S)
        if isinstance(self._failure, StandfastError):
            raise self._failure
        if self._failure is not None:
            raise BackupDamaged(f"the backup's content cannot be read: {self._failure}") from self._failure
        if code != 0:
            raise BackupDamaged(f"pg_restore cannot read the backup: {self._words()}")

    def _words(self) -> str:
        self._said.seek(0)
        lines = self._said.read(4_000).decode(errors="replace").strip().splitlines()
        return redact_text(lines[0]) if lines else "it says nothing"

    def end(self) -> None:
        """Whatever stands it is in."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(_END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()


class _Splitter:
    """Lines of pg_restore's script into rows of tables."""

    def __init__(self) -> None:
        self._table = ""
        self._columns: tuple[str, ...] = ()
        self._rest = b""

    @property
    def is_whole(self) -> bool:
        """Whether what was fed ends outside of a table's rows."""
        return not self._table

    def feed(self, data: bytes) -> Iterator[Rows]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        rows: list[Row] = []
        for line in lines:
            if not self._table:
                self._begin(line)
            elif line == rb"\.":
                yield Rows(self._table, self._columns, rows)
                self._table, rows = "", []
            else:
                rows.append(line.split(b"\t"))
        if rows:
            yield Rows(self._table, self._columns, rows)

    def _begin(self, line: bytes) -> None:
        found = _COPY.fullmatch(line) if line.startswith(b"COPY ") else None
        if found:
            self._table = found[1].decode()
            self._columns = tuple(name.strip().strip('"') for name in found[2].decode().split(","))
