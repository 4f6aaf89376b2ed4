"""Which pre-keys nobody can need any more: by WhatsApp's word, never by their age.

Invariant: a pre-key is named only where two answers of WhatsApp, both consistent and at least `WAITS_DAYS` apart, did
not list it, the last of them just now. No answer, or one that contradicts itself or what is stored: nothing is named.

WhatsApp keeps a message for 30 days at most. One that was encrypted to a pre-key before WhatsApp struck it off its list
has arrived by then, or never will. A contact that took a pre-key and wrote later than that costs one retry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from standfast.authstate.company import Company
from standfast.errors import StandfastError
from standfast.postgres.pool import Database, Statement

WAITS_DAYS = 30
_ASKED_AT_ONCE = 8
# The newest stays whatever becomes of it: Baileys uploads more at each login where it is missing.
_UPLOADED = """
    k.company_id = $1 and k.key_type = 'pre-key' and not (k.key_id::text = any($2::text[]))
    and case when k.key_id ~ '^[0-9]{1,8}$' then k.key_id::int < $3::int - 1 else false end
"""
_NOTE = Statement(
    "cleanup.note_pre_keys",
    f"""
    with unlisted as (
        select k.key_id::text, k.updated_at from whatsapp_keys k where {_UPLOADED}
    ), forgotten as (
        delete from standfast_unlisted_pre_keys u
        where u.company_id = $1 and not exists (select from unlisted where unlisted.key_id = u.key_id)
    )
    insert into standfast_unlisted_pre_keys as u (company_id, key_id, written_at)
    select $1, key_id, updated_at from unlisted
    on conflict (company_id, key_id) do update set written_at = excluded.written_at, since = now()
        where u.written_at is distinct from excluded.written_at
    """,
)
_SPENT = Statement(
    "cleanup.spent_pre_keys",
    f"""
    select k.key_id::text from whatsapp_keys k
    join standfast_unlisted_pre_keys u on u.company_id = k.company_id and u.key_id = k.key_id
    where {_UPLOADED} and u.written_at is not distinct from k.updated_at
      and u.since <= now() - $4::float8 * interval '1 day'
    order by k.key_id::int
    """,
)


class PreKeyList(msgspec.Struct):
    """A host's answer to `session.pre_keys`. `listed`: the ids that WhatsApp still hands out, or None where its answer
    was not consistent (`reason`). Ids from `first_unuploaded` on it has never been given."""

    listed: list[str] | None
    first_unuploaded: int
    reason: str | None = None


AskWhatsApp = Callable[[Company], Awaitable[PreKeyList]]


@dataclass(frozen=True, slots=True)
class SpentPreKeys:
    """`key_ids` of one company may go; `reason`: why nothing can be said about it, or "" where something was."""

    company: Company
    key_ids: tuple[str, ...]
    reason: str = ""


async def spent_pre_keys(
    database: Database,
    companies: Sequence[Company],
    ask: AskWhatsApp,
    retention_days: int,
    *,
    note: bool = True,
) -> AsyncIterator[SpentPreKeys]:
    """One answer for each company, in the order in which WhatsApp answers. Without `note` nothing is written down, and
    only what earlier calls have noted is named. Raises what the database raises."""
    days = max(retention_days, WAITS_DAYS)
    turn = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def look(company: Company) -> SpentPreKeys:
        async with turn:
            return await _look(database, company, ask, days, note)

    tasks = [asyncio.create_task(look(company)) for company in companies]
    try:
        for done in asyncio.as_completed(tasks):
            yield await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _look(
    database: Database, company: Company, ask: AskWhatsApp, days: int, note: bool
) -> SpentPreKeys:
    try:
        answer = await ask(company)
    except StandfastError as error:
        return SpentPreKeys(company, (), error.message)
    if answer.listed is None:
        return SpentPreKeys(company, (), answer.reason or "WhatsApp's answer is not consistent")
    named = (company, answer.listed, answer.first_unuploaded)
    if note:
        await database.fetch(_NOTE, named)
    rows = await database.fetch(_SPENT, (*named, days))
    return SpentPreKeys(company, tuple(str(key_id) for (key_id,) in rows))
