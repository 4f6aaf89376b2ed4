"""Damage of the vault's file: it is found, moved aside, told, and what can still be read is carried over."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.errors import AuthStateCorrupt, JournalUnwritable
from standfast.vault.storage import companies, files, writing
from standfast.vault.storage.damage import Damage
from standfast.vault.storage.replica import Replica, Wish
from tests.support import until
from tests.vault_files import (
    ACME,
    APPLIED,
    BOLT,
    PRE_KEYS,
    WRITTEN,
    batch,
    change_rows,
    check_holds,
    check_journal,
    crash,
    enrolled,
    flipping,
    model,
    opened,
    reported,
    small_log,
    values,
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


def _moved_aside(directory: Path, damage: Damage) -> None:
    assert damage.moved_to is not None
    assert damage.moved_to.parent == directory / "vault"
    assert (damage.moved_to / "vault.db").exists()


async def test_a_broken_value_costs_its_company_a_download_and_no_batch(tmp_path: Path) -> None:
    """The read raises; then the company waits for PostgreSQL with its journal whole, and the other one goes on."""
    await written(tmp_path)
    change_rows(tmp_path, flipping("replica", "value", "number = 1 and type = 'pre-key' and id = '7'"))
    damages: list[Damage] = []
    vault_file = opened(tmp_path, on_damage=damages.append)
    assert vault_file.keys(1, "pre-key", ["8"]) == {"8": PRE_KEYS["8"]}
    with pytest.raises(AuthStateCorrupt, match="seal"):
        vault_file.keys(1, "pre-key", ["7"])
    await until(lambda: bool(damages))
    _moved_aside(tmp_path, damages[0])
    assert (damages[0].companies, damages[0].lost) == ((ACME,), 0)
    check_holds(vault_file, BOLT, WRITTEN)
    check_journal(vault_file, ACME)
    check_journal(vault_file, BOLT)
    with pytest.raises(AuthStateCorrupt, match="not complete"):
        vault_file.keys(1, "pre-key", ["8"])
    await _download(vault_file, ACME, APPLIED)
    check_holds(vault_file, ACME, WRITTEN)
    await vault_file.close()


async def _download(vault_file: Replica, company: Company, sequence: int) -> None:
    """What PostgreSQL holds after `sequence` batches fills the replica anew."""
    record = vault_file.record(company)
    assert record is not None
    state = model(PRE_KEYS, sequence)
    creds = state.pop(("", ""))
    await vault_file.begin_fill(record.number)
    await vault_file.fill(record.number, [(None, None, creds)])
    await vault_file.fill(record.number, [(*place, value) for place, value in state.items()])
    await vault_file.finish_fill(record.number, sequence)


async def test_a_broken_batch_is_made_good_from_the_replica(tmp_path: Path) -> None:
    """The tables hold what it did: one batch that is the whole state stands for it, and nothing is lost."""
    await written(tmp_path)
    change_rows(tmp_path, flipping("journal", "change", f"number = 1 and first = {APPLIED + 5}"))
    vault_file, damages = await reported(tmp_path)
    assert (len(damages), damages[0].companies, damages[0].lost) == (1, (), 0)
    check_holds(vault_file, ACME, WRITTEN)
    check_journal(vault_file, BOLT)
    batches = vault_file.batches(1, APPLIED, sys.maxsize)
    assert (batches[0].first, batches[-1].last) == (APPLIED + 1, WRITTEN)
    state = batches[0].change
    for later in batches[1:]:
        state.take(later.change)
    assert state.cleared
    assert values(state) == model(PRE_KEYS, WRITTEN)
    await vault_file.close()


async def test_a_batch_that_is_missing_is_noticed_at_opening(tmp_path: Path) -> None:
    """In the middle, and at the end: what the company's row says was written must be there."""
    await written(tmp_path)
    change_rows(
        tmp_path,
        f"delete from journal where number = 1 and first = {APPLIED + 5}",
        f"delete from journal where number = 2 and first = {WRITTEN}",
    )
    damages: list[Damage] = []
    vault_file = opened(tmp_path, on_damage=damages.append)
    assert (len(damages), damages[0].lost, damages[0].companies) == (1, 0, ())
    check_holds(vault_file, ACME, WRITTEN)
    check_holds(vault_file, BOLT, WRITTEN)
    await vault_file.close()


