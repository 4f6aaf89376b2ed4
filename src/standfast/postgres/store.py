"""`PostgresAuthStore`: the auth-state contract kept in PostgreSQL.

Invariant: a company's writes take effect in the order of their calls, each wholly, at most once, and none after a
later one: not even one whose client gave up on a stalled server that executes it an hour later. Every write
carries this store's epoch and a sequence number, and the company's row in `standfast_writers` lets no other in.

A store that finds a newer writer (another process) raises `CompanyInUse` from then on. What begins anew, and fences
the other off, is said aloud: opening the company (`load_creds`), `install` and `remove`. It leases nothing, and
begins nothing in a company that a living node leases: that is `CompanyInUse` too.
`expires_at` is a legacy column: a row past it counts as present until somebody deletes it, because a bot that
never read the column relied on the row; a key that is written again has no expiry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from psycopg.pq.abc import PGresult

from standfast.authstate.buffer_json import stored_forms
from standfast.authstate.company import Company
from standfast.authstate.creds import identity_key, parse_creds
from standfast.authstate.store import KeyBatch
from standfast.errors import (
    CompanyInUse,
    CompanyUnknown,
    DatabaseRejected,
    DatabaseUnavailable,
    StandfastError,
    UsageError,
)
from standfast.postgres.failures import sqlstate
from standfast.postgres.pool import Database, Statement

_LOAD = Statement("creds.load", "select creds::text from whatsapp_auth where company_id = $1")
_GET = Statement(
    "keys.get",
    "select key_id, value::text from whatsapp_keys where company_id = $1 and key_type = $2 and key_id = any($3)",
)
_SNAPSHOT = Statement(
    "company.snapshot",
    "select null, null, creds::text from whatsapp_auth where company_id = $1"
    " union all select key_type, key_id, value::text from whatsapp_keys where company_id = $1",
)
_BEGIN = Statement("writer.begin", "select epoch, sequence, holder from standfast_begin($1)")
_CREATE = Statement("creds.create", "select standfast_create_creds($1, $2, $3, $4)")
_SAVE = Statement("creds.save", "select standfast_save_creds($1, $2, $3, $4, $5)")
_SET = Statement("keys.set", "select standfast_set_keys($1, $2, $3, $4, $5, $6, $7, $8)")
_CLEAR = Statement("keys.clear", "select standfast_clear_keys($1, $2, $3)")
_REMOVE = Statement("company.remove", "select standfast_remove($1, $2, $3)")
_INSTALL = Statement("company.install", "select standfast_install($1, $2, $3, $4, $5, $6, $7, $8)")
_COMPANIES = Statement(
    "companies",
    "select company_id from whatsapp_auth union select company_id from whatsapp_keys order by 1",
    heavy=True,
)

# Raised by the functions of migration 3.
_FENCED = "SF001"
_OVERTAKEN = "SF002"
_EXISTS = "SF003"
_OTHER_IDENTITY = "SF004"
_ABSENT = "SF005"


@dataclass(frozen=True, slots=True)
class Snapshot:
    creds: bytes = field(repr=False)
    keys: dict[str, dict[str, bytes]] = field(repr=False)


@dataclass(slots=True)
class _Tenure:
    """This store's turn at writing one company; `epoch` 0 means that none has been claimed yet."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    epoch: int = 0
    sequence: int = 0
    fenced: bool = False


