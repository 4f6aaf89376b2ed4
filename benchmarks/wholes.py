"""Whole services in processes of their own (`whole.py`), and their companies paired with the benchmark's simulator."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.programs import Program
from standfast.postgres.options import DatabaseOptions

OPEN_TIMEOUT_S = 60.0


def whole(
    bench: Bench, state_dir: Path, options: DatabaseOptions, pair: Collection[str] = (), http: str = "off"
) -> Program:
    """A service whose host finds the simulator; it begins to pair those companies at once."""
    return Program.python(
        "whole",
        {
            "state_dir": str(state_dir),
            "conninfo": options.to_conninfo(),
            "host": bench.simulator.host_environment(),
            "pair": list(pair),
            "http": http,
        },
    )


async def pair_all(bench: Bench, program: Program, phones: Mapping[str, str]) -> None:
    """Scan what the program shows until all its companies are open."""
    waiting, scanned = set(phones), set[str]()
    while waiting:
        told = await program.told(OPEN_TIMEOUT_S)
        waiting.discard(told.get("open", ""))
        if "qr" in told and told["company"] not in scanned:
            scanned.add(told["company"])
            phone = phones[told["company"]]
            await bench.simulator.ask("POST", "/scan", {"qr": told["qr"], "phone": phone})