@pytest.mark.usefixtures("_nothing_settles")
async def test_a_batch_that_is_nowhere_else_is_told_as_lost(tmp_path: Path) -> None:
    """Not settled yet when the process died, and then broken: those behind it can still be delivered."""
    crashed = await crash(tmp_path)
    change_rows(crashed, flipping("journal", "change", f"number = 1 and first = {WRITTEN - 2}"))
    vault_file, damages = await reported(crashed)
    assert damages[0].gaps == ((ACME, WRITTEN - 2, WRITTEN - 2),)
    assert (damages[0].lost, ACME in damages[0].companies) == (1, True)
    record = vault_file.record(ACME)
    assert record is not None
    batches = vault_file.batches(record.number, record.applied, sys.maxsize)
    assert [(b.first, b.last) for b in batches[-2:]] == [(WRITTEN - 2, WRITTEN - 1), (WRITTEN, WRITTEN)]
    check_holds(vault_file, BOLT, WRITTEN)
    await vault_file.close()


async def test_a_company_of_unknown_epoch_has_its_journal_in_quarantine(tmp_path: Path) -> None:
    """Its row is broken: nobody may push its batches over what a newer owner wrote."""
    await written(tmp_path)
    change_rows(tmp_path, flipping("companies", "state", "number = 1"))
    vault_file, damages = await reported(tmp_path)
    assert (damages[0].companies, vault_file.record(ACME)) == ((ACME,), None)
    (kept,) = vault_file.quarantined()
    assert (kept.company, kept.epoch) == (ACME, 0)
    together = batch(APPLIED + 1)
    for sequence in range(APPLIED + 2, WRITTEN + 1):
        together.take(batch(sequence))
    kept_change = vault_file.quarantined_change(kept.id)
    assert values(together).items() <= values(kept_change).items()
    check_holds(vault_file, BOLT, WRITTEN)
    await vault_file.close()


@pytest.mark.parametrize(
    "statement",
    [
        "insert into quarantine values (0, 'nobody', 0, 0, 0, '')",
        "update quarantine set id = 77",
        "update quarantine set company = 'bolt'",
        "delete from quarantine",
    ],
    ids=["one too many", "another id", "another company", "one too few"],
)
async def test_the_quarantine_survives_the_loss_of_its_entries(tmp_path: Path, statement: str) -> None:
    """A batch tells by its seal whose it is."""
    vault_file = await written(tmp_path, close=False)
    expected = vault_file.ahead(1, APPLIED, sys.maxsize)
    assert expected is not None
    await vault_file.put_wish(Wish(ACME, wanted=True, unlinked=False, dirty=False))
    await vault_file.quarantine(1, "another owner", fenced_by=9)
    await vault_file.close()
    change_rows(tmp_path, statement)
    damages: list[Damage] = []
    vault_file = opened(tmp_path, on_damage=damages.append)
    with pytest.raises(AuthStateCorrupt):
        assert [vault_file.quarantined_change(entry.id) for entry in vault_file.quarantined()]
    await until(lambda: bool(damages))
    assert (damages[0].lost, damages[0].companies) == (0, ())
    (kept,) = vault_file.quarantined()
    assert (kept.company, kept.batches) == (ACME, WRITTEN - APPLIED)
    assert vault_file.quarantined_change(kept.id) == expected.change
    check_holds(vault_file, BOLT, WRITTEN)
    await vault_file.close()


