"""`make bench`: what it costs to keep sessions standing, in ratios of one run.

Sections: `trace` (key operations, store by store), `line` (whole conversations), `outage` (PostgreSQL gone in the
middle of one), `restart` (a start with PostgreSQL away), `replay` (what was journaled goes to PostgreSQL), `fleet`
(many companies), `sessions` (many of them, beside bare Baileys sockets), `api` (messages sent through it, and through
Baileys itself), `webhooks` (events delivered a second), `health` (what it costs to watch), `cleanup` (keys
removed while others are written), `backup` (a proven backup beside bare dumps), `pointintime` (a past state, and what
its log costs), `emergency` (over to files, beside plain file writing). Rounds alternate between what is compared;
medians are shown; figures go to a JSON file each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import (
    api,
    backups,
    cleanups,
    drains,
    emergencies,
    fleet,
    health,
    line,
    moments,
    outage,
    restart,
    sessions,
    traces,
    webhooks,
)
from benchmarks.bench import Bench, prepared
from standfast import __version__

PIPE_COLUMNS = 140


@dataclass(frozen=True, slots=True)
class Section:
    """What is measured, and how it is shown."""

    measure: Callable[[Bench], Awaitable[dict[str, Any]]]
    show: Callable[[Console, Mapping[str, Any]], None]


SECTIONS = {
    "trace": Section(traces.measure, traces.show),
    "line": Section(line.measure, line.show),
    "outage": Section(outage.measure, outage.show),
    "restart": Section(restart.measure, restart.show),
    "replay": Section(drains.measure, drains.show),
    "fleet": Section(fleet.measure, fleet.show),
    "sessions": Section(sessions.measure, sessions.show),
    "api": Section(api.measure, api.show),
    "webhooks": Section(webhooks.measure, webhooks.show),
    "health": Section(health.measure, health.show),
    "cleanup": Section(cleanups.measure, cleanups.show),
    "backup": Section(backups.measure, backups.show),
    "pointintime": Section(moments.measure, moments.show),
    "emergency": Section(emergencies.measure, emergencies.show),
}


async def run(names: list[str], rounds: int, share: float, output: Path, console: Console) -> None:
    """Measure the sections one after the other; each is shown and written as soon as it is done."""
    for name in names:
        console.rule(name)
        async with prepared(console, rounds, share) as bench:
            began = time.monotonic()
            result = await SECTIONS[name].measure(bench)
        report = {
            "section": name,
            "standfast": __version__,
            "python": sys.version.split()[0],
            "cores": os.cpu_count(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "took_s": round(time.monotonic() - began, 1),
            "rounds": rounds,
            "share": share,
            **result,
        }
        path = output / f"{name}.json"
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        SECTIONS[name].show(console, report)
        console.print(f"written to {path}", style="dim")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_COLUMNS)


def main() -> None:
    """Parse, measure, print tables and write JSON."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--share", type=float, default=1.0, help="length of each measurement; 0.3 is a quick look"
    )
    parser.add_argument("--output", type=Path, default=Path("bench-results"))
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(arguments.sections, arguments.rounds, arguments.share, arguments.output, _console()))


if __name__ == "__main__":
    main()
