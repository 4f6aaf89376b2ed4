"""What is known of alerts outlives the process, and a disk that takes nothing stops nobody."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
import threading
from pathlib import Path

import pytest

from standfast.alert import Alert, LoggedAlerts
from standfast.alerts import kinds, store
from standfast.alerts.file import HISTORY_S, AlertFile, history_of
from standfast.alerts.records import Incident
from tests.alerting import DAY_S, Desk, HandClock, HttpChannel, alerting_of
from tests.receiver import Receiver
from tests.support import until

OUTAGE = Alert("outage_began", "error", "it is away", {"component": "vault"}, lasts=True)
RESTORED = Alert("restored", "info", "it is back", {"component": "vault"}, ends=("outage_began",), quiet=True)


async def reopened(directory: Path, clock: HandClock) -> Desk:
    """A desk that goes on from the file."""
    kept = store.AlertStore(directory, clock)
    one = Desk(clock, kept)
    was = kept.open()
    one.desk.restore(was.troubles, was.held)
    return one


def known(one: Desk) -> list[Incident]:
    return [trouble.incident for trouble in one.desk.troubles()]


async def test_a_restart_repeats_nothing_and_forgets_nothing(tmp_path: Path) -> None:
    """What goes on is the same trouble, its end is told with its whole duration, and cooldowns hold."""
    clock = HandClock()
    first = await reopened(tmp_path, clock)
    first.report("outage_began")
    first.report("session_deaf", "warning", lasts=False, company="acme")
    await first.store.close()
    clock.later(120)
    second = await reopened(tmp_path, clock)
    second.report("outage_began")
    second.report("session_deaf", "warning", lasts=False, company="acme")
    assert not second.told.notes
    second.end("outage_began")
    assert [note.duration_s for note in second.notes()] == [120.0]
    assert second.notes()[0].count == 2
    await second.store.close()


async def test_a_storm_is_summed_up_after_a_restart_too(tmp_path: Path) -> None:
    """What waited for its digest is in one."""
    clock = HandClock()
    first = await reopened(tmp_path, clock)
    for number in range(20):
        first.report("session_breaker_open", company=f"c{number}")
    await first.store.close()
    second = await reopened(tmp_path, clock)
    second.seconds(61)
    assert [(note.kind, note.count) for note in second.notes()] == [("digest", 15)]
    await second.store.close()


@pytest.mark.parametrize(
    ("wall_s", "least_s", "most_s"), [(600, 600, 700), (-DAY_S, 100, 101), (9e9, HISTORY_S, 9e9)]
)
async def test_moments_are_bounded_over_a_reboot(
    tmp_path: Path, wall_s: float, least_s: float, most_s: float
) -> None:
    """The boot clock begins anew and the wall clock may have jumped: durations and cooldowns stay within bounds."""
    clock = HandClock(boot=50_000)
    first = await reopened(tmp_path, clock)
    first.report("outage_began")
    first.report("pool_usage_high")
    first.seconds(100)
    first.end("pool_usage_high")
    first.report("outage_began", message="again")
    first.desk.keep_counts()
    await first.store.close()
    after = HandClock(boot=5, wall=clock.wall() + wall_s, boot_id="two")
    second = await reopened(tmp_path, after)
    second.report("pool_usage_high")
    second.seconds(kinds.cooldown_s("pool_usage_high") + 1)
    assert second.kinds() == ["raised"]
    second.end("outage_began")
    duration_s = second.notes()[-1].duration_s
    assert duration_s is not None
    assert least_s <= duration_s - kinds.cooldown_s("pool_usage_high") <= most_s + 200
    await second.store.close()


async def test_the_history_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Newest first, what goes on however old it is, and nothing twice."""
    clock = HandClock()
    one = await reopened(tmp_path, clock)
    one.report("foreign_database", company="old")
    one.seconds(10)
    clock.later(3 * DAY_S)
    for number in range(5):
        one.report("session_deaf", lasts=False, company=f"c{number}")
        clock.later(1)
    found, _ = await one.store.history(clock.wall() - DAY_S, 100, known(one))
    assert [incident.company for incident in found] == ["c4", "c3", "c2", "c1", "c0", "old"]
    await one.store.close()


async def test_old_history_is_forgotten(tmp_path: Path) -> None:
    """After 30 days, but for what goes on."""
    clock = HandClock()
    one = await reopened(tmp_path, clock)
    one.report("foreign_database")
    one.report("session_deaf", lasts=False)
    await one.store.close()
    clock.later(31 * DAY_S)
    two = await reopened(tmp_path, clock)
    two.report("session_deaf", lasts=False, company="new")
    await until(lambda: not two.store._unwritten and two.store._writing is None)
    found, _ = await two.store.history(0, 100, known(two))
    assert {incident.company for incident in found} == {None, "new"}
    assert [incident.name for incident in found] == ["session_deaf", "foreign_database"]
    await two.store.close()
    assert [incident.name for incident in history_of(tmp_path, clock.wall() - 60, 9)] == [
        "session_deaf",
        "foreign_database",
    ]


