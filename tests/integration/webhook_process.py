"""Webhooks as a process of its own, to be killed: `python -m tests.integration.webhook_process DIRECTORY URL COUNT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.receiver import Hooks


async def run(directory: Path, url: str, count: int) -> None:
    """Receive so many messages, and deliver them until the process is killed."""
    async with Hooks(directory) as hooks:
        await hooks.webhooks.add("bot", url)
        await asyncio.gather(*(hooks.message(str(n)) for n in range(count)))
        print("received", flush=True)  # noqa: T201 - what the test waits for
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