class PostgresAuthStore:
    """See `standfast.authstate.store.AuthStore`. One instance for one `Database`, for all companies."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tenures: dict[Company, _Tenure] = {}

    async def open(self, company: Company, *, pair: bool = False) -> bytes | None:
        creds = await self.load_creds(company)
        if creds is None and not pair:
            raise CompanyUnknown(f"company {company!r} has no auth state and pairing was not asked for")
        return creds

    def release(self, company: Company) -> None:
        """Nothing is held between writes; the next process that opens the company claims an epoch of its own."""

    async def load_creds(self, company: Company) -> bytes | None:
        self._begin(company)
        return await self._load(company)

    async def get_keys(self, company: Company, key_type: str, ids: Sequence[str]) -> dict[str, bytes]:
        if not ids:
            return {}
        _refuse_nul(key_type, *ids)
        return await self._database.fetch_raw(_GET, [company, key_type, list(ids)], _by_id)

    async def snapshot(self, company: Company) -> Snapshot | None:
        """All of the company's auth state as it was at one moment; None where it is confirmed absent."""
        return await self._database.fetch_raw(_SNAPSHOT, [company], _whole)

    async def install(self, company: Company, creds: bytes, keys: KeyBatch, *, replace: bool = False) -> None:
        """Store a whole auth state in one transaction, in place of all keys that there are. `CompanyInUse` if
        the company has creds already, unless `replace`. A session that is open meanwhile is fenced off."""
        parse_creds(creds)
        self._begin(company)
        try:
            await self._write(company, _INSTALL, replace, creds, *_columns(keys)[2:])
        except DatabaseRejected as error:
            raise (_has_creds(company) if sqlstate(error) == _EXISTS else error) from None

    async def create_creds(self, company: Company, creds: bytes) -> None:
        try:
            await self._write(company, _CREATE, creds)
        except DatabaseRejected as error:
            raise (_has_creds(company) if sqlstate(error) == _EXISTS else error) from None

    async def save_creds(self, company: Company, creds: bytes) -> None:
        identity = identity_key(creds)
        forms = stored_forms(identity)
        try:
            await self._write(company, _SAVE, creds, orjson.dumps(forms))
        except DatabaseRejected as error:
            if sqlstate(error) == _ABSENT:
                raise CompanyUnknown(f"{company} has no auth state") from None
            if sqlstate(error) != _OTHER_IDENTITY:
                raise
        else:
            return
        await self._save_over_odd_form(company, creds, identity)

    async def _save_over_odd_form(self, company: Company, creds: bytes, identity: bytes) -> None:
        """The stored identity is not written in any usual form: read it as tolerantly as possible before
        calling it another one."""
        stored = await self._load(company)
        if stored is None:
            raise CompanyUnknown(f"{company} has no auth state")
        if parse_creds(stored).identity_public != identity:
            raise CompanyInUse(
                f"{company} was paired anew: the stored identity is another one",
                next_step="Stop this client; its creds are of a former pairing and must not be written back.",
            )
        odd_form = orjson.loads(stored)["signedIdentityKey"]["public"]
        await self._write(company, _SAVE, creds, orjson.dumps([odd_form]))

    async def set_keys(self, company: Company, batch: KeyBatch) -> None:
        columns = _columns(batch)
        if columns[1] or columns[3]:
            await self._write(company, _SET, *columns)

    async def clear_keys(self, company: Company) -> int:
        return await self._write(company, _CLEAR)

    async def remove(self, company: Company) -> bool:
        self._begin(company)
        return await self._write(company, _REMOVE) > 0

    async def companies(self) -> list[str]:
        """Every company id in either table, also those that a legacy bot named in ways Standfast refuses."""
        return [row[0] for row in await self._database.fetch(_COMPANIES)]

    async def _load(self, company: Company) -> bytes | None:
        return await self._database.fetch_raw(_LOAD, [company], _single)

    def _begin(self, company: Company) -> None:
        """The next write claims an epoch of its own: what another process wrote since has been, or will be, read."""
        tenure = self._tenures.get(company)
        if tenure is not None:
            tenure.epoch, tenure.fenced = 0, False

    async def _write(self, company: Company, statement: Statement, *params: Any) -> int:
        """One write in its turn. The result is how many rows it affected."""
        async with self._turn(company) as tenure:
            if not tenure.epoch:
                ((epoch, sequence, holder),) = await self._database.fetch(_BEGIN, [company])
                if holder is not None:
                    raise _leased(company, holder)
                tenure.epoch, tenure.sequence = epoch, sequence
            tenure.sequence += 1
            try:
                rows = await self._database.fetch(
                    statement, [company, tenure.epoch, tenure.sequence, *params]
                )
            except DatabaseRejected as error:
                tenure.fenced = sqlstate(error) == _FENCED
                raise _explained(error, company) from None
        return int(rows[0][0])

    @asynccontextmanager
    async def _turn(self, company: Company) -> AsyncIterator[_Tenure]:
        tenure = self._tenures.setdefault(company, _Tenure())
        options = self._database.options
        limit_s = options.checkout_timeout_s + options.statement_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await tenure.lock.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"earlier writes of {company} have not ended within {limit_s:g} s", cause="timeout"
            ) from None
        try:
            if tenure.fenced:
                raise _fenced(company)
            yield tenure
        finally:
            tenure.lock.release()


def _columns(batch: KeyBatch) -> tuple[list[str], list[str], list[str], list[str], list[bytes]]:
    deleted_types: list[str] = []
    deleted_ids: list[str] = []
    types: list[str] = []
    ids: list[str] = []
    values: list[bytes] = []
    for key_type, entries in batch.items():
        for key_id, value in entries.items():
            if value is None:
                deleted_types.append(key_type)
                deleted_ids.append(key_id)
            else:
                types.append(key_type)
                ids.append(key_id)
                values.append(value)
    _refuse_nul(*batch, *deleted_ids, *ids)
    return deleted_types, deleted_ids, types, ids, values


def _refuse_nul(*names: str) -> None:
    if any("\0" in name for name in names):
        raise UsageError("a key's type or id holds a NUL character, which PostgreSQL cannot store")


def _single(result: PGresult) -> bytes | None:
    return result.get_value(0, 0) if result.ntuples else None


def _by_id(result: PGresult) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for row in range(result.ntuples):
        key_id, value = result.get_value(row, 0), result.get_value(row, 1)
        if key_id is not None and value is not None:
            found[key_id.decode()] = value
    return found


def _whole(result: PGresult) -> Snapshot | None:
    creds: bytes | None = None
    keys: dict[str, dict[str, bytes]] = {}
    for row in range(result.ntuples):
        key_type, key_id, value = (result.get_value(row, column) for column in range(3))
        if key_type is None or key_id is None:
            creds = value
        elif value is not None:
            keys.setdefault(key_type.decode(), {})[key_id.decode()] = value
    return None if creds is None else Snapshot(creds, keys)


def _has_creds(company: Company) -> CompanyInUse:
    return CompanyInUse(
        f"{company} has creds already", next_step="Open it as it is; 'standfast sessions' shows its state."
    )


def _leased(company: Company, holder: str) -> CompanyInUse:
    return CompanyInUse(
        f"node {holder!r} holds {company}",
        next_step=f"Stop its session there: 'standfast stop {company}'; a node that died is forgotten within seconds.",
        holder=holder,
    )


def _fenced(company: Company) -> CompanyInUse:
    return CompanyInUse(
        f"another process writes the auth state of {company} now",
        next_step="Stop one of the two, then start this session again: it reads the other's state first.",
    )


def _explained(error: DatabaseRejected, company: Company) -> StandfastError:
    state = sqlstate(error)
    if state == _FENCED:
        return _fenced(company)
    if state == _OVERTAKEN:
        return DatabaseUnavailable(
            f"a later write of {company} has been applied before this one", cause="overtaken"
        )
    return error
