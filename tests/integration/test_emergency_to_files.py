"""Over to files: with a service and without one, PostgreSQL dead or alive, whole or not at all."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from standfast.alert import LoggedAlerts
from standfast.authstate.company import Company
from standfast.authstate.multifile import import_folder
from standfast.errors import CompanyInUse, EmergencyFailed, EmergencyRefused
from standfast.jobs.emergency import folders
from standfast.jobs.emergency.folders import new_switch
from standfast.jobs.emergency.mode import ModeFile
from standfast.jobs.emergency.to_files import FilesReport, ToFiles, Wanted
from standfast.jobs.progress import Silent
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from standfast.service.to_files import files_node
from standfast.settings import Settings
from tests.integration.returns import writing
from tests.integration.services import ACME, Running, running, settings_of
from tests.support import Proxy, made_up_creds, until
from tests.unit.test_key_pairs import document

BOLT = Company("bolt")
CREDS = made_up_creds(**document(1))
KEYS = {"session": {"a": b'{"n":1}'}, "pre-key": {"7": b'{"k":7}'}, "standfast-taken": {"t": b"[]"}}


@pytest.fixture
async def stored(store: PostgresAuthStore) -> PostgresAuthStore:
    for company in (ACME, BOLT):
        await store.install(company, CREDS, KEYS)
    return store


async def over(settings: Settings, directory: Path | None = None, **wanted: Any) -> FilesReport:
    """Go over with whatever the plan says."""
    root = directory or settings.emergency_directory
    async with files_node(settings, LoggedAlerts()) as (node, is_service):
        job = ToFiles(node, Wanted(str(root), **wanted), Silent(), new_switch, is_service=is_service)
        return await job.run(await job.look())


async def serving(now: Running) -> None:
    """Both companies are open."""
    await now.in_state("online")
    for company in (ACME, BOLT):
        assert await now.service.vault.open(company)


def sessions(root: Path, company: Company = ACME) -> dict[str, Any]:
    found = import_folder(root / company).keys["session"]
    return {key_id: json.loads(value) for key_id, value in found.items()}


async def test_a_service_goes_over_without_postgresql_and_loses_nothing(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, stored: PostgresAuthStore
) -> None:
    """PostgreSQL has gone; what is written before, during and after the switch is in the folder a moment later. What
    stood there is kept, and types of our own stay in the vault."""
    settings = settings_of(state, proxied, mirror_interval_ms=20)
    former = state / "emergency" / ACME
    former.mkdir(parents=True)
    (former / "creds.json").write_text("{}")
    async with running(state, proxied, mirror_interval_ms=20) as now:
        await serving(now)
        await proxy.close()
        async with writing(now) as ledger:
            await until(lambda: len(ledger.written) >= 10)
            report = await over(settings)
            assert report.ok, report
            before = len(ledger.written)
            await until(lambda: len(ledger.written) > min(before, 40))
        await until(lambda: sessions(state / "emergency").keys() >= ledger.written.keys(), 2.0)
        assert [(one.company, one.source) for one in report.companies] == [
            (ACME, "replica"),
            (BOLT, "replica"),
        ]
        assert now.service.vault.detached is not None
    mode = ModeFile(state).read()
    assert mode is not None
    assert set(mode.companies) == {ACME, BOLT}
    assert report.kept is not None
    assert (Path(report.kept) / ACME / "creds.json").read_text() == "{}"
    assert set(import_folder(state / "emergency" / BOLT).keys) == {"session", "pre-key"}
    with pytest.raises(EmergencyRefused, match="stands on files already"):
        await over(settings)


async def test_without_a_service_the_next_one_begins_on_files(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, stored: PostgresAuthStore
) -> None:
    """The command writes what the vault's file has; an unknown company is an error that names those that are known."""
    settings = settings_of(state, proxied)
    async with running(state, proxied) as now:
        await serving(now)
    await proxy.close()
    with pytest.raises(EmergencyRefused, match="'nobody'") as wrong:
        await over(settings, only=["nobody"])
    assert "acme, bolt" in wrong.value.next_step
    assert ModeFile(state).read() is None
    assert (await over(settings)).ok
    assert sessions(state / "emergency", BOLT) == {"a": {"n": 1}}
    async with running(state, proxied) as now:
        assert await now.service.vault.open(ACME)
        assert now.service.vault.detached is not None


