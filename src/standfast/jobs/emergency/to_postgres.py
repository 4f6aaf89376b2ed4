"""`ToPostgres`: the way back from files to PostgreSQL, step by step.

Invariant: a company is brought back in one transaction or not at all, and only over what PostgreSQL was seen to have.
Until the last step the node stands on files; whoever is killed before runs it again, and it goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from standfast.authstate.company import Company
from standfast.errors import (
    CompanyInUse,
    DatabaseUnavailable,
    EmergencyFailed,
    EmergencyRefused,
    StandfastError,
)
from standfast.jobs.context import JobContext
from standfast.jobs.emergency.comparison import Compared, Wish
from standfast.jobs.emergency.return_keeping import keep_ours, keep_theirs
from standfast.jobs.emergency.return_look import Outlook, look
from standfast.jobs.emergency.return_node import Brought, ReturnNode
from standfast.jobs.emergency.return_report import BroughtBack, ReturnReport, Stopwatch
from standfast.jobs.restore.installing import wish
from standfast.jobs.restore.source import Wished
from standfast.postgres.migrations import migrate
from standfast.postgres.putting_back import Seen

AT_ONCE = 8
RECOVERY_TIMEOUT_S = 60.0
SESSIONS_TIMEOUT_S = 45.0
_POLL_S = 0.2


class ToPostgres:
    """`look`, then `run` with what was shown."""

    def __init__(
        self, context: JobContext, node: ReturnNode, wish: Wish, *, other_database: bool = False
    ) -> None:
        self._context = context
        self._node = node
        self._wish = wish
        self._other_database = other_database
        self._watch = Stopwatch(context.progress)

    async def look(self) -> Outlook:
        """What would be done now. Changes nothing."""
        with self._watch.step("comparing"):
            outlook, _ = await look(
                self._context, self._node, self._wish, other_database=self._other_database
            )
        return outlook

    async def run(self, shown: Outlook) -> ReturnReport:
        """Do what `shown` says. Where something is undecided or fails, all else is brought back and the node stays on
        files. `EmergencyRefused` where more would have to be decided than was shown."""
        await self._prepare(shown)
        with self._watch.step("comparing again"):
            now, standing = await look(
                self._context, self._node, self._wish, other_database=self._other_database
            )
        _refuse_worse(shown, now)
        done = await self._bring_all(now.companies)
        report = ReturnReport(
            now.database,
            now.folders,
            done,
            self._watch.steps,
            undecided=[one.company for one in now.undecided],
        )
        await self._want(standing.wanted)
        if not report.undecided and all(one.error is None for one in done):
            await self._switch(report, now.bind, standing.wanted)
        report.duration_s = self._watch.seconds
        return report

    async def _prepare(self, shown: Outlook) -> None:
        with self._watch.step("preparing the database"):
            await self._node.begin()
            await migrate(self._context.database, identity=shown.identity)
        if shown.bind is None:
            await self._confirmed()

    async def _confirmed(self) -> None:
        with self._watch.step("waiting for PostgreSQL to confirm this node"):
            # With no living lease another node could take a company between its import and the switch.
            if not await self._node.beaten():
                raise EmergencyFailed(
                    "PostgreSQL does not confirm this node's heartbeats, so its companies could be taken meanwhile",
                    next_step="'standfast status' says what it answers; then run this again. The node is on files.",
                )

    async def _bring_all(self, companies: Sequence[Compared]) -> list[BroughtBack]:
        turns = asyncio.Semaphore(AT_ONCE)
        progress = self._context.progress

        async def bring(one: Compared) -> BroughtBack:
            async with turns:
                brought = await self._brought(one)
            progress.advance(1)
            return brought

        with self._watch.step("importing", len(companies), "companies"):
            tasks = [asyncio.ensure_future(bring(one)) for one in companies]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _brought(self, one: Compared) -> BroughtBack:
        back = BroughtBack(one.company, one.action)
        try:
            if one.action == "import":
                back.keys = (await self._put_back(one)).keys
            elif one.action == "keep files":
                back.kept = await keep_theirs(self._context, one.company)
                back.keys = (await self._put_back(one)).keys
            elif one.action == "keep postgresql":
                back.kept = await keep_ours(self._context, self._node, one.company)
                await self._give_up(one)
        except DatabaseUnavailable as error:
            raise EmergencyFailed(
                f"PostgreSQL went away while {one.company} was brought back: {error.message}",
                next_step="This node stays on files, and nothing is lost. Run it again once PostgreSQL is back: it "
                "goes on where it was.",
            ) from error
        except StandfastError as error:
            back.error = error.message
        return back

    async def _put_back(self, one: Compared) -> Brought:
        return await self._node.put_back(one.company, Seen(one.postgresql_epoch, one.postgresql_sequence))

    async def _give_up(self, one: Compared) -> None:
        try:
            await self._node.give_up(one.company)
        except CompanyInUse:
            if one.verdict != "held":
                raise

    async def _want(self, wanted: Sequence[str]) -> None:
        """A database that was lost knows of no session that is to run; where it does, its word stays."""
        for company in wanted:
            await wish(self._context.database, Company(company), Wished(wanted=True))

    async def _switch(self, report: ReturnReport, bind: str | None, wanted: Sequence[str]) -> None:
        if bind is not None:
            # Not before: what is in another database is compared as such until everything is decided.
            await self._node.bind(bind)
            await self._confirmed()
        with self._watch.step("switching back"):
            await self._node.leave()
            report.is_back = True
        with self._watch.step("waiting until PostgreSQL has everything"):
            report.is_confirmed = await self._node.recovered(RECOVERY_TIMEOUT_S)
        with self._watch.step("verifying sessions", len(wanted), "sessions"):
            found = await self._heard(wanted)
        for one in report.companies:
            one.session = found.get(one.company)

    async def _heard(self, wanted: Sequence[str]) -> dict[str, str]:
        """What became of the sessions that were to run, having waited until each is open and hears something."""
        end = time.monotonic() + SESSIONS_TIMEOUT_S
        while True:
            found = dict(await self._node.sessions())
            silent = [company for company in wanted if found.get(company, "open") != "open"]
            if not silent or time.monotonic() > end:
                return found
            await asyncio.sleep(_POLL_S)


def _refuse_worse(shown: Outlook, now: Outlook) -> None:
    """What was shown is what was agreed to."""
    before = {one.company: one for one in shown.companies}
    for one in now.undecided:
        agreed = before.get(one.company)
        if agreed is not None and not agreed.is_undecided:
            raise EmergencyRefused(
                f"PostgreSQL has moved on meanwhile: {one.company}: {one.why}",
                next_step="Compare anew: standfast emergency to-postgres --dry-run",
            )
