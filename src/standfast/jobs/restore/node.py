"""`LocalNode`: what a restore asks of the node whose state directory it works in.

Invariant: what a node is asked here never writes a state that another owner has overtaken; whether a service runs there
makes no difference to who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec


class Known(msgspec.Struct, frozen=True):
    """A company as the node's replica has it. `complete`: wholly, creds included. `identity`: in hex. `client`: who
    has it open, where that is no session of the service."""

    company: str
    epoch: int
    sequence: int
    complete: bool
    identity: str = ""
    next_pre_key_id: int = 0
    client: str | None = None


class Standing(msgspec.Struct, frozen=True):
    """`node`: the uuid by which PostgreSQL knows it. `database`: the identity of the one that its replica is of.
    `wanted`: whose sessions the service keeps connected."""

    node: str
    node_name: str
    database: str | None
    companies: list[Known]
    wanted: list[str] = []


class LocalNode(Protocol):
    """Raises what the service or the vault raises."""

    async def standing(self) -> Standing | None:
        """What its replica has; None where there is no replica."""
        ...

    async def hold(self, companies: Iterable[str]) -> None:
        """End what uses these companies and let nothing open them until `let_go`, or until whoever asks is gone.
        `RestoreRefused` where a foreign client has one open."""
        ...

    async def replay(self, company: str) -> int:
        """Put the replica's whole state, without who has our sender keys, into PostgreSQL under a new epoch; how many
        keys it has. The company is given back then."""
        ...

    async def renew(self, company: str) -> None:
        """PostgreSQL has another state than the replica, which follows it."""
        ...

    async def keep(self, company: str, folder: Path) -> bool:
        """Write what the replica has of the company, ours included, as `folder`; whether it has anything."""
        ...

    async def let_go(self, companies: Iterable[str], start: Iterable[str]) -> Mapping[str, str]:
        """Companies may be opened again; `start` the sessions of some, and what has become of each of these within some
        seconds ("open", or why it is not)."""
        ...
