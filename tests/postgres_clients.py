"""PostgreSQL's client programs of older versions, which must not be run against our server."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

TIMEOUT_S = 30


@functools.cache
def client_programs(major: int) -> Path:
    """Their directory. `.ci/run` fetches them; tests that need them are skipped, and say so, where that cannot be."""
    command = ["sh", "scripts/find_client_tools.sh", str(major)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    return Path(found.stdout.strip())
