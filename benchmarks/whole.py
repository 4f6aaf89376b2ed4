"""A whole service whose Node host talks to the benchmark's simulator. Options: `{"state_dir", "conninfo", "host",
"pair", "http"}`: the environment of the host, the companies to pair, and whether the HTTP API is on.

Tells `{"qr", "company"}`, `{"open", "at"}` as it happens. Invariant: it ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from pydantic import SecretStr

from benchmarks.child import tell, told_options
from standfast.authstate.company import company_id
from standfast.service.service import Service, ServiceOptions
from standfast.sessions.events import Event
from standfast.sessions.session import Pairing
from standfast.settings import Settings


def _heard(event: Event) -> None:
    if event.kind == "qr":
        tell({"qr": event.data["qr"], "company": event.company})
    elif event.kind == "state" and event.data["state"] == "open":
        tell({"open": event.company, "at": time.time()})


async def serve(options: dict[str, Any]) -> None:
    """Run until told to end."""
    settings = Settings(
        state_dir=Path(options["state_dir"]),
        database_url=SecretStr(options["conninfo"]),
        log_level="error",
        http=options["http"],
        http_port=0,
    )
    service = Service(settings, ServiceOptions(host_environment=options["host"]))
    service.bus.subscribe(_heard)
    async with service:
        for company in options["pair"]:
            await service.pool.pair(company_id(company), Pairing("qr"))
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve(told_options()))
