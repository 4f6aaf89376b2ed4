"""`Downloads`: files of received messages, brought in when somebody asks for them.

Invariant: a file lies on this machine, encrypted, only while it is read; what is handed over is what its sender
encrypted, and no larger than is granted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standfast.errors import NotFound, UsageError
from standfast.messaging.file_types import MIB, UNKNOWN
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.quoting import key_of
from standfast.messaging.spool import Spool
from standfast.sessions.pool import SessionPool

DOWNLOAD_TIMEOUT_S = 240.0
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Download:
    """A file that was brought in. `mime_type` and `file_name` are what its sender says: not to be trusted."""

    mime_type: str
    file_name: str | None
    size_bytes: int
    sha256: str
    _spool: Spool
    _name: str
    _key: bytes

    def chunks(self) -> Iterator[bytes]:
        """Its bytes; blocking."""
        return self._spool.read(self._name, self._key)

    def save(self, path: Path) -> None:
        """Write it as a new file (0600); `UsageError` where that cannot be. Blocking."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(
                f"the file cannot be made: {error.strerror}",
                next_step="Name a new file in a folder that is there.",
            ) from error
        try:
            with os.fdopen(fd, "wb") as out:
                for chunk in self.chunks():
                    out.write(chunk)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


class Downloads:
    """`max_bytes` bounds each file."""

    def __init__(self, mailbox: Mailbox, pool: SessionPool, max_bytes: int) -> None:
        self._mailbox = mailbox
        self._pool = pool
        self._max_bytes = max_bytes
        self._slots = asyncio.Semaphore(AT_ONCE)

    @contextlib.asynccontextmanager
    async def opened(self, company: str, jid: str, message_id: str) -> AsyncGenerator[Download, None]:
        """The message's file while the context lasts. `NotFound`, `UsageError` where it has none or it is too large,
        `SessionNotOpen`, `TargetFailed` where WhatsApp does not hand it over."""
        event = self._mailbox.log.found(company, jid, message_id)
        if event is None:
            raise NotFound("there is no received message with this id in this chat")
        media, attachment = event.data.get("media"), self._mailbox.log.attachment(event)
        if media is None or attachment is None:
            raise UsageError("the message has no file", next_step="Name a message whose 'media' is told.")
        if (media.get("size_bytes") or 0) > self._max_bytes:
            raise UsageError(
                f"the file is larger than {self._max_bytes // MIB} MiB",
                next_step="Raise STANDFAST_MEDIA_MAX_MB.",
            )
        spool = self._mailbox.spool
        name, key = spool.new_name()
        wanted = {
            "key": key_of(event.data),
            "content": attachment,
            "file": {"path": str(spool.path(name)), "key": key.hex()},
            "max_bytes": self._max_bytes,
        }
        async with self._slots:
            try:
                brought = await self._pool.ask(company, "message.download", wanted, DOWNLOAD_TIMEOUT_S)
                yield _download(media, brought, spool, name, key)
            finally:
                spool.remove(name)


def _download(
    media: dict[str, Any], brought: dict[str, Any], spool: Spool, name: str, key: bytes
) -> Download:
    mime_type = str(media.get("mime_type") or UNKNOWN)
    size_bytes, sha256 = int(brought["size_bytes"]), str(brought["sha256"])
    return Download(mime_type, media.get("file_name"), size_bytes, sha256, spool, name, key)