async def test_what_cannot_be_done_is_refused_before_anything_is(
    state: Path, proxied: DatabaseOptions, stored: PostgresAuthStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the way, a folder that cannot be written, no room: the service is none the worse for it."""
    settings = settings_of(state, proxied)
    async with running(state, proxied) as now:
        await serving(now)
        file = state / "file"
        file.write_text("")
        for directory in (file, Path("/proc/1/emergency")):
            with pytest.raises(EmergencyRefused):
                await over(settings, directory)
        with monkeypatch.context() as context:
            context.setattr(folders, "_BLOCK_BYTES", 2**60)
            with pytest.raises(EmergencyRefused, match="MiB are free"):
                await over(settings)
        assert now.service.vault.detached is None
        assert not any((state / "emergency").glob("*"))


async def test_a_step_that_fails_leaves_all_as_it_was(
    state: Path, proxied: DatabaseOptions, stored: PostgresAuthStore
) -> None:
    """The mode cannot be written, when all folders are in place: what stood there stands there again."""
    settings = settings_of(state, proxied)
    former = state / "emergency" / ACME
    former.mkdir(parents=True)
    (former / "mine").write_text("")
    async with running(state, proxied) as now:
        await serving(now)
        (state / ".emergency.json.new").mkdir()
        with pytest.raises(EmergencyFailed, match="nothing has changed"):
            await over(settings)
        assert now.service.vault.detached is None
        await now.service.vault.set_keys(ACME, {"session": {"later": b"1"}})
    assert [path.name for path in (state / "emergency").iterdir()] == [ACME]
    assert [path.name for path in former.iterdir()] == ["mine"]


async def test_a_damaged_company_is_named_and_can_be_left_out(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, stored: PostgresAuthStore
) -> None:
    """Half of the replica cannot be read and PostgreSQL is away: the error is ours, and the other half goes over."""
    settings = settings_of(state, proxied, change_log="off")
    async with running(state, proxied, change_log="off") as now:
        await serving(now)
    await proxy.close()
    spoil(state / "vault" / "vault.db", BOLT)
    with pytest.raises(EmergencyFailed, match="nothing has changed"):
        await over(settings)
    assert ModeFile(state).read() is None
    report = await over(settings)
    assert {one.company for one in report.left_out} == {BOLT}
    assert sessions(state / "emergency") == {"a": {"n": 1}}
    mode = ModeFile(state).read()
    assert mode is not None
    assert set(mode.companies) == {ACME}


def spoil(file: Path, company: Company) -> None:
    """A value of the company is no longer what was written."""
    with sqlite3.connect(file) as connection:
        number = connection.execute("select number from companies where company = ?", (company,)).fetchone()[
            0
        ]
        connection.execute(
            "update replica set value = x'00' where number = ? and type = 'session'", (number,)
        )


async def test_a_company_that_another_node_has_taken_since_stays_with_it(
    state: Path, proxied: DatabaseOptions, stored: PostgresAuthStore
) -> None:
    """This node has a whole copy of it, of an earlier time: that goes to no folder, and is not opened on files."""
    settings = settings_of(state / "1", proxied)
    async with running(state / "1", proxied) as now, running(state / "2", proxied, node_name="two") as other:
        await serving(now)
        await other.in_state("online")
        now.service.vault.release(ACME)
        await until(lambda: not (now.service.vault.held.get(ACME)))
        assert await other.service.vault.open(ACME)
        report = await over(settings)
        assert [one.company for one in report.companies] == [BOLT]
        assert [(one.company, one.why) for one in report.left_out] == [
            (ACME, "the node two holds it: switch that one too")
        ]
        with pytest.raises(CompanyInUse):
            await now.service.vault.open(ACME)


async def test_a_hung_postgresql_makes_no_difference(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, stored: PostgresAuthStore
) -> None:
    """It passes nothing on, and the vault has not noticed yet: every look at it has a short deadline."""
    settings = settings_of(state, proxied)
    async with running(state, proxied) as now:
        await serving(now)
        proxy.flowing.clear()
        began = time.monotonic()
        report = await over(settings)
        assert report.ok
        assert len(report.companies) == 2
        assert time.monotonic() - began < 4.0
        proxy.flowing.set()