@pytest.mark.parametrize(
    "break_it",
    [
        lambda file: file.write_bytes(b""),
        lambda file: os.truncate(file, 100),
        lambda file: os.truncate(file, file.stat().st_size // 2 // 4096 * 4096),
        lambda file: os.truncate(file, file.stat().st_size // 2 + 17),
        lambda file: file.write_bytes(b"not a database, but text\n" * 500),
        lambda file: file.with_name("vault.key").write_bytes(os.urandom(32)),
        lambda file: file.with_name("vault.key").unlink(),
    ],
    ids=["empty", "100 bytes", "half", "half a page", "text", "another key", "no key"],
)
async def test_what_is_no_vault_any_more_is_moved_aside(
    tmp_path: Path, break_it: Callable[[Path], object]
) -> None:
    """Nothing of it is served as whole; the file that takes its place works."""
    await written(tmp_path)
    break_it(tmp_path / "vault" / "vault.db")
    vault_file, damages = await reported(tmp_path)
    assert damages
    _moved_aside(tmp_path, damages[0])
    for record in vault_file.companies():
        if record.complete:
            check_holds(vault_file, record.company, WRITTEN)
    number = await enrolled(vault_file, Company("carl"))
    await vault_file.append(number, 1, batch(1))
    await vault_file.close()
    again, damages = await reported(tmp_path)
    assert damages == []
    check_holds(again, Company("carl"), 1)
    await again.close()


async def test_a_half_made_new_file_is_made_anew(tmp_path: Path) -> None:
    """Killed while a new file was made: the old one counts. Killed between moving aside and taking place: the new."""
    await written(tmp_path)
    file = tmp_path / "vault" / "vault.db"
    beside = file.with_name("vault.new")
    beside.write_bytes(b"half")
    vault_file, damages = await reported(tmp_path)
    check_holds(vault_file, ACME, WRITTEN)
    await vault_file.close()
    file.rename(beside)
    vault_file, more = await reported(tmp_path)
    check_holds(vault_file, ACME, WRITTEN)
    assert damages + more == []
    await vault_file.close()


@pytest.mark.usefixtures("_nothing_settles")
async def test_damage_under_a_running_process_costs_no_acknowledged_write(tmp_path: Path) -> None:
    """It knows what is fresh and what its companies are: batches whose rows are gone come from its memory."""
    vault_file = await written(tmp_path, close=False)
    damages: list[Damage] = []
    vault_file._on_damage = damages.append
    account = vault_file._accounts[ACME]
    assert account.settled < WRITTEN - 3
    change_rows(tmp_path, flipping("journal", "change", f"number = 1 and first >= {account.settled + 2}"))
    with pytest.raises(AuthStateCorrupt):
        vault_file.batches(1, APPLIED, sys.maxsize)
    with pytest.raises(JournalUnwritable, match="being rebuilt"):
        await _refused_append(vault_file)
    await until(lambda: bool(damages))
    assert (damages[0].lost, damages[0].companies) == (0, ())
    for company in (ACME, BOLT):
        check_holds(vault_file, company, WRITTEN)
    delivered = vault_file.batches(1, APPLIED, sys.maxsize)
    assert (delivered[0].first <= APPLIED + 1, delivered[-1].last) == (True, WRITTEN)
    await vault_file.append(1, WRITTEN + 1, batch(WRITTEN + 1))
    check_holds(vault_file, ACME, WRITTEN + 1)
    await vault_file.close()


async def test_while_a_file_is_rebuilt_nothing_untrue_is_said_of_its_journal(tmp_path: Path) -> None:
    """What was settled is in the broken file alone: no delivery may pass over it."""
    vault_file = await written(tmp_path, close=False)
    expected = Change()
    for sequence in range(APPLIED + 1, WRITTEN + 1):
        expected.take(batch(sequence))
    await until(lambda: vault_file._accounts[ACME].settled == WRITTEN)
    damages: list[Damage] = []
    vault_file._on_damage = damages.append
    change_rows(tmp_path, flipping("replica", "value", "number = 1 and type = 'pre-key' and id = '7'"))
    with pytest.raises(AuthStateCorrupt, match="seal"):
        vault_file.keys(1, "pre-key", ["7"])
    refused = 0
    while not damages:
        await asyncio.sleep(0)
        try:
            ahead = vault_file.ahead(1, APPLIED, sys.maxsize)
        except AuthStateCorrupt:
            refused += 1
        else:
            assert ahead is not None
            assert (ahead.last, ahead.change) == (WRITTEN, expected)
    assert refused > 0
    ahead = vault_file.ahead(1, APPLIED, sys.maxsize)
    assert ahead is not None
    assert (ahead.last, ahead.change) == (WRITTEN, expected)
    await vault_file.close()


async def _refused_append(vault_file: Replica) -> None:
    await asyncio.sleep(0)
    await vault_file.append(1, WRITTEN + 1, batch(WRITTEN + 1))


@pytest.mark.parametrize("seed", range(24))
async def test_no_flipped_bit_is_ever_served(tmp_path: Path, seed: int) -> None:
    """Anywhere in the file: once it was looked through, what is complete is right, and what is not was told."""
    await written(tmp_path)
    file, chance = tmp_path / "vault" / "vault.db", random.Random(seed)
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 1, 3, 40))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    vault_file, damages = await reported(tmp_path)
    if not damages:
        for company in (ACME, BOLT):
            check_holds(vault_file, company, WRITTEN)
    for record in vault_file.companies():
        if record.complete:
            check_holds(vault_file, record.company, WRITTEN)
    await vault_file.close()


async def test_looking_through_finds_what_reading_would_miss(tmp_path: Path) -> None:
    """A key whose row is not in the index would read as absent."""
    await written(tmp_path)
    connection = sqlite3.connect(tmp_path / "vault" / "vault.db")
    companies.check_structure(connection)
    (page,) = connection.execute(
        "select rootpage from sqlite_schema where name = 'sqlite_autoindex_replica_1'"
    ).fetchone()
    connection.close()
    file = tmp_path / "vault" / "vault.db"
    content = bytearray(file.read_bytes())
    at = content.index(b"pre-key7", (page - 1) * 4096)
    content[at : at + 8] = b"pre-keyX"
    file.write_bytes(content)
    vault_file, damages = await reported(tmp_path)
    assert len(damages) == 1
    assert all(not record.complete for record in vault_file.companies())
    for company in (ACME, BOLT):
        check_journal(vault_file, company)
    await vault_file.close()
