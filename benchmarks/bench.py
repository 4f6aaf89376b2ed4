"""`Bench`: what a measurement stands on: one PostgreSQL, one simulator, roads of several lengths, a directory.

Invariant: all of it is made for one run, on this machine's loopback, and gone after it.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.proxy import Road
from standfast.node import bridge_directory, node_binary
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.options import DatabaseOptions
from standfast.service.simulator import Simulator

# Round trips between service and database that are measured: the same machine, the same region, another one.
DELAYS_MS = (0.0, 10.0, 25.0)


@dataclass(slots=True)
class Bench:
    """`rounds` of everything; `share` below 1 makes each measurement shorter."""

    console: Console
    rounds: int
    share: float
    directory: Path
    server: EmbeddedServer
    simulator: Simulator
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def next_number(self) -> int:
        """A number that no other measurement of this run has: for companies, phones and directories."""
        return next(self._numbers)

    def new_directory(self, name: str) -> Path:
        path = self.directory / f"{name}{self.next_number()}"
        path.mkdir(mode=0o700)
        return path

    @property
    def server_pid(self) -> int:
        """PostgreSQL's first process."""
        assert self.server.pid is not None
        return self.server.pid

    def counted(self, number: int) -> int:
        """A count, made smaller in a short run."""
        return max(1, round(number * self.share))

    def alternating(self, names: Iterable[str]) -> Iterator[str]:
        """Each name once in each round, so that a machine whose speed drifts favours none."""
        for round_number, name in itertools.product(range(self.rounds), list(names)):
            self.console.print(f"round {round_number + 1}/{self.rounds}: {name}", style="dim")
            yield name

    def chat_options(self) -> dict[str, Any]:
        """What two clients need to find the simulator, and names of their own."""
        number = self.next_number()
        return {
            "url": self.simulator.ready.url,
            "rootKey": self.simulator.ready.root_key,
            "admin": self.simulator.ready.admin,
            "pairs": [[f"a{number}", f"7999100{number:04d}"], [f"b{number}", f"7999200{number:04d}"]],
        }

    def road(self, delay_ms: float = 0.0) -> Road:
        """A way to PostgreSQL of that length, which can be blocked."""
        return Road("127.0.0.1", int(self.server.tcp_options.port or 0), delay_ms / 1000)

    @contextlib.asynccontextmanager
    async def reached(self, delay_ms: float) -> AsyncIterator[DatabaseOptions]:
        """The database as it is reached from that far away; from 0 ms by its own socket, without a proxy."""
        if delay_ms == 0:
            yield self.server.options
            return
        async with self.road(delay_ms) as road:
            yield self.by(road)

    def by(self, road: Road) -> DatabaseOptions:
        """The database as it is reached by that road."""
        return replace(self.server.tcp_options, port=road.port)


@contextlib.asynccontextmanager
async def prepared(console: Console, rounds: int, share: float) -> AsyncIterator[Bench]:
    """Everything started, in a directory with a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as name:
        directory = Path(name)
        (directory / "server").mkdir(mode=0o700)
        simulator = Simulator(directory / "whatsapp", node_binary(), bridge_directory())
        async with EmbeddedServer(directory / "server", listen_port=0) as server:
            try:
                await simulator.start()
                yield Bench(console, rounds, share, directory, server, simulator)
            finally:
                await simulator.stop()
