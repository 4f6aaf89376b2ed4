"""The other end of `programs.Program`: a Python program's options, and the talk with who started it.

Invariant: options come by standard input, because they may hold a password, which arguments would show.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from standfast.logs import configure_logging


def told_options() -> dict[str, Any]:
    """The first line. Call it before there is an event loop. What is logged goes to stderr from then on."""
    configure_logging("error")
    options: dict[str, Any] = json.loads(sys.stdin.readline())
    return options


def tell(document: dict[str, Any]) -> None:
    """One JSON line to who started this program."""
    print(json.dumps(document), flush=True)


async def pause() -> bool:
    """Tell that it is ready and wait until told to go on; False where it is to end."""
    tell({"ready": True})
    return bool(await asyncio.to_thread(sys.stdin.readline))
