"""`BegunFile`: where a switch to files has begun to write, so that the next start can undo it if it was killed.

Invariant: it is there before anything is written to a directory that nothing else names.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from standfast.errors import StateDirectoryError
from standfast.jobs.backup.catalogue import write_private

log = structlog.get_logger(__name__)
NAME = "emergency-begun"


class BegunFile:
    """In the state directory. Blocks."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / NAME

    def note(self, root: Path) -> None:
        """Durable once this returns. `StateDirectoryError` where it cannot be noted."""
        try:
            write_private(self._path, str(root).encode())
        except OSError as error:
            raise StateDirectoryError(
                f"{self._path} cannot be written: {error.strerror}",
                next_step="Free disk space; then try again.",
            ) from error

    def root(self) -> Path | None:
        """Where one has begun and not ended; None: nowhere."""
        try:
            return Path(self._path.read_bytes().decode())
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            log.warning("where a switch to files has begun cannot be read", reason=str(error))
            return None

    def forget(self) -> None:
        """It has ended."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("that a switch to files has ended cannot be noted", reason=error.strerror)
