"""A service as a process of its own whose host connects to the simulator: settings come from the environment, the
simulator's address as JSON in the first argument."""

from __future__ import annotations

import asyncio
import json
import sys

from standfast.cli.context import current_settings
from standfast.service.service import Service, ServiceOptions
from tests.e2e.conftest import QUICK


async def run(host_environment: dict[str, str]) -> None:
    """Until the process is killed."""
    async with Service(current_settings(), ServiceOptions(host_environment=host_environment, backoff=QUICK)):
        print("running", flush=True)  # noqa: T201 - what the test waits for
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.argv[1])))
