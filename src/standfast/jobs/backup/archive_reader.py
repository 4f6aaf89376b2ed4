"""Feeding a backup's archive to `pg_restore`, and learning what went wrong on either side.

Invariant: whoever returned has seen the archive to its end, and pg_restore's too; no process is left behind, also
when cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from standfast.errors import BackupDamaged, BackupFailed, StandfastError
from standfast.jobs.backup.aside import begun, on_disk
from standfast.jobs.backup.catalogue import Backup
from standfast.jobs.backup.manifest import Manifest
from standfast.jobs.backup.sealing import identities, opened
from standfast.postgres.client_tools import ClientTools, find_client_tools
from standfast.settings import Settings

HEAD_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_LIST_TIMEOUT_S = 30.0
_LEAVE_TIMEOUT_S = 5.0
_POLL_S = 0.05
_SAID_BYTES = 4_000
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
# A row's values stand behind these words.
_VALUES = re.compile(r"(?im)^.*(?:DETAIL|CONTEXT|Command was):.*(?:\n(?!pg_restore:).*)*")
StdoutReader = Callable[[IO[bytes]], None]


@dataclass(slots=True)
class Fed:
    """How far a run has come. `failure`: of the archive, not of pg_restore. `abandoned`: nobody waits for its end."""

    count: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    failure: Exception | None = None
    abandoned: bool = False
    head: bytes = b""

    def advance(self, count: int) -> None:
        self.count += count
        self.moved_at = time.monotonic()


@dataclass(frozen=True, slots=True)
class Ran:
    """How pg_restore ended, and what it said."""

    code: int
    said: str


def tools_for(manifest: Manifest, settings: Settings, server_major: int = 0) -> ClientTools:
    """Those that read this backup's archive and serve that server. Blocks: in a thread. `ClientToolsMismatch`."""
    made_by = re.search(r"\d+", manifest.client_version)
    return find_client_tools(max(int(made_by[0]) if made_by else 0, server_major), settings.pg_bin_dir)


async def feed(
    backup: Backup,
    settings: Settings,
    command: Sequence[str | Path],
    *,
    stall_s: float,
    environment: Mapping[str, str] | None = None,
    read: StdoutReader | None = None,
    on_bytes: Callable[[int], None] = lambda _count: None,
) -> tuple[Ran, Fed]:
    """Run `command` with the archive on its standard input; `read` is called in a thread with its output. Raises what
    reading the archive raised; `BackupFailed` where nothing moves for `stall_s` seconds."""
    fed = Fed()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: ASYNC220 - threads feed it and read from it
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if read else subprocess.DEVNULL,
            stderr=said,
            env=dict(environment or _ENVIRONMENT),
            start_new_session=True,
        )
        _widen(process.stdin, process.stdout)
        async with _ended(process):
            work = [begun(lambda: _pump(backup, settings, process.stdin, fed), "backup-read")]
            if read is not None:
                work.append(begun(lambda: _drain(read, process.stdout, fed), "backup-count"))
            try:
                await _watched(backup, process, work, fed, stall_s, on_bytes)
            finally:
                fed.abandoned = True
                if process.poll() is None:
                    process.kill()
                # A disk that hangs keeps its thread for ever.
                await asyncio.wait(work, timeout=_LEAVE_TIMEOUT_S)
            for task in work:
                task.result()
            code = process.wait()
        said.seek(0)
        told = _without_values(said.read(_SAID_BYTES).decode("utf-8", "replace"))
    if fed.failure is not None:
        raise fed.failure
    return Ran(code, told), fed


def _widen(*pipes: IO[bytes] | None) -> None:
    """Where the kernel can: most of the time between two processes is spent in waking one another."""
    for pipe in pipes:
        if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK_BYTES)


async def contents_of(head: bytes, pg_restore: Path) -> str:
    """The table of contents of an archive that begins so. `BackupDamaged` where it has none that can be read."""

    def listed() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [pg_restore, "--list"],
            input=head,
            capture_output=True,
            timeout=_LIST_TIMEOUT_S,
            env=_ENVIRONMENT,
            check=False,
        )

    try:
        ran = await asyncio.to_thread(listed)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackupDamaged(f"its table of contents could not be read: {type(error).__name__}") from error
    if ran.returncode != 0:
        said = _without_values(ran.stderr.decode("utf-8", "replace")).strip()
        raise BackupDamaged(f"its table of contents cannot be read: {said[:300]}")
    return ran.stdout.decode("utf-8", "replace")


async def head_of(backup: Backup, settings: Settings) -> bytes:
    """The beginning of the archive."""

    def read() -> bytes:
        with opened(backup, identities(settings)) as stream:
            return _read_whole(stream, HEAD_BYTES)

    return await on_disk(read)


def _read_whole(stream: BinaryIO, size: int) -> bytes:
    parts = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _pump(backup: Backup, settings: Settings, pipe: IO[bytes] | None, fed: Fed) -> None:
    assert pipe is not None
    try:
        with contextlib.suppress(BrokenPipeError), pipe:
            _copy(backup, settings, pipe, fed)
    except (StandfastError, OSError) as error:
        fed.failure = error


def _copy(backup: Backup, settings: Settings, pipe: IO[bytes], fed: Fed) -> None:
    with opened(backup, identities(settings)) as stream:
        fed.head = _read_whole(stream, HEAD_BYTES)
        chunk, is_heard = fed.head, True
        while chunk and not fed.abandoned:
            fed.advance(len(chunk))
            try:
                if is_heard:
                    pipe.write(chunk)
            except BrokenPipeError:
                # pg_restore has said why on its side; whether the file is whole is still worth knowing.
                is_heard = False
            chunk = stream.read(_CHUNK_BYTES)


def _drain(read: StdoutReader, pipe: IO[bytes] | None, fed: Fed) -> None:
    assert pipe is not None
    with pipe:
        try:
            read(pipe)
        except StandfastError as error:
            fed.failure = error


async def _watched(
    backup: Backup,
    process: subprocess.Popen[bytes],
    work: Sequence[asyncio.Future[None]],
    fed: Fed,
    stall_s: float,
    on_bytes: Callable[[int], None],
) -> None:
    told = 0
    while process.poll() is None or not all(task.done() for task in work):
        pending = [task for task in work if not task.done()]
        await (asyncio.wait(pending, timeout=_POLL_S) if pending else asyncio.sleep(_POLL_S / 10))
        on_bytes(fed.count - told)
        told = fed.count
        if time.monotonic() - fed.moved_at > stall_s:
            raise BackupFailed(
                f"reading {backup.name} did not get on for {stall_s:g} s and was given up",
                next_step="Look at the disk that BACKUP_ROOT lies on, and whether this machine is overloaded.",
            )
    on_bytes(fed.count - told)


@contextlib.asynccontextmanager
async def _ended(process: subprocess.Popen[bytes]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _without_values(said: str) -> str:
    return _VALUES.sub("", said).strip()