async def test_the_file_is_for_its_owner(tmp_path: Path) -> None:
    """0600 in 0700."""
    one = await reopened(tmp_path / "alerts", HandClock())
    one.report()
    await one.store.close()
    assert stat.S_IMODE((tmp_path / "alerts").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "alerts/alerts.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", [b"no database at all" * 100, None])
async def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: bytes | None) -> None:
    """Alerts go on with a new file; the old one is kept. So with a file that another program made."""
    path = tmp_path / "alerts.db"
    if damage is not None:
        path.write_bytes(damage)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("create table other (x)")
        connection.close()
    one = await reopened(tmp_path, HandClock())
    one.report()
    await one.store.close()
    assert one.kinds() == ["raised"]
    assert one.store.error is None
    (aside,) = tmp_path.glob("damaged-*/alerts.db")  # noqa: ASYNC240 - nothing else runs in this loop
    assert damage is None or aside.read_bytes() == damage
    file = AlertFile(tmp_path)
    assert not file.open()
    assert [table for table, _, _ in file.rows()] == ["troubles"]
    file.close()


async def test_a_disk_that_takes_nothing_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alerts are told all the same, that they are not kept is an alert of its own, and all is written once the disk
    takes it again."""
    monkeypatch.setattr(store, "RETRY_S", 0.05)
    (tmp_path / "alerts").write_text("a file where the directory should be")
    async with Receiver() as receiver:
        alerting, heard = alerting_of(tmp_path, HttpChannel(receiver.url))
        async with alerting.open():
            alerting.take(OUTAGE)
            await until(lambda: len(receiver.taken) == 2)
            assert {note["name"] for note in receiver.taken} == {"outage_began", "alerts_not_kept"}
            found = await alerting.listed(3_600)
            assert {one["name"] for one in found["alerts"]} == {"outage_began", "alerts_not_kept"}
            assert "alerts cannot be kept" in found["error"]
            (tmp_path / "alerts").unlink()
            await until(lambda: heard[-1].data["name"] == "alerts_kept_again")
    again = await reopened(tmp_path / "alerts", HandClock())
    assert [one.incident.name for one in again.desk.troubles()] == ["outage_began"]
    await again.store.close()


async def test_a_killed_process_repeats_nothing_and_forgets_nothing(tmp_path: Path) -> None:
    """SIGKILL between report and delivery: the next process delivers each note once, and takes the same report as the
    same trouble."""
    async with Receiver() as receiver:
        receiver.answers = lambda _note: None
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.alert_process",
            str(tmp_path),
            receiver.url,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            while await process.stdout.readline() != b"reported\n":
                assert process.returncode is None
            process.kill()
            await process.wait()
        receiver.answers = lambda _note: 200
        alerting, heard = alerting_of(tmp_path, HttpChannel(receiver.url))
        async with alerting.open():
            alerting.take(OUTAGE)
            await until(lambda: len(receiver.taken) == 2)
            alerting.take(RESTORED)
            await until(lambda: len(receiver.taken) == 3)
    assert [note["name"] for note in receiver.taken] == ["outage_began", "session_deaf", "restored"]
    assert [event.data["state"] for event in heard] == ["resolved"]


async def test_a_disk_that_fills_up_loses_nothing_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is reported meanwhile is in the file afterwards."""
    monkeypatch.setattr(store, "RETRY_S", 0.05)
    one = await reopened(tmp_path, HandClock())
    file = one.store._file
    assert file is not None
    assert file._connection is not None
    file._connection.execute("pragma max_page_count = 12")
    for number in range(50):
        one.report("host_hung", company=f"c{number}", message="x" * 500)
    await until(lambda: one.store.error is not None)
    assert "full" in str(one.store.error)
    assert len(one.heard) == 50
    file._connection.execute("pragma max_page_count = 1000000")
    await until(lambda: one.store.error is None and not one.store._unwritten)
    await one.store.close()
    assert len(history_of(tmp_path, 0, 100)) == 50


async def test_a_disk_that_hangs_holds_up_no_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that does not return keeps neither this nor later alerts from being told."""
    monkeypatch.setattr(store, "PATIENCE_S", 0.05)
    monkeypatch.setattr(store, "CLOSE_S", 0.05)
    hangs = threading.Event()
    async with Receiver() as receiver:
        alerting, _ = alerting_of(tmp_path, HttpChannel(receiver.url))
        async with alerting.open():
            assert alerting._store._thread is not None
            hanging = alerting._store._thread.submit(hangs.wait, 10)
            for number in range(3):
                alerting.take(Alert(f"trouble_{number}", "error", "so it is"))
                await until(lambda number=number: len(receiver.taken) == number + 1, 2)  # type: ignore[misc]
            assert not hanging.done()
        hangs.set()


def test_a_fact_may_be_called_anything(capsys: pytest.CaptureFixture[str]) -> None:
    """Names that the log uses itself keep no alert from being told."""
    one = Desk()
    one.desk._logged = LoggedAlerts()
    one.report("odd", facts={"event": "x", "alert": "y", "component": "z", "level": "w"})
    assert one.kinds() == ["raised"]
    assert "odd is so" in "".join(capsys.readouterr())  # where to is decided once in a process
