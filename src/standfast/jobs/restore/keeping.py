"""What a restore replaces, kept as it was.

Invariant: a company's former state is durable in the archive, as a folder or, where no folder can hold it, as a file,
before anything of it is touched; nothing here removes one.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.authstate.multifile import export_folder, import_folder
from standfast.errors import AuthStateCorrupt, StateDirectoryError
from standfast.jobs.restore.node import LocalNode
from standfast.jobs.restore.plan import Planned
from standfast.postgres.pool import Database
from standfast.postgres.replication import Replication
from standfast.vault import kept_change

Kept = tuple[bytes | None, dict[str, dict[str, bytes]]]


class Keeper:
    """`archive` is made with the first company."""

    def __init__(self, archive: Path, database: Database, node: LocalNode | None) -> None:
        self._archive = archive
        self._replication = Replication(database)
        self._node = node

    async def keep(self, planned: Planned) -> Path | None:
        """Where the company's present state lies now; None where it has none."""
        try:
            await asyncio.to_thread(self._archive.mkdir, 0o700, True, True)
            place = await asyncio.to_thread(self._free, planned.company)
            return await self._keep(planned, place)
        except OSError as error:
            raise StateDirectoryError(
                f"the state of {planned.company} could not be kept in {self._archive}: {error.strerror}",
                next_step="Free or add disk space for the state directory; then: standfast backup restore --resume",
            ) from error

    async def _keep(self, planned: Planned, place: Path) -> Path | None:
        known = planned.sequence_known
        is_newest = known is not None and known >= planned.sequence_now
        if is_newest and planned.action != "replay" and await self._kept_by_node(planned.company, place):
            return place
        change = await self._present(Company(planned.company))
        if change is None:
            return None
        try:
            if change.creds is not None:
                await asyncio.to_thread(export_folder, place, change.creds, _values(change), with_own=True)
                return place
        except AuthStateCorrupt:
            pass  # what cannot be read is kept all the same, as it is
        file = place.with_name(f"{place.name}.json")
        await asyncio.to_thread(
            kept_change.write, file, Company(planned.company), change, {"reason": "restore"}
        )
        return file

    async def _kept_by_node(self, company: str, place: Path) -> bool:
        """Whether the node's replica has put it there; what it cannot read is kept as PostgreSQL has it."""
        try:
            return self._node is not None and await self._node.keep(company, place)
        except AuthStateCorrupt:
            return False

    async def _present(self, company: Company) -> Change | None:
        change = Change()
        async with aclosing(self._replication.stream(company)) as chunks:
            async for rows in chunks:
                for key_type, key_id, value in rows:
                    if key_type is None or key_id is None:
                        change.creds = value
                    else:
                        change.keys.setdefault(key_type, {})[key_id] = value
        return change if change.creds is not None or change.keys else None

    def _free(self, company: str) -> Path:
        name = f"{company}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-replaced"
        names = (name, *(f"{name}{number}" for number in range(2, 1_000)))
        return next(
            place
            for place in (self._archive / one for one in names)
            if not place.exists() and not place.with_name(f"{place.name}.json").exists()
        )


async def kept_state(place: Path) -> Kept:
    """What was kept there."""
    if place.suffix == ".json":
        _, change = await asyncio.to_thread(kept_change.read, place)
        return change.creds, _values(change)
    folder = await asyncio.to_thread(import_folder, place)
    return folder.creds, folder.keys


def _values(change: Change) -> dict[str, dict[str, bytes]]:
    return {
        key_type: {key_id: value for key_id, value in ids.items() if value is not None}
        for key_type, ids in change.keys.items()
    }
