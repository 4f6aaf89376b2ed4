"""The demo: two made-up companies that the simulator's phone pairs, and that then chat.

Invariant: it only ever runs against the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from standfast.authstate.company import company_id
from standfast.errors import StandfastError
from standfast.messaging.messenger import Messenger
from standfast.service.simulator import Simulator
from standfast.sessions.events import Event, EventBus
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Pairing, State

log = structlog.get_logger(__name__)
# Made-up numbers of an unassigned range; the simulator accepts any.
PHONES = {"demo-alpha": "79990000001", "demo-bravo": "79990000002"}
LINES = (
    "Good morning! Is the order on its way?",
    "It left the warehouse an hour ago.",
    "Great. Same address as last time?",
    "Yes, the courier calls before he comes.",
    "Could you add one more box?",
    "Done: three boxes in all.",
    "Thank you. And the invoice?",
    "It is in your inbox already.",
)


class Demo:
    """Pairs what is not paired and keeps both talking, one message every `interval_s`."""

    def __init__(
        self,
        pool: SessionPool,
        messenger: Messenger,
        bus: EventBus,
        simulator: Simulator,
        interval_s: float = 0.5,
    ) -> None:
        self._pool = pool
        self._messenger = messenger
        self._bus = bus
        self._simulator = simulator
        self._interval_s = interval_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        """Begin; pairing and chat go on in the background."""
        self._unsubscribe = self._bus.subscribe(self._heard)
        for company in PHONES:
            session = self._pool.session(company_id(company))
            if session is None or not session.wanted:
                await self._pool.pair(company, Pairing("qr"))
        self._spawn(self._chat())

    async def stop(self) -> None:
        """End the chat; the sessions stay as they are."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _heard(self, event: Event) -> None:
        if event.kind == "qr" and event.company in PHONES:
            self._spawn(self._scan(event.company, str(event.data["qr"])))

    async def _scan(self, company: str, qr: str) -> None:
        # What a person does: takes the phone and points it at the screen.
        await asyncio.sleep(self._interval_s)
        try:
            await self._simulator.ask("POST", "/scan", {"qr": qr, "phone": PHONES[company]})
        except StandfastError as error:
            log.warning("the simulator's phone could not scan", company=company, reason=error.message)

    async def _chat(self) -> None:
        companies = list(PHONES)
        turn = 0
        while True:
            await asyncio.sleep(self._interval_s)
            sender, receiver = companies[turn % 2], companies[1 - turn % 2]
            sessions = [self._pool.session(company_id(company)) for company in companies]
            if not all(session is not None and session.state is State.OPEN for session in sessions):
                continue
            with contextlib.suppress(StandfastError):
                text = LINES[turn % len(LINES)]
                await self._messenger.send(sender, f"+{PHONES[receiver]}", {"type": "text", "text": text})
                turn += 1

    def _spawn(self, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
