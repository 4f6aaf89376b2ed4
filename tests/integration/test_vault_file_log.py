"""The write-ahead log of the vault's file: torn, cut short, lost or left alone, and what is known of it without it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from standfast.authstate.change import Change
from standfast.errors import JournalUnwritable
from standfast.vault import alerts
from standfast.vault.storage import files, mark, writing
from standfast.vault.storage.damage import Damage
from tests.support import until
from tests.vault_files import (
    ACME,
    APPLIED,
    BOLT,
    WRITTEN,
    batch,
    change_rows,
    check_holds,
    check_journal,
    crash,
    enrolled,
    opened,
    reported,
    small_log,
    written,
)


@pytest.fixture(autouse=True)
def _small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    small_log(monkeypatch)


@pytest.fixture
def _nothing_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file as it is right behind the writes: values in the journal alone, everything in one round of the log."""
    monkeypatch.setattr(writing, "TICK_S", 60.0)
    monkeypatch.setattr(files, "CHECKPOINT_BYTES", 2**30)


async def test_a_crashed_file_is_whole(tmp_path: Path) -> None:
    """What the other tests break was not broken before."""
    vault_file, damages = await reported(await crash(tmp_path))
    assert damages == []
    for company in (ACME, BOLT):
        check_holds(vault_file, company, WRITTEN)
        check_journal(vault_file, company)
    await vault_file.close()


