"""`standfast cleanup`, as a person calls it, also on the tables of a bot that kept text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.postgres.options import DatabaseOptions
from tests.backing_up import execute
from tests.cli_support import CommandLine, own_surroundings

BOT_TABLES = (
    """
    create table whatsapp_auth (
        id serial primary key, company_id varchar(80) unique not null, creds text not null, updated_at timestamp
    )
    """,
    """
    create table whatsapp_keys (
        id serial primary key, company_id varchar(80) not null, key_type varchar(50) not null,
        key_id varchar(200) not null, value text not null, created_at timestamp, updated_at timestamp,
        unique (company_id, key_type, key_id)
    )
    """,
    """
    insert into whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
    select 'acme', 'session', n::text, '{ "n": 1.50,  "n": 2 }', null, now() - n * interval '15 days'
    from generate_series(1, 5) n
    """,
    "insert into whatsapp_keys (company_id, key_type, key_id, value) values ('acme', 'session', 'no time', '1')",
)


@pytest.fixture(autouse=True)
def _surroundings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bare_database_options: DatabaseOptions
) -> Iterator[None]:
    """The settings name a database of a bot's."""
    execute(bare_database_options, *BOT_TABLES)
    with own_surroundings(monkeypatch, tmp_path):
        monkeypatch.setenv("DATABASE_URL", bare_database_options.to_conninfo())
        yield


@pytest.fixture
def standfast(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def test_a_bots_tables_are_cleaned_up_and_put_back(
    standfast: CommandLine, bare_database_options: DatabaseOptions
) -> None:
    """Before they are adopted it is said what to do; after it, text comes back letter by letter."""
    refused = standfast("cleanup")
    assert refused.code == 5
    assert "standfast migrate" in refused.err
    assert standfast("migrate").code == 0
    planned = standfast("cleanup", "--dry-run", "--verbose")
    assert planned.code == 0, planned.err
    assert "4 keys would go" in planned.out
    assert "Nothing was changed." in planned.out
    assert "looking for old keys" in planned.err
    done = standfast("cleanup", "--json")
    assert done.code == 0, done.err
    assert done.document["removed"] == {"session": 4}
    run = done.document["run"]
    assert standfast("cleanup", "undo", run).code == 2  # nobody can be asked
    undone = standfast("cleanup", "undo", run, "--yes", "--json")
    assert undone.document["restored"] == 4
    execute(
        bare_database_options,
        """
        do $$ begin
            assert (select count(*) from whatsapp_keys where value = '{ "n": 1.50,  "n": 2 }') = 5;
            assert (select count(*) from whatsapp_keys where updated_at < now() - '29 d'::interval) = 4;
        end $$
        """,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--policy", "brave"), 2),
        (("--retention-days", "0"), 2),
        (("--company", "no/such"), 2),
        (("--company", "nobody"), 6),
        (("undo", "never", "--yes"), 24),
    ],
)
def test_what_is_wrong_is_told(standfast: CommandLine, arguments: tuple[str, ...], code: int) -> None:
    """With what to do next, and an exit code of its own."""
    assert standfast("migrate").code == 0
    ran = standfast("cleanup", *arguments)
    assert (ran.code, "next:" in ran.err) == (code, True), ran.err
