"""A slice of the chaos runs against the vault, and the proof that they can fail: each known defect is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.mutations import MUTATIONS

ROOT = Path(__file__).parents[2]
SEEDS = range(1, 11)
SEEDS_TO_FIND = 25
_TIMEOUT_S = 150
# One node writes while it is stopped short of delivering; another takes over; the first one wakes.
_AWAKENING = """\
seed=1 nodes=a,b companies=one durability=local compact_bytes=8388608
start a
start b
open a one
write a one 3
pause a
expire a
open b one
resume a
rest 60
"""


def run_chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )


@pytest.mark.slow
@pytest.mark.timeout(_TIMEOUT_S + 10)
def test_nothing_acknowledged_is_lost_under_random_faults() -> None:
    """Seeded faults on real processes: what is acknowledged is read back, and PostgreSQL gets it in order, once."""
    ended = run_chaos("--seed", str(SEEDS.start), "--runs", str(len(SEEDS)))
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert f"{len(SEEDS)} runs" in ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(_TIMEOUT_S + 10)
@pytest.mark.parametrize("mutation", sorted(set(MUTATIONS) - {"epoch-guard-off"}))
def test_a_defect_is_found(mutation: str) -> None:
    """With one protection of the vault's switched off, a few seeds suffice to see a promise broken."""
    ended = run_chaos("--seed", "1", "--runs", str(SEEDS_TO_FIND), "--mutation", mutation)
    assert ended.returncode == 1, f"{mutation} was not found: {ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    assert "VIOLATION" in ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(_TIMEOUT_S + 10)
def test_the_epoch_guard_is_what_keeps_a_former_owner_out(tmp_path: Path) -> None:
    """The same schedule, over and over: with the guard nothing is wrong, without it a former owner writes."""
    schedule = tmp_path / "awakening.txt"
    schedule.write_text(_AWAKENING)
    guarded = run_chaos("--schedule", str(schedule), "--runs", "4")
    assert guarded.returncode == 0, guarded.stdout[-6000:]
    unguarded = run_chaos("--schedule", str(schedule), "--runs", "40", "--mutation", "epoch-guard-off")
    assert unguarded.returncode == 1, unguarded.stdout[-2000:]
    assert "write under an old epoch" in unguarded.stdout
