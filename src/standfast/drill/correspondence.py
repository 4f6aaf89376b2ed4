"""`Correspondence`: the messages of a drill, each counted at the other side.

Invariant: a message counts as received only where its receiver has it decrypted: a company hands it out as an event,
the simulator's contact has it in its list.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from standfast.drill.notebook import Notebook
from standfast.drill.waiting import until
from standfast.errors import StandfastError
from standfast.service.client import Client
from standfast.service.simulator import Simulator

ALPHA, BRAVO = "drill-alpha", "drill-bravo"
CONTACT = "contact"
COMPANIES = (ALPHA, BRAVO)
# Made-up numbers of an unassigned range; the simulator takes any.
PHONES = {ALPHA: "79990000001", BRAVO: "79990000002", CONTACT: "79990000011"}
ROUTES = ((ALPHA, CONTACT), (CONTACT, ALPHA), (ALPHA, BRAVO), (BRAVO, ALPHA))
ARRIVAL_TIMEOUT_S = 20.0
_LOOK_S = 0.05
_SEND_WAIT_S = 15.0


@dataclass(frozen=True, slots=True)
class Letter:
    """`at_s`: when it was handed over for sending."""

    sender: str
    receiver: str
    text: str
    at_s: float

    @property
    def route(self) -> str:
        return f"{self.sender} to {self.receiver}"


class Correspondence:
    """`async with correspondence.listening():` while messages are sent."""

    def __init__(self, client: Client, listener: Client, simulator: Simulator, notebook: Notebook) -> None:
        self._client = client
        self._listener = listener
        self._simulator = simulator
        self._notebook = notebook
        self._arrived: Counter[tuple[str, str]] = Counter()
        self.letters: list[Letter] = []
        self.refused: list[str] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Count what arrives."""
        tasks = [
            asyncio.create_task(self._listen_at_companies()),
            asyncio.create_task(self._listen_at_contact()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def round(self) -> list[Letter]:
        """One message on each route, one after the other."""
        return [await self.send(sender, receiver) for sender, receiver in ROUTES]

    async def send(self, sender: str, receiver: str) -> Letter:
        """Return once WhatsApp has it. Where that fails it stands in `refused`, and counts as lost."""
        letter = Letter(sender, receiver, f"drill message {len(self.letters) + 1}", self._notebook.now())
        self.letters.append(letter)
        self._notebook.moment("sent", letter.text, subject=letter.route)
        try:
            if sender == CONTACT:
                body = {"to": PHONES[receiver], "text": letter.text}
                await self._simulator.ask("POST", f"/contacts/{PHONES[sender]}/send", body)
            else:
                await self._client.send(sender, f"+{PHONES[receiver]}", letter.text, wait_s=_SEND_WAIT_S)
        except StandfastError as error:
            self.refused.append(f"{letter.route}: {error.message}")
            self._notebook.moment("lost", f"{letter.text} was refused: {error.message}", subject=letter.route)
        return letter

    def expect(self, sender: str, receiver: str, text: str) -> Letter:
        """A message that somebody else sends."""
        letter = Letter(sender, receiver, text, self._notebook.now())
        self.letters.append(letter)
        self._notebook.moment("sent", text, subject=letter.route)
        return letter

    async def arrival(self, letter: Letter, timeout_s: float = ARRIVAL_TIMEOUT_S) -> None:
        """Wait until it is at the other side."""

        async def look() -> bool:
            return self._arrived[letter.receiver, letter.text] > 0

        await until(look, f"{letter.text} ({letter.route}) arrived", timeout_s)

    async def arrivals(self) -> None:
        """Wait until everything is there, or nothing has come for a while; what is missing then is lost."""
        with contextlib.suppress(StandfastError):
            await until(self._all_arrived, "every message arrived", ARRIVAL_TIMEOUT_S)

    async def _all_arrived(self) -> bool:
        return not self.lost()

    def lost(self) -> list[Letter]:
        """What is not at the other side."""
        return [letter for letter in self.letters if not self._arrived[letter.receiver, letter.text]]

    def doubled(self) -> list[Letter]:
        """What came more than once."""
        return [letter for letter in self.letters if self._arrived[letter.receiver, letter.text] > 1]

    def _take(self, receiver: str, text: str | None) -> None:
        if text:
            self._arrived[receiver, text] += 1
            self._notebook.moment("received", text, subject=receiver)

    async def _listen_at_companies(self) -> None:
        after = 0
        while True:
            events = self._listener.events(kinds=("message",), after=after)
            with contextlib.suppress(StandfastError):
                async for event in events:
                    after = event.number or after
                    message = event.data.get("message", {})
                    if not message.get("from_me"):
                        self._take(event.company, message.get("text"))
            await asyncio.sleep(_LOOK_S)

    async def _listen_at_contact(self) -> None:
        after = 0
        while True:
            with contextlib.suppress(StandfastError):
                path = f"/contacts/{PHONES[CONTACT]}/messages?after={after}"
                for message in (await self._simulator.ask("GET", path))["messages"]:
                    after = max(after, int(message["seq"]))
                    self._take(CONTACT, message.get("text"))
            await asyncio.sleep(_LOOK_S)
