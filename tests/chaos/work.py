"""`Work`: the steps that are no faults: what bots and operators do all day.

Invariant: every answer is put before the checker or weighed against what is expected; none is passed over.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.chaos import workload
from tests.chaos.model import Entry, Fate
from tests.chaos.node import Node
from tests.chaos.world import World

_DRAIN_TIMEOUT_S = 1.0
_POLL_S = 0.02


class Work:
    """Each public method but `open` is the step of its name; its arguments are the step's words."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers: dict[str, int] = dict.fromkeys(world.companies, 0)

    def _find(self, name: str, label: str) -> tuple[Node, str]:
        return self._world.nodes[name], self._world.companies[label]

    async def open(self, name: str, label: str) -> None:
        node, _ = self._find(name, label)
        if node.is_able:
            await self.opened(name, label)

    async def opened(self, name: str, label: str) -> bool:
        """Whether it could be opened; where not, there was good reason."""
        world, (node, company) = self._world, self._find(name, label)
        node.open_companies.discard(company)
        answer = await node.ask("open", company=company)
        await world.follow()
        if "error" in answer:
            world.counts[f"open: {answer['error']}"] += 1
            world.expect.may_refuse_opening(node, company, answer)
            return False
        world.counts["opened"] += 1
        world.expect.may_open(node, company, answer)
        world.checker.opened(name, company, answer["state"])
        if node.is_running:
            node.open_companies.add(company)
        return node.is_running

    async def write(self, name: str, label: str, count: str) -> None:
        """So many writes at once; then all is read back."""
        world, (node, company) = self._world, self._find(name, label)
        numbers = [self._next_number(label) for _ in range(int(count))]
        if not node.is_able or company not in node.open_companies:
            return
        asked: list[tuple[Entry, asyncio.Future[dict[str, Any]]]] = []
        seed = world.schedule.seed
        for number in numbers:
            entry = world.checker.sent(name, company, workload.operation(seed, label, number))
            sent = node.send("write", company=company, seed=seed, label=label, number=number)
            asked.append((entry, sent))
        answers = await node.all([answer for _, answer in asked], "write")
        await world.follow()
        for (entry, _), answer in zip(asked, answers, strict=True):
            self._take_answer(node, company, entry, answer)
        await self.read(name, label)

    def _next_number(self, label: str) -> int:
        self._numbers[label] += 1
        return self._numbers[label]

    def _take_answer(self, node: Node, company: str, entry: Entry, answer: dict[str, Any]) -> None:
        code = answer.get("error")
        if code is None:
            entry.fate = Fate.SURE
            self._world.counts["acknowledged"] += 1
            return
        self._world.counts[f"write: {code}"] += 1
        if code == "journal_unwritable":
            entry.fate = Fate.ABSENT
        self._world.expect.may_refuse_writing(node, company, answer)
        if code == "company_in_use":
            node.open_companies.discard(company)

    async def read(self, name: str, label: str) -> None:
        world, (node, company) = self._world, self._find(name, label)
        if not node.is_able or company not in node.open_companies:
            return
        answer = await node.ask("read", company=company)
        if "error" not in answer:
            world.checker.read(name, company, answer["state"], is_rebuilt=node.is_damage_told)
            return
        await world.follow()
        world.expect.may_refuse_writing(node, company, answer)
        node.open_companies.discard(company)

    async def release(self, name: str, label: str) -> None:
        node, company = self._find(name, label)
        if node.is_able and company in node.open_companies:
            node.open_companies.discard(company)
            await node.ask("release", company=company)

    async def rest(self, milliseconds: str) -> None:
        await asyncio.sleep(int(milliseconds) / 1000)

    async def drain(self, name: str) -> None:
        """Until this node owes PostgreSQL nothing, if it can do that just now."""
        node = self._world.nodes[name]
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        while node.is_able and self._world.expect.is_connected(node) and time.monotonic() < deadline:
            answer = await node.ask("status")
            if not any(answer.get("journals", {"": 1}).values()):
                return
            await asyncio.sleep(_POLL_S)
