"""Where auth state is looked at: PostgreSQL's tables, this node's replica, folders of files.

Invariant: nothing is written, and one company at a time is in memory; a source that cannot be read is an error, never
an empty one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from standfast.authstate.buffer_json import parse
from standfast.authstate.company import company_id
from standfast.authstate.file_names import CREDS, INDEX, SUFFIX, key_of_name
from standfast.authstate.multifile import Entry, names_in, read_index
from standfast.errors import AuthStateCorrupt, UsageError
from standfast.jobs.verify.check import State, check
from standfast.jobs.verify.finding import Finding, Places
from standfast.postgres.pool import Database, Statement
from standfast.vault.storage.replica import Record, Replica

TRANSFER_S = 20.0
_FILE_LIMIT_BYTES = 64 * 1024 * 1024
_COMPANIES = Statement(
    "verify.companies",
    "select company_id::text from whatsapp_auth union select company_id::text from whatsapp_keys order by 1",
    heavy=True,
)
# One statement, so that all of it is of one moment.
_STATE = Statement(
    "verify.state",
    """
    select 'writer', epoch::text, sequence::text, null from standfast_writers where company_id = $1
    union all select 'creds', null, null, creds::text from whatsapp_auth where company_id = $1
    union all select 'key', key_type::text, key_id::text, value::text from whatsapp_keys where company_id = $1
    """,
)
_ORPHANS = Statement(
    "verify.orphans",
    """
    with known as (select company_id::text from whatsapp_auth union select company_id::text from whatsapp_keys)
    select 'lease-without-state', w.company_id from standfast_writers w
    where w.node is not null and w.company_id not in (select * from known)
    union all
    select 'session-without-state', s.company_id from standfast_sessions s
    where s.company_id not in (select * from known)
    order by 1, 2
    """,
    heavy=True,
)


class Looked(msgspec.Struct):
    """What one source has of one company. `digests`: of each type's keys, so that two sources can be compared without
    a key leaving either. `epoch` and `sequence` are 0 where nobody has written it through Standfast. `held`: this node
    has its lease, as far as it knows."""

    epoch: int
    sequence: int
    complete: bool
    keys: int
    findings: list[Finding]
    digests: dict[str, str]
    held: bool = False


class LocalReplica(Protocol):
    """This node's replica, in the running service or in a state directory that none holds."""

    async def companies(self) -> list[str]:
        """Those it has anything of."""
        ...

    async def look(self, company: str) -> Looked | None:
        """None where it has nothing of the company. Raises what the service or the replica raises."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A company's rows as PostgreSQL has them."""

    state: State
    epoch: int = 0
    sequence: int = 0


async def stored_companies(database: Database) -> list[str]:
    return [str(row[0]) for row in await database.fetch(_COMPANIES, transfer_s=TRANSFER_S)]


async def orphans(database: Database) -> list[tuple[str, str]]:
    """Kind and company of what stands in Standfast's tables without auth state."""
    return [(str(kind), str(company)) for kind, company in await database.fetch(_ORPHANS)]


async def stored(database: Database, company: str) -> Stored:
    """All of it, at one moment."""
    epoch = sequence = 0
    creds: bytes | None = None
    keys: dict[str, dict[str, bytes]] = {}
    for kind, one, two, value in await database.fetch(_STATE, [company], transfer_s=TRANSFER_S):
        if kind == "writer":
            epoch, sequence = int(one), int(two)
        elif kind == "creds":
            creds = (value or "").encode()
        else:
            keys.setdefault(one, {})[two] = (value or "").encode()
    return Stored(State(creds, keys), epoch, sequence)


def replica_state(replica: Replica, record: Record) -> State:
    """`AuthStateCorrupt` where its file is damaged."""
    change = replica.everything(record.number)
    keys = {
        key_type: {key_id: value for key_id, value in ids.items() if value is not None}
        for key_type, ids in change.keys.items()
    }
    return State(change.creds, {key_type: ids for key_type, ids in keys.items() if ids})


def looked_at_replica(record: Record, state: State) -> Looked:
    """Slow: for a thread."""
    found = check(state) if record.complete else Places()
    return Looked(
        record.epoch,
        record.sequence,
        record.complete,
        state.key_count,
        found.findings(record.company, "replica"),
        digests(state),
        record.held,
    )


def digests(state: State) -> dict[str, str]:
    """Of each type, the creds included, whatever way the JSON is written."""
    found = {
        key_type: _digest([key_id, _normal(raw)] for key_id, raw in sorted(ids.items()))
        for key_type, ids in state.keys.items()
        if ids
    }
    if state.creds is not None:
        found["creds"] = _digest([["creds", _normal(state.creds)]])
    return found


def _digest(rows: Any) -> str:
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps(row, sort_keys=True, separators=(",", ":")).encode())
    return found.hexdigest()[:16]


def _normal(raw: bytes) -> Any:
    try:
        return parse(raw)
    except AuthStateCorrupt:
        return hashlib.sha256(raw).hexdigest()


def folders_of(directory: Path, only: str | None = None) -> list[tuple[str, Path]]:
    """Company and path of each folder of auth state below `directory`, which may be one itself. `UsageError` where it
    cannot be read."""
    names = names_in(directory)
    if CREDS in names:
        return [(directory.name, directory)] if only in (None, directory.name) else []
    return [
        (name, directory / name)
        for name in sorted(names)
        if only in (None, name) and _is_company(name) and (directory / name).is_dir()
    ]


def read_folder(directory: Path) -> tuple[State, Places]:
    """What can be read of it; a damaged value is there as it is, for the check to find. Slow: for a thread."""
    found = Places()
    names = names_in(directory)
    index = _index(directory, found) if INDEX in names else {}
    types = {entry["type"] for entry in index.values()}
    creds: bytes | None = None
    keys: dict[str, dict[str, bytes]] = {}
    for name in sorted(names - {INDEX}):
        raw = _content(directory / name, found)
        if raw is None:
            continue
        if name == CREDS:
            creds = raw
            continue
        entry = index.get(name)
        place = (entry["type"], entry["id"]) if entry is not None else key_of_name(name, types)
        if place is None:
            found.add("unknown-type", "", name.removesuffix(SUFFIX))
        else:
            keys.setdefault(place[0], {})[place[1]] = raw
    return State(creds, keys), found


def _index(directory: Path, found: Places) -> dict[str, Entry]:
    try:
        return read_index(directory)
    except AuthStateCorrupt as error:
        found.add("file-unreadable", "", INDEX, error.message)
    return {}


def _content(path: Path, found: Places) -> bytes | None:
    try:
        if path.is_file() and path.stat().st_size <= _FILE_LIMIT_BYTES:
            return path.read_bytes().strip()
        found.add("file-unreadable", "", path.name, "no file, or larger than any auth state")
    except OSError as error:
        found.add("file-unreadable", "", path.name, error.strerror or "")
    return None


def _is_company(name: str) -> bool:
    try:
        company_id(name)
    except UsageError:
        return False
    return True
