"""Companies out to folders in Baileys' multi-file layout, and in again.

Invariant: a company is imported wholly or not at all, never over a session that runs, and what it replaces is
exported first.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from standfast.authstate.company import Company
from standfast.authstate.key_types import OWN_PREFIX
from standfast.authstate.multifile import Folder, export_folder, import_folder
from standfast.errors import CompanyInUse, CompanyUnknown
from standfast.postgres.store import PostgresAuthStore, Snapshot
from standfast.service.client import connect
from standfast.service.database import SERVICE_PURPOSE, open_database
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

_HELD_STATES = frozenset({"connecting", "qr", "pairing", "open"})


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    company: Company
    folder: Path
    keys: int


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
    """Write the company's auth state, as of one moment, as `folder`. `CompanyUnknown` where there is none."""
    async with open_database(settings, purpose="export") as database:
        found = await PostgresAuthStore(database).snapshot(company)
    if found is None:
        raise CompanyUnknown(f"company {company!r} has no auth state")
    await _write(folder, found, overwrite=overwrite)
    return Exported(company, folder, _count(found))


async def import_company(settings: Settings, folder: Path, company: Company, *, replace: bool) -> Imported:
    """Store what `folder` holds as the company's auth state. `CompanyInUse` where a session of the company runs, or
    where it has auth state and `replace` is not set."""
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
    """Asks the service of this state directory, if one runs. Writers elsewhere are fenced off by the database."""
    state = StateDirectory(settings.state_dir)
    holder = state.holder()
    if holder is None or holder.purpose != SERVICE_PURPOSE:
        return
    async with connect(state.gateway_socket) as client:
        for session in await client.sessions():
            if session["company"] == company and (session["wanted"] or session["state"] in _HELD_STATES):
                raise CompanyInUse(
                    f"a session of {company} is running ({session['state']})",
                    next_step=f"Stop it first: standfast stop {company}",
                )


async def _archived(settings: Settings, company: Company, older: Snapshot) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    archive = StateDirectory(settings.state_dir).path / "archive"
    archive.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = archive / f"{company}-{stamp}-replaced"
    await _write(folder, older, overwrite=False)
    return folder


async def _write(folder: Path, what: Snapshot, *, overwrite: bool) -> None:
    await asyncio.to_thread(export_folder, folder, what.creds, what.keys, overwrite=overwrite)


def _count(what: Snapshot) -> int:
    return sum(len(ids) for key_type, ids in what.keys.items() if not key_type.startswith(OWN_PREFIX))


def _imported(company: Company, read: Folder, archive: Path | None) -> Imported:
    return Imported(company, read.key_count, read.changed, read.added, read.deleted, archive)
