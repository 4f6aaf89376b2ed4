"""What a cleanup removed, put back.

Invariant: a row comes back just as it was, or stays in the trash; one whose key was written anew since is never
overwritten, and keys never come back to a company that was paired anew.
"""

from __future__ import annotations

from collections import Counter

from standfast.authstate.company import Company, company_id
from standfast.errors import CompanyInUse, UsageError
from standfast.jobs.cleanup import ledger, trash
from standfast.jobs.cleanup.holders import Holders
from standfast.jobs.cleanup.report import Undone
from standfast.jobs.cleanup.settling import settle_abandoned
from standfast.jobs.cleanup.turn import turn
from standfast.jobs.context import JobContext
from standfast.postgres.pool import Statement
from standfast.vault.pruning import confirmed, put_back_absent
from standfast.vault.vault import Vault

_COMPANIES = Statement(
    "cleanup.undo_companies",
    "select company_id, count(*) from standfast_trash"
    " where run = $1 and taken and ($2::text is null or company_id = $2) group by 1 order by 1",
)


async def undo(
    context: JobContext, run: str, vault: Vault | None = None, company: str | None = None
) -> Undone:
    """Put back what `run` removed (of one company). `NotFound` where there is no such run, `UsageError` where there is
    nothing left of it to put back, `JobRunning` while a cleanup runs."""
    async with turn(context):
        found = await ledger.find(context.database, run)
        await settle_abandoned(context.database, vault)
        rows = await context.database.fetch(_COMPANIES, [run, company])
        if not rows:
            since = " (it was undone)" if found.undone_at else ""
            raise UsageError(
                f"nothing that cleanup {run} removed is in the trash{since}",
                next_step="See: standfast cleanup list",
            )
        holders = await Holders.read(context.database, vault)
        now = await ledger.identities(context.database, [str(name) for name, _ in rows])
        done = Undone(run, 0, 0, {})
        context.progress.step("putting back", sum(count for _, count in rows), "keys")
        for name, count in rows:
            reason = holders.reason(company_id(name)) or _other_identity(found, now, name)
            if reason:
                done.refused[name] = reason
                continue
            try:
                await _put_back(context, run, company_id(name), vault, holders, done)
            except CompanyInUse as error:
                done.refused[name] = error.message
            context.progress.advance(count)
        if not done.refused:
            await ledger.undone(context.database, run)
        return done


def _other_identity(found: ledger.Run, now: dict[str, str], company: str) -> str | None:
    then = found.identities.get(company)
    if then is not None and now.get(company) not in (None, then):
        return "it was paired anew since: these keys are of another identity"
    return None


async def _put_back(
    context: JobContext, run: str, company: Company, vault: Vault | None, holders: Holders, done: Undone
) -> None:
    if vault is not None and holders.is_ours(company):
        restored, newer = await _through_vault(context, run, company, vault)
        if restored:
            done.running.append(company)
    else:
        restored, newer = await trash.put_back(context.database, run, company)
    done.restored += sum(restored.values())
    done.newer += newer
    if restored:
        done.companies[company] = sum(restored.values())


async def _through_vault(
    context: JobContext, run: str, company: Company, vault: Vault
) -> tuple[Counter[str], int]:
    rows = await trash.rows(context.database, run, company)
    values = {(key_type, key_id): value for key_type, key_id, value in rows}
    absent = await put_back_absent(vault, company, values)
    await confirmed(vault, company)
    await trash.put_back_times(context.database, run, company, {place: place in absent for place in values})
    return Counter(key_type for key_type, _ in absent), len(values) - len(absent)
