"""pg_dump, run into a sealed file.

Invariant: what it wrote counts only after it ended with 0 and everything was taken from its pipe; whatever ends the
wait for it (a failure, a stall, a cancellation) ends the process too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from standfast.errors import BackupFailed
from standfast.jobs.backup.aside import begun, disk_failed
from standfast.jobs.backup.sealing import Sealed, seal
from standfast.postgres.client_connection import ClientConnection
from standfast.redaction import redact_text

STALL_S = 60.0
_PIPE_BYTES = 1 << 20
_POLL_S = 0.1
_END_TIMEOUT_S = 10.0
_LOCK_WAIT_MS = 15_000
_SAID_BYTES = 600


@dataclass(frozen=True, slots=True)
class DumpOrder:
    """`tables` are quoted names. `to`: recipients of age's."""

    program: Path
    connection: ClientConnection
    snapshot: str
    tables: tuple[str, ...]
    target: Path
    level: int
    to: tuple[Any, ...]

    def command(self) -> list[str]:
        return [
            str(self.program),
            "--format=custom",
            "--compress=0",
            f"--snapshot={self.snapshot}",
            f"--lock-wait-timeout={_LOCK_WAIT_MS}",
            "--no-password",
            "--strict-names",
            *(f"--table={table}" for table in self.tables),
            f"--dbname={self.connection.conninfo}",
        ]


class Dump:
    """One run of pg_dump. `on_bytes` is told on the loop's thread how much more was dumped."""

    def __init__(self, order: DumpOrder, *, stall_s: float, on_bytes: Callable[[int], None]) -> None:
        self._order = order
        self._stall_s = stall_s
        self._on_bytes = on_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._count = 0
        self._progress_at = time.monotonic()

    async def run(self) -> Sealed:
        """The file, durable. `BackupFailed` says what went wrong, pg_dump's own words among it."""
        working = begun(self._work, "backup-dump")
        try:
            return await self._watched(working)
        except OSError as error:
            raise disk_failed(error) from error
        finally:
            self._kill()
            if not working.done():
                await asyncio.wait({working}, timeout=_END_TIMEOUT_S)
            if working.done() and not working.cancelled():
                working.exception()  # it is looked at here, or nobody waits for it any more

    async def _watched(self, working: asyncio.Future[Sealed]) -> Sealed:
        told = 0
        while not working.done():
            await asyncio.wait({working}, timeout=_POLL_S)
            if self._count > told:
                self._on_bytes(self._count - told)
                told = self._count
            if time.monotonic() - self._progress_at > self._stall_s and not working.done():
                raise BackupFailed(
                    f"pg_dump has made no progress for {self._stall_s:g} s and was ended",
                    next_step="See PostgreSQL's load and locks (pg_stat_activity), the network and the backup disk.",
                )
        return working.result()

    def _work(self) -> Sealed:
        order = self._order
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    order.command(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    env=order.connection.environment,
                    pipesize=_PIPE_BYTES,
                    start_new_session=True,  # a Ctrl-C is for our process, which then ends it
                )
            except OSError as error:
                raise BackupFailed(f"{order.program} cannot be run: {error.strerror}") from error
            self._process = process
            if self._ended:
                process.kill()
            try:
                source = _Output(process, said, self._advance)
                return seal(source, order.target, level=order.level, to=order.to)
            finally:
                process.kill()
                assert process.stdout is not None
                process.stdout.close()
                process.wait()

    def _advance(self, count: int) -> None:
        self._count += count
        self._progress_at = time.monotonic()

    def _kill(self) -> None:
        self._ended = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()


class _Output:
    """pg_dump's pipe, whose end is told only after pg_dump has ended well."""

    def __init__(
        self, process: subprocess.Popen[bytes], said: IO[bytes], advance: Callable[[int], None]
    ) -> None:
        assert process.stdout is not None
        self._process = process
        self._pipe = process.stdout.fileno()
        self._said = said
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        data = os.read(self._pipe, size if size > 0 else _PIPE_BYTES)
        self._advance(len(data))
        if not data:
            self._check()
        return data

    def _check(self) -> None:
        try:
            code = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BackupFailed("pg_dump closed its output and did not end") from None
        if code < 0:
            raise BackupFailed(f"pg_dump was killed ({signal.Signals(-code).name})")
        if code > 0:
            raise BackupFailed(
                f"pg_dump ended with {code}: {self._words()}",
                next_step="Mend what it names; the server's log may say more. Then: standfast backup run",
            )

    def _words(self) -> str:
        self._said.seek(0)
        lines = self._said.read(_SAID_BYTES).decode(errors="replace").splitlines()
        told = [line.removeprefix("pg_dump: ") for line in lines if line.startswith("pg_dump: ")]
        return redact_text("; ".join(told or lines)) or "it said nothing"
