"""`standfast repair` on the tables of a bot that kept text, where a value may be no JSON at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.postgres.options import DatabaseOptions
from tests.backing_up import execute
from tests.cli_support import CommandLine, own_surroundings
from tests.integration.test_cli_cleanup import BOT_TABLES
from tests.unit.test_verify_checks import PEER, real


@pytest.fixture
def standfast(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    bare_database_options: DatabaseOptions,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[CommandLine]:
    document = real()
    rows = [
        f"('acme', '{key_type}', '{key_id}', '{json.dumps(value)}')"
        for key_type, ids in document["keys"].items()
        for key_id, value in ids.items()
    ]
    execute(
        bare_database_options,
        *BOT_TABLES[:2],
        f"insert into whatsapp_auth (company_id, creds) values ('acme', '{json.dumps(document['creds'])}')",
        f"insert into whatsapp_keys (company_id, key_type, key_id, value) values {', '.join(rows)}",
    )
    with own_surroundings(monkeypatch, tmp_path):
        monkeypatch.setenv("DATABASE_URL", bare_database_options.to_conninfo())
        yield CommandLine(capsys)


def test_text_that_is_no_json_goes_and_comes_back_letter_by_letter(
    standfast: CommandLine, bare_database_options: DatabaseOptions
) -> None:
    """Before the tables are adopted nothing is said of them; then what was cut off is found, removed and put back."""
    assert standfast("verify").code == 4
    assert standfast("migrate").code == 0
    whole = standfast("verify")
    assert whole.code == 0, whole.out
    cut = '{"version":"v1","_sess'
    execute(
        bare_database_options,
        f"update whatsapp_keys set value = '{cut}' where key_type = 'session' and key_id = '{PEER}_1.1'",
        f"delete from whatsapp_keys where key_id = '{PEER}_reverse'",
    )
    done = standfast("repair", "--yes", "--json")
    assert done.code == 0, done.out + done.err
    assert standfast("verify").code == 0
    assert standfast("cleanup", "undo", done.document["repair"]["run"], "--yes").code == 0
    execute(
        bare_database_options,
        f"""
        do $$ begin
            assert (select value from whatsapp_keys where key_id = '{PEER}_1.1' and key_type = 'session') = '{cut}';
            assert (select value from whatsapp_keys where key_id = '{PEER}_reverse') = '"79990100017"';
        end $$
        """,
    )
