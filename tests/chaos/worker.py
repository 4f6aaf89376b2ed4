"""A worker: a process that is one node. It runs a `Vault` and does what it is told through a socket, a line each.

Invariant: what it acknowledges is on its way to the controller before anything else happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from standfast.alert import Alert
from standfast.authstate.change import Change
from standfast.authstate.company import Company, company_id
from standfast.errors import CompanyInUse, DatabaseUnavailable, StandfastError
from standfast.logs import configure_logging
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.vault.opening import open_vault
from standfast.vault.options import VaultOptions
from standfast.vault.vault import Vault
from tests.chaos import sabotage, workload
from tests.chaos.model import Operation, State, change_text
from tests.chaos.mutations import MUTATIONS

_LIMIT_BYTES = 2**24
_ON_FILES = DatabaseUnavailable("this node stands on files", cause="on_files")


class _Alerts:
    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def take(self, alert: Alert) -> None:
        if not alert.quiet:
            self._tell(event="alert", name=alert.name, message=alert.message)


class Worker:
    """Commands are done at once, each in a task; those for one company begin in the order in which they came."""

    def __init__(self, vault: Vault, clock: sabotage.JumpingClock, tell: Callable[..., None]) -> None:
        self._vault = vault
        self._clock = clock
        self._tell = tell
        self._revoked: dict[Company, CompanyInUse] = {}
        vault.keeper.on_fenced = self._fenced

    async def do(self, command: dict[str, Any]) -> None:
        number, verb = command.pop("id"), command.pop("do")
        try:
            answer = await getattr(self, f"do_{verb}")(**command)
        except StandfastError as error:
            self._tell(id=number, error=error.code, message=error.message)
        except ValueError as error:
            self._tell(id=number, error="damaged_value", message=str(error))
        except Exception as error:  # noqa: BLE001 - whatever else the vault raises is a finding
            self._tell(
                id=number, error="unexpected", message="".join(traceback.format_exception(error))[-1500:]
            )
        else:
            self._tell(id=number, **(answer or {}))

    async def do_open(self, company: str) -> dict[str, Any]:
        known = company_id(company)
        self._revoked.pop(known, None)
        await self._vault.open(known)
        return await self.do_read(company) | {"confirmed": self._vault.grace.node_age_s() is not None}

    async def do_read(self, company: str) -> dict[str, Any]:
        known = self._held(company)
        raw = await self._vault.load_creds(known)
        state = State(None if raw is None else workload.number_of_creds(raw))
        for key_type, ids in workload.KEY_IDS.items():
            for key_id, value in (await self._vault.get_keys(known, key_type, ids)).items():
                state.keys[key_type, key_id] = workload.number_of_value(key_type, key_id, value)
        return {"state": state.text()}

    async def do_write(self, company: str, seed: int, label: str, number: int) -> None:
        known, operation = self._held(company), workload.operation(seed, label, number)
        if operation.creds is not None:
            await self._vault.save_creds(known, workload.creds(operation.creds))
        elif operation.cleared:
            await self._vault.clear_keys(known)
        else:
            await self._vault.set_keys(known, workload.batch(operation.keys))

    async def do_release(self, company: str) -> None:
        self._vault.release(company_id(company))

    async def do_detach(self) -> None:
        self._vault.detach(_ON_FILES)

    async def do_rejoin(self) -> None:
        self._vault.rejoin()

    async def do_arm(self, point: str, count: int) -> None:
        sabotage.arm(point, count)

    async def do_disk(self, full: bool) -> None:
        sabotage.limit_files(full)

    async def do_clock(self, boottime_s: float, wall_s: float) -> None:
        self._clock.boottime_s, self._clock.wall_s = boottime_s, wall_s

    async def do_status(self) -> dict[str, Any]:
        """Outage state, batches that each company's journal holds, and what lies in quarantine."""
        replica = self._vault.replica
        kept = [
            (entry.company, change_text([_operation(replica.quarantined_change(entry.id))]))
            for entry in replica.quarantined()
        ]
        records = replica.companies()
        return {
            "outage": f"{self._vault.outage.state}: {self._vault.outage.cause}",
            "journals": {record.company: record.journal_batches for record in records},
            "quarantined": kept,
        }

    def _held(self, company: str) -> Company:
        known = company_id(company)
        if known in self._revoked:
            raise self._revoked[known]
        return known

    def _fenced(self, company: Company, error: CompanyInUse) -> None:
        """As the gateway does: who had it open loses it at once, and must open it again."""
        self._revoked[company] = error
        self._vault.release(company)
        self._tell(event="fenced", company=company)


def _operation(change: Change) -> Operation:
    keys = {
        (key_type, key_id): None if value is None else workload.number_of_value(key_type, key_id, value)
        for key_type, entries in change.keys.items()
        for key_id, value in entries.items()
    }
    return Operation(
        0, keys, None if change.creds is None else workload.number_of_creds(change.creds), change.cleared
    )


async def _serve(connection: socket.socket, config: dict[str, Any]) -> None:
    reader, writer = await asyncio.open_connection(sock=connection, limit=_LIMIT_BYTES)

    def tell(**fields: Any) -> None:
        writer.write(json.dumps(fields).encode() + b"\n")

    clock = sabotage.JumpingClock(*config["clock"])
    database = Database(replace(DatabaseOptions(**config["database"]), application_name=config["app"]))
    options = VaultOptions(**config["options"])
    async with (
        database,
        open_vault(
            Path(config["directory"]),
            database,
            options,
            alerts=_Alerts(tell),
            clock=clock,
            detached=_ON_FILES if config["detached"] else None,
        ) as vault,
    ):
        worker = Worker(vault, clock, tell)
        tell(event="ready")
        tasks: set[asyncio.Task[None]] = set()
        while line := await reader.readline():
            command = json.loads(line)
            if command["do"] == "stop":
                break
            task = asyncio.create_task(worker.do(command))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    with contextlib.suppress(OSError):
        await writer.drain()


def main(connection: socket.socket, config: dict[str, Any]) -> None:
    """Serve until `stop`, the socket's end, or death."""
    random.seed()
    configure_logging("warning", as_json=True)
    connection.setblocking(False)
    sabotage.become_another_process()
    sabotage.hasten(config["tick_s"])
    sabotage.place_points()
    MUTATIONS.get(config["mutation"], lambda: None)()
    asyncio.run(_serve(connection, config))
