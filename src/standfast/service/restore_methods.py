"""What a restore asks of a running service: translation between wire, vault and session pool.

Invariant: companies are withheld for the connection that asked, and let go when it ends: a restore that was killed
keeps nothing closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from standfast.authstate.company import Company, company_id
from standfast.authstate.creds import parse_creds
from standfast.errors import AuthStateCorrupt, CompanyUnknown, RestoreRefused, StandfastError
from standfast.jobs.restore.node import Known, Standing
from standfast.service.params import checked
from standfast.sessions.gateway import Gateway, OperatorMethod
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import State
from standfast.sessions.wire import Connection
from standfast.vault.restoring import Restoring, keep_state
from standfast.vault.storage.replica import Record, Replica
from standfast.vault.vault import Vault

OPEN_TIMEOUT_S = 20.0
_POLL_S = 0.05
_CLIENT = "a bot that is connected to this node's gateway"


class Named(msgspec.Struct):
    """Params that name a company."""

    company: str


class Keep(msgspec.Struct):
    """Params of `restore.keep`. The service writes the folder: no key crosses the socket."""

    company: str
    folder: str


class LetGo(msgspec.Struct):
    """Params of `restore.let_go`."""

    company: str
    start: bool = False


def standing_of(replica: Replica, node_name: str, client: Callable[[Company], str | None]) -> Standing:
    """What a replica knows; `client` says who has a company open that is no session."""
    known = []
    for record in replica.companies():
        identity, next_pre_key_id = _facts(replica, record)
        known.append(
            Known(
                record.company,
                record.epoch,
                record.sequence,
                record.complete and record.has_creds,
                identity,
                next_pre_key_id,
                client(record.company),
            )
        )
    return Standing(replica.node, node_name, replica.database, known, [])


def _facts(replica: Replica, record: Record) -> tuple[str, int]:
    """The identity (hex) and the next pre-key's id; empty and 0 where they cannot be read."""
    with contextlib.suppress(AuthStateCorrupt):
        creds = replica.creds(record.number) if record.complete else None
        if creds is not None:
            found = parse_creds(creds)
            return found.identity_public.hex(), found.next_pre_key_id
    return "", 0


class RestoreMethods:
    """The methods `restore.…` of role operator."""

    def __init__(self, vault: Vault, pool: SessionPool, gateway: Gateway) -> None:
        self._vault = vault
        self._pool = pool
        self._gateway = gateway
        self._restoring = Restoring(vault)
        self._withheld: dict[Connection, set[Company]] = {}

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "restore.standing": self._standing,
            "restore.hold": self._hold,
            "restore.replay": self._replay,
            "restore.renew": self._renew,
            "restore.keep": self._keep,
            "restore.let_go": self._let_go,
        }

    def gone(self, connection: Connection) -> None:
        """Whoever withheld companies over the connection does so no longer."""
        for company in self._withheld.pop(connection, ()):
            self._restoring.let_go(company)

    async def _standing(self, connection: Connection, params: msgspec.Raw) -> Any:
        name = self._vault.options.node_name
        standing = standing_of(self._vault.replica, name, self._client)
        standing.wanted.extend(one.company for one in self._pool.sessions() if one.wanted)
        return msgspec.to_builtins(standing)

    def _client(self, company: Company) -> str | None:
        return _CLIENT if self._gateway.holder_role(company) == "auth-state" else None

    async def _hold(self, connection: Connection, params: msgspec.Raw) -> None:
        company = company_id(checked(Named, params).company)
        client = self._client(company)
        if client is not None:
            raise RestoreRefused(f"{client} has {company} open", next_step="Stop that bot; then try again.")
        self._withheld.setdefault(connection, set()).add(company)
        self._restoring.withhold(company)
        if self._pool.session(company) is not None:
            with contextlib.suppress(CompanyUnknown):
                await self._pool.stop(company)
        await self._restoring.closed(company)

    async def _replay(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        return {"keys": await self._restoring.replay(company_id(checked(Named, params).company))}

    async def _renew(self, connection: Connection, params: msgspec.Raw) -> None:
        await self._restoring.renew(company_id(checked(Named, params).company))

    async def _keep(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(Keep, params)
        return {"kept": await keep_state(self._vault.replica, company_id(asked.company), Path(asked.folder))}

    async def _let_go(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(LetGo, params)
        company = company_id(asked.company)
        self._restoring.let_go(company)
        self._withheld.get(connection, set()).discard(company)
        return {"session": await self._started(company) if asked.start else None}

    async def _started(self, company: Company) -> str:
        try:
            session = await self._pool.start(company)
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                while session.state is not State.OPEN:  # noqa: ASYNC110  # a session tells its state to nobody in turn
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            why = f": {session.reason}" if session.reason else ""
            return f"{session.state.value}{why}"
        except StandfastError as error:
            return error.message
        return State.OPEN.value
