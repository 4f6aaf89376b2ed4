"""`FilesNode`: what the switch to files asks of the node whose state directory it works in.

Invariant: whether a service runs there makes no difference to who asks. Until `commit`, whatever was asked is undone by
`abandon`, by the end of whoever asked, or by the next start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from standfast.jobs.emergency.mode import Mode


class Held(msgspec.Struct, frozen=True):
    """A company as the node's replica has it. `keys` and `size_bytes` are about; `whole`: creds and all keys."""

    company: str
    epoch: int
    sequence: int
    whole: bool
    keys: int
    size_bytes: int


class FilesStanding(msgspec.Struct, frozen=True):
    """`state` and `cause` are what the vault says of PostgreSQL; `wanted`: whose sessions the service keeps connected.
    `elsewhere`: companies that PostgreSQL has and this node lacks, or has and does not hold, each with the living node
    that holds it, or an empty name; None: it cannot be asked. They are not in `held`. `past`: companies that only the
    change log or a backup has, and which."""

    mode: Mode | None
    node_name: str
    state: str
    cause: str
    held: list[Held]
    wanted: list[str] = []
    elsewhere: dict[str, str] | None = None
    past: dict[str, str] = {}


class Written(msgspec.Struct, frozen=True):
    """A company's folder, written aside and looked at."""

    epoch: int
    sequence: int
    files: int


class FilesNode(Protocol):
    """Raises what the service, the vault or the disk raises."""

    async def standing(self) -> FilesStanding: ...

    async def prepare(self, switch: str, root: str, files: int, size_bytes: int) -> None:
        """Undo what an earlier switch left, make the root, and see that all will fit. `EmergencyRefused`."""
        ...

    async def fetch(self, company: str) -> None:
        """Let the replica have the company from PostgreSQL; nobody else may take it until the switch has ended."""
        ...

    async def recall(self, company: str, source: str) -> None:
        """Let the replica have the company as `source`, of `FilesStanding.past`, had it."""
        ...

    async def write(self, switch: str, root: str, company: str) -> Written:
        """Write the replica's state of the company aside. `AuthStateCorrupt` where it is not sound."""
        ...

    async def commit(self, mode: Mode) -> list[str]:
        """Put the folders in their place and stand on files, durably; of which companies former folders are kept."""
        ...

    async def abandon(self, switch: str, root: str) -> None:
        """Drop what was written aside."""
        ...

    async def flush(self) -> None:
        """The folders have everything that was acknowledged until now."""
        ...

    async def reconnect(self, company: str) -> None:
        """Connect its session anew."""
        ...

    async def sessions(self) -> Mapping[str, str]:
        """Each wanted session: "open" where it is and has heard something from WhatsApp since it was opened, else why
        not."""
        ...

    async def wanted(self, companies: Iterable[str]) -> list[str]:
        """Those of them whose sessions are kept connected."""
        ...
