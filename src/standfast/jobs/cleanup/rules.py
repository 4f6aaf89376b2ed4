"""Which keys may go together: the policies, as questions to PostgreSQL and as units of keys.

Invariant: a pair of lid-mapping goes whole or stays whole, and no sender key goes without the memory of whom it was
given to; under `safe` nothing goes that `authstate.retention` does not let go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from standfast.authstate.key_types import OWN_PREFIX
from standfast.authstate.retention import RETENTIONS, age_limit_days
from standfast.jobs.cleanup.report import Policy
from standfast.jobs.cleanup.turn import scan
from standfast.postgres.pool import Database, Statement

_KEPT_IDS = sorted({kept for rule in RETENTIONS.values() for kept in rule.kept_ids})
_OLD = {
    # By PostgreSQL's clock. A row without a time is never old.
    "safe": """
    join unnest($1::text[], $2::int[]) r (key_type, days) on k.key_type::text = r.key_type
    where k.updated_at::timestamptz < now() - r.days * interval '1 day' and not (k.key_id::text = any($3::text[]))
    """,
    "legacy": f"""
    where not starts_with(k.key_type::text, '{OWN_PREFIX}') and coalesce($1::text[], '{{}}') is not null
      and k.updated_at::timestamptz < now() - ($2::int[])[1] * interval '1 day'
      and not (k.key_id::text = any($3::text[]))
    """,
}
_COUNT = """
select k.company_id::text, k.key_type::text, count(*) from whatsapp_keys k {old}
and ($4::text is null or k.company_id::text = $4) group by 1, 2 order by 1, 2
"""
_FIND = """
select k.key_type::text, k.key_id::text, k.updated_at::timestamptz,
       case when k.key_type::text = 'lid-mapping' then k.value::text::jsonb #>> '{{}}' end
from whatsapp_keys k {old} and k.company_id = $4 order by 1, 2
"""
_OF_TYPE = Statement(
    "cleanup.of_type",
    "select key_id::text, updated_at::timestamptz from whatsapp_keys where company_id = $1 and key_type = $2",
)
_REVERSE = "_reverse"


class Old(NamedTuple):
    """A key that may go. `updated_at`: when it was last written; a key that is written since stays. None: it goes
    whenever it was written, for it is safe to lose and goes with another."""

    key_type: str
    key_id: str
    updated_at: datetime | None


Unit = tuple[Old, ...]


def _params(policy: Policy, retention_days: int) -> list[object]:
    if policy == "legacy":
        return [None, [retention_days], _KEPT_IDS]
    limits = {name: age_limit_days(name, retention_days) for name in RETENTIONS}
    aging = {name: days for name, days in limits.items() if days is not None}
    return [list(aging), list(aging.values()), _KEPT_IDS]


async def count_old(
    database: Database, policy: Policy, retention_days: int, company: str | None
) -> dict[str, dict[str, int]]:
    """How many keys are old enough, by company and type. One pass over the table."""
    statement = Statement("cleanup.count", _COUNT.format(old=_OLD[policy]), heavy=True)
    rows = await scan(database, statement, [*_params(policy, retention_days), company])
    found: dict[str, dict[str, int]] = {}
    for name, key_type, count in rows:
        found.setdefault(name, {})[key_type] = count
    return found


async def find_old(database: Database, policy: Policy, retention_days: int, company: str) -> list[Unit]:
    """The company's old keys, those together that go together."""
    statement = Statement("cleanup.find", _FIND.format(old=_OLD[policy]), heavy=True)
    rows = await scan(database, statement, [*_params(policy, retention_days), company])
    if policy == "safe":
        return [(Old(key_type, key_id, at),) for key_type, key_id, at, _ in rows]
    mappings = [
        (Old(key_type, key_id, at), value) for key_type, key_id, at, value in rows if value is not None
    ]
    others = [Old(key_type, key_id, at) for key_type, key_id, at, value in rows if value is None]
    present = {}
    if mappings:
        present["lid-mapping"] = await _ids(database, company, "lid-mapping")
    if any(one.key_type == "sender-key" for one in others):
        present["sender-key-memory"] = await _ids(database, company, "sender-key-memory")
    return [
        *_pairs(mappings, present.get("lid-mapping", {})),
        *_with_memory(others, present.get("sender-key-memory", {})),
    ]


async def _ids(database: Database, company: str, key_type: str) -> dict[str, datetime | None]:
    rows = await database.fetch(_OF_TYPE, [company, key_type])
    return {str(key_id): at for key_id, at in rows}


def _pairs(mappings: Sequence[tuple[Old, str]], present: Iterable[str]) -> Iterator[Unit]:
    """`user` -> lid and `lid_reverse` -> user: both, or none. One that no other side answers goes alone."""
    old = {one.key_id: (one, value) for one, value in mappings}
    there = set(present)
    done: set[str] = set()
    for one, value in mappings:
        partner = _partner(one.key_id, value)
        if one.key_id in done or (partner in there and partner not in old):
            continue
        if partner not in old:
            yield (one,)
            continue
        other, back = old[partner]
        if _partner(partner, back) != one.key_id:
            continue  # the other side belongs to somebody else by now
        done |= {one.key_id, partner}
        yield (one, other)


def _partner(key_id: str, value: str) -> str:
    return value if key_id.endswith(_REVERSE) else value + _REVERSE


def _with_memory(others: Sequence[Old], memories: Iterable[str]) -> Iterator[Unit]:
    """A sender key's id is `group::user::device`; the memory's is the group. All old ones of a group go at once, and
    the memory with them: what stays of one batch must not be a memory of a key that went in another."""
    there = set(memories)
    groups: dict[str, list[Old]] = {}
    for one in others:
        if one.key_type == "sender-key":
            groups.setdefault(one.key_id.split("::", 1)[0], []).append(one)
    for group, keys in groups.items():
        memory = [Old("sender-key-memory", group, None)] if group in there else []
        yield (*keys, *memory)
    for one in others:
        is_taken = one.key_type == "sender-key-memory" and one.key_id in groups
        if one.key_type != "sender-key" and not is_taken:
            yield (one,)
