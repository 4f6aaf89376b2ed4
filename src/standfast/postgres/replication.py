"""Replication: changes of many companies into PostgreSQL, and a whole company out of it.

Invariant: a change is applied wholly, once, in the order of its company's sequence and only under the epoch that
PostgreSQL has given out last; a delivery that comes late, twice or out of turn changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from psycopg.types.numeric import Int4, Int8

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, DatabaseRejected, DatabaseUnavailable, StandfastError
from standfast.postgres.failures import sqlstate
from standfast.postgres.pool import Database, Statement
from standfast.postgres.streaming import Row, stream

_DELIVER = Statement(
    "changes.deliver",
    "select outcome, sequence"
    " from standfast_deliver($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
)
_CREATE = Statement("creds.create", "select standfast_create_creds($1, $2, $3, $4)")
_REMOVE = Statement("company.remove", "select standfast_remove($1, $2, $3)")
_SLOWEST_LINK_BYTES_S = 100_000  # what is slower than this is an outage
_CALL_BYTES = 1_000_000
_CALL_KEYS = 2_000
_CALL_COMPANIES = 100
_CALLS_AT_ONCE = 3
_FENCED = "SF001"
_EXISTS = "SF003"
_ITS_OWN = frozenset({"55P03", "40P01"})  # its row is locked by somebody: that is no outage
_EVERYBODYS = frozenset(
    {"password", "access", "tls", "no_database", "rights", "schema", "transaction_pooling"}
)


@dataclass(slots=True)
class Delivery:
    """What changes `first`..`last` of the company's history do together. `whole`: `change` is the complete state at
    `last`, which replaces everything (creds that it lacks are removed); `first` is not looked at then."""

    company: Company
    epoch: int
    first: int
    last: int
    change: Change = field(repr=False)
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """`sequence` is what PostgreSQL has of the company now. "applied": all of it, by this call or an earlier one.
    "partly": some of it, and this call added nothing: deliver from `sequence` + 1. "fenced": a newer epoch holds
    the company. "behind": PostgreSQL lacks what this change builds on: it has gone back in time."""

    outcome: Literal["applied", "fenced", "behind", "partly"]
    sequence: int


class Replication:
    """Every call is one attempt; whether to repeat it is the caller's decision, and always safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def deliver(self, deliveries: Sequence[Delivery]) -> list[Delivered | StandfastError]:
        """Apply each wholly or not at all, at most one of each company. What PostgreSQL refuses of one company is
        that one's result and stops no other. `DatabaseUnavailable`, and a `DatabaseRejected` that concerns the account
        or the schema, is raised for all, some of which may have been applied. The deadline grows with the size, for
        slow links."""
        results: dict[Company, Delivered | StandfastError] = {}
        turns = asyncio.Semaphore(min(_CALLS_AT_ONCE, self._database.options.max_connections))

        async def run(call: list[Delivery]) -> None:
            async with turns:
                results.update(await self._together(call))

        try:
            async with asyncio.TaskGroup() as group:
                for call in _calls(deliveries):
                    group.create_task(run(call))
        except* StandfastError as errors:
            raise _first(errors) from None
        return [results[delivery.company] for delivery in deliveries]

    async def create(self, company: Company, epoch: int, sequence: int, creds: bytes) -> None:
        """Store the first creds of a company, as its change `sequence`. `CompanyInUse` where it has creds, or where
        `epoch` is not PostgreSQL's any more."""
        try:
            await self._database.fetch(_CREATE, [company, epoch, sequence, creds])
        except DatabaseRejected as error:
            if sqlstate(error) == _EXISTS:
                raise CompanyInUse(f"{company} has creds already", next_step="Open it as it is.") from None
            if sqlstate(error) == _FENCED:
                raise CompanyInUse(
                    f"another node or process writes the auth state of {company} now"
                ) from None
            raise

    async def remove(self, company: Company, epoch: int, sequence: int) -> bool:
        """Delete creds and keys as change `sequence` of the company; whether there was anything. `CompanyInUse`
        where `epoch` is not PostgreSQL's any more."""
        try:
            rows = await self._database.fetch(_REMOVE, [company, epoch, sequence])
        except DatabaseRejected as error:
            if sqlstate(error) != _FENCED:
                raise
            raise CompanyInUse(f"another node or process writes the auth state of {company} now") from None
        return bool(rows[0][0])

    def stream(self, company: Company) -> AsyncGenerator[list[Row], None]:
        """The company's auth state as of one moment, in chunks: (None, None, creds) first, then each key's type, id and
        raw JSON. No chunk at all: confirmed absent. Close it (`contextlib.aclosing`) if you stop early."""
        return stream(self._database, company)

    async def _together(self, call: list[Delivery]) -> dict[Company, Delivered | StandfastError]:
        """One transaction for all; where that is refused, one for each half, until it has found its company."""
        try:
            return await self._apply(call)
        except (DatabaseRejected, DatabaseUnavailable) as error:
            if not _may_be_ones_own(error):
                raise
            if len(call) == 1:
                return {call[0].company: error}
        middle = len(call) // 2
        return await self._together(call[:middle]) | await self._together(call[middle:])

    async def _apply(self, call: list[Delivery]) -> dict[Company, Delivered | StandfastError]:
        size_bytes = sum(delivery.change.size for delivery in call)
        transfer_s = size_bytes / _SLOWEST_LINK_BYTES_S
        params = _columns(call)
        limit_s = self._database.options.statement_timeout_s
        if transfer_s <= limit_s / 2:
            rows = await self._database.fetch(_DELIVER, params, retry=False, transfer_s=transfer_s)
        else:
            # The server counts the time in which parameters arrive too, and in a transaction its limit can be raised.
            async with self._database.transaction(_DELIVER.name, limit_s + transfer_s) as connection:
                rows = await (await connection.execute(_DELIVER.sql, params)).fetchall()
        return {
            delivery.company: Delivered(outcome, sequence)
            for delivery, (outcome, sequence) in zip(call, rows, strict=True)
        }


