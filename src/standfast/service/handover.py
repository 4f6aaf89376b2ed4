"""`Handover`: gives sessions to another living node, one by one, and takes what others give.

Invariant: a session ends here only when the other node has said that it awaits it, everything that was accepted for
sending has left, and it can be taken back; nothing is started while another node has the company's lease.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from standfast.authstate.company import Company, company_id
from standfast.errors import DatabaseUnavailable, ServiceUnavailable, SessionNotOpen, StandfastError
from standfast.messaging.outbox import Outbox
from standfast.postgres.handovers import Handovers
from standfast.service.params import checked
from standfast.service.takeover import Takeover
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.pool import SessionPool
from standfast.sessions.wire import Connection
from standfast.vault.outage import State
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HandoverOptions:
    """`look_s`: how often a node looks whether it is given something; `expecting_s` once it is."""

    look_s: float = 2.0
    expecting_s: float = 0.05
    poll_s: float = 0.05
    awaited_within_s: float = 10.0
    sent_within_s: float = 10.0
    released_within_s: float = 10.0
    taken_within_s: float = 15.0


class Given(msgspec.Struct):
    """Params of `sessions.hand_over`: `node` and `name` are those of the node that goes on, of `nodes.list`."""

    company: str
    node: str
    name: str


class Handover:
    """`run` beside everything takes; `hand_over` gives. `is_able`: whether a session could be started here."""

    def __init__(
        self,
        handovers: Handovers,
        pool: SessionPool,
        vault: Vault,
        outbox: Outbox,
        takeover: Takeover,
        is_able: Callable[[], bool],
        options: HandoverOptions | None = None,
    ) -> None:
        self._handovers = handovers
        self._pool = pool
        self._vault = vault
        self._outbox = outbox
        self._takeover = takeover
        self._is_able = is_able
        self._options = options or HandoverOptions()
        self._giving: dict[Company, asyncio.Task[dict[str, Any]]] = {}

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {"nodes.list": self._nodes, "sessions.hand_over": self._hand_over}

    async def _nodes(self, connection: Connection, params: msgspec.Raw) -> list[dict[str, str]]:
        return [{"node": one.node, "name": one.name} for one in await self._handovers.living()]

    async def _hand_over(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(Given, params)
        company = company_id(asked.company)
        if company not in self._giving:
            task = asyncio.create_task(self.hand_over(company, asked.node, asked.name))
            self._giving[company] = task
            task.add_done_callback(lambda _task: self._giving.pop(company, None))
        # Whoever asked may go away: what was begun is brought to its end.
        return await asyncio.shield(self._giving[company])

    # -- taking

    async def run(self) -> None:
        """Until cancelled: start what other nodes give."""
        is_expecting = False
        try:
            while True:
                await asyncio.sleep(self._options.expecting_s if is_expecting else self._options.look_s)
                try:
                    is_expecting = await self._look()
                except StandfastError as error:
                    is_expecting = False
                    log.debug("what other nodes give could not be looked at", error=error.code)
        finally:
            giving = tuple(self._giving.values())
            for task in giving:
                task.cancel()
            await asyncio.gather(*giving, return_exceptions=True)

    async def _look(self) -> bool:
        if self._vault.outage.state is not State.ONLINE:
            return False
        offered = await self._handovers.offered()
        if not offered or not self._is_able():
            return False
        if new := [company for company, step in offered.items() if step == "offered"]:
            await self._handovers.expect(new)
        free = [company for company, step in offered.items() if step == "free"]
        await asyncio.gather(*(self._take(company) for company in free))
        return True

    async def _take(self, company: Company) -> None:
        if not await self._handovers.take(company):
            return
        log.info("a session was handed over to this node", company=company)
        try:
            await self._pool.start(company)
        except StandfastError as error:
            log.warning(
                "a session that was handed over could not be started", company=company, error=error.code
            )

    # -- giving

    async def hand_over(self, company: Company, node: str, name: str) -> dict[str, Any]:
        """Give the company's session to that node: `closed_s`, how long it was nobody's. Where it fails the session
        runs here as before, or is started here again: `ServiceUnavailable`, `SessionNotOpen`, `DatabaseUnavailable`."""
        if self._vault.outage.state is not State.ONLINE:
            raise self._vault.outage.cause or DatabaseUnavailable(
                "PostgreSQL does not answer, and nodes hand over by it", cause="timeout"
            )
        session = self._pool.awaited(company)
        if session.pairing is not None:
            raise SessionNotOpen(f"{company} is just being paired", next_step="Hand it over when it is open.")
        await self._offered(company, node, name)
        session.elsewhere = name
        try:
            await self._emptied(company)
            closed_at = time.monotonic()
            await self._pool.give_up(company, name)
            await self._released(company)
            await self._taken(company, node, name)
        except BaseException:
            await self._take_back(company, node)
            raise
        self._takeover.expect(company, name)
        closed_s = round(time.monotonic() - closed_at, 3)
        log.info("a session was handed over", company=company, to=name, closed_s=closed_s)
        return {"company": company, "node": name, "closed_s": closed_s}

    async def _offered(self, company: Company, node: str, name: str) -> None:
        if not await self._handovers.offer(company, node):
            raise ServiceUnavailable(f"another node is just handing over {company}")

        async def is_awaited() -> bool:
            return await self._handovers.step(company) == "awaited"

        if not await self._until(is_awaited, self._options.awaited_within_s):
            await self._handovers.withdraw(company)
            raise ServiceUnavailable(
                f"the node {name} did not answer the offer of {company}; it runs here as before",
                next_step=f"Look there: it must run sessions (not --gateway-only), in this version: "
                f"'standfast status' on {name}.",
            )

    async def _emptied(self, company: Company) -> None:
        async def is_empty() -> bool:
            return not self._outbox.waiting().get(company)

        if not await self._until(is_empty, self._options.sent_within_s):
            count = self._outbox.waiting().get(company)
            raise ServiceUnavailable(
                f"{count} messages of {company} wait here to be sent, and only this node can send them",
                next_step="Try again when they have left: 'standfast messages' shows them.",
            )

    async def _released(self, company: Company) -> None:
        async def is_released() -> bool:
            return self._vault.held.get(company) is None

        if not await self._until(is_released, self._options.released_within_s):
            raise ServiceUnavailable(f"PostgreSQL has not taken the last writes of {company} in time")

    async def _taken(self, company: Company, node: str, name: str) -> None:
        if not await self._handovers.free(company):
            raise ServiceUnavailable(f"the node {name} awaits {company} no more")

        async def is_taken() -> bool:
            return await self._handovers.holder(company) == node

        if not await self._until(is_taken, self._options.taken_within_s):
            raise ServiceUnavailable(
                f"the node {name} did not take {company} in time; it is started here again",
                next_step=f"The log of {name} says why.",
            )

    async def _take_back(self, company: Company, node: str) -> None:
        """The lease decides: where the other node has it after all, the start here is refused."""
        session = self._pool.session(company)
        if session is None:
            return
        session.elsewhere = None
        try:
            await self._handovers.withdraw(company)
            if await self._handovers.holder(company) != node and not session.is_active:
                await self._pool.start(company)
        except StandfastError as error:
            log.warning("a session was not taken back", company=company, error=error.code)

    async def _until(self, done: Callable[[], Any], within_s: float) -> bool:
        end = time.monotonic() + within_s
        while not await done():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(self._options.poll_s)
        return True
