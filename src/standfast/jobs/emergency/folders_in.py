"""Folders as the source of the way back, where the node that stood on them is lost: read, and judged.

Invariant: a folder is taken wholly, or without those of its keys that are damaged and named, and without what must not
stay where its other half is damaged; damaged creds are never taken.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from standfast.authstate.company import Company, company_id
from standfast.authstate.creds import identity_key
from standfast.authstate.file_names import CREDS
from standfast.authstate.key_pairs import check_creds
from standfast.authstate.key_types import KEY_TYPES
from standfast.authstate.multifile import Folder, import_folder
from standfast.errors import EmergencyRefused, StandfastError, UsageError
from standfast.jobs.restore.rules import MEMORY

_COMPANY = re.compile(r"[A-Za-z0-9_-]{1,50}")
_LID_MAPPING, _REVERSE = "lid-mapping", "_reverse"
_AT_ONCE = 4
# Other than where they are rolled back.
_LEFT_OUT = {
    "session": "a contact's next message is asked for once more",
    "sender-key": "a group's messages wait until the key is handed out again",
}


@dataclass(frozen=True, slots=True)
class FolderIn:
    """One company's folder. `damaged`: how many keys of each type are left out. `error`: why it cannot be taken at
    all."""

    company: Company
    path: Path
    creds: bytes = field(default=b"", repr=False)
    keys: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)
    identity: str = ""
    damaged: dict[str, int] = field(default_factory=dict)
    error: str = ""

    @property
    def key_count(self) -> int:
        return sum(map(len, self.keys.values()))

    @property
    def cost(self) -> str:
        """What it costs to do without the damaged keys; empty: none is damaged."""
        return "; ".join(
            f"{count:,} {key_type}: {_cost(key_type)}" for key_type, count in sorted(self.damaged.items())
        )


def _cost(key_type: str) -> str:
    known = KEY_TYPES.get(key_type)
    return _LEFT_OUT.get(key_type) or (known.if_lost if known is not None else "unknown")


async def read_folders(root: Path) -> list[FolderIn]:
    """Every company's folder below `root`, by the company's name. `EmergencyRefused` where there is none."""
    paths = await asyncio.to_thread(_folders, root)
    if not paths:
        raise EmergencyRefused(
            f"{root} holds no folder of a company",
            next_step=f"Name the directory that holds COMPANY/{CREDS}, as 'standfast emergency to-files' made it.",
        )
    turns = asyncio.Semaphore(_AT_ONCE)

    async def read(path: Path) -> FolderIn:
        async with turns:
            return await asyncio.to_thread(read_folder, path)

    return list(await asyncio.gather(*(read(path) for path in paths)))


def read_folder(path: Path) -> FolderIn:
    """Blocks. What cannot be taken is told by `error`."""
    company, left_out = company_id(path.name), list[tuple[str, str]]()
    try:
        found = import_folder(path, left_out)
        check_creds(found.creds)
        identity = identity_key(found.creds).hex()
    except StandfastError as error:
        return FolderIn(company, path, error=error.message)
    keys = _without_halves(found, left_out)
    # Always safe, and stale where another holder has sent since.
    keys.pop(MEMORY, None)
    damaged = Counter(key_type for key_type, _ in left_out if key_type != MEMORY)
    return FolderIn(company, path, found.creds, keys, identity, dict(damaged))


def _folders(root: Path) -> list[Path]:
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise UsageError(f"{root} cannot be read as a folder: {error.strerror}") from None
    return [path for path in entries if _COMPANY.fullmatch(path.name) and (path / CREDS).is_file()]


def _without_halves(found: Folder, left_out: list[tuple[str, str]]) -> dict[str, dict[str, bytes]]:
    """A mapping of which one direction is damaged would send messages to the wrong address: the other one goes too."""
    keys = {key_type: dict(ids) for key_type, ids in found.keys.items()}
    mapping = keys.get(_LID_MAPPING, {})
    for key_type, key_id in tuple(left_out):
        if key_type != _LID_MAPPING:
            continue
        for other in [one for one in mapping if _is_other_half(key_id, one, mapping[one])]:
            del mapping[other]
            left_out.append((_LID_MAPPING, other))
    return keys


def _is_other_half(damaged: str, other: str, value: bytes) -> bool:
    if damaged.endswith(_REVERSE) == other.endswith(_REVERSE):
        return False
    try:
        return str(orjson.loads(value)) == damaged.removesuffix(_REVERSE)
    except orjson.JSONDecodeError:
        return False
