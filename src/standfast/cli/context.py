"""What every command needs: the settings of this invocation, and a loop to run in.

Invariant: settings are loaded only by commands that use them, so `--help` works with broken ones; SIGTERM ends
a command as Ctrl-C does, after it has returned its resources.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from standfast.settings import Settings

T = TypeVar("T")


class Terminated(Exception):
    """SIGTERM came while a command ran; its resources have been returned."""


def current_settings() -> Settings:
    """The settings in force; logging is set up by them. Raises `SettingsError`."""
    from standfast.logs import configure_logging
    from standfast.settings import load_settings

    settings = load_settings()
    configure_logging(settings.log_level)
    return settings


def configure_early() -> None:
    """Logging until the settings are known: by STANDFAST_LOG of the environment."""
    from standfast.logs import LEVELS, configure_logging

    level = os.environ.get("STANDFAST_LOG", "")
    configure_logging(level if level in LEVELS else "info")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end; SIGINT and SIGTERM cancel it and are raised once it has returned its resources."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_until_terminated(work))


async def _until_terminated(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if terminated:
            raise Terminated from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
