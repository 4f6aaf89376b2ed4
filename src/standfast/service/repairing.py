"""What operators ask of a running service about repairs, and repairs where none runs.

Invariant: keys of companies that the service holds go through its vault; whoever asked may go away, and the repair goes
on to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from standfast.alert import LoggedAlerts
from standfast.errors import DatabaseUnavailable, StateDirectoryError
from standfast.jobs.context import JobContext
from standfast.jobs.progress import Progress
from standfast.jobs.verify.plan import Action
from standfast.jobs.verify.repair import RepairReport, run_repair
from standfast.jobs.verify.settle import Settled, settle
from standfast.service.client import connect
from standfast.service.job_context import command_context
from standfast.service.offline import service_runs
from standfast.service.params import checked
from standfast.service.restoring import restoring_context
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection
from standfast.settings import Settings
from standfast.state_dir import StateDirectory
from standfast.vault.outage import State
from standfast.vault.vault import Vault

_PURPOSE = "repair"
_RUN_TIMEOUT_S = 3_600.0


class RunRepair(msgspec.Struct, forbid_unknown_fields=True):
    """Params of `repair.run`: ids of findings, by company."""

    findings: dict[str, list[str]]


class Repairing:
    """`context` makes what a run is given."""

    def __init__(self, vault: Vault, context: Callable[[], JobContext]) -> None:
        self._vault = vault
        self._context = context

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {"repair.run": self._run}

    async def _run(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(RunRepair, params)
        if self._vault.outage.state is State.OUTAGE:
            raise DatabaseUnavailable(
                "PostgreSQL is away: nothing is repaired",
                next_step="Try again once it is back; 'standfast status' shows since when it is away.",
                cause="timeout",
            )
        done = await asyncio.shield(run_repair(self._context(), self._vault, asked.findings))
        built: dict[str, Any] = msgspec.to_builtins(done)
        return built


async def repaired(
    settings: Settings, chosen: Mapping[str, Sequence[str]], progress: Progress
) -> RepairReport:
    """By the service of this state directory, or by this process where none runs."""
    if service_runs(settings):
        async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
            answer = await client.job("repair.run", {"findings": dict(chosen)}, _RUN_TIMEOUT_S)
        return msgspec.convert(answer, RepairReport)
    async with command_context(settings, _PURPOSE, progress, LoggedAlerts()) as context:
        return await run_repair(context, None, chosen)


async def settled(settings: Settings, chosen: Mapping[str, Action], progress: Progress) -> list[Settled]:
    """One side's state for the other's."""
    async with restoring_context(settings, progress, LoggedAlerts(), None) as (context, node):
        if node is None:
            raise StateDirectoryError(f"{settings.state_dir} has no replica")
        return await settle(context, node, chosen)
