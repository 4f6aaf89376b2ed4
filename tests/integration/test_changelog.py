"""The change log: past states are those that the store held, and a gap is never silent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from standfast.authstate.company import Company
from standfast.jobs.changelog.sealing import Opener
from standfast.jobs.changelog.segment import open_segment, read_entries
from standfast.jobs.changelog.state import state_at
from standfast.jobs.changelog.verify import verify
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from tests.integration.changelogs import State, latest, log_settings, logged, next_second, state_of
from tests.integration.services import running, short_directory
from tests.support import Proxy, made_up_creds, until

ACME, BETA = Company("acme"), Company("beta")


async def test_each_second_of_a_history_can_be_had_back(
    database_options: DatabaseOptions, tmp_path: Path
) -> None:
    """The state at each second is what the store held when that second began, for each company, over a restart."""
    settings = log_settings(tmp_path / "one", tmp_path / "backups", change_log_segment_s=2.0)
    held: list[tuple[float, dict[Company, State]]] = []
    for run in range(2):
        async with logged(settings, database_options, ticking=True) as one:
            for company in (ACME, BETA):
                if await one.vault.open(company, pair=True) is None:
                    await one.vault.create_creds(company, made_up_creds())
            for step in range(2):
                await until(lambda: time.time() % 1 > 0.7)
                values = {f"{run}": b'"%d"' % step, "shared": b'"%d-%d"' % (run, step)}
                await one.vault.set_keys(ACME, {"session": values})
                await one.vault.set_keys(BETA, {"session": {"shared": b'"b%d"' % step, f"{run}": None}})
                await one.vault.save_creds(BETA, made_up_creds(nextPreKeyId=100 * run + step))
                held.append((await next_second(), {c: one.state(c) for c in (ACME, BETA)}))
    for at, states in held:
        for company, expected in states.items():
            found = await state_at(settings, company, at)
            assert state_of(found) == expected, (at, company)
            assert found is not None
            assert found.gap is None
            assert found.is_latest == (at == held[-1][0]), (at, company)
    assert await state_at(settings, ACME, held[0][0] - 60) is None


@pytest.fixture
async def paired(database: Database) -> Database:
    await PostgresAuthStore(database).install(ACME, made_up_creds(), {"session": {"0": b'"0"'}})
    return database


async def test_what_is_written_in_an_outage_is_in_the_log_before_it_ends(
    tmp_path: Path, tcp_options: DatabaseOptions, proxy: Proxy, paired: Database
) -> None:
    """The log needs no PostgreSQL."""
    settings = log_settings(tmp_path / "one", tmp_path / "backups")
    async with logged(settings, replace(tcp_options, port=proxy.port), ticking=True) as one:
        await one.vault.open(ACME)
        proxy.freeze()
        await one.vault.set_keys(ACME, {"session": {"outage": b'"1"'}})
        expected = one.state(ACME)

        async def is_logged() -> bool:
            return await latest(settings, ACME) == expected

        await until(is_logged)
        assert one.vault.held.get(ACME).pending  # type: ignore[union-attr]


async def test_a_takeover_is_seen_in_the_logs_of_both_nodes(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """Whoever had the company at a moment tells its state then; a node that has it again begins with a snapshot."""
    backups, identity = tmp_path / "backups", tmp_path / "identity"
    identity.write_text(str(own := pyrage.x25519.Identity.generate()))
    first, second = (
        log_settings(
            tmp_path / name, backups, backup_recipients=str(own.to_public()), backup_identity_file=identity
        )
        for name in ("one", "two")
    )
    held: list[tuple[float, State]] = []
    for turn, settings in enumerate((first, second, first)):
        async with logged(settings, database_options, ticking=True) as one:
            await one.vault.open(ACME)
            await one.vault.set_keys(ACME, {"session": {"turn": b'"%d"' % turn, f"{turn}": b'"x"'}})
            held.append((await next_second(), one.state(ACME)))
    for at, expected in held:
        found = await state_at(first, ACME, at)
        assert state_of(found) == expected, at
        assert found is not None
        assert found.is_latest == (at == held[-1][0])
    assert len({state.node for at, _ in held if (state := await state_at(first, ACME, at))}) == 2


async def _write_and_die(directory: Path, conninfo: str) -> None:
    """One change that is in a segment, one that PostgreSQL has and no segment, one that only the journal has."""
    settings = log_settings(directory / "one", directory / "backups")
    async with logged(settings, DatabaseOptions(conninfo)) as one:
        await one.vault.open(ACME)
        await one.vault.set_keys(ACME, {"session": {"written": b'"1"'}})
        await one.written()
        await one.vault.set_keys(ACME, {"session": {"unwritten": b'"2"'}})
        os.kill(os.getpid(), signal.SIGKILL)


async def test_what_a_killed_node_had_not_written_is_known_by_a_snapshot(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """The end of the gap is exact, and the log says where it begins; before it the state is that of its beginning."""
    command = [sys.executable, "-m", "tests.integration.test_changelog", str(tmp_path)]
    killed = await asyncio.to_thread(
        subprocess.run,
        [*command, database_options.to_conninfo()],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=30,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-3000:]
    settings = log_settings(tmp_path / "one", tmp_path / "backups")
    before = await latest(settings, ACME)
    assert before is not None
    assert set(before["session"]) == {"0", "written"}
    died = await next_second()
    async with logged(settings, database_options) as one:
        await one.vault.open(ACME)
        expected = one.state(ACME)
    assert set(expected["session"]) == {"0", "written", "unwritten"}
    assert await latest(settings, ACME) == expected
    between = await state_at(settings, ACME, died)
    assert between is not None
    if between.gap is None:  # the journal still had it, with its time
        assert state_of(between) == expected
    else:
        assert state_of(between) == before
        assert between.gap[0] < died <= between.gap[1] + 1


async def test_a_service_that_is_told_not_to_keeps_no_log(database_options: DatabaseOptions) -> None:
    """STANDFAST_CHANGE_LOG=off writes nothing, and 'on' writes what the service does until it ends."""
    with short_directory() as directory:
        async with running(directory, database_options, change_log="off") as off:
            await off.service.vault.open(ACME, pair=True)
            await off.service.vault.create_creds(ACME, made_up_creds())
            settings = off.service.settings
        assert not settings.backup_directory.exists()
        async with running(directory, database_options) as on:
            await on.service.vault.open(ACME)
            await on.service.vault.set_keys(ACME, {"session": {"1": b'"1"'}})
        found = await latest(settings, ACME)
        assert found is not None
        assert found["session"] == {"1": b'"1"'}
        kept = [path for path in settings.backup_directory.rglob("*") if path.is_file()]
        assert kept
        assert all(path.stat().st_mode & 0o077 == 0 for path in (*kept, *{path.parent for path in kept}))
        assert not any(made_up_creds() in path.read_bytes() for path in kept)


async def test_a_disk_that_takes_nothing_stops_the_log_and_nothing_else(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """The vault goes on, operators are told once, and the log goes on with a snapshot that says where its gap began."""
    settings = log_settings(tmp_path / "one", tmp_path / "backups")
    async with logged(settings, database_options) as one:
        await one.vault.open(ACME)
        await one.written()
        before = await latest(settings, ACME)
        elsewhere = one.folder.path.with_name("elsewhere")
        one.folder.path.rename(elsewhere)
        one.folder.path.touch()
        for number in range(3):
            await one.vault.set_keys(ACME, {"session": {f"{number}": b'"' + b"x" * 300_000 + b'"'}})
            await one.keeper.tick(1.0, everything=True)
        assert [alert.name for alert in one.alerts.taken] == ["change_log_stopped"]
        assert one.keeper.is_failing
        one.folder.path.unlink()
        elsewhere.rename(one.folder.path)
        assert await latest(settings, ACME) == before
        await one.written()
        assert await latest(settings, ACME) == one.state(ACME)
        assert one.alerts.names() == ["change_log_stopped", "change_log_goes_on"]
    assert (await verify(settings)).problems == []


async def test_a_log_that_cannot_begin_begins_later(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """Where the backup directory cannot be made, the vault runs, and the log begins once it can."""
    settings = log_settings(tmp_path / "one", tmp_path / "backups")
    (tmp_path / "backups").touch()
    async with logged(settings, database_options, ticking=True) as one:
        await one.vault.open(ACME)
        await until(lambda: one.keeper.is_failing)
        await one.vault.set_keys(ACME, {"session": {"1": b'"1"'}})
        (tmp_path / "backups").unlink()
        await until(lambda: not one.keeper.is_failing)
        expected = one.state(ACME)
    assert await latest(settings, ACME) == expected


async def test_what_has_settled_before_anybody_looks_is_in_the_log(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """However late the log is worked on, each change is in it as a change, with its time."""
    settings = log_settings(tmp_path / "one", tmp_path / "backups")
    async with logged(settings, database_options) as one:
        await one.vault.open(ACME)
        await one.written()
        await one.vault.set_keys(ACME, {"session": {"1": b'"1"'}})
        at = await next_second()
        await until(lambda: any(found.change is None for found in one.vault.replica.recent({ACME: 0})))
        await until(lambda: not one.vault.replica.recent({ACME: 0}))
        await one.written()
        assert state_of(await state_at(settings, ACME, at + 2)) == one.state(ACME)
    entries = [
        entry.kind
        for place in one.folder.segments()
        for entry in read_entries(open_segment(place), ACME, Opener.of(settings)) or []
    ]
    assert entries == ["snapshot", "change"]


async def test_a_removed_company_has_no_state_from_then_on(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """What was before its removal can still be had."""
    settings = log_settings(tmp_path / "one", tmp_path / "backups")
    async with logged(settings, database_options) as one:
        await one.vault.open(ACME)
        there = await next_second()
        one.vault.release(ACME)
        await until(lambda: one.vault.held.get(ACME) is None)
        assert await one.vault.remove(ACME)
    gone, before = await state_at(settings, ACME), await state_at(settings, ACME, there)
    assert gone is not None
    assert gone.creds is None
    assert before is not None
    assert before.creds is not None
    assert json.loads(before.creds) == json.loads(made_up_creds())


if __name__ == "__main__":
    asyncio.run(_write_and_die(Path(sys.argv[1]), sys.argv[2]))
