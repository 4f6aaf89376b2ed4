"""What the switch to files asks of a running service, and how it is asked: both ends of the wire.

Invariant: a switch that its command left unfinished is dropped when the command's connection ends; one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from standfast.authstate.company import company_id
from standfast.errors import EmergencyRefused, JobRunning, StandfastError
from standfast.jobs.emergency.files_node import FilesNode, FilesStanding, Written
from standfast.jobs.emergency.mode import Mode
from standfast.service.files_mode import FilesMode
from standfast.service.link import Link
from standfast.service.params import checked
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Session, State
from standfast.sessions.watch import HostWatch
from standfast.sessions.wire import Connection

_STEP_TIMEOUT_S = 15.0
_COMPANY_TIMEOUT_S = 120.0
_COMMIT_TIMEOUT_S = 300.0


class Prepare(msgspec.Struct):
    """Params of `emergency.prepare`."""

    switch: str
    root: str
    files: int
    size_bytes: int


class Named(msgspec.Struct):
    """Params that name a company."""

    company: str


class Recall(msgspec.Struct):
    """Params of `emergency.recall`."""

    company: str
    source: str


class Write(msgspec.Struct):
    """Params of `emergency.write`. The service writes the folder: no key crosses the socket."""

    switch: str
    root: str
    company: str


class Commit(msgspec.Struct):
    """Params of `emergency.commit`."""

    mode: Mode


class Abandon(msgspec.Struct):
    """Params of `emergency.abandon`."""

    switch: str
    root: str


class Take(msgspec.Struct):
    """Params of `emergency.take`."""

    company: str
    from_files: bool


class ToFilesMethods:
    """The methods `emergency.…` of role operator that go to files."""

    def __init__(self, node: FilesNode, files: FilesMode, pool: SessionPool, watch: HostWatch) -> None:
        self._node = node
        self._files = files
        self._pool = pool
        self._watch = watch
        self._under_way: tuple[Connection, str, str] | None = None
        self._dropping: set[asyncio.Task[None]] = set()

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "emergency.look": self._look,
            "emergency.prepare": self._prepare,
            "emergency.fetch": self._fetch,
            "emergency.recall": self._recall,
            "emergency.write": self._write,
            "emergency.commit": self._commit,
            "emergency.abandon": self._abandon,
            "emergency.flush": self._flush,
            "emergency.reconnect": self._reconnect,
            "emergency.listened": self._listened,
            "emergency.take": self._take,
        }

    def gone(self, connection: Connection) -> None:
        """A switch that was asked over it and not committed is dropped."""
        if self._under_way is not None and self._under_way[0] is connection:
            _, switch, root = self._under_way
            self._under_way = None
            task = asyncio.get_running_loop().create_task(self._dropped(switch, root))
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)

    async def _dropped(self, switch: str, root: str) -> None:
        with contextlib.suppress(OSError, StandfastError):
            await self._node.abandon(switch, root)

    async def _look(self, connection: Connection, params: msgspec.Raw) -> Any:
        standing = await self._node.standing()
        wanted = [one.company for one in self._pool.sessions() if one.wanted]
        return msgspec.to_builtins(msgspec.structs.replace(standing, wanted=wanted))

    async def _prepare(self, connection: Connection, params: msgspec.Raw) -> None:
        asked = checked(Prepare, params)
        if self._under_way is not None:
            raise JobRunning("another switch to files is under way")
        self._under_way = (connection, asked.switch, asked.root)
        await self._node.prepare(asked.switch, asked.root, asked.files, asked.size_bytes)

    async def _fetch(self, connection: Connection, params: msgspec.Raw) -> None:
        await self._node.fetch(company_id(checked(Named, params).company))

    async def _recall(self, connection: Connection, params: msgspec.Raw) -> None:
        asked = checked(Recall, params)
        await self._node.recall(company_id(asked.company), asked.source)

    async def _write(self, connection: Connection, params: msgspec.Raw) -> Any:
        asked = checked(Write, params)
        return msgspec.to_builtins(
            await self._node.write(asked.switch, asked.root, company_id(asked.company))
        )

    async def _commit(self, connection: Connection, params: msgspec.Raw) -> Any:
        mode = checked(Commit, params).mode
        if self._under_way is None or self._under_way[:2] != (connection, mode.id):
            raise EmergencyRefused("no such switch is under way")
        # Not to be dropped any more, whoever is gone: it stands, or it was undone.
        self._under_way = None
        return {"kept": await self._node.commit(mode)}

    async def _abandon(self, connection: Connection, params: msgspec.Raw) -> None:
        asked = checked(Abandon, params)
        if self._under_way is not None and self._under_way[1] == asked.switch:
            self._under_way = None
            await self._node.abandon(asked.switch, asked.root)

    async def _flush(self, connection: Connection, params: msgspec.Raw) -> None:
        await self._node.flush()

    async def _reconnect(self, connection: Connection, params: msgspec.Raw) -> None:
        await self._pool.restart(company_id(checked(Named, params).company))

    async def _listened(self, connection: Connection, params: msgspec.Raw) -> Any:
        await self._watch.look()
        return {one.company: _how(one) for one in self._pool.sessions() if one.wanted}

    async def _take(self, connection: Connection, params: msgspec.Raw) -> None:
        asked = checked(Take, params)
        company = company_id(asked.company)
        await self._files.take(company, from_files=asked.from_files)
        session = self._pool.session(company)
        if session is not None and session.wanted:
            await self._pool.restart(company)


def _how(session: Session) -> str:
    if session.state is not State.OPEN:
        return f"{session.state.value}: {session.reason}" if session.reason else session.state.value
    # What a socket has heard is forgotten when another one takes its place.
    heard = session.traffic is not None and session.traffic.frame_age_s is not None
    return State.OPEN.value if heard else "open, and has heard nothing yet"


class ServiceFiles:
    """See `FilesNode`: asks the service that runs in the state directory, over one connection all the time."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def standing(self) -> FilesStanding:
        raw = await self._link.request("emergency.look", {}, _STEP_TIMEOUT_S)
        return msgspec.json.decode(raw, type=FilesStanding)

    async def prepare(self, switch: str, root: str, files: int, size_bytes: int) -> None:
        await self._ask("prepare", switch=switch, root=root, files=files, size_bytes=size_bytes)

    async def fetch(self, company: str) -> None:
        await self._ask("fetch", _COMPANY_TIMEOUT_S, company=company)

    async def recall(self, company: str, source: str) -> None:
        await self._ask("recall", _COMMIT_TIMEOUT_S, company=company, source=source)

    async def write(self, switch: str, root: str, company: str) -> Written:
        params = {"switch": switch, "root": root, "company": company}
        raw = await self._link.request("emergency.write", params, _COMPANY_TIMEOUT_S)
        return msgspec.json.decode(raw, type=Written)

    async def commit(self, mode: Mode) -> list[str]:
        answer = await self._ask("commit", _COMMIT_TIMEOUT_S, mode=msgspec.to_builtins(mode))
        return list(answer["kept"])

    async def abandon(self, switch: str, root: str) -> None:
        await self._ask("abandon", _COMPANY_TIMEOUT_S, switch=switch, root=root)

    async def flush(self) -> None:
        await self._ask("flush")

    async def reconnect(self, company: str) -> None:
        await self._ask("reconnect", _COMPANY_TIMEOUT_S, company=company)

    async def sessions(self) -> Mapping[str, str]:
        answer: dict[str, str] = await self._ask("listened")
        return answer

    async def wanted(self, companies: Iterable[str]) -> list[str]:
        wanted = set((await self.standing()).wanted)
        return [one for one in companies if one in wanted]

    async def take(self, company: str, *, from_files: bool) -> None:
        """Decide a conflict; see `FilesMode.take`."""
        await self._ask("take", _COMPANY_TIMEOUT_S, company=company, from_files=from_files)

    async def _ask(self, method: str, timeout_s: float = _STEP_TIMEOUT_S, **params: Any) -> Any:
        return msgspec.json.decode(await self._link.request(f"emergency.{method}", params, timeout_s))
