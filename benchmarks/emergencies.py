"""Section `emergency`: over to files with one company and with many, beside a plain program that writes the same files.

The plain program has all contents in memory, writes them one after the other, and makes them durable by one call at the
end. `to-files` takes its time from the first step to the switch: look, write, read back, rename, one durable write.

Nothing is deleted between the runs: ext4 does not give away again at once what was just deleted, and looks through all
of it for each new file (six times as slow here, for minutes), which no operator in an emergency has.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.stored import COMPANIES, KEYS, stored
from standfast.alert import LoggedAlerts
from standfast.authstate.company import Company
from standfast.jobs.emergency.folders import new_switch
from standfast.jobs.emergency.to_files import FilesReport, ToFiles, Wanted
from standfast.jobs.progress import Silent
from standfast.service.service import Service, ServiceOptions
from standfast.service.to_files import files_node
from standfast.settings import Settings

AIM_ONE_S, AIM_MANY_S, AIM_RATIO = 1.0, 60.0, 0.7
ROUNDS = 2  # all that they write stays on the disk until the end: 6.6 GB a run with 1,000 companies
_OPENINGS_AT_ONCE = 20


async def measure(bench: Bench) -> dict[str, Any]:
    bench.rounds = min(bench.rounds, ROUNDS)
    many = bench.counted(COMPANIES)
    options = await stored(bench, "emergency", many)
    settings = Settings(
        state_dir=bench.new_directory("e"),
        database_url=SecretStr(options.to_conninfo()),
        http="off",
    )
    companies = [Company(f"stored-{number}") for number in range(many)]
    result: dict[str, Any] = {"companies": many, "keys_each": KEYS}
    async with Service(settings, ServiceOptions(gateway_only=True)) as service:
        await _opened(service, companies)
        bench.console.print(f"{many} companies opened", style="dim")
        await _over(service, settings, companies[:1])  # warms up
        content = _content(await _put_away(bench, service) / companies[0])
        for name, named in {"one": companies[:1], "many": companies}.items():
            runs: dict[str, list[dict[str, float]]] = {"plain": [], "to_files": []}
            steps: dict[str, list[float]] = {}
            for kind in bench.alternating(runs):
                if kind == "plain":
                    runs[kind].append({"s": await asyncio.to_thread(_plainly, bench, named, content)})
                    continue
                report, took_s = await _over(service, settings, named)
                runs[kind].append({"s": took_s})
                for step in report.steps:
                    steps.setdefault(step.step, []).append(step.seconds)
                await _put_away(bench, service)
            result[name] = {
                **{kind: figures.summary(one, ("s",)) for kind, one in runs.items()},
                "steps": {
                    step: figures.significant(sorted(one)[len(one) // 2]) for step, one in steps.items()
                },
                "ratio": figures.ratio(
                    figures.median(runs["plain"], "s"), figures.median(runs["to_files"], "s")
                ),
            }
    return result


async def _opened(service: Service, companies: list[Company]) -> None:
    turns = asyncio.Semaphore(_OPENINGS_AT_ONCE)

    async def one(company: Company) -> None:
        async with turns:
            await service.vault.open(company)

    await asyncio.gather(*map(one, companies))


async def _over(service: Service, settings: Settings, companies: list[Company]) -> tuple[FilesReport, float]:
    began = time.perf_counter()
    async with files_node(settings, LoggedAlerts()) as (node, is_service):
        wanted = Wanted(str(settings.emergency_directory), only=[str(one) for one in companies])
        job = ToFiles(node, wanted, Silent(), new_switch, is_service=is_service)
        report = await job.run(await job.look())
    return report, time.perf_counter() - began


async def _put_away(bench: Bench, service: Service) -> Path:
    """Back from files, as if there never had been any; where they are now."""
    await service.files.leave()
    return service.settings.emergency_directory.rename(bench.new_directory("over") / "files")


def _content(folder: Path) -> dict[str, bytes]:
    """What one company's folder holds; all are of the same size."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _plainly(bench: Bench, companies: list[Company], content: Mapping[str, bytes]) -> float:
    root = bench.new_directory("plain")
    began = time.perf_counter()
    for company in companies:
        folder = root / company
        folder.mkdir()
        for name, value in content.items():
            (folder / name).write_bytes(value)
    os.sync()
    return time.perf_counter() - began


def show(console: Console, result: Mapping[str, Any]) -> None:
    rows = []
    for name, count in (("one", 1), ("many", result["companies"])):
        one = result[name]
        rows.append([f"{count:,}", one["to_files"]["s"], one["plain"]["s"], one["ratio"]])
    figures.show(
        console,
        f"Companies of {result['keys_each']:,} keys over to files",
        ("companies", "to-files s", "plain files s", "of plain"),
        rows,
    )
    steps = result["many"]["steps"]
    figures.show(console, "Steps with many", ("step", "s"), [[step, took] for step, took in steps.items()])
    scale = COMPANIES / result["companies"]
    aims = {
        f"one company, to {AIM_ONE_S:g} s": (1.0, figures.ratio(AIM_ONE_S, result["one"]["to_files"]["s"])),
        f"{COMPANIES:,} companies, to {AIM_MANY_S:g} s": (
            1.0,
            figures.ratio(AIM_MANY_S, result["many"]["to_files"]["s"] * scale),
        ),
        f"many, of plain file writing, at least {AIM_RATIO:g}": (AIM_RATIO, result["many"]["ratio"]),
    }
    figures.show_aims(console, aims)
