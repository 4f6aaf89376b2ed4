"""A cleanup from its plan to its report.

Invariant: nothing is removed that is not in the trash, and whatever ends a run half-way leaves every key either where
it was or there. A dry run writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from standfast.authstate.company import Company, company_id
from standfast.errors import CompanyInUse, CompanyUnknown, StandfastError, UsageError
from standfast.jobs.cleanup import alarms, ledger, trash
from standfast.jobs.cleanup.holders import Holders
from standfast.jobs.cleanup.measuring import measure, vacuum
from standfast.jobs.cleanup.pre_keys import SpentPreKeys
from standfast.jobs.cleanup.report import CleanupReport, CompanyCleanup, Measures, Policy
from standfast.jobs.cleanup.rules import Old, Unit, count_old, find_old
from standfast.jobs.cleanup.settling import forget_note, note_of, settle_abandoned
from standfast.jobs.cleanup.turn import turn
from standfast.jobs.context import JobContext
from standfast.vault.pruning import confirmed, remove_unwritten
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
BATCH_KEYS = 100
LONGEST_PAUSE_S = 0.25
WORTH_A_VACUUM = 1_000
_UNBOUNDED = 10**12
PreKeys = Callable[[Sequence[Company], bool], AsyncIterator[SpentPreKeys]]
"""Which pre-keys of those companies are spent; the second argument: whether to note what was learnt."""


@dataclass(frozen=True, slots=True)
class CleanupOptions:
    """None: as the settings say. `force`: beyond the ceiling. `company`: this one only."""

    policy: Policy | None = None
    retention_days: int | None = None
    company: str | None = None
    dry_run: bool = False
    force: bool = False


@dataclass(slots=True)
class _Plan:
    units: dict[Company, list[Unit]] = field(default_factory=dict)
    companies: dict[str, CompanyCleanup] = field(default_factory=dict)
    beyond_ceiling: int = 0

    def stays(self, company: str, count: int, reason: str) -> None:
        entry = self.companies.setdefault(company, CompanyCleanup(company))
        entry.left += count
        entry.reason = reason

    def removed(self, company: str) -> int:
        entry = self.companies.get(company)
        return entry.count if entry is not None else 0

    @property
    def count(self) -> int:
        return sum(len(unit) for units in self.units.values() for unit in units)


async def run_cleanup(
    context: JobContext,
    vault: Vault | None = None,
    options: CleanupOptions | None = None,
    pre_keys: PreKeys | None = None,
) -> CleanupReport:
    """Remove what the policy lets go, of the companies that `vault` has open or that nobody holds. `JobRunning` where a
    cleanup runs already, `UsageError` for a company that has no keys, otherwise what the database raises."""
    options = options or CleanupOptions()
    if options.retention_days is not None and options.retention_days < 1:
        raise UsageError("the retention must be one day at least", next_step="Add --retention-days 30.")
    if options.dry_run:
        return await _Run(context, vault, options, pre_keys).dry()
    async with turn(context):
        return await _Run(context, vault, options, pre_keys).wet()


class _Run:
    def __init__(
        self, context: JobContext, vault: Vault | None, options: CleanupOptions, pre_keys: PreKeys | None
    ) -> None:
        settings = context.settings
        self._context = context
        self._database = context.database
        self._progress = context.progress
        self._vault = vault
        self._options = options
        self._pre_keys = pre_keys
        self._policy: Policy = options.policy or settings.db_cleanup_policy
        self._days = options.retention_days or settings.db_cleanup_retention_days
        self._started_at = time.time()
        self._started = time.monotonic()
        self._removed: Counter[str] = Counter()

    async def dry(self) -> CleanupReport:
        before = await measure(self._database, self._options.company)
        plan = await self._planned(note=False)
        for company, units in plan.units.items():
            self._count(plan, company, (one.key_type for unit in units for one in unit))
        return self._report("", plan, before)

    async def wet(self) -> CleanupReport:
        try:
            self._progress.step("measuring")
            before = await measure(self._database, self._options.company)
            plan = await self._planned(note=True)
            await settle_abandoned(self._database, self._vault)
            run = await ledger.begin(self._context, self._policy, self._days)
            await self._remove(run, plan)
            await self._confirm_notes(plan)
            report = self._report(run, plan, before)
            report.purged = await ledger.purge(self._database, self._context.settings.db_cleanup_trash_days)
            await self._after(report)
            await ledger.end(self._database, run, report)
        except CompanyUnknown:
            raise
        except StandfastError as error:
            self._context.alerts.take(alarms.failed(error, self._removed.total()))
            raise
        self._context.alerts.take(alarms.done(report))
        return report

    async def _planned(self, *, note: bool) -> _Plan:
        self._progress.step("looking for old keys")
        database, options = self._database, self._options
        plan = _Plan()
        old = await count_old(database, self._policy, self._days, options.company)
        if options.company is not None and not old:
            await ledger.check_known(database, options.company)
        holders = await Holders.read(database, self._vault)
        room = _UNBOUNDED if options.force else self._context.settings.db_cleanup_ceiling
        for name, counts in old.items():
            total = sum(counts.values())
            company, reason = _checked(name, holders)
            if company is None or room <= 0:
                plan.stays(name, total, reason or "the ceiling of a run is reached; --force goes beyond")
                plan.beyond_ceiling += 0 if reason else total
                continue
            units = list(_cut(await find_old(database, self._policy, self._days, company), room))
            plan.units[company] = units
            taken = sum(len(unit) for unit in units)
            if taken < total:
                plan.beyond_ceiling += total - taken
            room -= taken
        await self._add_pre_keys(plan, holders, room, note=note)
        return plan

    async def _add_pre_keys(self, plan: _Plan, holders: Holders, room: int, *, note: bool) -> None:
        if self._pre_keys is None or self._vault is None or self._policy == "legacy":
            return
        only = self._options.company
        ours = [
            holding.company
            for holding in self._vault.holdings()
            if holders.is_ours(holding.company) and only in (None, holding.company)
        ]
        async for spent in self._pre_keys(ours, note):
            units: list[Unit] = [(Old("pre-key", key_id, None),) for key_id in spent.key_ids]
            taken = units[: max(0, room)]
            room -= len(taken)
            if len(taken) < len(units):
                plan.beyond_ceiling += len(units) - len(taken)
            if taken:
                plan.units.setdefault(spent.company, []).extend(taken)

    async def _remove(self, run: str, plan: _Plan) -> None:
        self._progress.step("removing", plan.count, "keys")
        for company, units in plan.units.items():
            try:
                if self._vault is not None and await self._is_ours(company):
                    await self._through_vault(run, plan, company, units)
                else:
                    await self._directly(run, plan, company, units)
            except CompanyInUse as error:
                # Its session was started, stopped or taken over in this moment.
                left = sum(len(unit) for unit in units) - plan.removed(company)
                plan.stays(company, left, error.message)

    async def _confirm_notes(self, plan: _Plan) -> None:
        """What is measured next is without them."""
        for company in plan.units:
            if self._vault is not None and plan.removed(company):
                await confirmed(self._vault, company)

    async def _is_ours(self, company: Company) -> bool:
        return (await Holders.read(self._database, self._vault)).is_ours(company)

    async def _through_vault(self, run: str, plan: _Plan, company: Company, units: list[Unit]) -> None:
        assert self._vault is not None
        for batch in _batches(units):
            begun = time.monotonic()
            seen = await trash.copy(self._database, run, company, batch)
            whole = [unit for unit in batch if all((one[0], one[1]) in seen for one in unit)]
            gone = await remove_unwritten(
                self._vault,
                company,
                [{(one[0], one[1]): seen[one[0], one[1]] for one in unit} for unit in whole],
                note_of(run),
            )
            self._count(plan, company, (key_type for key_type, _ in gone))
            if gone:
                await confirmed(self._vault, company)
            await trash.settle(self._database, run, company, gone)
            await self._breathe(begun, len(batch))
        if plan.removed(company):
            await forget_note(self._vault, company)

    async def _directly(self, run: str, plan: _Plan, company: Company, units: list[Unit]) -> None:
        for batch in _batches(units):
            begun = time.monotonic()
            gone = await trash.move(self._database, run, company, batch)
            self._count(plan, company, (key_type for key_type, _ in gone))
            await self._breathe(begun, len(batch))

    async def _breathe(self, begun: float, done: int) -> None:
        """Others' writes come first: as long a pause as the batch took."""
        self._progress.advance(done)
        await asyncio.sleep(min(time.monotonic() - begun, LONGEST_PAUSE_S))

    def _count(self, plan: _Plan, company: Company, types: Iterable[str]) -> None:
        entry = plan.companies.setdefault(company, CompanyCleanup(company))
        for key_type in types:
            self._removed[key_type] += 1
            entry.removed[key_type] = entry.removed.get(key_type, 0) + 1

    async def _after(self, report: CleanupReport) -> None:
        if report.count >= WORTH_A_VACUUM:
            self._progress.step("vacuum")
            report.vacuum = await vacuum(self._database)
        report.after = await measure(self._database, self._options.company)
        report.freed_bytes = report.before.total_bytes - report.after.total_bytes
        report.identities = await ledger.identities(
            self._database, [one.company for one in report.companies if one.removed]
        )
        report.duration_s = round(time.monotonic() - self._started, 3)

    def _report(self, run: str, plan: _Plan, before: Measures) -> CleanupReport:
        return CleanupReport(
            run=run,
            node=self._context.node_name,
            policy=self._policy,
            retention_days=self._days,
            dry_run=self._options.dry_run,
            started_at=round(self._started_at, 3),
            duration_s=round(time.monotonic() - self._started, 3),
            removed=dict(self._removed.most_common()),
            companies=sorted(plan.companies.values(), key=lambda one: (-one.count, one.company)),
            before=before,
            ceiling=0 if self._options.force else self._context.settings.db_cleanup_ceiling,
            beyond_ceiling=plan.beyond_ceiling,
        )


def _checked(name: str, holders: Holders) -> tuple[Company | None, str]:
    try:
        company = company_id(name)
    except UsageError:
        return None, "its id is none that Standfast can write under"
    reason = holders.reason(company)
    return (None, reason) if reason else (company, "")


def _cut(units: Sequence[Unit], room: int) -> Iterator[Unit]:
    for unit in units:
        room -= len(unit)
        if room < 0:
            return
        yield unit


def _batches(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Whole units, about `BATCH_KEYS` keys at a time."""
    batch: list[Unit] = []
    size = 0
    for unit in units:
        batch.append(unit)
        size += len(unit)
        if size >= BATCH_KEYS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
