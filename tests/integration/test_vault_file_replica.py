"""The vault's file: what is acknowledged is there, read from that moment on, and carried from journal to tables."""

from __future__ import annotations

import asyncio
import random
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standfast.authstate.change import Change
from standfast.errors import AuthStateCorrupt, UsageError
from standfast.vault.storage import commits, writing
from standfast.vault.storage.damage import Damage
from standfast.vault.storage.replica import Batch, Replica, Wish
from tests.support import until
from tests.vault_files import (
    ACME,
    BOLT,
    batch,
    check_holds,
    check_journal,
    enrolled,
    opened,
    small_log,
)


@pytest.fixture(autouse=True)
def _small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    small_log(monkeypatch)


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Replica]:
    def unexpected(damage: Damage) -> None:
        raise AssertionError(damage)

    replica = opened(tmp_path, on_damage=unexpected)
    yield replica
    await replica.close()


@pytest.fixture(params=["on the loop", "in a thread"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in a thread":
        monkeypatch.setattr(commits, "SLOW_S", -1.0)


@pytest.mark.usefixtures("_either_way")
async def test_what_was_acknowledged_is_read_at_once_and_after_opening_again(
    replica: Replica, tmp_path: Path
) -> None:
    """Two companies, many writers at a time; some of it delivered meanwhile, and settled."""
    numbers = {company: await enrolled(replica, company) for company in (ACME, BOLT)}
    for begin in range(1, 301, 20):
        await asyncio.gather(
            *(replica.append(n, s, batch(s)) for n in numbers.values() for s in range(begin, begin + 20))
        )
        check_holds(replica, ACME, begin + 19)
        replica.applied(numbers[ACME], begin + 5)
        await asyncio.sleep(0.005)
    for _ in range(2):
        check_holds(replica, ACME, 300)
        check_holds(replica, BOLT, 300)
        check_journal(replica, ACME)
        check_journal(replica, BOLT)
        await replica.verify()
        await replica.close()
        replica = opened(tmp_path)
    record = replica.record(ACME)
    assert record is not None
    assert (record.epoch, record.applied, record.held) == (1, 286, True)
    await replica.close()


async def test_the_journal_is_trimmed_once_postgresql_has_it(replica: Replica) -> None:
    """And the counts follow; nothing is left to carry in the end."""
    number = await enrolled(replica, ACME)
    for sequence in range(1, 101):
        await replica.append(number, sequence, batch(sequence))
    before = replica.record(ACME)
    assert before is not None
    assert (before.journal_batches, before.journal_bytes > 5_000) == (100, True)
    assert before.journal_since is not None

    def trimmed_to(left: int) -> bool:
        record = replica.record(ACME)
        return record is not None and record.journal_batches == left

    replica.applied(number, 90)
    await until(lambda: trimmed_to(10))
    assert [b.first for b in replica.batches(number, 0, sys.maxsize)] == list(range(91, 101))
    replica.applied(number, 100)
    await until(lambda: trimmed_to(0))
    after = replica.record(ACME)
    assert after is not None
    assert (after.journal_bytes, after.journal_since, after.sequence) == (0, None, 100)
    check_holds(replica, ACME, 100)
    await until(lambda: not replica._settling.is_active)


async def test_batches_come_whole_until_the_limit(replica: Replica) -> None:
    """One at least; numbers that stand for nothing belong to the next batch."""
    number = await enrolled(replica, ACME)
    for sequence in (1, 2, 5, 6):
        await replica.append(number, sequence, Change(keys={"session": {"a": b"1" * 1_000}}))
    sizes = [len(replica.batches(number, 0, limit)) for limit in (1, 1_500, sys.maxsize)]
    assert sizes == [1, 2, 4]
    assert [(b.first, b.last) for b in replica.batches(number, 2, sys.maxsize)] == [(3, 5), (6, 6)]
    with pytest.raises(ValueError, match="comes after 6"):
        replica.append(number, 6, batch(6))


async def test_what_is_ahead_is_what_the_batches_do_together(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From memory where all of it is there, else, and where it is too large, from the journal."""
    monkeypatch.setattr(writing, "TICK_S", 60.0)
    number, chance = await enrolled(replica, ACME), random.Random(1)
    for sequence in range(1, 151):
        await replica.append(number, sequence, batch(sequence))
    read = replica.batches
    for is_settled in (False, True):
        if is_settled:
            monkeypatch.setattr(writing, "TICK_S", 0.01)
            replica._tick()
            await until(lambda: replica._account(number).settled > 100)
        journal_reads: list[int] = []

        def reading(number: int, after: int, limit: int, reads: list[int] = journal_reads) -> list[Batch]:
            reads.append(after)
            return read(number, after, limit)

        monkeypatch.setattr(replica, "batches", reading)
        for after in (0, *sorted(chance.sample(range(1, 150), 20)), 149):
            together = Change()
            for sequence in range(after + 1, 151):
                together.take(batch(sequence))
            ahead = replica.ahead(number, after, sys.maxsize)
            assert ahead is not None
            assert (ahead.first, ahead.last, ahead.change) == (after + 1, 150, together)
        assert bool(journal_reads) == is_settled
        limited = replica.ahead(number, 0, 1_000)
        assert limited is not None
        assert limited.last < 150
        assert replica.ahead(number, 150, sys.maxsize) is None


async def test_compacting_leaves_what_the_batches_do_together(replica: Replica, tmp_path: Path) -> None:
    """The journal is shorter, what is read stays, and later batches follow."""
    number = await enrolled(replica, ACME)
    for sequence in range(1, 201):
        await replica.append(number, sequence, batch(sequence))
    await replica.compact(number)
    await replica.append(number, 201, batch(201))
    together = Change()
    for sequence in range(1, 201):
        together.take(batch(sequence))
    first, second = replica.batches(number, 0, sys.maxsize)
    assert (first.first, first.last, second.first) == (1, 200, 201)
    assert (first.change, second.change) == (together, batch(201))
    record = replica.record(ACME)
    assert record is not None
    assert record.journal_batches == 2
    # A delivery of some of them was under way: what is left begins within the compacted batch.
    assert [(b.first, b.last) for b in replica.batches(number, 150, sys.maxsize)] == [(1, 200), (201, 201)]
    await replica.close()
    again = opened(tmp_path)
    check_holds(again, ACME, 201)
    await again.close()


async def test_a_download_comes_below_what_the_journal_has(replica: Replica) -> None:
    """While it is filled nothing is read; then it is PostgreSQL's state with the journal's batches on top."""
    number = await enrolled(replica, ACME)
    for sequence in (1, 2, 3):
        await replica.append(number, sequence, Change(keys={"session": {str(sequence): b"ours"}}))
    await replica.begin_fill(number)
    for read in (lambda: replica.keys(number, "session", ["1"]), lambda: replica.creds(number)):
        with pytest.raises(AuthStateCorrupt, match="not complete"):
            read()
    await replica.fill(number, [(None, None, b"theirs")])
    await replica.fill(number, [("session", key, b"theirs") for key in ("1", "2", "9")])
    await replica.finish_fill(number, 2)
    assert replica.keys(number, "session", ["1", "2", "3", "9"]) == {
        "1": b"theirs",
        "2": b"theirs",
        "3": b"ours",
        "9": b"theirs",
    }
    assert replica.creds(number) == b"theirs"
    assert [b.first for b in replica.batches(number, 0, sys.maxsize)] == [3]


async def test_quarantine_keeps_what_postgresql_lacks(replica: Replica, tmp_path: Path) -> None:
    """The company leaves the file in the same transaction; over a restart the quarantine is there, until discarded."""
    number = await enrolled(replica, ACME)
    for sequence in range(1, 6):
        await replica.append(number, sequence, batch(sequence))
    replica.applied(number, 2)
    kept = await replica.quarantine(number, "another owner", fenced_by=9)
    assert kept is not None
    assert replica.record(ACME) is None
    await replica.close()
    again = opened(tmp_path)
    (entry,) = again.quarantined()
    assert (entry.id, entry.company, entry.epoch, entry.fenced_by) == (kept, ACME, 1, 9)
    assert (entry.batches, entry.reason) == (3, "another owner")
    together = batch(3)
    together.take(batch(4))
    together.take(batch(5))
    assert again.quarantined_change(kept) == together
    await again.discard(kept)
    assert again.quarantined() == []
    with pytest.raises(UsageError, match="no quarantine"):
        await again.discard(kept)
    with pytest.raises(UsageError, match="no quarantine"):
        again.quarantined_change(kept)
    number = await enrolled(again, ACME)
    assert await again.quarantine(number, "nothing journaled", 0) is None
    assert again.quarantined() == []
    await again.close()


async def test_a_company_is_forgotten_only_once_its_journal_is_delivered(replica: Replica) -> None:
    """Then nothing of it is left, and it can come again."""
    number = await enrolled(replica, ACME)
    await replica.append(number, 1, batch(1))
    with pytest.raises(ValueError, match="PostgreSQL lacks"):
        await replica.forget(number)
    replica.applied(number, 1)
    await replica.forget(number)
    assert (replica.record(ACME), replica.companies()) == (None, [])
    with pytest.raises(ValueError, match="no company has the number"):
        replica.keys(number, "session", ["a"])
    again = await enrolled(replica, ACME)
    assert again != number
    assert replica.keys(again, "session", ["79990000001.1"]) == {}


async def test_what_is_kept_of_a_company_and_the_node_outlives_the_process(
    replica: Replica, tmp_path: Path
) -> None:
    """Epoch, lease, stamp, the database's identity, the node's, wishes."""
    number = await enrolled(replica, ACME)
    node = replica.node
    await replica.bind("00000000-0000-0000-0000-000000000001")
    await replica.set_epoch(number, 17, held=True)
    await replica.set_released(number, "stamp")
    wish = Wish(ACME, wanted=True, unlinked=False, dirty=True)
    await replica.put_wish(wish)
    await replica.put_wish(Wish(BOLT, wanted=False, unlinked=True, dirty=False))
    await replica.close()
    again = opened(tmp_path)
    record = again.record(ACME)
    assert record is not None
    assert (record.epoch, record.held, record.confirmed) == (17, False, "stamp")
    assert record.released_at is not None
    assert (again.node, again.database) == (node, "00000000-0000-0000-0000-000000000001")
    assert again.wishes()[0] == wish
    await again.drop_wish(ACME)
    assert [w.company for w in again.wishes()] == [BOLT]
    await again.close()


async def test_nobody_else_can_read_the_files_and_no_value_can_be_seen(
    replica: Replica, tmp_path: Path
) -> None:
    """0700 and 0600, the log and its index too; values are sealed, in tables, journal and log."""
    number = await enrolled(replica, ACME)
    await replica.append(number, 1, Change(keys={"session": {"a": b"seen-in-clear"}}, creds=b"seen-in-clear"))
    directory = tmp_path / "vault"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    names = {"vault.db", "vault.db-wal", "vault.db-shm", "vault.key", "vault.mark"}
    assert {file.name for file in directory.iterdir()} == names
    for file in directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
        if file.suffix != ".db-shm":  # closing it here would drop SQLite's locks
            assert b"seen-in-clear" not in file.read_bytes(), file.name


async def test_a_write_whose_caller_is_gone_still_counts(replica: Replica) -> None:
    """The sequence is taken; whether the caller waited changes nothing."""
    number = await enrolled(replica, ACME)
    waiting = asyncio.ensure_future(replica.append(number, 1, batch(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    await replica.append(number, 2, batch(2))
    check_holds(replica, ACME, 2)


async def test_the_log_does_not_grow_with_what_is_written(replica: Replica, tmp_path: Path) -> None:
    """It is begun anew beside the writers, who never pause."""
    number = await enrolled(replica, ACME)
    for sequence in range(1, 400):
        await replica.append(number, sequence, Change(keys={"session": {"a": bytes(8_000)}}))
        replica.applied(number, sequence)
    assert (tmp_path / "vault" / "vault.db-wal").stat().st_size < 3 * 2**20
    assert replica.size_bytes() < 8 * 2**20
