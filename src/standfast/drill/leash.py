"""Ends what a drill leaves running: run as `python -I leash.py DIRECTORY`.

It waits for its standard input to end, as it does with the drill, whatever ended that; then it kills every process that
works below DIRECTORY, which is the drill's own. Invariant: nothing outside of DIRECTORY is touched.
It imports nothing of Standfast, so that it starts quickly.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import psutil

PASSES = 3  # what is about to start another process may do so once more


def main(directory: str) -> None:
    sys.stdin.buffer.read()
    for _ in range(PASSES):
        found = list(working_below(directory))
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=2)


def working_below(directory: str) -> Iterator[psutil.Process]:
    """Processes whose working directory, arguments or environment lie there."""
    inside = directory.rstrip("/") + "/"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            told = [process.cwd(), *process.cmdline(), *process.environ().values()]
            if any(text.startswith(inside) or f"{text}/" == inside for text in told):
                yield process


if __name__ == "__main__":
    main(sys.argv[1])
