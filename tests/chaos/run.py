"""`Run`: one schedule carried out on real processes, every answer and every commit put before the checker.

Invariant: a run ends healed: every fault is ended, every company is opened, drained and compared, on every node.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from tests.chaos.checker import Kind, Violation
from tests.chaos.faults import Faults
from tests.chaos.node import Node, Zygote
from tests.chaos.schedule import Schedule
from tests.chaos.server import Server
from tests.chaos.work import Work
from tests.chaos.world import World

SETTLE_TIMEOUT_S = 25.0
_POLL_S = 0.05


class Run:
    """`mutation`: the defect that the workers are given, or an empty name."""

    def __init__(self, schedule: Schedule, server: Server, directory: Path, tag: str) -> None:
        self._world = World(schedule, server, directory, tag)
        self._work = Work(self._world)
        self._faults = Faults(self._world)
        self.counts = self._world.counts
        self.notes = self._world.notes

    async def carry_out(self, zygote: Zygote, mutation: str) -> None:
        """Raises `Violation`."""
        world = self._world
        try:
            await world.set_up(zygote, mutation)
            for step in world.schedule.steps:
                self.counts[f"step: {step.verb}"] += 1
                world.note(f"-- {step}")
                doer = self._work if hasattr(self._work, step.verb) else self._faults
                await getattr(doer, step.verb)(*step.words)
                await world.follow()
            await self._heal()
            for label in world.companies:
                await self._settle(label)
        finally:
            await world.server.mend()
            await world.tear_down()
            shutil.rmtree(world.directory, ignore_errors=True)

    async def _heal(self) -> None:
        world = self._world
        world.expect.disturb(world.nodes.values())
        await world.server.mend()
        for node in world.nodes.values():
            node.resume()
            await node.link.heal()
            await self._faults.rejoin(node.name)
            await self._faults.disk(node.name, "roomy")
            await world.start(node)

    async def _settle(self, label: str) -> None:
        """Each node in turn has the company, writes, brings it to PostgreSQL and hands it on; its last owner first."""
        world, company = self._world, self._world.companies[label]
        owner = world.checker.owner(company) or world.schedule.nodes[0]
        for name in sorted(world.nodes, key=lambda name: name != owner):
            await self._until_opened(name, label)
            await self._work.write(name, label, "1")
            await self._until_drained(name, label)
            await world.follow()
            connection = await world.server.connection()
            world.checker.at_its_end(company, name, await world.ledger.state(connection, company))
            if damaged := await world.ledger.damaged_values(connection, company):
                raise Violation(Kind.PREFIX, f"{company} holds damaged values in PostgreSQL: {damaged}")
            await self._work.release(name, label)
        for name, node in world.nodes.items():
            world.checker.kept(company, name, await self._quarantined(node, company))

    async def _until_opened(self, name: str, label: str) -> None:
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        node = self._world.nodes[name]
        await self._world.start(node)
        while not await self._work.opened(name, label):
            if time.monotonic() > deadline:
                raise Violation(Kind.REFUSED, f"{name} could not open '{label}' when all was well again")
            await self._world.start(node)
            await asyncio.sleep(_POLL_S)

    async def _until_drained(self, name: str, label: str) -> None:
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        node, company = self._world.nodes[name], self._world.companies[label]
        while True:
            if not node.is_running or company not in node.open_companies:
                await self._until_opened(name, label)
            answer = await node.ask("status")
            if answer.get("journals", {}).get(company) == 0:
                return
            if time.monotonic() > deadline:
                raise Violation(Kind.LOST, f"{name} does not bring '{label}' to PostgreSQL: {answer}")
            await asyncio.sleep(_POLL_S)

    async def _quarantined(self, node: Node, company: str) -> list[str]:
        await self._world.start(node)
        answer = await node.ask("status")
        if answer.get("error") == "died":  # of a point that it was armed with; the next process has none
            await self._world.start(node)
            answer = await node.ask("status")
        if "error" in answer:
            raise Violation(Kind.QUARANTINE, f"{node.name} cannot show its quarantine: {answer}")
        return [text for owner, text in answer["quarantined"] if owner == company]
