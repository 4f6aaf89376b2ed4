"""`FromFolders`: the way back where nothing is left but folders: node and database are lost.

Invariant: a company is brought in by one transaction under a new epoch, or not at all; PostgreSQL is overwritten only
where somebody has decided so, and what it had is kept first. Folders are read, never changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from standfast.authstate.buffer_json import canonical_json
from standfast.errors import AuthStateCorrupt, CompanyInUse, EmergencyRefused, RestoreRefused, StandfastError
from standfast.jobs.context import JobContext
from standfast.jobs.emergency.comparison import Compared, Kept, Wish, compare_folder
from standfast.jobs.emergency.folders_in import FolderIn, read_folders
from standfast.jobs.emergency.return_keeping import keep_theirs
from standfast.jobs.emergency.return_look import Outlook, refuse_away
from standfast.jobs.emergency.return_report import BroughtBack, ReturnReport, Stopwatch
from standfast.jobs.restore.installing import Fence, install_given
from standfast.jobs.restore.plan import Planned
from standfast.jobs.restore.present import Target, look_at
from standfast.jobs.restore.rules import MEMORY
from standfast.postgres.migrations import migrate
from standfast.postgres.putting_back import moved_on
from standfast.postgres.store import PostgresAuthStore

AT_ONCE = 4


class FromFolders:
    """`look`, then `run` with what was shown."""

    def __init__(self, context: JobContext, root: Path, wish: Wish, *, accept_damage: bool = False) -> None:
        self._context = context
        self._root = root
        self._wish = wish
        self._accept_damage = accept_damage
        self._watch = Stopwatch(context.progress)
        self._folders: Mapping[str, FolderIn] = {}
        self._target = Target(None, {}, {})

    async def look(self) -> Outlook:
        """What would be done now. Changes nothing."""
        await refuse_away(self._context)
        with self._watch.step("reading folders"):
            found = await read_folders(self._root)
        self._folders = {one.company: one for one in found}
        self._refuse_unknown()
        with self._watch.step("comparing"):
            self._target = await look_at(self._context.database)
            companies = [await self._compared(one) for one in found]
        left_alone = sorted(self._target.companies.keys() - self._folders.keys())
        return Outlook(self._context.database.where, str(self._root), 0.0, companies, None, None, left_alone)

    async def run(self, shown: Outlook) -> ReturnReport:
        """Do what `shown` says; what is undecided or damaged stays as it is, and is named."""
        with self._watch.step("preparing the database"):
            await migrate(self._context.database)
        turns, done = asyncio.Semaphore(AT_ONCE), list[BroughtBack]()

        async def bring(one: Compared) -> None:
            async with turns:
                done.append(await self._brought(one))
            self._context.progress.advance(1)

        with self._watch.step("importing", len(shown.companies), "companies"):
            async with asyncio.TaskGroup() as group:
                for one in shown.companies:
                    group.create_task(bring(one))
        done.sort(key=lambda one: one.company)
        undecided = [one.company for one in shown.undecided]
        is_done = not undecided and all(one.error is None for one in done)
        return ReturnReport(
            shown.database,
            shown.folders,
            done,
            self._watch.steps,
            self._watch.seconds,
            is_done,
            is_done,
            undecided,
            from_folders=True,
        )

    def _refuse_unknown(self) -> None:
        unknown = sorted(set(self._wish.companies) - self._folders.keys())
        if unknown:
            known = ", ".join(sorted(self._folders)[:10])
            raise EmergencyRefused(
                f"{self._root} has no folder of {unknown[0]!r}", next_step=f"It has: {known}"
            )

    async def _compared(self, folder: FolderIn) -> Compared:
        now = self._target.of(folder.company)
        kept = Kept(folder.company, 0, 0, is_whole=not folder.error, identity=folder.identity)
        is_same = False
        if now.has_creds and not now.is_damaged and not folder.damaged and not folder.error:
            is_same = await self._is_same(folder)
        compared = compare_folder(kept, now, self._wish, is_same=is_same)
        if folder.error:
            compared.why = folder.error
        elif folder.damaged:
            compared.why = f"damaged files: {folder.cost}" + (f"; {compared.why}" if compared.why else "")
            if compared.action in ("import", "keep files") and not self._accept_damage:
                compared.verdict, compared.action = "damaged", "decide"
        return compared

    async def _is_same(self, folder: FolderIn) -> bool:
        """But for who has our sender keys, which is asked anew in any case."""
        found = await PostgresAuthStore(self._context.database).snapshot(folder.company)
        if found is None or found.creds is None:
            return False
        theirs = {key_type: ids for key_type, ids in found.keys.items() if ids}
        theirs.pop(MEMORY, None)
        try:
            return _parsed(found.creds, theirs) == _parsed(folder.creds, folder.keys)
        except AuthStateCorrupt:
            return False

    async def _brought(self, one: Compared) -> BroughtBack:
        back = BroughtBack(one.company, one.action)
        if one.action not in ("import", "keep files"):
            if one.verdict == "not here":
                back.error = one.why
            return back
        try:
            if one.action == "keep files":
                back.kept = await keep_theirs(self._context, one.company)
            back.keys = await self._install(one)
        except StandfastError as error:
            back.error = error.message
        return back

    async def _install(self, one: Compared) -> int:
        folder = self._folders[one.company]
        planned = Planned(
            one.company, "rolled back", epoch=one.postgresql_epoch, sequence_now=one.postgresql_sequence
        )
        try:
            await install_given(self._context.database, planned, folder.creds, folder.keys, Fence())
        except RestoreRefused:
            raise moved_on(one.company) from None
        except CompanyInUse as error:
            raise CompanyInUse(
                error.message, next_step="Stop its session there; then run it again."
            ) from None
        return folder.key_count


def _parsed(creds: bytes, keys: Mapping[str, Mapping[str, bytes]]) -> tuple[Any, Any]:
    """jsonb keeps no order and no spelling; older stores wrote byte strings otherwise."""
    return orjson.loads(canonical_json(creds)), {
        key_type: {key_id: orjson.loads(canonical_json(value)) for key_id, value in ids.items()}
        for key_type, ids in keys.items()
    }
