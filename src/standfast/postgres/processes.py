"""Starting, finding and ending the processes of the embedded server.

Invariant: every wait for a process ends by its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from standfast.postgres.binaries import launch_command, launch_environment

_POLL_S = 0.02


def spawn(program: Path, *args: str, output: int) -> subprocess.Popen[bytes]:
    """Start one of the server's programs; what it says goes to the descriptor `output`."""
    return subprocess.Popen(
        launch_command(program, *args),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=launch_environment(),
        # A Ctrl-C in the terminal is for our process, which then stops the server in its order.
        start_new_session=True,
    )


async def exited(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Whether `process` ended within `limit_s`."""
    deadline = time.monotonic() + limit_s
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def working_in(directory: Path) -> list[psutil.Process]:
    """Every server process that works in `directory`: a postmaster, and backends that one may have left."""
    return list(_working_in(str(directory.resolve())))


async def end(processes: Sequence[psutil.Process], steps: Sequence[tuple[signal.Signals, float]]) -> None:
    """Send each signal in turn to those that still run, giving them its time in seconds to end."""
    for number, limit_s in steps:
        living = [process for process in processes if _runs(process)]
        for process in living:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        deadline = time.monotonic() + limit_s
        while any(map(_runs, living)) and time.monotonic() < deadline:  # noqa: ASYNC110  # they are not our children
            await asyncio.sleep(_POLL_S)


def _working_in(cwd: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("postgres") and process.cwd() == cwd:
                yield process


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
