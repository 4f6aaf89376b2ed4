"""The disk is full, or takes no writes: what cannot be made durable is refused, and all else goes on."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from standfast.authstate.change import Change
from standfast.errors import JournalUnwritable
from standfast.vault.storage import files, writing
from standfast.vault.storage.damage import Damage
from standfast.vault.storage.replica import Replica
from tests.support import until
from tests.vault_files import ACME, BOLT, batch, check_holds, check_journal, enrolled, opened, small_log

LIMIT_BYTES = 2 * 2**20
VALUE = b'"' + b"x" * 20_000 + b'"'


async def _fill_up(directory: Path) -> None:
    """Write until files may not grow any more, look at what still works, and go on once they may."""
    writing.TICK_S = 0.02
    files.LOG_BYTES = files.CHECKPOINT_BYTES = 512 * 1024
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    vault_file = opened(directory)
    number = await enrolled(vault_file, ACME)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))
    acknowledged, refusals = await _write_until_refused(vault_file, number)
    writable = _writable(vault_file)
    found = vault_file.keys(number, "session", [str(acknowledged), str(acknowledged + 1)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await until(lambda: _writable(vault_file) is None)
    await vault_file.append(number, acknowledged + 1, Change(keys={"session": {"after": b"1"}}))
    report = {
        "acknowledged": acknowledged,
        "refusals": refusals,
        "writable": writable,
        "found": sorted(found),
        "last": acknowledged + 1,
    }
    sys.stdout.write(json.dumps(report))
    # As if killed: nothing is closed.


def _writable(vault_file: Replica) -> str | None:
    try:
        vault_file.check_writable()
    except JournalUnwritable as error:
        return error.code
    return None


async def _write_until_refused(vault_file: Replica, number: int) -> tuple[int, int]:
    sequence = 0
    while True:
        ahead = [
            vault_file.append(number, sequence + n, Change(keys={"session": {str(sequence + n): VALUE}}))
            for n in (1, 2, 3)
        ]
        results = await asyncio.gather(*ahead, return_exceptions=True)
        refused = [result for result in results if isinstance(result, JournalUnwritable)]
        assert len(refused) in (0, 3), "one commit, one fate"
        if refused:
            return sequence, len(refused)
        sequence += 3


async def test_a_full_disk_refuses_writes_and_loses_none(tmp_path: Path) -> None:
    """All who share the commit are told; reads go on; with room again writes are taken without anybody's doing."""
    command = [sys.executable, "-m", "tests.integration.test_vault_file_full", str(tmp_path)]
    ran = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, cwd=Path(__file__).parents[2], timeout=30
    )
    assert ran.returncode == 0, ran.stderr.decode()
    report = json.loads(ran.stdout)
    assert report["acknowledged"] > 20
    assert (report["refusals"], report["writable"]) == (3, "journal_unwritable")
    assert report["found"] == [str(report["acknowledged"])]
    damages: list[Damage] = []
    again = opened(tmp_path, on_damage=damages.append)
    record = again.record(ACME)
    assert record is not None
    assert (record.sequence, damages) == (report["last"], [])
    batches = again.batches(record.number, 0, sys.maxsize)
    assert [b.last for b in batches] == list(range(1, report["last"] + 1))
    assert (
        len(again.keys(record.number, "session", [str(n) for n in range(1, 10_000)]))
        == report["acknowledged"]
    )
    await again.close()


async def test_a_file_that_takes_no_writes_is_read_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of refused batches are free again; what was journaled before stays deliverable."""
    small_log(monkeypatch)
    vault_file = opened(tmp_path)
    numbers = {company: await enrolled(vault_file, company) for company in (ACME, BOLT)}
    for sequence in range(1, 31):
        await vault_file.append(numbers[ACME], sequence, batch(sequence))
    connection = vault_file._file.connection
    connection.execute("pragma query_only=1")
    for _ in range(2):
        with pytest.raises(JournalUnwritable, match="readonly"):
            await vault_file.append(numbers[ACME], 31, batch(31))
    with pytest.raises(JournalUnwritable):
        vault_file.check_writable()
    with pytest.raises(JournalUnwritable):
        await vault_file.set_epoch(numbers[BOLT], 5, held=True)
    record = vault_file.record(BOLT)
    assert record is not None
    assert record.epoch == 1
    check_holds(vault_file, ACME, 30)
    check_journal(vault_file, ACME)
    connection.execute("pragma query_only=0")
    await until(lambda: _writable(vault_file) is None)
    await vault_file.append(numbers[ACME], 31, batch(31))
    check_holds(vault_file, ACME, 31)
    check_journal(vault_file, ACME)
    await vault_file.close()


async def test_little_room_is_told_before_it_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a send is refused before it leaves."""
    vault_file = opened(tmp_path)
    monkeypatch.setattr(files.VaultFile, "free_bytes", lambda _self: 3 * 2**20)
    with pytest.raises(JournalUnwritable, match="3 MiB are left"):
        vault_file.check_writable()
    await vault_file.close()


async def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """Not as damage: nothing is moved aside."""
    (tmp_path / "vault").write_text("in the way")
    with pytest.raises(JournalUnwritable, match="cannot be used"):
        opened(tmp_path)


if __name__ == "__main__":
    asyncio.run(_fill_up(Path(sys.argv[1])))
