"""A whole service whose sessions chat with each other in pairs. Options: `{"state_dir", "conninfo", "host", "admin",
"companies", "warm_up", "messages"}`; `companies` are `[company, phone]`, neighbours are a pair.

What arrived is answered as a program in this process would: it hears the message from the event bus, after it is on the
disk, and gives the answer to the outbox. Invariant: it ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvloop
from pydantic import SecretStr

from benchmarks.child import pause, tell, told_options
from standfast.service.service import Service, ServiceOptions
from standfast.sessions.events import Event
from standfast.sessions.session import Pairing
from standfast.settings import Settings

AT_ONCE = 8
OPEN_TIMEOUT_S = 60.0
CHAT_TIMEOUT_S = 200.0


class Conversations:
    """`companies` in pairs of neighbours; `messages` of each pair go to and fro."""

    def __init__(self, service: Service, phones: Mapping[str, str]) -> None:
        self._service = service
        companies = list(phones)
        self._pair_of = {company: index // 2 for index, company in enumerate(companies)}
        self._peer_of = {company: companies[index ^ 1] for index, company in enumerate(companies)}
        self._phones = phones
        self._left: dict[int, int] = {}
        self._under_way = 0
        self._through = asyncio.Event()
        self._sends: set[asyncio.Task[Any]] = set()

    async def run(self, messages: int) -> dict[str, float]:
        began = time.perf_counter()
        self._through.clear()
        self._left = dict.fromkeys(self._pair_of.values(), messages)
        self._under_way = len(self._left)
        for company in list(self._pair_of)[::2]:
            self._send(company)
        async with asyncio.timeout(CHAT_TIMEOUT_S):
            await self._through.wait()
        return {"messages": len(self._left) * messages, "seconds": time.perf_counter() - began}

    def take(self, event: Event) -> None:
        if event.kind != "message":
            return
        pair = self._pair_of[event.company]
        self._left[pair] -= 1
        if self._left[pair] > 0:
            self._send(event.company)
        elif self._left[pair] == 0:
            self._under_way -= 1
            if self._under_way == 0:
                self._through.set()

    def _send(self, company: str) -> None:
        text = f"message {self._left[self._pair_of[company]]}"
        to = f"+{self._phones[self._peer_of[company]]}"
        sending = self._service.messenger.send(company, to, {"type": "text", "text": text})
        task = asyncio.create_task(sending)
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)


class Pairer:
    """Pairs companies with the simulator, a few at once."""

    def __init__(self, service: Service, admin: str) -> None:
        self._service = service
        # The simulator ends connections that rest; a scan must not be given to one that is about to end.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._admin = httpx.AsyncClient(
            base_url=admin, timeout=OPEN_TIMEOUT_S, trust_env=False, limits=limits
        )
        self._opened: dict[str, asyncio.Event] = {}
        self._qrs: dict[str, asyncio.Future[str]] = {}

    def take(self, event: Event) -> None:
        if event.kind == "qr" and not self._qrs[event.company].done():
            self._qrs[event.company].set_result(event.data["qr"])
        elif event.kind == "state" and event.data["state"] == "open":
            self._opened[event.company].set()

    async def pair_all(self, phones: Mapping[str, str]) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(company: str, phone: str) -> None:
            async with slots:
                await self._pair(company, phone)

        async with self._admin:
            await asyncio.gather(*(one(company, phone) for company, phone in phones.items()))

    async def _pair(self, company: str, phone: str) -> None:
        self._opened[company] = asyncio.Event()
        self._qrs[company] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await self._service.pool.pair(company, Pairing("qr"))
            scan = {"qr": await self._qrs[company], "phone": phone}
            (await self._admin.post("/scan", json=scan)).raise_for_status()
            await self._opened[company].wait()


async def serve(options: dict[str, Any]) -> None:
    """Pair, warm up, and converse when told to."""
    settings = Settings(
        state_dir=Path(options["state_dir"]),
        database_url=SecretStr(options["conninfo"]),
        log_level="error",
        http="off",
        new_chats_per_minute="0",
    )
    service = Service(settings, ServiceOptions(host_environment=options["host"]))
    companies: Sequence[tuple[str, str]] = options["companies"]
    phones = dict(companies)
    async with service:
        pairer = Pairer(service, options["admin"])
        unsubscribe = service.bus.subscribe(pairer.take)
        await pairer.pair_all(phones)
        unsubscribe()
        conversations = Conversations(service, phones)
        service.bus.subscribe(conversations.take)
        await conversations.run(options["warm_up"])
        if await pause():
            tell(await conversations.run(options["messages"]))
            await pause()


if __name__ == "__main__":
    uvloop.run(serve(told_options()))
