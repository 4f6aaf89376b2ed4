"""`standfast verify`: PostgreSQL, a service's replica, and the one with the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from standfast.authstate.multifile import export_folder
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.service.link import Link
from standfast.service.verify_methods import ReplicaThere
from tests.backing_up import execute
from tests.cli_support import CommandLine, own_surroundings
from tests.integration.aged_keys import run
from tests.integration.services import ACME, Running, running
from tests.unit.test_verify_checks import PEER, real, state_of
from tests.verifying import above_info, verified

SPOIL = f"update whatsapp_keys set value = '1' where key_type = 'session' and key_id = '{PEER}_1.1'"


@pytest.fixture
async def service(state: Path, database_options: DatabaseOptions) -> AsyncIterator[Running]:
    healthy = state_of(real())
    assert healthy.creds is not None
    async with running(state, database_options, change_log="off") as started:
        vault = started.service.vault
        await vault.open(ACME, pair=True)
        await vault.create_creds(ACME, healthy.creds)
        await vault.set_keys(ACME, {name: dict(ids) for name, ids in healthy.keys.items()})
        await vault.held.drained(vault.held.adopt(ACME), 5)
        yield started


async def test_tables_and_replica_are_compared(service: Running, database: Database) -> None:
    """The same at first; a row that somebody else spoilt is found in PostgreSQL alone, and that they differ."""
    whole = await verified(service.service)
    assert above_info(whole) == []
    assert whole.looked_at == {"postgresql": 1, "replica": 1}
    assert [one.newer for one in whole.compared] == ["same"]
    await run(database, SPOIL)
    spoilt = {one.kind: one for one in above_info(await verified(service.service))}
    assert spoilt.keys() == {"session-damaged", "differs"}
    assert spoilt["session-damaged"].where == ["postgresql"]
    assert spoilt["differs"].detail == "in session"


async def test_a_company_that_was_deleted_is_missed(service: Running, database: Database) -> None:
    """Somebody has deleted it in PostgreSQL, and this node goes on with it: that is said before anybody restarts."""
    await run(database, "delete from whatsapp_keys")
    await run(database, "delete from whatsapp_auth")
    (gone,) = above_info(await verified(service.service))
    assert (gone.kind, gone.company, gone.level) == ("gone", "acme", "error")


async def test_a_service_answers_for_its_replica(service: Running) -> None:
    """Over the gateway: what was found, and no key."""
    link = Link(service.service.state.gateway_socket)
    await link.open()
    try:
        there = ReplicaThere(link)
        assert await there.companies() == ["acme"]
        looked = await there.look("acme")
        assert looked is not None
        assert (looked.findings, looked.keys) == ([], state_of(real()).key_count)
        assert await there.look("bolt") is None
    finally:
        link.close()


@pytest.fixture
def standfast(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    database_options: DatabaseOptions,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[CommandLine]:
    with own_surroundings(monkeypatch, tmp_path):
        monkeypatch.setenv("DATABASE_URL", database_options.to_conninfo())
        yield CommandLine(capsys)


def test_the_command_tells_by_its_exit_code(
    standfast: CommandLine, tmp_path: Path, database_options: DatabaseOptions
) -> None:
    """0 where everything is whole, 13 where something is not, with ids masked; folders as tables; what was asked for
    and is not there is an error."""
    healthy = state_of(real())
    assert healthy.creds is not None
    export_folder(tmp_path / "acme", healthy.creds, healthy.keys)
    assert standfast("import", tmp_path / "acme", "acme").code == 0
    whole = standfast("verify", "acme")
    assert whole.code == 0, whole.out + whole.err
    assert "Everything that was looked at is whole." in whole.out
    execute(database_options, SPOIL)
    spoilt = standfast("verify")
    assert spoilt.code == 13
    assert "a session is no record of libsignal's" in spoilt.out
    assert PEER not in spoilt.out
    assert max(map(len, spoilt.out.splitlines())) <= 80
    (finding,) = standfast("verify", "--json").document["findings"]
    assert (finding["kind"], finding["count"], finding["where"]) == ("session-damaged", 1, ["postgresql"])
    assert standfast("verify", "--source", "files", "--dir", tmp_path, "acme").code == 0
    (tmp_path / "acme" / "creds.json").write_text(json.dumps({"me": 1}))
    assert standfast("verify", "--source", "files", "--dir", tmp_path).code == 13
    assert standfast("verify", "bolt").code == 6
    assert standfast("verify", "--source", "replica").code == 2
    assert standfast("verify", "--source", "elsewhere").code == 2
