"""`Mirror`: folders that follow a vault while the node stands on files.

Invariant: the vault never waits for it and never fails because of it. What somebody else has changed in a folder is
not overwritten: it is taken in where the vault has not moved on, else the company is withheld until that is decided.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from standfast.alert import AlertSink
from standfast.authstate.change import Change
from standfast.authstate.company import Company, company_id
from standfast.authstate.creds import identity_key
from standfast.authstate.key_types import OWN_PREFIX
from standfast.authstate.live_folder import LiveFolder
from standfast.errors import CompanyInUse, EmergencyRefused, StandfastError
from standfast.jobs.emergency import alarms
from standfast.jobs.emergency.folders import Folders, new_switch
from standfast.jobs.emergency.mode import Mode
from standfast.vault.restoring import keep_state
from standfast.vault.storage.replica import Record
from standfast.vault.storage.tap import NoTap
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
SETTLE_INTERVAL_S = 60.0
RETRY_S = 2.0
AT_ONCE = 4


class Mirror(NoTap):
    """Listens from when it is made; `settle` before companies are opened, then `run`."""

    def __init__(self, vault: Vault, mode: Mode, alerts: AlertSink, interval_s: float) -> None:
        self.writes = 0
        self.conflicts: list[Company] = []
        self._vault = vault
        self._replica = vault.replica
        self._root = Path(mode.root)
        self._mode = mode
        self._alerts = alerts
        self._interval_s = interval_s
        self._folders: dict[Company, LiveFolder] = {}
        self._reached: dict[Company, int] = {}
        self._waiting: dict[
            Company, tuple[Change, int, int]
        ] = {}  # what is to be done, then epoch and sequence
        self._whole: set[Company] = set()
        self._is_failing: bool | None = None
        self._working = asyncio.Lock()
        self._settled_at = 0.0
        for company, placed in mode.companies.items():
            self._reached[company_id(company)] = placed.sequence
        self._replica.listen(self)
        self._withheld = [
            record.company
            for record in self._replica.companies()
            if not record.held and record.company not in self._reached
        ]
        for company in self._withheld:
            self._vault.held.withheld.setdefault(company, _not_ours(company))

    # -- what the vault tells

    def settling(self) -> None:
        self._collect()

    def replaced(self, company: Company) -> None:
        self._whole.add(company)

    def rebuilt(self) -> None:
        self._whole.update(record.company for record in self._replica.companies())

    def left(self, company: Company) -> None:
        self._reached.pop(company, None)
        self._waiting.pop(company, None)
        self._whole.discard(company)

    def _collect(self) -> None:
        for one in self._replica.recent(self._reached):
            self._reached[one.company] = one.last
            if one.change is None or one.company in self._whole:
                self._whole.add(one.company)
                continue
            change = self._waiting.get(one.company, (Change(), 0, 0))[0]
            change.take(one.change)
            self._waiting[one.company] = (change, one.epoch, one.last)

    # -- what is made of it

    async def settle(self) -> None:
        """Bring each folder and the replica in step. What cannot be is told, and withheld or tried again."""
        for company in [company_id(company) for company in self._mode.companies]:
            try:
                await self._settle(company)
            except (OSError, StandfastError) as error:
                self._failed(error)
                self._whole.add(company)

    async def _settle(self, company: Company) -> None:
        record = self._replica.record(company)
        left = await asyncio.to_thread(LiveFolder(self._root / company).untouched)
        if left is not None and record is not None and record.complete and left[1] == record.sequence:
            self._reached[company] = record.sequence
            return
        folder = await self._opened(company)
        if folder is not None:
            damaged: list[str] = []
            foreign = await asyncio.to_thread(folder.foreign, damaged)
            if record is None or not record.complete:
                await refill(self._vault, company, self._mode.companies[company].epoch, folder)
                record = self._replica.record(company)
            elif (why := self._against(record, folder, foreign)) is not None:
                self._withhold(company, why)
                return
            elif foreign is None and not damaged and folder.is_level and folder.sequence == record.sequence:
                self._reached[company] = record.sequence
                self._folders.pop(company, None)
                return
            else:
                await self._tolerated(company, folder, damaged)
                if foreign is not None:
                    await take_in(self._vault, company, record, foreign)
                    self._alerts.take(alarms.folder_taken_in(company, foreign.key_count))
        if record is not None:
            self._whole.add(company)
            await self._brought(company)

    async def _opened(self, company: Company) -> LiveFolder | None:
        """None where there is none on the disk."""
        folder = LiveFolder(self._root / company)
        if not folder.directory.exists():
            return None
        await asyncio.to_thread(folder.open)
        self._folders[company] = folder
        return folder

    def _against(self, record: Record, folder: LiveFolder, foreign: Change | None) -> str | None:
        """Why what somebody else has changed is not taken in without a decision."""
        if foreign is None:
            return None
        if record.sequence > folder.sequence:
            return f"the folder of {record.company} was changed by somebody else, and this node has written it since"
        here = self._replica.creds(record.number)
        if foreign.creds is not None and here and identity_key(foreign.creds) != identity_key(here):
            return f"another device was paired in the folder of {record.company}"
        return None

    async def _tolerated(self, company: Company, folder: LiveFolder, damaged: list[str]) -> None:
        if damaged:
            kept = self._kept(company)
            await asyncio.to_thread(shutil.copytree, folder.directory, kept)
            self._alerts.take(alarms.folder_rewritten(company, len(damaged), str(kept)))

    def _kept(self, company: Company) -> Path:
        """Where a state is put that is about to be replaced."""
        return Folders(self._root).kept(f"{new_switch()}-{time.monotonic_ns()}") / company

    def _withhold(self, company: Company, why: str) -> None:
        self.conflicts.append(company)
        self._vault.held.withheld[company] = CompanyInUse(
            why,
            next_step=f"Decide which goes on: standfast emergency take {company} --from files, or --from vault.",
        )
        self._alerts.take(alarms.folder_conflict(company, why))

    async def take(self, company: Company, *, from_files: bool) -> None:
        """Decide a conflict. The vault's state becomes the folder's, or the folder the vault's; the other is kept."""
        folder, record = self._folders.get(company), self._replica.record(company)
        if company not in self.conflicts or folder is None or record is None:
            raise EmergencyRefused(f"there is nothing to decide of {company}")
        kept = self._kept(company)
        async with self._working:
            if from_files:
                there = await asyncio.to_thread(folder.whole)
                await asyncio.to_thread(kept.parent.mkdir, mode=0o700, parents=True)
                await keep_state(self._replica, company, kept)
                await take_in(self._vault, company, record, self._with_ours(record, there))
            else:
                await asyncio.to_thread(shutil.copytree, folder.directory, kept)
            self._whole.add(company)
            await self._brought(company)
        self.conflicts.remove(company)
        self._vault.held.withheld.pop(company, None)
        self._alerts.take(alarms.folder_decided(company))

    def _with_ours(self, record: Record, there: Change) -> Change:
        """A folder's whole state, with the types that stay out of folders."""
        for key_type, ids in self._replica.everything(record.number).keys.items():
            if key_type.startswith(OWN_PREFIX):
                there.keys.setdefault(key_type, {}).update(ids)
        return there

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(RETRY_S if self._is_failing else self._interval_s)
            self._collect()
            try:
                async with self._working:
                    await self._bring()
                    if time.monotonic() - self._settled_at > SETTLE_INTERVAL_S:
                        self._settled_at = time.monotonic()
                        await self._indexed()
            except (OSError, StandfastError) as error:
                self._failed(error)
            except Exception:
                # A loop that ended here would leave the folders behind for good.
                log.exception("folders could not be brought in step")

    async def flush(self) -> None:
        """Returns once the folders have everything that was acknowledged until now, and their indexes too."""
        async with self._working:
            self._collect()
            await self._bring()
            await self._indexed()

    async def _bring(self) -> None:
        turns = asyncio.Semaphore(AT_ONCE)

        async def bring(company: Company) -> None:
            async with turns:
                await self._brought(company)

        due = [one for one in {*self._waiting, *self._whole} if one not in self.conflicts]
        results = await asyncio.gather(*map(bring, due), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        if due:
            self._well()

    async def _brought(self, company: Company) -> None:
        """Write what waits for the company's folder. What fails is written whole the next time."""
        is_whole = company in self._whole
        waiting = self._waiting.pop(company, None)
        self._whole.discard(company)
        try:
            folder = self._folders.get(company)
            if folder is None and not is_whole:
                folder = await self._opened(company)
            if folder is None or is_whole or waiting is None:
                await self._rewrite(company)
            else:
                self.writes += await asyncio.to_thread(folder.apply, *waiting)
        except BaseException:
            self._whole.add(company)
            raise

    async def _rewrite(self, company: Company) -> None:
        record = self._replica.record(company)
        if record is None or not record.complete:
            return
        state = self._replica.everything(record.number)
        sequence = record.sequence
        self._reached[company] = max(sequence, self._reached.get(company, 0))
        if state.creds is None:
            return
        keys = {
            key_type: {key_id: value for key_id, value in ids.items() if value is not None}
            for key_type, ids in state.keys.items()
        }
        folder = self._folders.get(company) or LiveFolder(self._root / company)
        self.writes += await asyncio.to_thread(_put, folder, state.creds, keys, record.epoch, sequence)
        self._folders[company] = folder

    async def _indexed(self) -> None:
        for company, folder in list(self._folders.items()):
            if company not in self.conflicts:
                await asyncio.to_thread(folder.settle)
                # What is known of each file takes as much memory as the files: the next write learns it again.
                self._folders.pop(company, None)

    def close(self) -> None:
        """Listen no more."""
        self._replica.unlisten(self)
        for company in (*self._withheld, *self.conflicts):
            self._vault.held.withheld.pop(company, None)

    # -- how it goes

    def _failed(self, error: Exception) -> None:
        if not self._is_failing:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._alerts.take(alarms.mirror_stopped(reason or str(error)))
        self._is_failing = True

    def _well(self) -> None:
        if self._is_failing is not False:
            self._alerts.take(alarms.mirror_goes_on(quiet=self._is_failing is None))
        self._is_failing = False

    def status(self) -> dict[str, Any]:
        """`behind`: companies whose folder lacks something that was acknowledged."""
        self._collect()
        return {
            "behind": len({*self._waiting, *self._whole}),
            "failing": self._is_failing is True,
            "writes": self.writes,
            "conflicts": list(self.conflicts),
        }


def _not_ours(company: Company) -> CompanyInUse:
    return CompanyInUse(
        f"{company} was not this node's when it went to files: another node may have it",
        next_step="It is served again after: standfast emergency to-postgres",
    )


async def take_in(vault: Vault, company: Company, record: Record, change: Change) -> None:
    """Make `change` the company's next batch, durable when this returns. Nobody has it open."""
    async with vault.held.locked(company) as holding:
        if holding.is_open:
            raise CompanyInUse(f"{company} is open")
        if not holding.is_ready:
            holding.place(record.number, record.epoch, record.sequence, record.applied)
        await vault.replica.append(holding.number, holding.next_sequence(), change)


async def refill(vault: Vault, company: Company, epoch: int, folder: LiveFolder) -> None:
    """Give the replica what the folder has: the vault's file was lost."""
    await fill(vault, company, epoch, folder.sequence, await asyncio.to_thread(folder.whole))


async def fill(vault: Vault, company: Company, epoch: int, sequence: int, whole: Change) -> None:
    """Let the replica have `whole` as the company's state at `sequence` under `epoch`. It has no whole one itself."""
    replica, record = vault.replica, vault.replica.record(company)
    assert whole.creds is not None, "a state without creds is none"
    number = await replica.enrol(company, epoch, sequence) if record is None else record.number
    await replica.begin_fill(number)
    rows: list[tuple[str | None, str | None, bytes]] = [(None, None, whole.creds)]
    for key_type, ids in whole.keys.items():
        rows += [(key_type, key_id, value) for key_id, value in ids.items() if value is not None]
    await replica.fill(number, rows)
    await replica.finish_fill(number, sequence)


def _put(
    folder: LiveFolder, creds: bytes, keys: Mapping[str, Mapping[str, bytes]], epoch: int, sequence: int
) -> int:
    if not folder.directory.exists():
        count = LiveFolder.create(folder.directory, creds, keys, epoch, sequence)
        folder.open()
        return count
    if not folder.is_open:
        folder.open()
    return folder.put(creds, keys, epoch, sequence)
