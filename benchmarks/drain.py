"""Journals what companies write while PostgreSQL is away, then lets it be carried there. Options: `{"trace",
"directory", "conninfo", "prefix", "companies", "batches", "workload"}`; the workload is `chat` (a real trace's
writes, of which most are overtaken by later ones) or `uploads` (no key twice).

Invariant: PostgreSQL is away from `pause()` until it is told to go on a second time.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.child import pause, tell, told_options
from benchmarks.identity import PRE_KEY, made_up_creds
from benchmarks.trace import Set, Trace
from benchmarks.vaults import vault_on
from standfast.authstate.company import Company
from standfast.authstate.store import KeyBatch
from standfast.postgres.options import DatabaseOptions
from standfast.vault.outage import State
from standfast.vault.vault import Vault

_UPLOAD_KEYS = 100
_POLL_S = 0.002
_RECOVERY_TIMEOUT_S = 30.0


def _workload(options: dict[str, Any]) -> Iterator[KeyBatch]:
    if options["workload"] == "chat":
        trace = Trace.read(Path(options["trace"]))
        return itertools.cycle(one.batch for one in trace.operations if isinstance(one, Set))
    return (
        {"pre-key": {str(n * _UPLOAD_KEYS + key): PRE_KEY for key in range(_UPLOAD_KEYS)}}
        for n in itertools.count()
    )


async def _write(vault: Vault, company: Company, options: dict[str, Any]) -> int:
    keys = 0
    for batch in itertools.islice(_workload(options), options["batches"]):
        await vault.set_keys(company, batch)
        keys += sum(len(values) for values in batch.values())
    return keys


async def _carried(vault: Vault, journaled: int) -> dict[str, Any]:
    """From the moment that PostgreSQL was found again: until then, nothing can be carried."""
    carried = vault.replicator.carried
    await vault.outage.wait_for({State.RECOVERING, State.ONLINE}, _RECOVERY_TIMEOUT_S)
    began, before = time.perf_counter(), carried.keys
    while any(holding.pending for holding in vault.holdings()):  # noqa: ASYNC110 - none of them tells when
        await asyncio.sleep(_POLL_S)
    seconds = time.perf_counter() - began
    delivered = carried.keys - before
    return {
        "journaled_per_s": journaled / seconds,
        "delivered_per_s": delivered / seconds,
        "journaled": journaled,
        "delivered": delivered,
        "seconds": seconds,
    }


async def drain(options: dict[str, Any]) -> None:
    """Write, wait, and measure."""
    async with vault_on(Path(options["directory"]), DatabaseOptions(conninfo=options["conninfo"])) as vault:
        companies = [Company(f"{options['prefix']}-{number}") for number in range(options["companies"])]
        for number, company in enumerate(companies):
            await vault.open(company, pair=True)
            await vault.create_creds(company, made_up_creds(number))
        await pause()
        began = time.perf_counter()
        counts = await asyncio.gather(*(_write(vault, company, options) for company in companies))
        written_s = time.perf_counter() - began
        await pause()
        tell({**await _carried(vault, sum(counts)), "journaling_per_s": sum(counts) / written_s})


if __name__ == "__main__":
    uvloop.run(drain(told_options()))
