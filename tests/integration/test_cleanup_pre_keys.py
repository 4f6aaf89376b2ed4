"""Pre-keys go by WhatsApp's word alone: two consistent answers that do not list them, a month apart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from standfast.authstate.company import company_id
from standfast.errors import SessionNotOpen
from standfast.jobs.cleanup.pre_keys import PreKeyList, SpentPreKeys, spent_pre_keys
from standfast.postgres.migrations import migrate
from standfast.postgres.pool import Database
from tests.integration.aged_keys import add, run

ACME = company_id("acme")
LEGACY = """
create table whatsapp_auth (company_id varchar(50) primary key, creds text not null);
create table whatsapp_keys (
    id serial primary key, company_id varchar(50) not null, key_type varchar(50) not null, key_id varchar(200) not null,
    value text not null, created_at timestamptz, updated_at timestamptz, unique (company_id, key_type, key_id)
)
"""


class WhatsApp:
    """What stands at the outer edge: it lists what it still hands out."""

    def __init__(self, listed: Sequence[int], first_unuploaded: int = 11) -> None:
        self.listed = list(listed)
        self.first_unuploaded = first_unuploaded
        self.reason: str | None = None
        self.away = False

    async def ask(self, _company: str) -> PreKeyList:
        if self.away:
            raise SessionNotOpen("acme is not open")
        listed = None if self.reason else [str(one) for one in self.listed]
        return PreKeyList(listed, self.first_unuploaded, self.reason)


async def _spent(database: Database, whatsapp: WhatsApp, **more: bool) -> SpentPreKeys:
    (found,) = [one async for one in spent_pre_keys(database, [ACME], whatsapp.ask, 7, **more)]
    return found


async def _days_pass(database: Database, days: float) -> None:
    """As if every pre-key and every note were so many days older."""
    moved = "- $1::float8 * interval '1 day'"
    await run(database, f"update whatsapp_keys set updated_at = updated_at {moved}", days)
    notes = f"written_at = written_at {moved}, since = since {moved}"
    await run(database, f"update standfast_unlisted_pre_keys set {notes}", days)


async def test_two_answers_a_month_apart_name_what_they_do_not_list(database: Database) -> None:
    """Neither what is listed, nor the newest that was uploaded, nor what never was, nor another type is ever named."""
    await add(database, "pre-key", 13, days=400)
    await add(database, "session", 13, days=400)
    whatsapp = WhatsApp([4, 5, 6, 7, 8])
    assert (await _spent(database, whatsapp)).key_ids == ()
    await _days_pass(database, 29.9)
    assert (await _spent(database, whatsapp)).key_ids == ()
    await _days_pass(database, 0.2)
    whatsapp.listed.remove(4)
    assert await _spent(database, whatsapp) == SpentPreKeys(ACME, ("1", "2", "3", "9"))


async def test_what_is_listed_again_or_written_anew_waits_from_then_on(database: Database) -> None:
    """An id that went back to the list, and one that was given to another key, begin anew."""
    await add(database, "pre-key", 10, days=400)
    whatsapp = WhatsApp([4])
    await _spent(database, whatsapp)
    await _days_pass(database, 20)
    whatsapp.listed = [3, 4]
    await _spent(database, whatsapp)
    whatsapp.listed = [4]
    await run(database, "update whatsapp_keys set updated_at = now() where key_id = '2'")
    assert (await _spent(database, whatsapp)).key_ids == ()
    await _days_pass(database, 11)
    assert (await _spent(database, whatsapp)).key_ids == ("1", "5", "6", "7", "8", "9")
    await _days_pass(database, 20)
    await run(database, "update whatsapp_keys set updated_at = now() where key_id = '1'")
    assert (await _spent(database, whatsapp)).key_ids == ("2", "3", "5", "6", "7", "8", "9")


@pytest.mark.parametrize("whats_wrong", ["away", "inconsistent"])
async def test_no_consistent_answer_names_nothing(database: Database, whats_wrong: str) -> None:
    """A session that is not open, and an answer that contradicts itself, name nothing and say why; notes stay."""
    await add(database, "pre-key", 10, days=400)
    whatsapp = WhatsApp([4])
    await _spent(database, whatsapp)
    await _days_pass(database, 31)
    whatsapp.away = whats_wrong == "away"
    whatsapp.reason = "it counts 5" if whats_wrong == "inconsistent" else None
    found = await _spent(database, whatsapp)
    assert found.key_ids == ()
    assert found.reason in {"acme is not open", "it counts 5"}
    whatsapp.away, whatsapp.reason = False, None
    assert len((await _spent(database, whatsapp)).key_ids) == 8


async def test_a_look_without_notes_changes_nothing(database: Database) -> None:
    """Then only what was noted earlier, and is still not listed, is named."""
    await add(database, "pre-key", 10, days=400)
    whatsapp = WhatsApp([4])
    assert (await _spent(database, whatsapp, note=False)).key_ids == ()
    assert await run(database, "select * from standfast_unlisted_pre_keys") == []
    await _spent(database, whatsapp)
    await _days_pass(database, 31)
    whatsapp.listed = [4, 5]
    before = await run(database, "select * from standfast_unlisted_pre_keys order by key_id")
    assert (await _spent(database, whatsapp, note=False)).key_ids == ("1", "2", "3", "6", "7", "8", "9")
    assert await run(database, "select * from standfast_unlisted_pre_keys order by key_id") == before
    await run(database, "update whatsapp_keys set updated_at = now() where key_id = '1'")
    assert "1" not in (await _spent(database, whatsapp, note=False)).key_ids


async def test_an_adopted_table_without_times_is_judged_by_the_answers_alone(bare_database: Database) -> None:
    """Text values, varchar ids, no time of the last write, ids that are no numbers: the rule is the same."""
    for statement in LEGACY.split(";"):
        await run(bare_database, statement)
    await run(
        bare_database,
        "insert into whatsapp_keys (company_id, key_type, key_id, value) "
        "select 'acme', 'pre-key', id, '{}' from unnest(array['1', '2', '3', 'odd', '99999999999']) id",
    )
    await migrate(bare_database)
    whatsapp = WhatsApp([2])
    await _spent(bare_database, whatsapp)
    await _days_pass(bare_database, 31)
    assert (await _spent(bare_database, whatsapp)).key_ids == ("1", "3")
