"""`MediaFiles`: files to be sent, fetched once at acceptance, so that sending depends on their source no more.

Invariant: a file of an accepted message is in the spool until WhatsApp has the message, or it has failed; what it is
called and where it came from decides nothing about its type or size.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from standfast.errors import Forbidden, NotFound, StandfastError, UsageError
from standfast.messaging.content import FETCHED, MEDIA
from standfast.messaging.file_types import MAX_BYTES, MIB, type_for
from standfast.messaging.outgoing import Outgoing
from standfast.messaging.outside import Outside
from standfast.messaging.spool import CHUNK_BYTES, Spool, Spooled, TooLarge
from standfast.sessions.events import Event

log = structlog.get_logger(__name__)
FETCH_TIMEOUT_S = 20.0
UPLOAD_S = 3_600.0
SWEEP_S = 600.0
# Fetched from outside a file is held in memory: so many at once.
FETCHES_AT_ONCE = 3
_OVER = frozenset({"sent", "delivered", "read", "played", "failed"})


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """`refused` are folders that no file is taken from: what the service itself keeps."""

    max_bytes: int = 64 * MIB
    refused: tuple[Path, ...] = ()


class MediaFiles:
    """`run()` beside everything removes what nobody needs. `unfinished` are the messages that are not confirmed;
    `written` returns once what was noted of messages is on the disk."""

    def __init__(
        self,
        spool: Spool,
        outside: Outside,
        unfinished: Callable[[], Iterable[Outgoing]],
        written: Callable[[], Awaitable[object]],
        options: MediaOptions | None = None,
    ) -> None:
        self.spool = spool
        self._outside = outside
        self._unfinished = unfinished
        self._written = written
        self._removals: set[asyncio.Task[None]] = set()
        self._options = options or MediaOptions()
        self._fetches = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._uploads: dict[str, Spooled] = {}
        self._waiting: dict[tuple[str, str], str] = {}  # files of messages that WhatsApp does not have yet

    @property
    def max_bytes(self) -> int:
        """How large any file may be."""
        return self._options.max_bytes

    def limit(self, kind: str) -> int:
        """How many bytes a file of this kind may have."""
        return min(self._options.max_bytes, MAX_BYTES[kind])

    async def fetched(self, content: dict[str, Any], *, local_files: bool) -> dict[str, Any]:
        """`content` with its file in the spool; unchanged where it has none. Raises `UsageError`, `Forbidden`,
        `TargetFailed` and `JournalUnwritable`, with nothing left behind."""
        kind = content["type"]
        if kind not in MEDIA:
            return content
        max_bytes = self.limit(kind)
        try:
            spooled, name = await self._taken(content, max_bytes, local_files=local_files)
        except TooLarge:
            raise _too_large(kind, max_bytes) from None
        try:
            if spooled.size_bytes > max_bytes:
                raise _too_large(kind, max_bytes)
            if spooled.size_bytes == 0:
                raise UsageError("the file is empty")
            name = content.get("file_name") or name
            mime_type = type_for(kind, spooled.head, name)
        except BaseException:
            self.spool.remove(spooled.name)
            raise
        told = {"mime_type": mime_type, "size_bytes": spooled.size_bytes, "sha256": spooled.sha256}
        if kind == "document":
            told["file_name"] = name or "file"
        return {**content, FETCHED: {**told, "spool": spooled.name, "key": spooled.key.hex()}}

    async def upload(self, chunks: AsyncIterator[bytes]) -> str:
        """Keep what a caller uploads, for an hour; the id to send it by, once."""
        body = bytearray()
        async for chunk in chunks:
            body += chunk
            if len(body) > self._options.max_bytes:
                raise _too_large("upload", self._options.max_bytes)
        async with self._fetches:
            spooled = await self.spool.put((bytes(body),), self._options.max_bytes)
        self._uploads[spooled.name] = spooled
        return spooled.name

    def discard(self, content: dict[str, Any]) -> None:
        """A message with this content is not sent any more, or was not accepted."""
        fetched = content.get(FETCHED)
        if fetched is not None:
            self.spool.remove(fetched["spool"])

    def keep(self, message: Outgoing) -> None:
        """Keep the message's file, where it has one, until `take` hears that it is not needed any more."""
        fetched = message.content.get(FETCHED)
        if fetched is not None:
            self._waiting[message.company, message.message_id] = fetched["spool"]

    def take(self, event: Event) -> None:
        """Hear what becomes of messages: with WhatsApp, or failed, they need their file no more."""
        if event.kind == "receipt" and self._waiting and event.data.get("status") in _OVER:
            name = self._waiting.pop((event.company, str(event.data["message_id"])), None)
            if name is not None:
                task = asyncio.get_running_loop().create_task(self._remove(name))
                self._removals.add(task)
                task.add_done_callback(self._removals.discard)

    async def run(self) -> None:
        """Remove files that nobody needs, and uploads that were not sent within their hour; until cancelled."""
        for message in self._unfinished():
            self.keep(message)
        while True:
            removed = await asyncio.to_thread(self.spool.sweep, set(self._waiting.values()), UPLOAD_S)
            for name in [name for name in self._uploads if not self.spool.path(name).exists()]:
                del self._uploads[name]
            if removed:
                log.info("files that nobody needs were removed", count=removed)
            await asyncio.sleep(SWEEP_S)

    async def _remove(self, name: str) -> None:
        # Not before the message's state is on the disk: without its file it could not be sent again.
        try:
            await self._written()
        except StandfastError:
            return  # the sweep removes it
        self.spool.remove(name)

    async def _taken(
        self, content: dict[str, Any], max_bytes: int, *, local_files: bool
    ) -> tuple[Spooled, str | None]:
        if "upload" in content:
            spooled = self._uploads.pop(content["upload"], None)
            if spooled is None:
                raise NotFound(
                    "there is no such upload, or it was sent already", next_step="Upload the file again."
                )
            return spooled, None
        if "url" in content:
            async with self._fetches:
                found = await self._outside.fetch(content["url"], max_bytes, FETCH_TIMEOUT_S)
                return await self.spool.put((found.body,), max_bytes), _name_in(content["url"])
        if not local_files:
            raise Forbidden(
                "files of the service's machine cannot be named over this interface",
                next_step="Give a URL instead.",
            )
        path = self._permitted(Path(content["file"]))
        with closing(_chunks(path)) as chunks:
            return await self.spool.put(chunks, max_bytes), path.name

    def _permitted(self, path: Path) -> Path:
        real = Path(os.path.realpath(path))
        if any(real.is_relative_to(os.path.realpath(folder)) for folder in self._options.refused):
            raise Forbidden(
                "the service's own files cannot be sent", next_step="Name a file outside its state directory."
            )
        return real


def _chunks(path: Path) -> Generator[bytes, None, None]:
    """The bytes of a regular file; a device or a pipe is refused before it is read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise _unreadable(error) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError("that is not a regular file", next_step="Name a file by its absolute path.")
        while chunk := _read(fd):
            yield chunk
    finally:
        os.close(fd)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK_BYTES)
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> UsageError:
    return UsageError(
        f"the service cannot read the file: {error.strerror}",
        next_step="Name a file by its absolute path, on the service's machine, that the service may read.",
    )


def _too_large(kind: str, max_bytes: int) -> UsageError:
    return UsageError(
        f"the file is too large: {kind} may have {max_bytes // MIB} MiB",
        next_step="Send a smaller file; STANDFAST_MEDIA_MAX_MB and WhatsApp's own limits bound it.",
    )


def _name_in(url: str) -> str | None:
    return PurePosixPath(unquote(urlsplit(url).path)).name or None
