"""`ReturnNode`: what the way back asks of the node that stands on files.

Invariant: whether a service runs there makes no difference to who asks; what is asked for one company leaves every
other as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from standfast.jobs.emergency.comparison import Kept
from standfast.jobs.emergency.mode import Mode
from standfast.postgres.putting_back import Seen


class NodeStanding(msgspec.Struct, frozen=True):
    """`mode` None: the node stands on PostgreSQL. `node`: by which PostgreSQL knows it. `database`: the identity of the
    one that its replica is of. `companies`: those that are to be brought back. `wanted`: whose sessions run."""

    mode: Mode | None
    node: str
    node_name: str
    database: str | None
    companies: list[Kept]
    wanted: list[str] = []


class Brought(msgspec.Struct, frozen=True):
    """What PostgreSQL has of a company now."""

    epoch: int
    sequence: int
    keys: int


class ReturnNode(Protocol):
    """Raises what the service or the vault raises."""

    async def standing(self) -> NodeStanding:
        """How the node stands now."""
        ...

    async def begin(self) -> None:
        """The way back has begun; durable."""
        ...

    async def bind(self, database: str) -> None:
        """The replica belongs to the database of that identity from now on."""
        ...

    async def beaten(self) -> bool:
        """Whether PostgreSQL has confirmed this node's leases lately, having waited some seconds for that."""
        ...

    async def is_same(self, company: str) -> bool:
        """Whether PostgreSQL has just what the node has of it."""
        ...

    async def put_back(self, company: str, seen: Seen) -> Brought:
        """Put the company's whole state in place of what PostgreSQL was `seen` to have, in one transaction, and note
        that it is done. Raises where PostgreSQL has something else by now."""
        ...

    async def keep(self, company: str, folder: Path) -> bool:
        """Write what the node has of the company as `folder`; whether it has the whole of it."""
        ...

    async def give_up(self, company: str) -> bool:
        """Have what PostgreSQL has; the journal goes to quarantine. Whether the node has the company then."""
        ...

    async def leave(self) -> None:
        """Stand on PostgreSQL from now on; durable."""
        ...

    async def recovered(self, timeout_s: float) -> bool:
        """Whether PostgreSQL confirms this node and has every journal, having waited for it."""
        ...

    async def sessions(self) -> Mapping[str, str]:
        """Of each session that is wanted: "open" where it is and has heard something lately, else what it is."""
        ...
