"""Whose turn it is to clean, and how long a look at every key may take.

Invariant: one cleanup, or one undo, at a time: in a fleet, and within a process, whose duty is its node's whoever asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from standfast.errors import JobRunning
from standfast.jobs.context import JobContext
from standfast.jobs.sole import sole
from standfast.postgres.pool import Database, Statement

SCAN_TIMEOUT_S = 120.0
_busy: set[str] = set()  # nodes


@contextlib.asynccontextmanager
async def turn(context: JobContext) -> AsyncIterator[None]:
    """`JobRunning` where another cleanup has begun, be it of this very process."""
    if context.node in _busy:
        raise JobRunning("cleanup runs already, on this node")
    _busy.add(context.node)
    try:
        async with sole(context, "cleanup"):
            yield
    finally:
        _busy.discard(context.node)


async def scan(database: Database, statement: Statement, params: Sequence[object]) -> list[tuple[Any, ...]]:
    """Every row; the server's limit for one statement is too short for a pass over a large table."""
    async with database.transaction(statement.name, SCAN_TIMEOUT_S) as connection:
        return await (await connection.execute(statement.sql, params)).fetchall()
