"""`Cleaning`: what operators ask of a running service about cleanups.

Invariant: a cleanup of the service removes keys of companies that it holds through its vault; whoever asked may go
away, and the run goes on to its end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from standfast.authstate.company import Company
from standfast.errors import DatabaseUnavailable, JobRunning, StandfastError, UsageError
from standfast.health.metrics.stores import OTHER, TYPES_SHOWN
from standfast.jobs.cleanup.pre_keys import AskWhatsApp, SpentPreKeys, spent_pre_keys
from standfast.jobs.cleanup.report import CleanupReport, Policy, Undone
from standfast.jobs.cleanup.run import CleanupOptions, run_cleanup
from standfast.jobs.cleanup.undo import undo
from standfast.jobs.context import JobContext
from standfast.service.params import checked
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection
from standfast.vault.outage import State
from standfast.vault.vault import Vault


class RunCleanup(msgspec.Struct, forbid_unknown_fields=True):
    """Params of `cleanup.run`; what is not given is as the settings say."""

    policy: Policy | None = None
    retention_days: Annotated[int, Meta(ge=1, le=3_650)] | None = None
    company: str | None = None
    dry_run: bool = False
    force: bool = False


class UndoCleanup(msgspec.Struct, forbid_unknown_fields=True):
    """Params of `cleanup.undo`; without a company all of them."""

    run: str
    company: str | None = None


class Tally:
    """What cleanups have done since the service began."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.duration_s = 0.0

    def done(self, report: CleanupReport) -> None:
        self.outcomes["done"] += 1
        self.duration_s += report.duration_s
        for key_type, count in report.removed.items():
            # The table may hold any text as a type.
            is_shown = key_type in self.removed or len(self.removed) < TYPES_SHOWN
            self.removed[key_type if is_shown else OTHER] += count

    def failed(self) -> None:
        self.outcomes["failed"] += 1


class Cleaning:
    """`context` makes what a run is given; `ask` is how WhatsApp is asked for its list of pre-keys."""

    def __init__(self, vault: Vault, context: Callable[[], JobContext], ask: AskWhatsApp) -> None:
        self._vault = vault
        self._context = context
        self._ask = ask
        self.tally = Tally()

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {"cleanup.run": self._run, "cleanup.undo": self._undo}

    async def clean(self, options: CleanupOptions, context: JobContext | None = None) -> CleanupReport:
        """A cleanup through this service's vault. `DatabaseUnavailable` at once where PostgreSQL is away."""
        self._refuse_away()
        given = context or self._context()

        def pre_keys(companies: Sequence[Company], note: bool) -> AsyncIterator[SpentPreKeys]:
            days = options.retention_days or given.settings.db_cleanup_retention_days
            return spent_pre_keys(given.database, companies, self._ask, days, note=note)

        try:
            report = await run_cleanup(given, self._vault, options, pre_keys)
        except (JobRunning, UsageError):
            raise
        except StandfastError:
            self.tally.failed()
            raise
        if not options.dry_run:
            self.tally.done(report)
        return report

    async def put_back(self, run: str, company: str | None) -> Undone:
        """Undo a run through this service's vault."""
        self._refuse_away()
        return await undo(self._context(), run, self._vault, company)

    async def _run(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(RunCleanup, params)
        options = CleanupOptions(
            asked.policy, asked.retention_days, asked.company, asked.dry_run, asked.force
        )
        done: dict[str, Any] = msgspec.to_builtins(await asyncio.shield(self.clean(options)))
        return done

    async def _undo(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(UndoCleanup, params)
        done: dict[str, Any] = msgspec.to_builtins(
            await asyncio.shield(self.put_back(asked.run, asked.company))
        )
        return done

    def _refuse_away(self) -> None:
        if self._vault.outage.state is State.OUTAGE:
            raise DatabaseUnavailable(
                "PostgreSQL is away: nothing is cleaned up, and nothing put back",
                next_step="Try again once it is back; 'standfast status' shows since when it is away.",
                cause="timeout",
            )
