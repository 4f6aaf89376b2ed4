"""Prometheus' own checker. CI always has it; elsewhere tests that need it are skipped where it is not installed."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest

TIMEOUT_S = 30


@functools.cache
def promtool() -> str:
    """Its path."""
    command = ["sh", "scripts/find_promtool.sh"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if found.returncode:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(found.stderr.strip())
    return found.stdout.strip()


def check(*arguments: str, cwd: Path | None = None, stdin: bytes | None = None) -> None:
    """Fails with what promtool says."""
    done = subprocess.run(
        [promtool(), *arguments],
        cwd=cwd,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
