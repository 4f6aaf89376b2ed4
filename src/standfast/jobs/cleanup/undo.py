"""What a cleanup removed, put back.

Invariant: a row comes back just as it was, or stays in the trash; one whose key was written anew since is never
overwritten, and keys never come back to a company that was paired anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from standfast.authstate.company import Company, company_id
from standfast.errors import CompanyInUse, CompanyUnknown, UsageError
from standfast.jobs.cleanup import ledger, trash
from standfast.jobs.cleanup.holders import Holders
from standfast.jobs.cleanup.report import Undone
from standfast.jobs.context import JobContext
from standfast.jobs.sole import sole
from standfast.postgres.pool import Statement
from standfast.vault.pruning import confirmed
from standfast.vault.vault import Vault

BATCH_KEYS = 500
_COMPANIES = Statement(
    "cleanup.undo_companies",
    "select company_id, count(*) from standfast_trash where run = $1 and ($2::text is null or company_id = $2)"
    " group by 1 order by 1",
)


async def undo(
    context: JobContext, run: str, vault: Vault | None = None, company: str | None = None
) -> Undone:
    """Put back what `run` removed (of one company). `NotFound` where there is no such run, `UsageError` where there is
    nothing left of it to put back, `JobRunning` while a cleanup runs."""
    async with sole(context, "cleanup"):
        found = await ledger.find(context.database, run)
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
    restored: Counter[str] = Counter()
    newer = 0
    rows = await trash.rows(context.database, run, company)
    for start in range(0, len(rows), BATCH_KEYS):
        batch = rows[start : start + BATCH_KEYS]
        absent = _absent(vault, company, batch)
        keys: dict[str, dict[str, bytes | None]] = {}
        for key_type, key_id, value in absent:
            keys.setdefault(key_type, {})[key_id] = value
        # Nothing is awaited since the look: whatever is written later comes later.
        await vault.set_keys(company, keys)
        restored.update(key_type for key_type, _, _ in absent)
        newer += len(batch) - len(absent)
        await confirmed(vault, company)
        back = {(key_type, key_id) for key_type, key_id, _ in absent}
        places = [(key_type, key_id) for key_type, key_id, _ in batch]
        await trash.put_back_times(context.database, run, company, {one: one in back for one in places})
    return restored, newer


def _absent(
    vault: Vault, company: Company, batch: Sequence[tuple[str, str, bytes]]
) -> list[tuple[str, str, bytes]]:
    holding = vault.held.get(company)
    if holding is None or not holding.is_open or not holding.is_ready:
        raise CompanyInUse(f"{company} is not open here any more")
    if vault.replica.record(company) is None:
        raise CompanyUnknown(f"{company} has no auth state")
    return [one for one in batch if not vault.replica.keys(holding.number, one[0], [one[1]])]
