"""Keys typed at a terminal while something is drawn on it.

Invariant: the terminal is given back as it was, however the drawing ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator

_READ_BYTES = 64


@contextlib.contextmanager
def keys(typed: Callable[[str], None]) -> Iterator[None]:
    """Call `typed` with each key, in lower case; they are read one by one and not shown meanwhile. Where stdin is no
    terminal none comes."""
    if not sys.stdin.isatty():
        yield
        return
    fd, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(fd)

    def read() -> None:
        given = os.read(fd, _READ_BYTES)
        for key in given.decode(errors="ignore").lower():
            typed(key)
        if not given:
            loop.remove_reader(fd)

    tty.setcbreak(fd)
    loop.add_reader(fd, read)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
