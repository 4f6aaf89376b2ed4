"""The units of systemd and the lines of cron that are shipped."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from standfast.settings.cron import Cron, zone_of

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVICES = sorted(DEPLOY.glob("systemd/*.service"))
_COMMAND = re.compile(r"standfast ((?:[a-z-]+ ?)+(?:--[a-z-]+)?)$", re.MULTILINE)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
def test_systemd_takes_the_units() -> None:
    """systemd finds nothing to say about any of them, nor about their times."""
    units = [str(unit) for unit in sorted(DEPLOY.glob("systemd/*"))]
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=30
    )
    ours = [line for line in found.stderr.splitlines() if "standfast" in line]
    assert (found.returncode, ours) == (0, [])


def test_each_timer_has_its_service_and_both_files_know_the_same_commands() -> None:
    """A timer without a service runs nothing; cron runs just what systemd does."""
    assert [unit.stem for unit in SERVICES] == [unit.stem for unit in sorted(DEPLOY.glob("systemd/*.timer"))]
    by_systemd = {found for unit in SERVICES for found in _COMMAND.findall(unit.read_text())}
    assert by_systemd == set(_COMMAND.findall((DEPLOY / "cron/standfast.cron").read_text()))
    assert len(by_systemd) == len(SERVICES)


def test_cron_lines_have_times() -> None:
    """Each line begins with five fields that mean a time."""
    lines = (DEPLOY / "cron/standfast.cron").read_text().splitlines()
    times = [" ".join(line.split()[:5]) for line in lines if line[:1].isdigit()]
    assert len(times) == len(SERVICES)
    for time in times:
        Cron(time, zone_of("UTC"))
