"""Which messages a session has handed over lately.

Invariant: at least the latest `limit` are remembered, over the death of the Node host that delivered them and, with
a file, of this process. The file holds digests: no address and no id can be read from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

_DIGEST_CHARS = 24


class RecentMessages:
    """Tells a message's second delivery from its first: the server, a retry and a host that was killed
    before it confirmed a message all bring it again under the same id.

    A file that cannot be used costs the memory over a restart and nothing else.
    """

    def __init__(self, file: Path | None = None, limit: int = 2_000) -> None:
        self._file = file
        self._limit = limit
        self._known: dict[str, None] = {}
        self._lines = 0
        self._fd: int | None = None
        if file is not None:
            with contextlib.suppress(OSError):
                self._load(file)

    def __contains__(self, message: tuple[str, str]) -> bool:
        """Whether the message, as (chat, id), has been handed over."""
        return _digest(message) in self._known

    def add(self, message: tuple[str, str]) -> None:
        """The message has been handed over."""
        digest = _digest(message)
        self._known[digest] = None
        if len(self._known) > self._limit:
            del self._known[next(iter(self._known))]
        if self._fd is not None:
            with contextlib.suppress(OSError):
                self._write(digest)

    def close(self) -> None:
        """Give the file back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _load(self, file: Path) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        lines = file.read_text(encoding="ascii", errors="replace").split()
        self._lines = len(lines)
        # A line that was cut off matches no digest.
        self._known = dict.fromkeys(lines[-self._limit :])

    def _write(self, digest: str) -> None:
        # One write to the page cache: it outlives this process, which is all that is asked of it.
        assert self._fd is not None
        os.write(self._fd, f"{digest}\n".encode())
        self._lines += 1
        if self._lines > 2 * self._limit:
            self._shorten()

    def _shorten(self) -> None:
        assert self._file is not None
        beside = self._file.with_suffix(".new")
        fd = os.open(beside, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(fd, "".join(f"{digest}\n" for digest in self._known).encode())
        beside.replace(self._file)
        self.close()
        self._fd, self._lines = fd, len(self._known)


def _digest(message: tuple[str, str]) -> str:
    return hashlib.sha256("\0".join(message).encode()).hexdigest()[:_DIGEST_CHARS]
