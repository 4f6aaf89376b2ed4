"""Section `backup`: what a proven backup costs beside bare dumps of the same database, 1,000 companies × 1,650 keys.

Invariant: everything reads the same tables and writes to the same disk; a pipe counts as long as its slowest part.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.jobs import context_on
from benchmarks.stored import COMPANIES, KEYS, stored
from standfast.jobs.backup.catalogue import Catalogue
from standfast.jobs.backup.restore_test import restore_test
from standfast.jobs.backup.run import run_backup
from standfast.jobs.backup.validate import validate
from standfast.jobs.context import JobContext
from standfast.postgres.client_tools import find_client_tools
from standfast.postgres.options import DatabaseOptions

AIM_RATIO, AIM_VALIDATION, AIM_RESTORE_S = 1.15, 0.3, 180.0
OURS, BARE, GZIP = "standfast backup run", "pg_dump -Fc -Z0 | zstd -3", "pg_dump | gzip"
_TIMEOUT_S = 900.0


async def measure(bench: Bench) -> dict[str, Any]:
    companies = bench.counted(COMPANIES)
    options = await stored(bench, "backups", companies)
    root = bench.new_directory("backups")
    runs: dict[str, list[dict[str, float]]] = {OURS: [], BARE: [], GZIP: []}
    checked: list[dict[str, float]] = []
    async with context_on(bench, options, root) as context:
        for name in bench.alternating(runs):
            if name == OURS:
                shutil.rmtree(root)
                runs[name].append(await _ours(context, root))
                checked.append(await _validated(context, root))
            else:
                runs[name].append(await _piped(bench, options, name))
        restored = await _restored(context, root)
    return {
        "companies": companies,
        "keys": companies * KEYS,
        "dumps": {name: figures.summary(found, ("took_s", "mb")) for name, found in runs.items()},
        "validation": figures.summary(checked, ("took_s",)),
        "restore_test": restored,
    }


async def _ours(context: JobContext, root: Path) -> dict[str, float]:
    """Without the validation that follows a backup: that is measured apart."""
    took_s = await _timed(lambda: run_backup(context))
    return {"took_s": took_s, "mb": Catalogue(root).get("latest").content.stat().st_size / 1e6}


async def _validated(context: JobContext, root: Path) -> dict[str, float]:
    backup = Catalogue(root).get("latest")
    return {"took_s": await _timed(lambda: validate(context, backup))}


async def _restored(context: JobContext, root: Path) -> dict[str, Any]:
    """Without a login; steps in seconds."""
    found = await restore_test(context, Catalogue(root).get("latest"), None)
    assert found.rows > 0, found.message
    return {"rto_s": figures.significant(found.rto_s), "rows": found.rows, "steps": found.steps}


async def _piped(bench: Bench, options: DatabaseOptions, name: str) -> dict[str, float]:
    """What an operator's script would do."""
    tools = await asyncio.to_thread(find_client_tools, 18)
    target = bench.directory / "piped"
    form = "-Fc -Z0" if name == BARE else ""
    packer = "zstd -q -3" if name == BARE else "gzip"
    script = f'set -o pipefail; "$DUMP" {form} | {packer} > "$TARGET"'
    environment = {**os.environ, **_libpq(options), "DUMP": str(tools.pg_dump), "TARGET": str(target)}

    async def run() -> None:
        process = await asyncio.create_subprocess_exec("bash", "-c", script, env=environment)
        assert await asyncio.wait_for(process.wait(), _TIMEOUT_S) == 0, f"{name} failed"

    took_s = await _timed(run)
    mb = target.stat().st_size / 1e6
    target.unlink()
    return {"took_s": took_s, "mb": mb}


def _libpq(options: DatabaseOptions) -> dict[str, str]:
    given = {
        "PGHOST": options.host,
        "PGPORT": options.port,
        "PGUSER": options.user,
        "PGDATABASE": options.dbname,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    await work()
    return time.monotonic() - began


def show(console: Console, result: Mapping[str, Any]) -> None:
    dumps, validation, restored = result["dumps"], result["validation"], result["restore_test"]
    ours, bare, gzip = dumps[OURS], dumps[BARE], dumps[GZIP]
    rows = [
        [name, one["took_s"], one["mb"], _paired(one["runs"], bare["runs"])] for name, one in dumps.items()
    ]
    rows.append(["validation", validation["took_s"], None, _paired(validation["runs"], bare["runs"])])
    rows.append(["restore test, without login", restored["rto_s"], None, None])
    title = f"{result['companies']:,} companies, {result['keys']:,} keys"
    figures.show(console, title, ("", "s", "MB", "× bare, median of rounds"), rows)
    rounds = zip(ours["runs"], bare["runs"], strict=True)
    console.print("ours ÷ bare, round by round: " + ", ".join(f"{one / other:.2f}" for one, other in rounds))
    steps = ", ".join(f"{name} {took_s:.1f} s" for name, took_s in restored["steps"].items())
    console.print(f"the restore test's steps: {steps}")
    cost, check = _paired(ours["runs"], bare["runs"]), _paired(validation["runs"], ours["runs"])
    aims = {
        f"backup, to {AIM_RATIO} × bare": (1.0, figures.ratio(AIM_RATIO, cost)),
        "faster than pg_dump | gzip": (1.0, _paired(gzip["runs"], ours["runs"])),
        "smaller than pg_dump | gzip": (1.0, figures.ratio(gzip["mb"], ours["mb"])),
        f"validation, to {AIM_VALIDATION} × the backup": (1.0, figures.ratio(AIM_VALIDATION, check)),
        f"restore test, to {AIM_RESTORE_S:g} s": (1.0, figures.ratio(AIM_RESTORE_S, restored["rto_s"])),
    }
    figures.show_aims(console, aims)


def _paired(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median of each round's own ratio: what a round meets, both of it meet."""
    return figures.significant(
        statistics.median(one / other for one, other in zip(ones, others, strict=True)), 3
    )
