"""A bot of somebody's own on real Baileys (bots/bot.mjs), driven line by line.

Invariant: it connects to the simulator and nowhere else, and ends with the test.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

from standfast.node import node_binary
from standfast.service.simulator import Simulator
from tests.e2e.conftest import until
from tests.e2e.processes import Home, Process

_BOTS = Path(__file__).parent / "bots"


class Bot:
    """`Bot(home, simulator, "files", DIR)`, `Bot(…, "standfast", COMPANY, "pair")` or `Bot(…, "memory")`."""

    def __init__(self, home: Home, simulator: Simulator, *store: str | Path) -> None:
        argv = [node_binary(), "--import", _BOTS / "simulated-whatsapp.mjs", _BOTS / "bot.mjs", *store]
        self._simulator = simulator
        self.process: Process = home.run(argv, simulator.host_environment(), stdin=subprocess.PIPE)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What it told so far of one kind."""
        lines = [line for line in self.process.text().splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def texts(self) -> list[str]:
        """Every text that it received, in order, doubles included."""
        return [event["text"] for event in self.events("message")]

    async def told(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The `count`th event of one kind, once it has come."""

        def done() -> bool:
            return len(self.events(kind)) >= count or self.process.popen.poll() is not None

        await until(done, lambda: f"{kind} told by the bot: {self.process.text()[-2000:]}")
        assert len(self.events(kind)) >= count, self.process.text()[-2000:]
        return self.events(kind)[count - 1]

    async def received(self, *texts: str) -> None:
        """Wait until all of `texts` have come."""
        await until(
            lambda: set(texts) <= set(self.texts()), lambda: f"the bot has {self.process.text()[-2000:]}"
        )

    async def pair(self, phone: str) -> None:
        """Scan its QR and wait until it is open."""
        qr = (await self.told("qr"))["qr"]
        await self._simulator.ask("POST", "/scan", {"qr": qr, "phone": phone})
        await self.told("open")

    async def send(self, phone: str, text: str) -> None:
        """Send a text; returns once the bot's Baileys has sent it."""
        count = len(self.events("sent"))
        self._tell({"send": {"to": f"{phone}@s.whatsapp.net", "text": text}})
        await self.told("sent", count + 1)

    async def dump(self, path: Path) -> Any:
        """The auth state of a bot that keeps it in memory."""
        self._tell({"dump": str(path)})
        await self.told("dumped")
        return json.loads(await asyncio.to_thread(path.read_text))

    async def end(self) -> None:
        """End it in order."""
        self._tell({"end": True})
        assert await self.process.ended() == 0

    def _tell(self, command: dict[str, Any]) -> None:
        stdin = self.process.popen.stdin
        assert stdin is not None
        stdin.write(json.dumps(command).encode() + b"\n")
        stdin.flush()
