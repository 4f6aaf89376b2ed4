"""Prometheus' own checker. `.ci/run` fetches it; tests that need it are skipped, and say so, where it cannot be had."""

from __future__ import annotations

import functools
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
        pytest.skip(found.stderr.strip())
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
