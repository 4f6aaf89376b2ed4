"""`standfast repair`: through a service's vault, where nobody holds the company, and where two states differ."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from standfast.authstate.multifile import export_folder
from standfast.errors import DatabaseUnavailable
from standfast.jobs.cleanup import trash
from standfast.jobs.cleanup.undo import undo
from standfast.jobs.progress import Silent
from standfast.jobs.verify.plan import Wish, plan
from standfast.jobs.verify.repair import run_repair
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.service.repairing import settled
from standfast.vault.vault import Vault
from tests.backing_up import execute
from tests.cli_support import CommandLine, own_surroundings
from tests.integration.aged_keys import run
from tests.integration.services import ACME, Running, running
from tests.unit.test_verify_checks import GROUP, OWN, PEER, THEIRS, real, state_of
from tests.verifying import above_info, context_of, verified

SESSION = f"{PEER}_1.1"
BROKEN = b'"broken"'
ROWS = "select key_type, key_id, value::text from whatsapp_keys order by 1, 2"


@pytest.fixture
async def service(state: Path, database_options: DatabaseOptions) -> AsyncIterator[Running]:
    healthy = state_of(real())
    assert healthy.creds is not None
    async with running(state, database_options, change_log="off") as started:
        vault = started.service.vault
        await vault.open(ACME, pair=True)
        await vault.create_creds(ACME, healthy.creds)
        await write(vault, {name: dict(ids) for name, ids in healthy.keys.items()})
        yield started


async def write(vault: Vault, keys: dict[str, dict[str, Any]]) -> None:
    """In the vault and in PostgreSQL."""
    await vault.set_keys(ACME, keys)
    await vault.held.drained(vault.held.adopt(ACME), 5)


async def repaired(started: Running, *kinds: str) -> Any:
    """Every finding of these kinds, as the plan allows it."""
    found = await verified(started.service)
    planned = [one for one in plan(found, Wish()) if one.finding.kind in kinds]
    assert {one.finding.kind for one in planned} == set(kinds)
    assert {one.action for one in planned} <= {"remove", "complete"}
    ids = [one.finding.id for one in planned]
    return await run_repair(context_of(started.service), started.service.vault, {"acme": ids})


async def test_what_a_service_holds_is_repaired_through_its_vault(
    service: Running, database: Database
) -> None:
    """Sessions, an own sender key with who has it, half a mapping: replica and tables are whole, and what went comes
    back by its run."""
    vault = service.service.vault
    await write(
        vault,
        {
            "session": {SESSION: BROKEN},
            "sender-key": {OWN: BROKEN},
            "lid-mapping": {f"{PEER}_reverse": None},
            "app-state-sync-version": {"regular": BROKEN},
        },
    )
    done = await repaired(
        service,
        "session-damaged",
        "own-sender-key-damaged",
        "lid-mapping-half",
        "app-state-sync-version-damaged",
    )
    assert (done.removed, done.completed, done.running) == ({"acme": 4}, {"acme": 1}, ["acme"])
    whole = await verified(service.service)
    assert above_info(whole) == []
    assert [one.newer for one in whole.compared] == ["same"]
    rows = {(row[0], row[1]) for row in await run(database, ROWS)}
    gone = {("session", SESSION), ("sender-key", OWN), ("sender-key-memory", GROUP)}
    assert not gone & rows
    assert ("lid-mapping", f"{PEER}_reverse") in rows
    undone = await undo(context_of(service.service), done.run, vault)
    assert (undone.restored, undone.refused) == (4, {})
    assert {(row[0], row[1]) for row in await run(database, ROWS)} >= gone


async def test_a_members_sender_key_and_a_pre_key_go_if_asked_for(service: Running) -> None:
    """They are not safe; each leaves a state that is whole."""
    await write(service.service.vault, {"sender-key": {THEIRS: BROKEN}, "pre-key": {"5": BROKEN}})
    planned = plan(await verified(service.service), Wish())
    assert [(one.finding.kind, one.action, one.is_safe) for one in planned] == [
        ("pre-key-damaged", "remove", False),
        ("sender-key-damaged", "remove", False),
    ]
    assert (await repaired(service, "pre-key-damaged", "sender-key-damaged")).removed == {"acme": 2}
    assert above_info(await verified(service.service)) == []


async def test_a_repair_that_was_cut_off_is_finished_by_the_next(
    service: Running, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is gone and nobody has said so: the next run knows, and it still comes back."""
    await write(service.service.vault, {"session": {SESSION: BROKEN}})
    settle = trash.settle

    async def cut_off(*_args: Any) -> None:
        raise DatabaseUnavailable("cut off", cause="refused")

    monkeypatch.setattr(trash, "settle", cut_off)
    with pytest.raises(DatabaseUnavailable, match="cut off"):
        await repaired(service, "session-damaged")
    monkeypatch.setattr(trash, "settle", settle)
    assert await run(database, "select taken from standfast_trash") == [(False,)]
    await run_repair(context_of(service.service), service.service.vault, {})
    assert await run(database, "select taken from standfast_trash") == [(True,)]
    assert above_info(await verified(service.service)) == []


