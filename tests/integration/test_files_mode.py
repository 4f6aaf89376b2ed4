"""A service that stands on files: over restarts, with PostgreSQL away or there, until it is told otherwise."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from standfast.authstate.change import Change
from standfast.authstate.live_folder import LiveFolder
from standfast.authstate.multifile import import_folder
from standfast.errors import CompanyInUse, EmergencyRefused, StandfastError, StateDirectoryError
from standfast.jobs.emergency.mode import FORMAT, Mode, ModeFile, Placed
from standfast.jobs.progress import Silent
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from standfast.service.restoring import restoring_context
from tests.integration.services import ACME, running, settings_of
from tests.integration.test_service_outage import has_key
from tests.integration.vaults import Alerts
from tests.support import Proxy, made_up_creds, until


def mode_of(state: Path, epoch: int = 1) -> Mode:
    root = state / "emergency"
    root.mkdir(exist_ok=True)
    return Mode(FORMAT, "e1", "files", time.time(), str(root), {ACME: Placed("replica", epoch, 0, ACME)})


async def test_the_mode_is_remembered_and_ends_when_it_is_told_to(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """A node that went on files starts on files, without PostgreSQL and with it, and brings everything there when it
    leaves them."""
    await store.install(ACME, made_up_creds(), {"session": {"a": b"1"}})
    async with running(state, proxied) as now:
        await now.in_state("online")
        assert await now.service.vault.open(ACME)
        await now.service.files.enter(mode_of(state))
        await now.service.vault.set_keys(ACME, {"session": {"b": b"2"}})
        (alert,) = now.alerts("on_files")
        assert alert["level"] == "warning"
    await proxy.close()
    async with running(state, proxied) as now:
        assert await now.service.vault.open(ACME)
        await now.service.vault.set_keys(ACME, {"session": {"c": b"3"}})
        assert [
            one for name in ("outage_began", "started_without_database") for one in now.alerts(name)
        ] == []
    await proxy.listen()
    async with running(state, proxied) as now:
        await until(lambda: now.service.vault.outage.answered is True)
        status = await now.service.status()
        assert (status["files"]["stage"], status["files"]["answered"]) == ("files", True)
        codes = {one.code for one in now.service.picture.health().findings}
        assert "on_files" in codes
        assert codes.isdisjoint({"database_unavailable", "outage"})
        assert not await has_key(store, "b")
        await now.service.files.leave()
        await now.in_state("online")
        assert await has_key(store, "b")
        assert await has_key(store, "c")
        assert now.service.files.status() is None
        assert now.alerts("off_files")
    assert ModeFile(state).read() is None


async def test_a_mode_that_cannot_be_kept_changes_nothing(
    state: Path, proxied: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """A switch that is not durable is none."""
    await store.install(ACME, made_up_creds(), {})
    async with running(state, proxied) as now:
        await now.in_state("online")
        (state / "emergency.json").mkdir()
        with pytest.raises(StateDirectoryError):
            await now.service.files.enter(mode_of(state))
        assert now.service.vault.detached is None
        assert now.service.files.status() is None
        (state / "emergency.json").rmdir()


async def test_a_restore_is_refused_meanwhile(state: Path, database_options: DatabaseOptions) -> None:
    """It would write what this node's own state is to replace."""
    ModeFile(state).write(mode_of(state))
    with pytest.raises(EmergencyRefused, match="stands on files"):
        async with restoring_context(settings_of(state, database_options), Silent(), Alerts(), None):
            pass


