"""The service that a drill rehearses on, as a process of its own: `python -m standfast.drill.child`.

It is what `standfast up` runs without a terminal, but that its sessions connect to the drill's simulator, whose address
is the first argument. Invariant: it ends in order when its standard input does, however the drill ended.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from standfast.errors import StandfastError
from standfast.logs import configure_logging
from standfast.service.service import Service, ServiceOptions
from standfast.settings import load_settings


async def run(host_environment: dict[str, str]) -> None:
    """Until the drill ends, or SIGTERM."""
    settings = load_settings()
    configure_logging(settings.log_level)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    parent = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(parent), sys.stdin)
    watching = asyncio.create_task(_until_end_of(parent, ended))
    async with Service(settings, ServiceOptions(host_environment=host_environment)):
        await ended.wait()
    watching.cancel()


async def _until_end_of(parent: asyncio.StreamReader, ended: asyncio.Event) -> None:
    await parent.read()
    ended.set()


def main() -> None:
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(json.loads(sys.argv[1])))
    except StandfastError as error:
        sys.exit(f"error: {error.message}\nnext: {error.next_step}")


if __name__ == "__main__":
    main()
