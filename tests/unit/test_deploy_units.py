"""The units of systemd and the lines of cron that are shipped."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from standfast.cli.commands import COMMANDS
from standfast.errors import DatabaseRejected, NodeError, SettingsError, UsageError
from standfast.settings.cron import Cron, zone_of

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVICE = DEPLOY / "systemd/standfast.service"
JOBS = sorted(DEPLOY.glob("systemd/standfast-*.service"))
EXPOSURE_LIMIT = 2.0
_COMMAND = re.compile(r"standfast ((?:[a-z-]+ ?)+(?:--[a-z-]+)?)$", re.MULTILINE)


has_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not on this machine"
)


@has_systemd
def test_systemd_takes_the_units() -> None:
    """systemd finds nothing to say about any of them, nor about their times."""
    units = [str(unit) for unit in sorted(DEPLOY.glob("systemd/*"))]
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=30
    )
    ours = [line for line in found.stderr.splitlines() if "standfast" in line]
    assert (found.returncode, ours) == (0, [])


@has_systemd
def test_the_service_is_closed_off() -> None:
    """systemd's own rating of what the service may do stays low."""
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(SERVICE)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    rating = re.search(r"exposure level for standfast\.service: ([\d.]+)", found.stdout)
    assert rating, found.stderr
    assert float(rating[1]) <= EXPOSURE_LIMIT


def test_what_a_restart_cannot_mend_is_not_restarted() -> None:
    """The exit codes that end it for good are those of arguments, settings, a refusing database and Node.js."""
    lasting = (UsageError, SettingsError, DatabaseRejected, NodeError)
    (codes,) = re.findall(r"^RestartPreventExitStatus=(.*)$", SERVICE.read_text(), re.MULTILINE)
    assert [int(code) for code in codes.split()] == sorted(error.exit_code for error in lasting)


def test_service_and_jobs_have_one_state_directory() -> None:
    """A job that looked elsewhere would find no service and no database."""
    places = {
        re.findall(r"^Environment=STANDFAST_STATE_DIR=(.*)$", unit.read_text(), re.MULTILINE)[0]
        for unit in (SERVICE, *JOBS)
    }
    cron = re.findall(
        r"^STANDFAST_STATE_DIR=(.*)$", (DEPLOY / "cron/standfast.cron").read_text(), re.MULTILINE
    )
    assert places == set(cron)


def test_each_timer_has_its_service_and_both_files_know_the_same_commands() -> None:
    """A timer without a service runs nothing; cron runs just what systemd does."""
    assert [unit.stem for unit in JOBS] == [unit.stem for unit in sorted(DEPLOY.glob("systemd/*.timer"))]
    by_systemd = {found for unit in JOBS for found in _COMMAND.findall(unit.read_text())}
    assert {command.split()[0] for command in by_systemd} <= {listed.name for listed in COMMANDS}
    assert by_systemd == set(_COMMAND.findall((DEPLOY / "cron/standfast.cron").read_text()))
    assert len(by_systemd) == len(JOBS)


def test_cron_lines_have_times() -> None:
    """Each line begins with five fields that mean a time."""
    lines = (DEPLOY / "cron/standfast.cron").read_text().splitlines()
    times = [" ".join(line.split()[:5]) for line in lines if line[:1].isdigit()]
    assert len(times) == len(JOBS)
    for time in times:
        Cron(time, zone_of("UTC"))