def _may_be_ones_own(error: StandfastError) -> bool:
    if isinstance(error, DatabaseRejected):
        return error.facts.get("cause") not in _EVERYBODYS
    return sqlstate(error) in _ITS_OWN


def _first(errors: BaseExceptionGroup[StandfastError]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _calls(deliveries: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """In the order of company ids, many small ones together."""
    call: list[Delivery] = []
    size_bytes = keys = 0
    for delivery in sorted(deliveries, key=lambda each: each.company):
        if call and (size_bytes > _CALL_BYTES or keys > _CALL_KEYS or len(call) >= _CALL_COMPANIES):
            yield call
            call, size_bytes, keys = [], 0, 0
        call.append(delivery)
        size_bytes += delivery.change.size
        keys += delivery.change.key_count
    if call:
        yield call


def _columns(call: list[Delivery]) -> list[Any]:
    """The parameters of `standfast_deliver`; keys name their company by its place, counted from 1. The numbers' types
    are fixed, because each other combination of types would be prepared anew."""
    deleted: tuple[list[int], list[str], list[str]] = ([], [], [])
    stored: tuple[list[int], list[str], list[str], list[bytes]] = ([], [], [], [])
    for number, delivery in enumerate(call, start=1):
        place = Int4(number)
        for key_type, entries in delivery.change.keys.items():
            gone = [key_id for key_id, value in entries.items() if value is None]
            kept = [(key_id, value) for key_id, value in entries.items() if value is not None]
            _extend(deleted, [place] * len(gone), [key_type] * len(gone), gone)
            _extend(
                stored,
                [place] * len(kept),
                [key_type] * len(kept),
                [key_id for key_id, _ in kept],
                [value for _, value in kept],
            )
    return [
        [delivery.company for delivery in call],
        [Int8(delivery.epoch) for delivery in call],
        [Int8(delivery.first) for delivery in call],
        [Int8(delivery.last) for delivery in call],
        [delivery.whole for delivery in call],
        [delivery.whole or delivery.change.cleared for delivery in call],
        [delivery.change.creds for delivery in call],
        *deleted,
        *stored,
    ]


def _extend(columns: tuple[list[Any], ...], *more: list[Any]) -> None:
    for column, values in zip(columns, more, strict=True):
        column.extend(values)
