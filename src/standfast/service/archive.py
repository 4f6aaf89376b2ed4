"""`Archive`: the folder of auth states that were taken out of use, below the state directory.

Invariant: a folder stands under its final name only once it is whole, and nothing here removes one.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import structlog

from standfast.authstate.company import Company
from standfast.authstate.creds import parse_creds
from standfast.authstate.multifile import export_folder
from standfast.errors import AuthStateCorrupt, StateDirectoryError
from standfast.postgres.store import Snapshot
from standfast.sessions.phone import number_of

log = structlog.get_logger(__name__)
_STAMP = r"-\d{8}T\d{6}Z(?:-[a-z0-9]+)?"


class Archive:
    """`path` is made with the first folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def add(self, company: Company, what: Snapshot) -> Path:
        """Write the auth state as a folder of its own; where it is."""
        try:
            return await asyncio.to_thread(self._add, company, what)
        except OSError as error:
            raise StateDirectoryError(
                f"the auth state of {company} could not be archived in {self.path}: {error.strerror}",
                next_step="Free or add disk space for the state directory, or make it writable; then try again.",
            ) from error

    async def latest_number(self, company: Company) -> str | None:
        """The number of the company's newest archived auth state, as digits; None where none can be read there."""
        return await asyncio.to_thread(self._latest_number, company)

    def _add(self, company: Company, what: Snapshot) -> Path:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{company}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        folder = next(
            one
            for one in (self.path / name, *(self.path / f"{name}-{n}" for n in range(2, 1000)))
            if not one.exists()
        )
        export_folder(folder, what.creds, what.keys)
        return folder

    def _latest_number(self, company: Company) -> str | None:
        for folder in self._folders(company):
            try:
                return number_of(parse_creds((folder / "creds.json").read_bytes()).me_jid)
            except (OSError, AuthStateCorrupt) as error:
                log.warning(
                    "an archived auth state cannot be read", folder=str(folder), reason=type(error).__name__
                )
        return None

    def _folders(self, company: Company) -> list[Path]:
        """Newest first."""
        named = re.compile(re.escape(company) + _STAMP)
        if not self.path.is_dir():
            return []
        return sorted((one for one in self.path.iterdir() if named.fullmatch(one.name)), reverse=True)