@pytest.mark.parametrize("action", ["push", "renew"])
async def test_where_two_states_differ_the_preferred_one_stands(
    service: Running, database: Database, action: Any
) -> None:
    """Somebody else wrote a row: PostgreSQL gets the replica's state back, or the replica takes PostgreSQL's; the other
    is kept."""
    service.service.vault.release(ACME)
    before = await run(database, ROWS)
    devices = "update whatsapp_keys set value = '[\"0\",\"7\"]' where key_type = 'device-list'"
    await run(database, devices)
    (found,) = above_info(await verified(service.service))
    assert found.kind == "differs"
    wish = Wish(prefer="replica" if action == "push" else "postgresql")
    assert [one.action for one in plan(await verified(service.service), Wish())] == ["none"]
    assert [one.action for one in plan(await verified(service.service), wish)] == [action]
    (done,) = await settled(service.service.settings, {"acme": action}, Silent())
    assert await asyncio.to_thread(Path(done.kept).exists)
    after = await verified(service.service)
    assert above_info(after) == []
    assert [one.newer for one in after.compared] == ["same"]
    kept = {row for row in await run(database, ROWS) if row[0] != "sender-key-memory"}
    was = {row for row in before if row[0] != "sender-key-memory"}
    assert (kept == was) is (action == "push")


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


def test_the_command_does_what_is_safe_and_names_the_rest(
    standfast: CommandLine, tmp_path: Path, database_options: DatabaseOptions
) -> None:
    """Of a company that nobody holds; nothing without a yes; what must not be touched is left, with what to do."""
    healthy = state_of(real())
    assert healthy.creds is not None
    export_folder(tmp_path / "acme", healthy.creds, healthy.keys)
    assert standfast("import", tmp_path / "acme", "acme").code == 0
    whole = standfast("repair", "--yes")
    assert (whole.code, whole.out) == (0, "There is nothing to repair.\n")
    spoil = "update whatsapp_keys set value = '1' where key_type = '{}' and key_id = '{}'"
    execute(
        database_options,
        spoil.format("session", SESSION),
        spoil.format("identity-key", SESSION),
        spoil.format("pre-key", "5"),
        f"delete from whatsapp_keys where key_id = '{PEER}_reverse'",
    )
    assert standfast("repair").code == 2
    dry = standfast("repair", "--dry-run")
    assert dry.code == 0
    assert "Nothing was changed." in dry.out
    assert max(map(len, dry.out.splitlines())) <= 80
    done = standfast("repair", "--yes", "--json")
    assert done.code == 13
    assert done.document["repair"]["removed"] == {"acme": 1}
    assert done.document["repair"]["completed"] == {"acme": 1}
    left = {one["kind"]: one["id"] for one in standfast("verify", "--json").document["findings"]}
    assert left.keys() == {"identity-key-damaged", "pre-key-damaged"}
    asked = standfast("repair", "acme", "--finding", left["pre-key-damaged"], "--yes")
    assert asked.code == 0, asked.out + asked.err
    assert standfast("repair", "--finding", left["pre-key-damaged"]).code == 24
    undone = standfast("cleanup", "undo", done.document["repair"]["run"], "--yes", "--json")
    assert undone.document["restored"] == 1
    listed = json.loads(standfast("cleanup", "list", "--json").out)
    assert {one["policy"] for one in listed} == {"repair"}
