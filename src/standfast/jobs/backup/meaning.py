"""Whether what was restored means something: creds that parse, key pairs that are pairs.

Invariant: nothing is written, and no key gets into a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from standfast.authstate.company import Company, company_id
from standfast.authstate.creds import parse_creds
from standfast.authstate.key_pairs import check_creds, check_pre_key
from standfast.errors import AuthStateCorrupt, UsageError
from standfast.jobs.backup.manifest import Manifest

_CREDS = "select company_id::text, creds::text from whatsapp_auth"
_PRE_KEYS = """
select company_id::text, value::text from whatsapp_keys
where key_type = 'pre-key' and hashtextextended(company_id::text || '/' || key_id::text, 0) % {share} = 0
"""
_SENTINEL = "select 1 from standfast_backups where name = $1 and sentinel::text = $2"
_PRE_KEYS_CHECKED = 20_000
_ROWS_AT_ONCE = 1_000


@dataclass(slots=True)
class Meaning:
    """`wrong`: what is not as it should be, in words. `paired`: the companies whose creds can log in."""

    creds: int = 0
    pre_keys: int = 0
    wrong: list[str] = field(default_factory=list)
    paired: list[Company] = field(default_factory=list)


async def examine(connection: AsyncConnection[tuple[Any, ...]], manifest: Manifest) -> Meaning:
    """Every creds document, every pre-key up to 20,000 (then an equal share of each company's), the sentinel. In the
    transaction that `connection` is in; its cursors take `$1`."""
    found = Meaning()

    async def every(query: str, look: Callable[[Iterable[tuple[Any, ...]]], None]) -> None:
        async with connection.cursor(name="examined") as cursor:
            await cursor.execute(query.encode())
            while rows := await cursor.fetchmany(_ROWS_AT_ONCE):
                await asyncio.to_thread(look, rows)

    await every(_CREDS, lambda rows: _creds(rows, found))
    total = sum(one.keys.get("pre-key", 0) for one in manifest.companies.values())
    share = max(1, -(-total // _PRE_KEYS_CHECKED))
    await every(_PRE_KEYS.format(share=share), lambda rows: _pre_keys(rows, found))
    if not await (await connection.execute(_SENTINEL, [manifest.name, manifest.sentinel])).fetchall():
        found.wrong.append("the sentinel of this backup is not in it")
    return found


def _creds(rows: Iterable[tuple[Any, ...]], found: Meaning) -> None:
    for name, document in rows:
        found.creds += 1
        raw = (document or "").encode()
        try:
            check_creds(raw)
            if parse_creds(raw).is_registered:
                found.paired.append(company_id(name))
        except AuthStateCorrupt as error:
            found.wrong.append(f"creds of {name}: {error.message}")
        except UsageError:
            pass  # a row of somebody else's making: Standfast opens no session of such a name


def _pre_keys(rows: Iterable[tuple[Any, ...]], found: Meaning) -> None:
    for name, value in rows:
        found.pre_keys += 1
        try:
            check_pre_key((value or "").encode())
        except AuthStateCorrupt as error:
            found.wrong.append(f"a pre-key of {name}: {error.message}")