@pytest.mark.usefixtures("_nothing_settles")
async def test_a_log_that_is_broken_before_its_end_is_found(tmp_path: Path) -> None:
    """SQLite would go back to the last commit before it without a word."""
    crashed = await crash(tmp_path)
    log = crashed / "vault" / "vault.db-wal"
    content = bytearray(log.read_bytes())
    frames = [at for at in range(32, len(content), 24 + 4096) if content[at + 8 : at + 16] == content[16:24]]
    content[frames[len(frames) * 3 // 4] + 1_000] ^= 4
    log.write_bytes(content)
    vault_file, damages = await reported(crashed)
    assert len(damages) == 1
    assert "write-ahead log" in damages[0].what
    assert (damages[0].lost > 1, damages[0].salvaged > 0) == (True, True)
    assert set(damages[0].companies) == {ACME, BOLT}
    assert all(not record.complete for record in vault_file.companies())
    await vault_file.close()


@pytest.mark.parametrize("boot_id", ["one", "two"])
@pytest.mark.usefixtures("_nothing_settles")
async def test_a_last_commit_that_cannot_be_read(tmp_path: Path, boot_id: str) -> None:
    """After a power failure it was never acknowledged; while the machine ran on, it is damage."""
    vault_file = opened(tmp_path, boot_id="one")
    await enrolled(vault_file, ACME)
    for sequence in (1, 2, 3):
        await vault_file.append(1, sequence, batch(sequence))
    crashed = tmp_path / "crashed"
    shutil.copytree(tmp_path / "vault", crashed / "vault")
    await vault_file.close()
    log = crashed / "vault" / "vault.db-wal"
    content = bytearray(log.read_bytes())
    frames = [at for at in range(32, len(content), 24 + 4096) if content[at + 8 : at + 16] == content[16:24]]
    content[frames[-1] + 1_000] ^= 4
    log.write_bytes(content)
    damages: list[Damage] = []
    again = opened(crashed, boot_id=boot_id, on_damage=damages.append)
    (record,) = again.companies()
    if boot_id == "one":
        assert (damages[0].lost, damages[0].companies, record.complete) == (1, (ACME,), False)
    else:
        assert damages == []
        check_holds(again, ACME, 2)
    await again.close()


@pytest.mark.parametrize("kept", [0, 31, 0.1, 0.5, 0.99], ids=str)
@pytest.mark.usefixtures("_nothing_settles")
async def test_a_log_that_was_cut_short_is_found(
    tmp_path: Path, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a commit's end, too: SQLite finds nothing amiss there."""
    monkeypatch.setattr(files, "LOG_BYTES", 8 * 2**20)
    crashed = await crash(tmp_path)
    log = crashed / "vault" / "vault.db-wal"
    content = log.read_bytes()
    frames = [at for at in range(32, len(content), 24 + 4096) if content[at + 8 : at + 16] == content[16:24]]
    ends = [at + 24 + 4096 for at in frames if content[at + 4 : at + 8] != bytes(4)]
    os.truncate(log, kept if isinstance(kept, int) else ends[int(kept * len(ends)) - 1])
    vault_file, damages = await reported(crashed)
    assert [damage.what.split(",")[0] for damage in damages] == ["the write-ahead log was cut short"]
    assert not any(record.complete for record in vault_file.companies())
    await vault_file.close()


async def test_a_log_that_was_cut_short_is_found_beside_other_damage(tmp_path: Path) -> None:
    """What can still be read is whole and of an earlier time; it must not pass for the last."""
    await written(tmp_path)
    vault_file = opened(tmp_path)
    for sequence in range(WRITTEN + 1, WRITTEN + 4):
        await vault_file.append(1, sequence, batch(sequence))
    crashed = tmp_path / "crashed" / "vault"
    shutil.copytree(tmp_path / "vault", crashed)
    await vault_file.close()
    os.truncate(crashed / "vault.db-wal", 0)
    with (crashed / "vault.db").open("r+b") as file:
        file.write(b"not SQLite")
    vault_file, damages = await reported(crashed.parent)
    assert len(damages) == 1
    assert not any(record.complete for record in vault_file.companies())
    await vault_file.close()


@pytest.mark.parametrize("settled", [True, False], ids=["settled", "fresh"])
@pytest.mark.parametrize("kept", [0, 100, 60_000])
async def test_a_log_that_is_cut_short_under_a_running_process(
    tmp_path: Path, kept: int, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notices when it writes or reads; what is fresh is in its memory, and nothing older is served."""
    monkeypatch.setattr(files, "CHECKPOINT_BYTES", 2**30)
    if not settled:
        monkeypatch.setattr(writing, "TICK_S", 60.0)
    vault_file = await written(tmp_path, close=False)
    damages: list[Damage] = []
    vault_file._on_damage = damages.append
    if settled:
        await until(lambda: not vault_file._settling.is_active)
    os.truncate(tmp_path / "vault" / "vault.db-wal", kept)
    sequence = WRITTEN
    async with asyncio.timeout(15):
        while sequence < WRITTEN + 3 or not damages:
            try:
                await vault_file.append(1, sequence + 1, batch(sequence + 1))
            except JournalUnwritable:
                await asyncio.sleep(0.01)
            else:
                sequence += 1
                await asyncio.sleep(0.01)
    (damage,) = damages
    assert ("cut short while it was in use" in damage.what, damage.lost > 0) == (True, settled)
    assert not any(record.complete for record in vault_file.companies())
    if not settled:
        expected = Change()
        for number in range(1, sequence + 1):
            expected.take(batch(number))
        ahead = vault_file.ahead(1, APPLIED, sys.maxsize)
        assert ahead is not None
        # All that is fresh, what PostgreSQL has among it.
        assert (ahead.last, ahead.change) == (sequence, expected)
    await vault_file.close()


async def test_a_log_that_another_program_emptied_in_order_is_none_the_worse(tmp_path: Path) -> None:
    """A backup tool carries it into the file first."""
    vault_file = await written(tmp_path, close=False)
    damages: list[Damage] = []
    vault_file._on_damage = damages.append
    await until(lambda: not vault_file._settling.is_active)
    log = tmp_path / "vault" / "vault.db-wal"
    other = sqlite3.connect(tmp_path / "vault" / "vault.db")
    assert other.execute("pragma wal_checkpoint(truncate)").fetchone()[0] == 0
    assert log.stat().st_size == 0
    other.close()
    await vault_file.append(1, WRITTEN + 1, batch(WRITTEN + 1))
    assert log.stat().st_size >= files.LOG_BYTES
    check_holds(vault_file, ACME, WRITTEN + 1)
    (tmp_path / "crashed").mkdir()
    shutil.copytree(tmp_path / "vault", tmp_path / "crashed" / "vault")
    await vault_file.close()
    again, found = await reported(tmp_path / "crashed")
    assert damages + found == []
    check_holds(again, ACME, WRITTEN + 1)
    await again.close()


@pytest.mark.parametrize("how", ["log removed", "file removed", "file replaced", "both removed"])
async def test_a_file_that_is_taken_away_under_a_running_process(tmp_path: Path, how: str) -> None:
    """What was written on would lie in files without a name. What PostgreSQL lacks and is in memory stays."""
    vault_file = opened(tmp_path)
    number = await enrolled(vault_file, ACME)
    damages: list[Damage] = []
    vault_file._on_damage = damages.append
    await vault_file.append(number, 1, batch(1))
    file, log = tmp_path / "vault" / "vault.db", tmp_path / "vault" / "vault.db-wal"
    if how != "log removed":
        file.rename(tmp_path / "away.db")
    if how == "file replaced":
        shutil.copy(tmp_path / "away.db", file)
    if how in ("log removed", "both removed"):
        log.unlink()
    with pytest.raises(JournalUnwritable):
        await vault_file.append(number, 2, batch(2))
    await until(lambda: bool(damages))
    assert ("while it was in use" in damages[0].what, damages[0].lost) == (True, 0)
    await vault_file.append(number, 2, batch(2))
    await vault_file.close()
    again, damages = await reported(tmp_path)
    expected = batch(1)
    expected.take(batch(2))
    ahead = again.ahead(number, 0, sys.maxsize)
    assert ahead is not None
    assert (damages, ahead.last, ahead.change) == ([], 2, expected)
    await again.close()


async def test_a_log_that_has_grown_is_known_to_be_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody reads, it cannot be begun anew."""
    monkeypatch.setattr(writing, "TICK_S", 60.0)
    await written(tmp_path)
    vault_file = opened(tmp_path)
    reading = sqlite3.connect(tmp_path / "vault" / "vault.db", isolation_level=None)
    reading.execute("begin").execute("select * from journal").fetchone()
    file = vault_file._file
    assert file is not None
    assert file._marked is not None
    for sequence in range(WRITTEN + 1, WRITTEN + 800):
        await vault_file.append(1, sequence, batch(sequence))
        if file._marked.log_bytes > files.LOG_BYTES:
            break
    assert file._marked.log_bytes > files.LOG_BYTES
    # The thread that puts the mark is to rest: a copy is made file by file, and must not meet the mark half-way.
    await until(lambda: file._checkpoint is None or file._checkpoint.done())
    (tmp_path / "crashed").mkdir()
    shutil.copytree(tmp_path / "vault", tmp_path / "crashed" / "vault")
    reading.close()
    await vault_file.close()
    os.truncate(tmp_path / "crashed" / "vault" / "vault.db-wal", files.LOG_BYTES + 1)
    vault_file, damages = await reported(tmp_path / "crashed")
    assert [damage.what.split(",")[0] for damage in damages] == ["the write-ahead log was cut short"]
    await vault_file.close()


@pytest.mark.usefixtures("_nothing_settles")
async def test_a_file_without_its_log_is_found(tmp_path: Path) -> None:
    """The log removed by hand; another program that carried it into the file did no harm."""
    crashed = await crash(tmp_path)
    for name in ("removed", "carried"):
        shutil.copytree(crashed, tmp_path / name)
    (tmp_path / "removed" / "vault" / "vault.db-wal").unlink()
    vault_file, damages = await reported(tmp_path / "removed")
    assert [damage.what.split(",")[0] for damage in damages] == ["the write-ahead log is gone"]
    told = alerts.replica_corrupt(damages[0])
    assert (told.level, "may be lost" in told.message) == ("critical", True)
    assert not any(record.complete for record in vault_file.companies())
    await vault_file.close()
    change_rows(tmp_path / "carried", "update notes set name = name where name = 'sentinel'")
    assert not (tmp_path / "carried" / "vault" / "vault.db-wal").exists()
    vault_file, damages = await reported(tmp_path / "carried")
    assert damages == []
    check_holds(vault_file, ACME, WRITTEN)
    await vault_file.close()


@pytest.mark.parametrize("emptied", [True, False], ids=["empty", "removed"])
@pytest.mark.usefixtures("_nothing_settles")
async def test_a_log_without_its_file_gives_its_journal_and_the_node_its_name(
    tmp_path: Path, emptied: bool
) -> None:
    """SQLite would remove it."""
    crashed = await crash(tmp_path)
    known = mark.read(crashed / "vault" / "vault.mark")
    assert known is not None
    file = crashed / "vault" / "vault.db"
    if emptied:
        os.truncate(file, 0)
    else:
        file.unlink()
    vault_file, damages = await reported(crashed)
    assert (len(damages), vault_file.node) == (1, known.node)
    assert not any(record.complete for record in vault_file.companies())
    assert damages[0].salvaged >= 2 * (WRITTEN - APPLIED)
    for company in (ACME, BOLT):
        check_journal(vault_file, company)
    await vault_file.close()


async def test_a_node_keeps_its_name_when_its_file_is_damaged_at_rest(tmp_path: Path) -> None:
    """Under another one it would wait for the end of its own lease."""
    node = (await written(tmp_path)).node
    os.truncate(tmp_path / "vault" / "vault.db", 0)
    vault_file, damages = await reported(tmp_path)
    assert (len(damages), vault_file.node) == (1, node)
    await vault_file.close()
