"""A repair: keys that go into the trash, and sides of lid-mappings that are completed.

Invariant: what is repaired is looked at anew just before, and is what was found; a copy of what goes is in the trash by
the same transaction, or before; what others hold is left to them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from standfast.authstate.company import Company, company_id
from standfast.errors import CompanyInUse, DatabaseRejected, UsageError
from standfast.jobs.cleanup import ledger, trash
from standfast.jobs.cleanup.holders import Holders
from standfast.jobs.cleanup.report import CleanupReport, CompanyCleanup, Measures
from standfast.jobs.cleanup.rules import Old, Unit
from standfast.jobs.cleanup.settling import forget_note, note_of, settle_abandoned
from standfast.jobs.cleanup.turn import turn
from standfast.jobs.context import JobContext
from standfast.jobs.verify import sources
from standfast.jobs.verify.check import State, check, mappings, missing_sides
from standfast.jobs.verify.finding import Place, Places, finding_id
from standfast.jobs.verify.kinds import KINDS
from standfast.postgres.failures import sqlstate
from standfast.vault.pruning import confirmed, put_back_absent, remove_unwritten
from standfast.vault.vault import Vault

_FENCED = "SF001"
_LID_MAPPING = "lid-mapping"
_BATCH_UNITS = 100
_COMPLETE = """
insert into whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
select $1, '{key_type}', d.key_id, d.value::{value_type}, now(), now()
from unnest($2::text[], $3::text[]) d (key_id, value)
on conflict (company_id, key_type, key_id) do nothing returning key_id
"""


class RepairReport(msgspec.Struct, omit_defaults=True):
    """`run` names it for 'standfast cleanup undo'. `left`: companies that were not touched, and why. `running`: their
    sessions know the former keys until they are started anew."""

    run: str
    removed: dict[str, int] = {}
    completed: dict[str, int] = {}
    left: dict[str, str] = {}
    running: list[str] = []


async def run_repair(
    context: JobContext, vault: Vault | None, chosen: Mapping[str, Sequence[str]]
) -> RepairReport:
    """Repair the chosen findings (ids, by company) of what `vault` has open or nobody holds. `JobRunning` where a
    cleanup or a repair runs already."""
    async with turn(context):
        await settle_abandoned(context.database, vault)
        run = await ledger.begin(context, "repair", 0)
        began = time.time()
        repair = _Repair(context, vault, RepairReport(run))
        context.progress.step("repairing", len(chosen), "companies")
        for name, ids in chosen.items():
            await repair.company(name, frozenset(ids))
            context.progress.advance(1)
        await ledger.end(context.database, run, await repair.recorded(began))
        return repair.report


class _Repair:
    def __init__(self, context: JobContext, vault: Vault | None, report: RepairReport) -> None:
        self._context = context
        self._database = context.database
        self._vault = vault
        self.report = report
        self._types: dict[str, Counter[str]] = {}

    async def company(self, name: str, ids: frozenset[str]) -> None:
        try:
            company = company_id(name)
            holders = await Holders.read(self._database, self._vault)
            reason = holders.reason(company)
            if reason is not None:
                raise CompanyInUse(reason)
            await self._repair(company, ids, ours=holders.is_ours(company))
        except (CompanyInUse, UsageError) as error:
            self.report.left[name] = error.message

    async def _repair(self, company: Company, ids: frozenset[str], *, ours: bool) -> None:
        state = (await sources.stored(self._database, company)).state
        found = await asyncio.to_thread(check, state)
        units = list(_units(found, company, ids, state))
        for start in range(0, len(units), _BATCH_UNITS):
            gone = await self._remove(company, units[start : start + _BATCH_UNITS], ours=ours)
            counted = self._types.setdefault(company, Counter())
            counted.update(key_type for key_type, _ in gone)
            self.report.removed[company] = counted.total()
        if finding_id(company, "lid-mapping-half", _LID_MAPPING) in ids:
            missing = missing_sides(state, mappings(state))
            if missing:
                self.report.completed[company] = await self._complete(company, missing, ours=ours)
        if ours and company in {*self.report.removed, *self.report.completed}:
            self.report.running.append(company)

    async def _remove(self, company: Company, units: Sequence[Unit], *, ours: bool) -> set[Place]:
        run = self.report.run
        if not ours or self._vault is None:
            return set(await trash.move(self._database, run, company, units))
        seen = await trash.copy(self._database, run, company, units)
        whole = [unit for unit in units if all((one[0], one[1]) in seen for one in unit)]
        gone = await remove_unwritten(
            self._vault,
            company,
            [{(one[0], one[1]): seen[one[0], one[1]] for one in unit} for unit in whole],
            note_of(run),
        )
        if gone:
            await confirmed(self._vault, company)
        await trash.settle(self._database, run, company, gone)
        if gone:
            await forget_note(self._vault, company)
        return gone

    async def _complete(self, company: Company, missing: Mapping[str, str], *, ours: bool) -> int:
        values = {key_id: msgspec.json.encode(user) for key_id, user in missing.items()}
        if ours and self._vault is not None:
            put = await put_back_absent(
                self._vault, company, {(_LID_MAPPING, key_id): value for key_id, value in values.items()}
            )
            await confirmed(self._vault, company)
            return len(put)
        query = _COMPLETE.format(key_type=_LID_MAPPING, value_type=await trash.value_type(self._database))
        params = [company, list(values), [value.decode() for value in values.values()]]
        try:
            async with self._database.transaction("repair.complete", trash.TIMEOUT_S) as connection:
                await trash.begin_write(connection, company)
                return len(await (await connection.execute(query, params)).fetchall())
        except DatabaseRejected as error:
            if sqlstate(error) == _FENCED:
                raise CompanyInUse(f"another node began to write {company}") from None
            raise

    async def recorded(self, began: float) -> CleanupReport:
        """As the trash's ledger keeps its runs."""
        nothing = Measures(0, 0, 0, 0, {})
        total: Counter[str] = sum(self._types.values(), Counter())
        return CleanupReport(
            run=self.report.run,
            node=self._context.node_name,
            policy="repair",
            retention_days=0,
            dry_run=False,
            started_at=round(began, 3),
            duration_s=round(time.time() - began, 3),
            removed=dict(total),
            companies=[CompanyCleanup(name, dict(counted)) for name, counted in self._types.items()],
            before=nothing,
            identities=await ledger.identities(self._database, list(self._types)),
        )


def _units(found: Places, company: str, ids: frozenset[str], state: State) -> Iterable[Unit]:
    """Keys that go together. An own sender key takes the memory of who has it along: that one may go whenever it was
    written."""
    for (kind, key_type), key_ids in found.found.items():
        if KINDS[kind].remedy != "remove" or finding_id(company, kind, key_type) not in ids:
            continue
        for key_id in key_ids:
            group = key_id.partition("::")[0]
            memory = Old("sender-key-memory", group, None)
            with_memory = kind == "own-sender-key-damaged" and group in state.keys.get(memory.key_type, {})
            one = Old(key_type, key_id, None)
            yield (one, memory) if with_memory else (one,)
