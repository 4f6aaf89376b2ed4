"""What the way back from files asks of a running service, and how it is asked: both ends of the wire.

Invariant: translation alone. What was asked for one company is done wholly or not at all by the vault, so a connection
that ends leaves nothing half-way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from standfast.authstate.company import Company, company_id
from standfast.errors import StandfastError
from standfast.jobs.emergency.return_node import Brought, NodeStanding, ReturnNode
from standfast.postgres.putting_back import Seen
from standfast.service.link import Link
from standfast.service.params import checked
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.hosts import Hosts
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Session, State
from standfast.sessions.wire import Connection

FRAME_AGE_S = 10.0
_PING_IDLE_MS = 1_000
_STATS_TIMEOUT_S = 5.0
_STEP_TIMEOUT_S = 15.0
_COMPANY_TIMEOUT_S = 180.0
_MARGIN_S = 10.0


class Named(msgspec.Struct):
    """Params that name a company."""

    company: str


class PutBack(msgspec.Struct):
    """Params of `emergency.put_back`: what PostgreSQL was seen to have."""

    company: str
    epoch: int
    sequence: int


class Keep(msgspec.Struct):
    """Params of `emergency.keep`. The service writes the folder: no key crosses the socket."""

    company: str
    folder: str


class Bind(msgspec.Struct):
    """Params of `emergency.bind`."""

    database: str


class Within(msgspec.Struct):
    """Params of `emergency.recovered`."""

    within_s: float


class ReturnMethods:
    """The methods `emergency.…` of role operator that go back."""

    def __init__(self, node: ReturnNode, pool: SessionPool, hosts: Hosts) -> None:
        self._node = node
        self._pool = pool
        self._hosts = hosts

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "emergency.standing": self._standing,
            "emergency.begin_return": self._begin,
            "emergency.bind": self._bind,
            "emergency.beaten": self._beaten,
            "emergency.is_same": self._is_same,
            "emergency.put_back": self._put_back,
            "emergency.keep": self._keep,
            "emergency.give_up": self._give_up,
            "emergency.leave": self._leave,
            "emergency.recovered": self._recovered,
            "emergency.heard": self._heard,
        }

    async def _standing(self, connection: Connection, params: msgspec.Raw) -> Any:
        standing = await self._node.standing()
        wanted = [one.company for one in self._pool.sessions() if one.wanted]
        return msgspec.to_builtins(msgspec.structs.replace(standing, wanted=wanted))

    async def _begin(self, connection: Connection, params: msgspec.Raw) -> None:
        await self._node.begin()

    async def _bind(self, connection: Connection, params: msgspec.Raw) -> None:
        await self._node.bind(checked(Bind, params).database)

    async def _beaten(self, connection: Connection, params: msgspec.Raw) -> Any:
        return {"beaten": await self._node.beaten()}

    async def _is_same(self, connection: Connection, params: msgspec.Raw) -> Any:
        return {"same": await self._node.is_same(checked(Named, params).company)}

    async def _put_back(self, connection: Connection, params: msgspec.Raw) -> Any:
        asked = checked(PutBack, params)
        return msgspec.to_builtins(
            await self._node.put_back(asked.company, Seen(asked.epoch, asked.sequence))
        )

    async def _keep(self, connection: Connection, params: msgspec.Raw) -> Any:
        asked = checked(Keep, params)
        return {"kept": await self._node.keep(asked.company, Path(asked.folder))}

    async def _give_up(self, connection: Connection, params: msgspec.Raw) -> Any:
        company = company_id(checked(Named, params).company)
        session = self._pool.session(company)
        ran = session is not None and session.wanted
        has_it = await self._node.give_up(company)
        if ran and has_it:
            await self._restarted(company)
        return {"has_it": has_it}

    async def _restarted(self, company: Company) -> None:
        """With the state that it has now; what becomes of that is seen later."""
        try:
            await self._pool.restart(company)
        except StandfastError:
            await asyncio.sleep(0)

    async def _leave(self, connection: Connection, params: msgspec.Raw) -> None:
        await self._node.leave()

    async def _recovered(self, connection: Connection, params: msgspec.Raw) -> Any:
        return {"recovered": await self._node.recovered(checked(Within, params).within_s)}

    async def _heard(self, connection: Connection, params: msgspec.Raw) -> Any:
        heard = await self._heard_within(FRAME_AGE_S)
        return {one.company: _how(one, heard) for one in self._pool.sessions() if one.wanted}

    async def _heard_within(self, age_s: float) -> set[str]:
        """Companies whose sockets have just heard something; those that are idle are asked for a sign of life."""
        heard: set[str] = set()
        for member in self._hosts.members:
            if not member.engine.is_ready:
                continue
            with contextlib.suppress(StandfastError):
                raw = await member.engine.request(
                    "host.stats", {"ping_idle_ms": _PING_IDLE_MS}, timeout_s=_STATS_TIMEOUT_S
                )
                heard |= {
                    row["company"]
                    for row in msgspec.json.decode(raw)["sessions"]
                    if row["last_frame_age_ms"] is not None and row["last_frame_age_ms"] < age_s * 1000
                }
        return heard


def _how(session: Session, heard: set[str]) -> str:
    if session.state is not State.OPEN:
        why = f": {session.reason}" if session.reason else ""
        return f"{session.state.value}{why}"
    return State.OPEN.value if session.company in heard else "open, and hears nothing"


class ServiceReturn:
    """See `ReturnNode`: asks the service that runs in the state directory."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def standing(self) -> NodeStanding:
        raw = await self._link.request("emergency.standing", {}, _STEP_TIMEOUT_S)
        return msgspec.json.decode(raw, type=NodeStanding)

    async def begin(self) -> None:
        await self._ask("emergency.begin_return")

    async def bind(self, database: str) -> None:
        await self._ask("emergency.bind", database=database)

    async def beaten(self) -> bool:
        return bool((await self._ask("emergency.beaten"))["beaten"])

    async def is_same(self, company: str) -> bool:
        return bool((await self._ask("emergency.is_same", _COMPANY_TIMEOUT_S, company=company))["same"])

    async def put_back(self, company: str, seen: Seen) -> Brought:
        params = {"company": company, "epoch": seen.epoch, "sequence": seen.sequence}
        raw = await self._link.request("emergency.put_back", params, _COMPANY_TIMEOUT_S)
        return msgspec.json.decode(raw, type=Brought)

    async def keep(self, company: str, folder: Path) -> bool:
        return bool(
            (await self._ask("emergency.keep", _COMPANY_TIMEOUT_S, company=company, folder=str(folder)))[
                "kept"
            ]
        )

    async def give_up(self, company: str) -> bool:
        return bool((await self._ask("emergency.give_up", _COMPANY_TIMEOUT_S, company=company))["has_it"])

    async def leave(self) -> None:
        await self._ask("emergency.leave")

    async def recovered(self, timeout_s: float) -> bool:
        answer = await self._ask("emergency.recovered", timeout_s + _MARGIN_S, within_s=timeout_s)
        return bool(answer["recovered"])

    async def sessions(self) -> Mapping[str, str]:
        answer: dict[str, str] = await self._ask("emergency.heard")
        return answer

    async def _ask(self, method: str, timeout_s: float = _STEP_TIMEOUT_S, **params: Any) -> Any:
        return msgspec.json.decode(await self._link.request(method, params, timeout_s))
