"""A process that writes to the vault's file is killed at any point: what it was told is durable is there."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.vault.storage import commits, files, writing
from standfast.vault.storage.damage import Damage
from standfast.vault.storage.replica import Replica
from tests.vault_files import ACME, BOLT, batch, check_holds, check_journal, enrolled, opened

ROUNDS = 4
COMPANIES = (ACME, BOLT)


async def _write(vault_file: Replica, company: Company, in_flight: int) -> None:
    """Append without end, `in_flight` at a time, and say which sequence was acknowledged last."""
    record = vault_file.record(company)
    assert record is not None
    sequence = record.sequence
    while True:
        ahead = [
            vault_file.append(record.number, sequence + n, batch(sequence + n)) for n in range(1, in_flight)
        ]
        await asyncio.gather(*ahead)
        sequence += in_flight - 1
        os.write(1, f"{company} {sequence}\n".encode())
        if sequence % 3 == 0:
            vault_file.applied(record.number, sequence - 5)


async def _writer(directory: Path, in_threads: bool) -> None:
    writing.TICK_S = 0.005
    files.CHECKPOINT_BYTES, files.LOG_BYTES = 64 * 1024, 256 * 1024
    if in_threads:
        commits.SLOW_S = -1.0
    vault_file = opened(directory)
    for company in COMPANIES:
        if vault_file.record(company) is None:
            await enrolled(vault_file, company)
    os.write(1, b"ready 0\n")
    await asyncio.gather(_write(vault_file, ACME, 2), _write(vault_file, BOLT, 6))


def _killed_after(directory: Path, moment_s: float, in_threads: bool) -> dict[str, int]:
    """Run a writer for that long and kill it; the last sequence of each company that it was told is durable."""
    command = [
        sys.executable,
        "-m",
        "tests.integration.test_vault_file_kill",
        str(directory),
        str(in_threads),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready 0\n"
        time.sleep(moment_s)
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().decode()
        writer.wait(timeout=10)
    # The last line may have been cut off.
    lines = [line.split() for line in told[: told.rfind("\n") + 1].splitlines()]
    return {company: int(sequence) for company, sequence in lines}


@pytest.mark.parametrize("in_threads", [False, True], ids=["on the loop", "in a thread"])
async def test_a_kill_loses_nothing_acknowledged_and_leaves_nothing_half_done(
    tmp_path: Path, in_threads: bool
) -> None:
    """At random moments, again and again on the same file: in commits, while settling, trimming, checkpointing."""
    chance = random.Random()
    damages: list[Damage] = []
    reached = dict.fromkeys(COMPANIES, 0)
    for _ in range(ROUNDS):
        moment_s = chance.uniform(0.02, 0.25)
        told = await asyncio.to_thread(_killed_after, tmp_path, moment_s, in_threads)
        vault_file = opened(tmp_path, on_damage=damages.append)
        for company in COMPANIES:
            record = vault_file.record(company)
            assert record is not None
            assert record.sequence >= told.get(company, 0) >= 0
            assert record.sequence >= reached[company]
            reached[company] = record.sequence
            check_holds(vault_file, company, record.sequence)
            check_journal(vault_file, company)
        await vault_file.close()
        assert damages == []
    assert min(reached.values()) > 5


if __name__ == "__main__":
    asyncio.run(_writer(Path(sys.argv[1]), sys.argv[2] == "True"))
