"""`World`: everything of one run that its steps act upon.

Invariant: what PostgreSQL has committed is put before the checker before anything is concluded from it.
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos import ledger
from tests.chaos.checker import Checker, Kind, Violation
from tests.chaos.expectations import Expectations
from tests.chaos.ledger import Ledger
from tests.chaos.model import State
from tests.chaos.network import Link
from tests.chaos.node import Died, Node, Zygote
from tests.chaos.schedule import GRACE_S, Schedule
from tests.chaos.server import Server

_STARTS_MAX = 4
_NOTES_KEPT = 400
_FIRST_KEYS = {("session", "79990000000.0"): 0, ("pre-key", "0"): 0}
_DATABASE_FIELDS = (
    "dbname",
    "user",
    "password",
    "max_connections",
    "connect_timeout_s",
    "checkout_timeout_s",
    "statement_timeout_s",
)
_OPTIONS = {
    "grace_s": float(GRACE_S),
    "lease_ttl_s": 3.0,
    "opening_patience_s": 0.3,
    "acquire_timeout_s": 1.0,
    "remote_timeout_s": 1.0,
    "gather_s": 0.01,
    "release_timeout_s": 1.0,
    "close_timeout_s": 1.0,
    "sweep_interval_s": 0.3,
}


class World:
    """`tag` makes the companies of this run nobody else's; a schedule itself knows them by label."""

    def __init__(self, schedule: Schedule, server: Server, directory: Path, tag: str) -> None:
        self.schedule = schedule
        self.server = server
        self.directory = directory
        self.companies = {label: f"{tag}-{label}" for label in schedule.companies}
        self.nodes: dict[str, Node] = {}
        self.counts: Counter[str] = Counter()
        self._begun_at = time.monotonic()
        self._last_note = ""
        self._notes: deque[str] = deque(maxlen=_NOTES_KEPT)
        first = State(0, dict(_FIRST_KEYS))
        self.checker = Checker(dict.fromkeys(self.companies.values(), first))
        self.expect = Expectations(self.checker, server)
        self.ledger = Ledger(list(self.companies.values()))

    async def set_up(self, zygote: Zygote, mutation: str) -> None:
        """Companies as a bot without Standfast left them; nodes that are not started yet."""
        connection = await self.server.connection()
        for company in self.companies.values():
            await ledger.seed_company(connection, company, State(0, dict(_FIRST_KEYS)))
        database = {name: getattr(self.server.worker_options, name) for name in _DATABASE_FIELDS}
        for name in self.schedule.nodes:
            link = Link("127.0.0.1", self.server.port)
            await link.open()
            (self.directory / name).mkdir(parents=True)
            config: dict[str, Any] = {
                "directory": str(self.directory / name / "vault"),
                "log": str(self._log(name)),
                "mutation": mutation,
                "tick_s": float(self.schedule.header.get("tick_s", "1.0")),
                "database": database | {"host": "127.0.0.1", "port": link.port},
                "options": _OPTIONS
                | {
                    "node_name": name,
                    "durability": self.schedule.header["durability"],
                    "compact_bytes": int(self.schedule.header["compact_bytes"]),
                },
            }
            self.nodes[name] = Node(name, zygote, self.directory / name / "vault", link, config)
            self.nodes[name].note = self.note

    def note(self, what: str) -> None:
        """For whoever reads of a violation: what happened last."""
        kind = re.sub(r'"id": \d+', "", what)
        if kind == self._last_note:
            return
        self._last_note = kind
        self._notes.append(f"{time.monotonic() - self._begun_at:7.3f} {what}")

    def notes(self) -> str:
        return "\n".join(self._notes)

    async def tear_down(self) -> None:
        for node in self.nodes.values():
            await node.end()
            await node.link.close()

    def _log(self, node: str) -> Path:
        return self.directory / f"{node}.log"

    async def start(self, node: Node) -> None:
        """Start the node, anew where it dies of a point that it passes while it starts."""
        for _ in range(_STARTS_MAX):
            try:
                await node.start()
                return
            except Died:
                continue
        log = self._log(node.name)
        said = log.read_text("utf-8")[-2000:] if log.exists() else ""
        raise Violation(Kind.ERROR, f"node {node.name} does not start: {said}")

    async def follow(self) -> None:
        """Put before the checker what PostgreSQL has committed since, if it answers."""
        for _ in range(2):
            if not self.server.is_there:
                return
            try:
                rows = await self.ledger.fresh(await self.server.connection())
            except psycopg.OperationalError:
                continue  # it recovers just now
            for row in rows:
                self.counts[f"ledger: {row.kind}"] += 1
                self.note(f"ledger: {row}")
                self.checker.committed(row)
            for node in self.nodes.values():
                while node.fenced:
                    self.expect.may_be_fenced(node, node.fenced.pop())
            return