async def test_a_folder_follows_every_write(
    state: Path, database_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """Whoever opens the folder finds what was acknowledged, deletions too; Standfast's own keys stay out."""
    await store.install(ACME, made_up_creds(), {"session": {"a": b"1", "gone": b"1"}})
    async with running(state, database_options) as now:
        vault = now.service.vault
        await now.in_state("online")
        assert await vault.open(ACME)
        await now.service.files.enter(mode_of(state))
        await vault.set_keys(
            ACME, {"session": {"b:1/2": b'{"n":2}', "gone": None}, "standfast-inbox": {"x": b"1"}}
        )
        assert now.service.files.mode is not None
        file = state / "emergency" / ACME / "session-b-1__2.json"
        await until(lambda: file.exists() and file.read_bytes() == b'{"n":2}')
        await now.service.files.flush()
        assert held(state) == {"a": b"1", "b:1/2": b'{"n":2}'}
        await vault.set_keys(ACME, {"session": {"a": b"3"}})
    assert held(state) == {"a": b"3", "b:1/2": b'{"n":2}'}
    async with running(state, database_options) as now:
        assert await now.service.vault.open(ACME)
        await now.service.vault.clear_keys(ACME)
        await until(lambda: held(state) == {})
        await until(lambda: (now.service.files.status() or {})["mirror"]["behind"] == 0)
        mirror = (now.service.files.status() or {})["mirror"]
        assert (mirror["failing"], mirror["conflicts"]) == (False, [])


async def test_what_a_plain_bot_did_in_the_folder_is_taken_in(
    state: Path, database_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """A bot that used the folder while the service stood still goes on from there in the service; where both went on,
    somebody decides."""
    await store.install(ACME, made_up_creds(), {"session": {"a": b"1", "gone": b"1"}})
    async with running(state, database_options) as now:
        await now.in_state("online")
        assert await now.service.vault.open(ACME)
        await now.service.files.enter(mode_of(state))
        await now.service.files.flush()
    folder = state / "emergency" / ACME
    (folder / "session-a.json").write_bytes(b"2")
    (folder / "session-new.json").write_bytes(b"2")
    (folder / "session-gone.json").unlink()
    async with running(state, database_options) as now:
        vault = now.service.vault
        assert await vault.open(ACME)
        assert await vault.get_keys(ACME, "session", ["a", "new", "gone"]) == {"a": b"2", "new": b"2"}
        assert now.alerts("folder_taken_in")
        await now.service.files._unfollow()  # the folder stands still, the vault does not
        await vault.set_keys(ACME, {"session": {"vault": b"3"}})
    (folder / "session-a.json").write_bytes(b"4")
    async with running(state, database_options) as now:
        with pytest.raises(CompanyInUse, match="changed by somebody else"):
            await now.service.vault.open(ACME)
        assert now.alerts("folder_conflict")
        await now.service.files.take(ACME, from_files=True)
        assert await now.service.vault.open(ACME)
        assert await now.service.vault.get_keys(ACME, "session", ["a", "vault"]) == {"a": b"4"}
        assert held(state) == {"a": b"4", "new": b"2"}


async def test_only_folders_that_somebody_touched_are_read_at_a_start(
    state: Path, database_options: DatabaseOptions, store: PostgresAuthStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions wait for it: a thousand companies have more than a million files."""
    read, foreign = list[Path](), LiveFolder.foreign

    def noted(folder: LiveFolder, damaged: list[str] | None = None) -> Change | None:
        read.append(folder.directory)
        return foreign(folder, damaged)

    monkeypatch.setattr(LiveFolder, "foreign", noted)
    await store.install(ACME, made_up_creds(), {"session": {"a": b"1"}})
    async with running(state, database_options) as now:
        await now.in_state("online")
        assert await now.service.vault.open(ACME)
        await now.service.files.enter(mode_of(state))
        await now.service.vault.set_keys(ACME, {"session": {"b": b"2"}})
    async with running(state, database_options) as now:
        assert read == []
        await now.service.vault.open(ACME)
        await now.service.vault.set_keys(ACME, {"session": {"b": b"3"}})
    assert held(state) == {"a": b"1", "b": b"3"}
    (state / "emergency" / ACME / "session-a.json").write_bytes(b"9")
    async with running(state, database_options) as now:
        assert read == [state / "emergency" / ACME]
        await now.service.vault.open(ACME)
        assert await now.service.vault.get_keys(ACME, "session", ["a"]) == {"a": b"9"}


async def test_a_lost_vault_is_filled_from_the_folders(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """With PostgreSQL away and the vault's file gone, the folders are what sessions go on from."""
    await store.install(ACME, made_up_creds(), {"session": {"a": b"1"}})
    async with running(state, proxied) as now:
        await now.in_state("online")
        assert await now.service.vault.open(ACME)
        record = now.service.vault.replica.record(ACME)
        assert record is not None
        await now.service.files.enter(mode_of(state, record.epoch))
        await now.service.vault.set_keys(ACME, {"session": {"b": b"2"}})
    await proxy.close()
    for file in (state / "vault").glob("vault.db*"):
        file.unlink()
    async with running(state, proxied) as now:
        assert await now.service.vault.open(ACME)
        assert await now.service.vault.get_keys(ACME, "session", ["a", "b"]) == {"a": b"1", "b": b"2"}


def held(state: Path) -> dict[str, bytes]:
    """The company's sessions as its folder has them."""
    with contextlib.suppress(StandfastError):
        return import_folder(state / "emergency" / ACME).keys.get("session", {})
    return {"unreadable": b""}
