"""`run_drill`: a whole drill, from nothing to its record.

Invariant: whatever happens, everything that was started has ended when it returns or raises; what was measured until
then is in the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from standfast.drill import phase_emergency, phase_expiry, phase_ground, phase_outage
from standfast.drill.correspondence import Correspondence
from standfast.drill.installation import Installation, alone, installed, keep_logs, parts_of
from standfast.drill.kept import KeptDrills
from standfast.drill.notebook import Notebook
from standfast.drill.plan import Plan
from standfast.drill.record import DrillRecord
from standfast.drill.rehearsal import Rehearsal
from standfast.drill.uptime import Uptime
from standfast.errors import StandfastError
from standfast.jobs.progress import Progress
from standfast.settings import Settings
from standfast.state_dir import StateDirectory


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """`logs_to`: where the logs are kept if it fails; None: beside the records."""

    plan: Plan
    logs_to: Path | None = None


async def run_drill(options: DrillOptions, settings: Settings, progress: Progress) -> DrillRecord:
    """The record, whether criteria hold or not; keeping it is the caller's. Raises `StateDirectoryError` where
    another drill runs; an error of a phase is told in the record."""
    StateDirectory(settings.state_dir).prepare()
    plan = options.plan
    notebook = Notebook(plan, progress, settings.node_name or platform.node() or "node")
    logs_to = options.logs_to or KeptDrills(settings).root / f"logs-{notebook.id}"
    run = _Run(plan, notebook, settings, logs_to)
    with alone(settings):
        try:
            async with asyncio.timeout(plan.limit_s):
                await run.all()
        except TimeoutError:
            progress.note(f"the drill did not end within {plan.limit_s:g} s")
        except asyncio.CancelledError:
            progress.note(f"ended before its time; logs are kept in {logs_to}")
            raise
    record = run.record()
    if not record.passed:
        progress.note(f"logs are kept in {logs_to}")
    return record


class _Run:
    def __init__(self, plan: Plan, notebook: Notebook, settings: Settings, logs_to: Path) -> None:
        self._plan = plan
        self._notebook = notebook
        self._settings = settings
        self._logs_to = logs_to
        self._letters: Correspondence | None = None

    async def all(self) -> None:
        """Every phase; the first that is cut short ends it."""
        notebook = self._notebook
        async with contextlib.AsyncExitStack() as stack:
            with contextlib.suppress(_Told):
                async with _told(notebook, 0):
                    notebook.doing("starting PostgreSQL and the simulator")
                    await phase_ground.preconditions(self._settings, notebook)
                    parts = await stack.enter_async_context(
                        installed(self._settings, self._plan, self._logs_to)
                    )
                    await phase_ground.parts_answer(notebook, parts)
                await self._phases(stack, parts)
            self._judge_letters()
            if not self._holds():
                keep_logs(parts_of(self._settings), self._logs_to)

    async def _phases(self, stack: contextlib.AsyncExitStack, parts: Installation) -> None:
        rehearsal = self._rehearsal(parts)
        async with _told(self._notebook, 1):
            await phase_ground.populate(rehearsal)
            await stack.enter_async_context(rehearsal.letters.listening())
            await phase_ground.first_words(rehearsal)
        await self._phase(2, phase_outage.outages, rehearsal)
        if parts.outages.kind is not None:
            await self._phase(3, phase_outage.restoration, rehearsal, even_so=True)
        await self._phase(4, phase_expiry.expiry, rehearsal)
        await self._phase(5, phase_expiry.alerts, rehearsal)
        await self._phase(6, phase_emergency.emergency, rehearsal)

    def _rehearsal(self, parts: Installation) -> Rehearsal:
        service = parts.service("second")
        letters = Correspondence(service.client, service.another_client(), parts.simulator, self._notebook)
        self._letters = letters
        uptime = Uptime(service.another_client(), self._plan.sample_s)
        return Rehearsal(self._plan, self._notebook, parts, letters, uptime, [], [])

    async def _phase(
        self,
        number: int,
        work: Callable[[Rehearsal], Awaitable[None]],
        rehearsal: Rehearsal,
        *,
        even_so: bool = False,
    ) -> None:
        if self._plan.wants(number) or even_so:
            async with _told(self._notebook, number):
                await work(rehearsal)

    def _judge_letters(self) -> None:
        if self._letters is not None and self._letters.letters:
            lost, doubled = self._letters.lost(), self._letters.doubled()
            for letter in lost:
                self._notebook.moment("lost", letter.text, subject=letter.route)
            self._notebook.counted("messages lost in all", len(lost), 0)
            self._notebook.counted("messages that came twice", len(doubled), 0)

    def _holds(self) -> bool:
        notes = self._notebook
        rows = [one.status for one in (*notes.acceptance, *notes.performance)]
        return "fail" not in (*rows, *(phase.status for phase in notes.phases))

    def record(self) -> DrillRecord:
        """What was measured."""
        letters = self._letters
        sent, lost = (len(letters.letters), len(letters.lost())) if letters else (0, 0)
        return self._notebook.record(sent, lost)


class _Told(Exception):
    """A phase was cut short, as its row in the record says."""


@contextlib.asynccontextmanager
async def _told(notebook: Notebook, number: int) -> AsyncIterator[None]:
    try:
        async with notebook.written(number):
            yield
    except StandfastError as error:
        raise _Told(error.message) from error
