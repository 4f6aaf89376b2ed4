"""A process that reports alerts to a channel that hangs, and waits to be killed. Arguments: state directory, URL."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from standfast.alert import Alert
from tests.alerting import QUICK, HttpChannel, alerting_of

LIFETIME_S = 30.0


async def main(state_dir: Path, url: str) -> None:
    alerting, _ = alerting_of(state_dir, HttpChannel(url), options=QUICK)
    async with alerting.open():
        alerting.take(Alert("outage_began", "error", "it is away", {"component": "vault"}, lasts=True))
        alerting.take(Alert("session_deaf", "warning", "acme was deaf", {"company_id": "acme"}))
        alerting._store.when_written(lambda: print("reported", flush=True))  # noqa: T201
        await asyncio.sleep(LIFETIME_S)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
