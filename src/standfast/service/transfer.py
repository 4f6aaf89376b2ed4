"""Companies out to folders in Baileys' multi-file layout, and in again.

Invariant: a company is imported wholly or not at all, never over a session that runs, and what it replaces is
exported first.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from standfast.authstate.company import Company
from standfast.authstate.multifile import Folder, import_folder
from standfast.errors import CompanyInUse, CompanyUnknown, DatabaseUnavailable
from standfast.postgres.store import PostgresAuthStore, Snapshot
from standfast.service.client import connect
from standfast.service.database import open_database
from standfast.service.exporter import exported_keys, write_snapshot
from standfast.service.offline import local_replica, service_runs
from standfast.service.snapshots import snapshot_of
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

Source = Literal["service", "replica", "postgresql"]
_HELD_STATES = frozenset({"connecting", "qr", "pairing", "open"})


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and whom it had it from."""

    company: Company
    folder: Path
    keys: int
    source: Source


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import took; `archive` is where the auth state that it replaced has been exported to."""

    company: Company
    keys: int
    changed: int
    added: int
    deleted: int
    archive: Path | None


async def export_company(settings: Settings, company: Company, folder: Path, *, overwrite: bool) -> Exported:
    """Write the company's auth state, as of one moment, as `folder`: what a running service holds; else what the
    replica has where PostgreSQL lacks some of it or is away; else what PostgreSQL has. `CompanyUnknown` where there
    is none."""
    if service_runs(settings):
        async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
            answer = await client.export(company, folder, overwrite=overwrite)
        return Exported(company, folder, answer.keys, "service")
    found, source = await _found(settings, company)
    if found is None:
        raise CompanyUnknown(f"company {company!r} has no auth state")
    await write_snapshot(folder, found, overwrite=overwrite)
    return Exported(company, folder, exported_keys(found), source)


async def _found(settings: Settings, company: Company) -> tuple[Snapshot | None, Source]:
    ours, is_newer = await _from_replica(settings, company)
    if ours is not None and is_newer:
        return ours, "replica"
    try:
        async with open_database(settings, purpose="export") as database:
            return await PostgresAuthStore(database).snapshot(company), "postgresql"
    except DatabaseUnavailable:
        if ours is None:
            raise
        return ours, "replica"


async def _from_replica(settings: Settings, company: Company) -> tuple[Snapshot | None, bool]:
    """What the replica has, if it is whole, and whether PostgreSQL lacks some of it."""
    async with local_replica(settings, "export") as replica:
        record = replica.record(company) if replica else None
        if replica is None or record is None or not record.complete:
            return None, False
        return snapshot_of(replica.everything(record.number)), record.journal_batches > 0


async def import_company(settings: Settings, folder: Path, company: Company, *, replace: bool) -> Imported:
    """Store what `folder` holds as the company's auth state. `CompanyInUse` where the company is open, where writes
    of it are still on their way to PostgreSQL, or where it has auth state and `replace` is not set."""
    read = await asyncio.to_thread(import_folder, folder)
    await _refuse_if_held(settings, company)
    async with open_database(settings, purpose="import") as database:
        store = PostgresAuthStore(database)
        older = await store.snapshot(company)
        if older is not None and not replace:
            raise CompanyInUse(
                f"{company} has auth state already",
                next_step="Import under another company id, or replace it with '--replace' (it is archived first).",
            )
        archive = None if older is None else await _archived(settings, company, older)
        await store.install(company, read.creds, read.keys, replace=replace)
    return _imported(company, read, archive)


async def _refuse_if_held(settings: Settings, company: Company) -> None:
    if not service_runs(settings):
        async with local_replica(settings, "import") as replica:
            record = replica.record(company) if replica else None
            if record is not None and record.journal_batches:
                raise _undelivered(company, record.journal_batches)
        return
    async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
        status = await client.status()
    for session in status.sessions:
        if session.company == company and (session.wanted or session.state in _HELD_STATES):
            raise CompanyInUse(
                f"a session of {company} is running ({session.state})",
                next_step=f"Stop it first: standfast stop {company}",
            )
    for row in status.vault["companies"]:
        if row["company"] == company and row["open"]:
            raise CompanyInUse(
                f"a client of the gateway has {company} open", next_step="Stop the bot that uses it first."
            )
        if row["company"] == company and row["journal_batches"]:
            raise _undelivered(company, row["journal_batches"])


def _undelivered(company: Company, batches: int) -> CompanyInUse:
    return CompanyInUse(
        f"{batches} writes of {company} are not in PostgreSQL yet, and an import would overtake them",
        next_step="Let a service run until 'standfast status' shows an empty journal; then import.",
    )


async def _archived(settings: Settings, company: Company, older: Snapshot) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    archive = StateDirectory(settings.state_dir).path / "archive"
    archive.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = archive / f"{company}-{stamp}-replaced"
    await write_snapshot(folder, older, overwrite=False)
    return folder


def _imported(company: Company, read: Folder, archive: Path | None) -> Imported:
    return Imported(company, read.key_count, read.changed, read.added, read.deleted, archive)
