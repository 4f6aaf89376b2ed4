"""What became of a removal that was cut off: told by a note that the removal's own batch has written.

Invariant: a copy counts as taken only where that batch has removed its key, and leaves the trash only where it surely
has not: nothing is decided while a journal that PostgreSQL lacks may say otherwise.
"""

from __future__ import annotations

import contextlib

import msgspec

from standfast.authstate.company import Company, company_id
from standfast.authstate.key_types import CLEANUP_TYPE
from standfast.errors import CompanyInUse, UsageError
from standfast.jobs.cleanup import trash
from standfast.jobs.cleanup.holders import Holders
from standfast.postgres.pool import Database, Statement
from standfast.vault.pruning import Note, Place, confirmed
from standfast.vault.vault import Vault

NOTE_ID = "last"
_NOTED = Statement(
    "cleanup.noted",
    "select value::text from whatsapp_keys where company_id = $1 and key_type = $2 and key_id = $3",
)


class Noted(msgspec.Struct):
    """The keys that the last batch of `run` has removed."""

    run: str
    removed: list[Place]


def note_of(run: str) -> Note:
    """Makes the note of each batch."""

    def note(removed: set[Place]) -> dict[str, dict[str, bytes | None]]:
        return {CLEANUP_TYPE: {NOTE_ID: msgspec.json.encode(Noted(run, sorted(removed)))}}

    return note


async def forget_note(vault: Vault, company: Company) -> None:
    """All of the company's removals are settled. One that was closed meanwhile keeps its note, which says nothing of
    any other run."""
    with contextlib.suppress(CompanyInUse):
        await vault.set_keys(company, {CLEANUP_TYPE: {NOTE_ID: None}})


async def settle_abandoned(database: Database, vault: Vault | None) -> None:
    """Decide what runs that ended half-way have left, of companies that are open here or that nobody holds."""
    rows = await trash.unsettled(database)
    if not rows:
        return
    holders = await Holders.read(database, vault)
    for name, run in rows:
        company = _decidable(name, holders)
        if company is None:
            continue
        if vault is not None and holders.is_ours(company):
            await confirmed(vault, company)
        noted = await _noted(database, company)
        removed = noted.removed if noted is not None and noted.run == run else []
        await trash.settle(database, run, company, removed)
        if noted is not None and vault is not None and holders.is_ours(company):
            await forget_note(vault, company)


def _decidable(name: str, holders: Holders) -> Company | None:
    try:
        company = company_id(name)
    except UsageError:
        return None
    return company if holders.reason(company) is None else None


async def _noted(database: Database, company: Company) -> Noted | None:
    rows = await database.fetch(_NOTED, [company, CLEANUP_TYPE, NOTE_ID])
    return msgspec.json.decode(rows[0][0], type=Noted) if rows else None
