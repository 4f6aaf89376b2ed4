"""`python -m tests.chaos --seed 1 --runs 100`: schedules of faults against the vault, each seed a run of its own.

A failing seed is printed with its schedule and replays exactly: `--seed N --runs 1`, or `--schedule FILE` for an
edited one. `--mutation NAME` puts a defect into the workers, which must be found. Exit code 1: a violation.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.checker import Violation
from tests.chaos.mutations import MUTATIONS
from tests.chaos.node import Zygote
from tests.chaos.private_mount import enter_private_mounts
from tests.chaos.run import Run
from tests.chaos.schedule import Schedule, generate
from tests.chaos.server import Server

_REPORT_EVERY_S = 30.0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class _Campaign:
    """Runs one after another on one server, with one zygote."""

    def __init__(
        self, arguments: argparse.Namespace, server: Server, zygote: Zygote, directory: Path
    ) -> None:
        self._arguments = arguments
        self._server = server
        self._zygote = zygote
        self._directory = directory
        self.counts: Counter[str] = Counter()
        self.failed: list[int] = []
        self.done = 0

    async def run(self) -> None:
        told_at = started_at = time.monotonic()
        for schedule in self._schedules():
            await self._one(schedule)
            if self.failed and not self._arguments.keep_going:
                return
            if time.monotonic() - told_at > _REPORT_EVERY_S:
                told_at = time.monotonic()
                each_s = (told_at - started_at) / self.done
                _say(f"{self.done} runs, {each_s:.2f} s each, {len(self.failed)} failed")

    def _schedules(self) -> list[Schedule]:
        if self._arguments.schedule:
            return [Schedule.parse(self._arguments.schedule.read_text("utf-8"))] * self._arguments.runs
        first = self._arguments.seed
        return [generate(seed) for seed in range(first, first + self._arguments.runs)]

    async def _one(self, schedule: Schedule) -> None:
        self.done += 1
        tag = f"r{self.done}s{schedule.seed}"
        run = Run(schedule, self._server, self._directory / tag, tag)
        started_at = time.monotonic()
        try:
            await run.carry_out(self._zygote, self._arguments.mutation)
        except Violation as violation:
            self.failed.append(schedule.seed)
            _say(f"VIOLATION seed={schedule.seed}: {violation}\n{schedule}\n")
            if self._arguments.verbose:
                _say(run.notes())
        self.counts.update(run.counts)
        if self._arguments.verbose:
            _say(f"seed {schedule.seed}: {time.monotonic() - started_at:.2f} s")


async def _main(arguments: argparse.Namespace, *, mounts: bool, zygote: Zygote) -> int:
    with tempfile.TemporaryDirectory(prefix="standfast-chaos-") as name:
        server = Server(
            Path(name) / "server", mounts=mounts, unguarded=arguments.mutation == "epoch-guard-off"
        )
        try:
            await server.start()
            campaign = _Campaign(arguments, server, zygote, Path(name))
            await campaign.run()
        finally:
            await server.stop()
    _say(f"{campaign.done} runs from seed {arguments.seed}, failed: {campaign.failed or 'none'}")
    _say(", ".join(f"{name} {count}" for name, count in sorted(campaign.counts.items())))
    if not mounts:
        _say("this kernel allows no mounts of our own: PostgreSQL's disk was never full")
    return 1 if campaign.failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="the first; random where not given"
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--schedule", type=Path, help="a file with the text of a schedule")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), default="")
    parser.add_argument("--keep-going", action="store_true", help="go on after a violation")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    can_mount = enter_private_mounts()
    made = Zygote()
    try:
        code = asyncio.run(_main(given, mounts=can_mount, zygote=made))
    finally:
        made.close()
    sys.exit(code)
