"""Random kills and cuts under chat: what was accepted arrives, once.

`CHAOS_SEED` repeats a schedule, `CHAOS_ROUNDS` makes it longer: make chaos-chat CHAOS_SEED=7 CHAOS_ROUNDS=50
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter

import psycopg
import pytest

from standfast.errors import StandfastError
from standfast.sessions.session import State
from tests.e2e.conftest import Line, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "12"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.randrange(10_000))))


class Writer:
    """Sends numbered texts from one company to another for as long as it runs; keeps which were accepted."""

    def __init__(self, line: Line, sender: str, receiver: str) -> None:
        self._line, self._sender, self._receiver = line, sender, receiver
        self.accepted: list[str] = []
        self._number = 0

    async def write(self) -> None:
        while True:
            self._number += 1
            text = f"{self._sender} {self._number}"
            with contextlib.suppress(StandfastError):
                await self._line.send(self._sender, self._receiver, text)
                self.accepted.append(text)
            await asyncio.sleep(0.03)


async def _kill_host(line: Line) -> None:
    pid = line.service.engine.pid
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def _cut_database(line: Line) -> None:
    """Every connection of the service is cut; PostgreSQL itself goes on."""
    options = line.service.database.options
    async with await psycopg.AsyncConnection.connect(options.to_conninfo(), autocommit=True) as connection:
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


async def _drop_sockets(line: Line) -> None:
    for phone in line.phones.values():
        with contextlib.suppress(StandfastError):
            await line.simulator.ask("POST", "/faults", {"kind": "drop", "phone": phone})


async def _restart_service(line: Line) -> None:
    await line.restart()


FAULTS = (_kill_host, _cut_database, _drop_sockets, _restart_service)


async def _all_arrived(line: Line, receiver: str, accepted: set[str]) -> None:
    def missing() -> set[str]:
        return accepted - set(line.texts(receiver))

    await until(lambda: not missing(), lambda: f"missing: {sorted(missing())[:10]}", timeout_s=60)


async def test_what_was_accepted_arrives_once(pair_of: Line) -> None:
    """Hosts killed, database and WhatsApp connections cut, the service restarted, at random, under chat both ways."""
    line, chance = pair_of, random.Random(SEED)
    print(f"CHAOS_SEED={SEED}")  # noqa: T201 - pytest shows it with a failure
    first, second = line.phones
    writers = [Writer(line, first, second), Writer(line, second, first)]
    writing = [asyncio.create_task(writer.write()) for writer in writers]
    for _ in range(ROUNDS):
        await asyncio.sleep(chance.uniform(0.3, 2.0))
        fault = chance.choice(FAULTS)
        print(fault.__name__)  # noqa: T201
        await fault(line)
        for company in (first, second):
            await line.state(company, State.OPEN, timeout_s=60)
    await asyncio.sleep(1)
    for task in writing:
        task.cancel()
    await asyncio.gather(*writing, return_exceptions=True)
    for writer, receiver in zip(writers, (second, first), strict=True):
        assert len(writer.accepted) > ROUNDS
        await _all_arrived(line, receiver, set(writer.accepted))
        doubles = [text for text, times in Counter(line.texts(receiver)).items() if times > 1]
        assert not doubles
