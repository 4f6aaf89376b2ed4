"""What the tests of the vault's file share: a company in it, batches that tell their number, what they add up to."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.vault.storage import files, writing
from standfast.vault.storage.damage import Damage
from standfast.vault.storage.replica import Replica

ACME, BOLT = Company("acme"), Company("bolt")
WRITTEN, APPLIED = 60, 40
CREDS = b'{"registrationId":1}'
Values = dict[tuple[str, str], bytes]


def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is begun anew often, and a clock that ticks fast: what takes seconds takes a moment."""
    monkeypatch.setattr(files, "CHECKPOINT_BYTES", 256 * 1024)
    monkeypatch.setattr(files, "LOG_BYTES", 512 * 1024)
    monkeypatch.setattr(files, "CHECK_S", 0.0)
    monkeypatch.setattr(writing, "TICK_S", 0.02)


def batch(sequence: int) -> Change:
    """One to three keys of a few that come again and again, one of them deleted at times; creds at times."""
    keys: dict[str, bytes | None] = {
        f"79990000{(sequence * step) % 13:03d}.{step}": f'{{"written":{sequence}}}'.encode()
        for step in range(1, 2 + sequence % 3)
    }
    if sequence % 7 == 0:
        keys[f"79990000{sequence % 13:03d}.1"] = None
    creds = f'{{"registrationId":{sequence}}}'.encode() if sequence % 11 == 0 else None
    return Change(keys={"session": keys}, creds=creds, cleared=sequence % 97 == 0)


def values(change: Change) -> Values:
    """What a change says, flat, its creds under empty names."""
    flat = {
        (key_type, key_id): value
        for key_type, entries in change.keys.items()
        for key_id, value in entries.items()
        if value is not None
    }
    if change.creds is not None:
        flat["", ""] = change.creds
    return flat


def model(first_keys: dict[str, bytes], upto: int) -> Values:
    """What a company that began with `first_keys` holds after its batches 1 to `upto`."""
    state = Change(keys={"pre-key": dict(first_keys)}, creds=CREDS)
    for sequence in range(1, upto + 1):
        state.take(batch(sequence))
    return values(state)


PRE_KEYS = {str(number): b'{"keyId":%d}' % number for number in range(40)}


async def enrolled(vault_file: Replica, company: Company) -> int:
    """A company with `CREDS` and `PRE_KEYS`, at sequence 0."""
    number = await vault_file.enrol(company, epoch=1, sequence=0)
    await vault_file.begin_fill(number)
    await vault_file.fill(
        number, [(None, None, CREDS), *(("pre-key", key, v) for key, v in PRE_KEYS.items())]
    )
    await vault_file.finish_fill(number, 0)
    return number


def check_holds(vault_file: Replica, company: Company, upto: int) -> None:
    """The company is what its batches 1 to `upto` make it, by every way of reading."""
    record = vault_file.record(company)
    assert record is not None
    assert (record.sequence, record.complete, record.has_creds) == (upto, True, True)
    expected = model(PRE_KEYS, upto)
    assert values(vault_file.everything(record.number)) == expected
    assert vault_file.creds(record.number) == expected["", ""]
    for key_type in ("pre-key", "session"):
        ids = [*PRE_KEYS, *(f"79990000{n:03d}.{step}" for n in range(13) for step in (1, 2, 3)), "absent"]
        found = vault_file.keys(record.number, key_type, ids)
        assert found == {key_id: value for (kind, key_id), value in expected.items() if kind == key_type}


def check_journal(vault_file: Replica, company: Company) -> None:
    """What PostgreSQL lacks stands in the journal batch by batch, without a gap, each as it was written."""
    record = vault_file.record(company)
    assert record is not None
    batches = vault_file.batches(record.number, record.applied, sys.maxsize)
    assert [b.first for b in batches] == list(range(record.applied + 1, record.sequence + 1))
    for each in batches:
        assert (each.first, each.change) == (each.last, batch(each.last))


def opened(directory: Path, **options: object) -> Replica:
    return Replica.open(directory / "vault", **options)  # type: ignore[arg-type]


async def written(directory: Path, *, close: bool = True) -> Replica:
    """Two companies with `WRITTEN` batches each, of which PostgreSQL has `APPLIED`."""
    vault_file = opened(directory)
    for company in (ACME, BOLT):
        number = await enrolled(vault_file, company)
        for sequence in range(1, WRITTEN + 1):
            await vault_file.append(number, sequence, batch(sequence))
        vault_file.applied(number, APPLIED)
    if close:
        await vault_file.close()
    return vault_file


def change_rows(directory: Path, *statements: str) -> None:
    """Break rows in a way that leaves the file's structure sound."""
    connection = sqlite3.connect(directory / "vault" / "vault.db")
    connection.create_function("flipped", 1, lambda value: bytes([*value[:20], value[20] ^ 1, *value[21:]]))
    try:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
        connection.commit()
    finally:
        connection.close()


def flipping(table: str, column: str, where: str) -> str:
    """One byte of a sealed value becomes another."""
    return f"update {table} set {column} = flipped({column}) where {where}"


async def reported(directory: Path) -> tuple[Replica, list[Damage]]:
    """The file opened and looked through."""
    damages: list[Damage] = []
    vault_file = opened(directory, on_damage=damages.append)
    await vault_file.verify()
    return vault_file, damages


async def crash(directory: Path) -> Path:
    """The file as a process leaves it that is killed right behind its last acknowledgement."""
    vault_file = await written(directory, close=False)
    crashed = directory / "crashed"
    (crashed / "vault").mkdir(parents=True)
    for name in ("vault.db", "vault.db-wal", "vault.key", "vault.mark"):
        shutil.copy(directory / "vault" / name, crashed / "vault" / name)
    await vault_file.close()
    return crashed
