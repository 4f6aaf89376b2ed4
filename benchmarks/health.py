"""Section `health`: what it costs to watch. Each part is a module of its own with `measure` and `show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from benchmarks import health_command, health_look, health_overhead, key_census, scraping
from benchmarks.bench import Bench

PARTS = {
    "overhead": health_overhead,
    "command": health_command,
    "keys": key_census,
    "scraping": scraping,
    "look": health_look,
}


async def measure(bench: Bench) -> dict[str, Any]:
    return {name: await part.measure(bench) for name, part in PARTS.items()}


def show(console: Console, result: Mapping[str, Any]) -> None:
    for name, part in PARTS.items():
        part.show(console, result[name])
