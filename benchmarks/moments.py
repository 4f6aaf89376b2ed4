"""Section `pointintime`: one company's past state out of the change log of many, and what keeping that log costs.

The log is of two days: a snapshot of each company a day, and in every quarter of an hour a tenth of them write. Its
clock is moved on, not waited for. Then a vault carries writes to PostgreSQL at full speed, with such a log and without.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.identity import PRE_KEY, made_up_creds
from benchmarks.stored import COMPANIES, KEYS, stored
from benchmarks.vaults import vault_on
from standfast.alert import LoggedAlerts
from standfast.authstate.company import Company
from standfast.jobs.changelog.keeper import ChangeLogKeeper
from standfast.jobs.changelog.state import state_at
from standfast.settings import Settings
from standfast.vault.vault import Vault

AIM_S, AIM_COST = 5.0, 0.05
DAYS, STEPS_A_DAY, SHARE_WRITING, WRITES = 2, 96, 0.1, 5
STEP_S = 86_400.0 / STEPS_A_DAY
LOOKS = 20
CARRYING, BATCHES, KEYS_A_BATCH = 20, 200, 50
_POLL_S = 0.002
_OPENINGS_AT_ONCE = 20


@dataclass(slots=True)
class Clock:
    """The log's."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


async def measure(bench: Bench) -> dict[str, Any]:
    log = await _states(bench)
    runs: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    companies = [Company(f"carried-{number}") for number in range(CARRYING)]
    async with vault_on(bench.new_directory("carrying"), bench.server.options) as vault:
        for number, company in enumerate(companies):
            await vault.open(company, pair=True)
            await vault.create_creds(company, made_up_creds(number))
        for name in bench.alternating(runs):
            batches = bench.counted(BATCHES)
            log_of = (
                _logged(vault, bench.new_directory("log")) if name == "with" else contextlib.nullcontext()
            )
            used_s = time.process_time()
            async with log_of:
                took_s = await _carried(vault, companies, batches)
            keys = len(companies) * batches * KEYS_A_BATCH
            runs[name].append({"keys_per_s": keys / took_s, "cpu_s": time.process_time() - used_s})
    return {
        **log,
        "replication": {name: figures.summary(one, ("keys_per_s", "cpu_s")) for name, one in runs.items()},
    }


async def _carried(vault: Vault, companies: list[Company], batches: int) -> float:
    """From the first write until PostgreSQL has the last."""

    async def write(company: Company) -> None:
        for _ in range(batches):
            first = random.randrange(10**9)
            await vault.set_keys(company, {"pre-key": {str(first + n): PRE_KEY for n in range(KEYS_A_BATCH)}})

    began = time.perf_counter()
    await asyncio.gather(*(write(company) for company in companies))
    while any(holding.pending for holding in vault.holdings()):  # noqa: ASYNC110 - none of them tells when
        await asyncio.sleep(_POLL_S)
    return time.perf_counter() - began


@contextlib.asynccontextmanager
async def _logged(vault: Vault, directory: Path) -> AsyncIterator[None]:
    settings = Settings(state_dir=directory / "state", backup_root=directory / "log")
    keeper = ChangeLogKeeper(settings, vault.replica, LoggedAlerts(), "bench")
    keeper.attach()
    # What they hold already is written down before, as it is once a day.
    await keeper.tick(60.0, everything=True)
    running = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await keeper.close()


async def _states(bench: Bench) -> dict[str, Any]:
    companies = [Company(f"stored-{number}") for number in range(bench.counted(COMPANIES))]
    options = await stored(bench, "moments", len(companies))
    settings = Settings(
        state_dir=bench.new_directory("moments"),
        backup_root=bench.new_directory("log"),
        database_url=SecretStr(options.to_conninfo()),
    )
    clock = Clock()
    began_at = clock()
    async with vault_on(settings.state_dir / "vault", options) as vault:
        keeper = ChangeLogKeeper(settings, vault.replica, LoggedAlerts(), "bench", clock)
        keeper.attach()
        await _opened(vault, companies)
        bench.console.print(f"{len(companies)} companies opened; two days pass", style="dim")
        for _ in range(DAYS * STEPS_A_DAY):
            await _a_step(vault, keeper, companies)
            clock.ahead_s += STEP_S
        await keeper.close()
        ended_at = clock()
    took = await _looked(settings, companies, began_at + 86_400.0, ended_at)
    log_bytes = sum(path.stat().st_size for path in settings.backup_directory.rglob("*") if path.is_file())
    return {
        "companies": len(companies),
        "keys_each": KEYS,
        "segments": keeper.segments,
        "log_mb": figures.significant(log_bytes / 1e6),
        "state_at": {
            "p50_s": figures.significant(figures.percentile(took, 0.5)),
            "max_s": figures.significant(max(took)),
        },
    }


async def _opened(vault: Vault, companies: list[Company]) -> None:
    for begin in range(0, len(companies), _OPENINGS_AT_ONCE):
        chunk = companies[begin : begin + _OPENINGS_AT_ONCE]
        await asyncio.gather(*(vault.open(company) for company in chunk))


async def _a_step(vault: Vault, keeper: ChangeLogKeeper, companies: list[Company]) -> None:
    for company in random.sample(companies, max(1, round(len(companies) * SHARE_WRITING))):
        for number in range(WRITES):
            key_id = f"{random.randrange(10**9)}"
            await vault.set_keys(
                company, {"session": {f"moment-{number}": PRE_KEY}, "pre-key": {key_id: PRE_KEY}}
            )
    while True:
        await keeper.tick(60.0, everything=True)
        if not keeper.status()["snapshots_due"]:
            return


async def _looked(settings: Settings, companies: list[Company], since: float, until: float) -> list[float]:
    took = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        state = await state_at(settings, random.choice(companies), random.uniform(since, until))
        took.append(time.perf_counter() - began)
        assert state is not None, "the log has each company"
        assert state.key_count >= KEYS
    return took


def show(console: Console, result: Mapping[str, Any]) -> None:
    found, drains = result["state_at"], result["replication"]
    title = (
        f"One company out of {result['companies']:,} at any second of a day; "
        f"{result['segments']:,} segments, {result['log_mb']:,} MB"
    )
    figures.show(console, title, ("", "p50 s", "slowest s"), [["its state", found["p50_s"], found["max_s"]]])
    rows = [[f"{name} a change log", one["keys_per_s"], one["cpu_s"]] for name, one in drains.items()]
    figures.show(console, "Key changes carried to PostgreSQL", ("", "a second", "processor s a round"), rows)
    cost = 1 - figures.ratio(drains["with"]["keys_per_s"], drains["without"]["keys_per_s"])
    console.print(f"the log costs {cost * 100:.1f} % of replication")
    aims = {
        f"a past state, to {AIM_S:g} s": (1.0, figures.ratio(AIM_S, found["max_s"])),
        f"replication with a log, at least {1 - AIM_COST:g} of that without": (1 - AIM_COST, 1 - cost),
    }
    figures.show_aims(console, aims)
