"""Folders that somebody has damaged, or used for something else, while the service stood still."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from standfast.errors import CompanyInUse
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from tests.integration.returns import on_files
from tests.integration.services import ACME, running
from tests.support import made_up_creds, until

KEYS = {"session": {"a": b"1", "b": b"1"}}


@pytest.fixture
async def folder(state: Path, database_options: DatabaseOptions, store: PostgresAuthStore) -> Path:
    """That of a company whose service has stopped in order."""
    await store.install(ACME, made_up_creds(), KEYS)
    async with running(state, database_options) as now:
        await now.in_state("online")
        await on_files(now)
        await now.service.vault.set_keys(ACME, {"session": {"c": b"1"}})
        await now.service.files.flush()
    return state / "emergency" / ACME


async def test_a_damaged_file_is_kept_and_written_anew_and_what_a_bot_did_stays(
    state: Path, database_options: DatabaseOptions, folder: Path
) -> None:
    """One file is torn, another was changed by a bot, a third is somebody's own: each gets what it is due."""
    (folder / "session-a.json").write_bytes(b'{"torn')
    (folder / "session-b.json").write_bytes(b"2")
    (folder / "notes.txt").write_bytes(b"mine")
    async with running(state, database_options) as now:
        assert await now.service.vault.open(ACME)
        assert await now.service.vault.get_keys(ACME, "session", ["a", "b"]) == {"a": b"1", "b": b"2"}
        (alert,) = now.alerts("folder_rewritten")
        assert not now.alerts("mirror_stopped")
        await now.service.files.flush()
    assert [(folder / f"session-{name}.json").read_bytes() for name in "ab"] == [b"1", b"2"]
    assert (folder / "notes.txt").read_bytes() == b"mine"
    assert (Path(alert["facts"]["kept"]) / "session-a.json").read_bytes() == b'{"torn'


async def test_another_identity_in_the_folder_is_not_taken_in_by_itself(
    state: Path, database_options: DatabaseOptions, folder: Path
) -> None:
    """Somebody has paired another device there: whose state goes on is decided, and the other's is kept."""
    creds = json.loads(made_up_creds(identity=b"\x09" * 32))
    (folder / "creds.json").write_text(json.dumps(creds))
    async with running(state, database_options) as now:
        with pytest.raises(CompanyInUse):
            await now.service.vault.open(ACME)
        assert now.alerts("folder_conflict")
        await now.service.files.take(ACME, from_files=False)
        assert await now.service.vault.open(ACME)
        assert now.alerts("folder_decided")
    (kept,) = (state / "emergency" / ".kept").glob(f"*/{ACME}/creds.json")
    assert json.loads(kept.read_bytes()) == creds
    assert json.loads((folder / "creds.json").read_bytes()) != creds


async def test_what_the_vault_had_is_kept_where_the_files_count(
    state: Path, database_options: DatabaseOptions, folder: Path
) -> None:
    """A decision for the files loses nothing that the vault alone has: it is kept, and types of our own stay."""
    async with running(state, database_options) as now:
        await now.service.files._unfollow()  # the folder stands still, the vault does not
        assert await now.service.vault.open(ACME)
        await now.service.vault.set_keys(ACME, {"session": {"v": b"3"}, "standfast-inbox": {"x": b"1"}})
    (folder / "session-a.json").write_bytes(b"4")
    async with running(state, database_options) as now:
        await now.service.files.take(ACME, from_files=True)
        assert await now.service.vault.open(ACME)
        assert await now.service.vault.get_keys(ACME, "session", ["a", "v"]) == {"a": b"4"}
        assert await now.service.vault.get_keys(ACME, "standfast-inbox", ["x"]) == {"x": b"1"}
    (kept,) = (state / "emergency" / ".kept").glob(f"*/{ACME}/session-v.json")
    assert kept.read_bytes() == b"3"


async def test_a_disk_that_takes_nothing_stops_no_write_and_the_folder_catches_up(
    state: Path, database_options: DatabaseOptions, folder: Path
) -> None:
    """The vault acknowledges all the time; one alert says that folders stand still, another that they follow again."""
    async with running(state, database_options) as now:
        vault = now.service.vault
        assert await vault.open(ACME)
        block(folder)
        await vault.set_keys(ACME, {"session": {"a": b"5"}})
        await until(lambda: len(now.alerts("mirror_stopped")) == 1)
        await vault.set_keys(ACME, {"session": {"b": b"6"}})
        unblock(folder)
        await until(lambda: len(now.alerts("mirror_goes_on")) == 1)
        await until(lambda: (folder / "session-b.json").read_bytes() == b"6")
        assert (folder / "session-a.json").read_bytes() == b"5"


def block(folder: Path) -> None:
    """Nothing can be written there any more."""
    folder.rename(folder.with_name(".away"))
    folder.write_text("in the way")


def unblock(folder: Path) -> None:
    folder.unlink()
    folder.with_name(".away").rename(folder)
