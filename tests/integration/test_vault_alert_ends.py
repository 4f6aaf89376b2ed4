"""Alerts of the vault that go on are ended: by what mends them, and by the next process that finds all well."""

from __future__ import annotations

from pathlib import Path

import pytest

from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.vault import replicator
from tests.integration.vaults import ACME, node, pair
from tests.support import Proxy, until

_REFUSING = (
    """
create function refuse() returns trigger language plpgsql as $$
begin
  if new.key_id = 'bad' then raise exception 'not this one' using errcode = 'check_violation'; end if;
  return new;
end $$""",
    "create trigger refuse before insert on whatsapp_keys for each row execute function refuse()",
)
_ENDED = {
    "outage_began",
    "grace_half_used",
    "grace_expired",
    "foreign_database",
    "journal_unwritable",
}


async def test_a_start_in_which_all_is_well_ends_what_an_earlier_process_told(
    tmp_path: Path, proxied: DatabaseOptions, proxy: Proxy
) -> None:
    """A process that dies in an outage leaves it to the next one to say that it is over; and none says so too early."""
    await proxy.close()
    async with node(tmp_path, proxied) as one:
        await one.in_state("outage")
        assert one.alerts.names() == ["outage_began"]
        assert not {name for name, _ in one.alerts.ended()} & (_ENDED - {"journal_unwritable"})
    await proxy.listen()
    async with node(tmp_path, proxied) as one:
        await until(lambda: {name for name, subject in one.alerts.ended() if not subject} >= _ENDED, 5)
        assert one.alerts.taken == []


async def test_a_company_whose_writes_are_taken_again_is_stuck_no_more(
    tmp_path: Path,
    database_options: DatabaseOptions,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The alert of one company is ended for that company, as soon as PostgreSQL takes what it refused."""
    monkeypatch.setattr(replicator, "STUCK_RETRY_S", 0.2)
    await pair(database_options)
    for statement in _REFUSING:
        await database.fetch(Statement("test.refuse", statement))
    async with node(tmp_path, database_options) as one:
        await one.vault.open(ACME)
        await one.vault.set_keys(ACME, {"session": {"bad": b"1"}})
        await until(lambda: "replication_stuck" in one.alerts.names(), 5)
        assert ("replication_stuck", "company_id=acme") not in one.alerts.ended()
        await database.fetch(Statement("test.allow", "drop trigger refuse on whatsapp_keys"))
        await until(lambda: ("replication_stuck", "company_id=acme") in one.alerts.ended(), 5)
