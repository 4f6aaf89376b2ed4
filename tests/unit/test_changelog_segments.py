"""Segments of the change log: what is lost or changed is found, with the time that it leaves unknown."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from standfast.alert import Alert
from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.errors import BackupDamaged, JobRunning
from standfast.jobs.changelog.compact import compact
from standfast.jobs.changelog.entries import Entry
from standfast.jobs.changelog.folder import Folder, folders
from standfast.jobs.changelog.gathering import Gathering, Heard
from standfast.jobs.changelog.maintenance import maintain
from standfast.jobs.changelog.sealing import Opener, Sealer
from standfast.jobs.changelog.segment import open_segment, read_entries
from standfast.jobs.changelog.state import state_within
from standfast.jobs.changelog.verify import Verified, verify_folders
from standfast.jobs.changelog.writing import SegmentWriter
from standfast.jobs.context import JobContext
from standfast.settings import Settings

COMPANIES = [Company("acme"), Company("bolt"), Company("core")]
BEGAN = 1_800_000_000.0


def settings_in(root: Path, **more: object) -> Settings:
    return Settings(state_dir=root / "state", backup_root=root / "backups", **more)  # type: ignore[arg-type]


class Log:
    """A log of made-up changes: at second n each company in turn gets the key n, in segment n. `states` are those at
    the seconds."""

    def __init__(self, root: Path, segments: int, *, snapshot_each: int = 1_000_000, **more: object) -> None:
        self.settings = settings_in(root, **more)
        self.folder = Folder(self.settings.backup_directory / "changes" / "node-a")
        self.writer = SegmentWriter(self.folder, Sealer.of(self.settings), "a")
        self.gathering = Gathering(self.writer.begin())
        self.states: dict[Company, dict[str, bytes]] = {company: {} for company in COMPANIES}
        self.history: list[tuple[float, dict[Company, dict[str, bytes]]]] = []
        for number in range(segments):
            company = COMPANIES[number % len(COMPANIES)]
            self.change(company, number, BEGAN + number, snapshot=number % snapshot_each < len(COMPANIES))

    def change(self, company: Company, number: int, at: float, *, snapshot: bool) -> None:
        state, position = self.states[company], self.gathering.positions.get(company)
        state[f"{number}"] = b"%d" % number
        last = 1 if position is None else position.last + 1
        if snapshot:
            everything = Change({"session": dict(state)}, b"{}")
            heard = Heard("snapshot", company, at, 7, last, last, everything)
            if position is not None:
                position.last = last  # as if the change had been heard before
        else:
            heard = Heard(
                "changed", company, at, 7, last, last, Change({"session": {f"{number}": b"%d" % number}})
            )
        self.gathering.take([heard])
        self.writer.write(self.gathering.entries, at + 0.5)
        self.gathering.closed()
        self.history.append((at + 1, {one: dict(keys) for one, keys in self.states.items()}))

    def verified(self) -> Verified:
        return verify_folders(folders(self.settings.backup_directory), Opener.of(self.settings))

    def check(self, history: list[tuple[float, dict[Company, dict[str, bytes]]]] | None = None) -> None:
        for at, states in self.history if history is None else history:
            for company, expected in states.items():
                found = state_within(self.settings, company, at)
                assert (found.keys.get("session", {}) if found else {}) == expected


@pytest.mark.parametrize("recipients", [None, "none"])
def test_states_come_out_of_segments_as_they_went_in(tmp_path: Path, recipients: str | None) -> None:
    """Encrypted or not, and values lie in the clear only where the settings say so."""
    log = Log(tmp_path, 12, snapshot_each=6, backup_recipients=recipients)
    assert log.verified().problems == []
    log.check()
    secret = b'"session"' if recipients else b"session"
    assert not any(secret in path.read_bytes() for path in log.folder.path.glob("*.seg"))


@given(seed=st.integers(0, 2**32), lost=st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_segment_that_is_lost_or_changed_is_reported_with_its_range(
    tmp_path_factory: pytest.TempPathFactory, seed: int, *, lost: bool
) -> None:
    """Whichever it is, and wherever it was changed; a state that needs it is refused, all others are right."""
    chance, log = random.Random(seed), Log(tmp_path_factory.mktemp("log"), 9, snapshot_each=6)
    index = chance.randrange(9)
    path = log.folder.files()[index].path
    number = log.folder.files()[index].first
    if lost:
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    problems = log.verified().problems
    if lost and index == 0:
        # What follows it does not begin a log.
        assert [(one.what, one.last) for one in problems] == [("missing", number)]
    else:
        assert [(one.what, one.first, one.last) for one in problems] == [
            ("missing" if lost else "damaged", number, number)
        ]
    assert problems[0].since == (None if index == 0 else BEGAN + index - 0.5)
    after = BEGAN + index + (1.5 if lost or problems[0].companies is None else 0.5)
    assert problems[0].until == (None if index == 8 and (lost or problems[0].companies is None) else after)
    company = COMPANIES[index % 3]
    assert problems[0].companies in (None, [company])
    for at, states in log.history:
        for one, expected in states.items():
            try:
                found = state_within(log.settings, one, at)
            except BackupDamaged:
                continue
            known = found.keys.get("session", {}) if found else {}
            is_lost_end = index == 8 and lost and one == company  # only `verify` knows of a lost end
            assert known == expected or is_lost_end


async def test_packs_and_retention_keep_what_is_needed(tmp_path: Path) -> None:
    """Packed, every state is as before; only what is older than what is kept goes, and every newer state can be had."""
    log = Log(tmp_path, 60, snapshot_each=12, change_log_keep_days=30 / 86_400)
    now = BEGAN + 60
    first = await compact(log.settings, now + 4_000 - 30, dry_run=True)
    assert (first.files_after, first.files_before) == (60, 60)
    done = await compact(log.settings, now)
    assert done.dropped > 0
    assert done.packed == 0
    assert log.verified().problems == []
    log.check([one for one in log.history if one[0] >= now - 30])
    packing = settings_in(tmp_path, change_log_keep_days=1.0)
    packed = await compact(packing, now + 4_000)
    assert packed.packed == 60 - done.dropped
    assert packed.files_after == 1
    assert log.verified().problems == []
    log.check([one for one in log.history if one[0] >= now - 30])
    log.change(COMPANIES[0], 61, BEGAN + 61, snapshot=False)
    assert log.verified().problems == []
    log.check(log.history[-5:])


async def test_a_packed_segment_that_changed_is_found(tmp_path: Path) -> None:
    """A pack hides no damage."""
    log = Log(tmp_path, 20)
    await compact(log.settings, BEGAN + 5_000)
    (file,) = log.folder.files()
    content = bytearray(file.path.read_bytes())
    content[len(content) // 2] ^= 1
    file.path.write_bytes(content)
    assert len(log.verified().problems) == 1


async def test_two_do_not_compact_at_once(tmp_path: Path) -> None:
    log = Log(tmp_path, 3)
    with log.folder.tidying():
        with pytest.raises(JobRunning):
            await compact(log.settings, BEGAN)
        context = JobContext(log.settings, None, Taken(), "node", "a")  # type: ignore[arg-type]
        assert len((await maintain(context)).compacted.left) == 1


def test_the_end_of_a_log_is_found_again(tmp_path: Path) -> None:
    """With or without its notes, the next writer goes on where the last one ended, and knows each company's place."""
    log = Log(tmp_path, 7)
    log.writer.note(log.gathering.positions)
    log.change(COMPANIES[0], 8, BEGAN + 8, snapshot=False)
    for without in (None, "positions.cache", "ends.json"):
        if without is not None:
            (log.folder.path / without).unlink()
        again = SegmentWriter(Folder(log.folder.path), Sealer.of(log.settings), "a")
        positions = again.begin()
        assert again.number == log.writer.number
        assert {c: p.last for c, p in positions.items()} == {
            c: p.last for c, p in log.gathering.positions.items()
        }
    again.write({COMPANIES[0]: [Entry("removed", 7, 9, 9, BEGAN + 9)]}, BEGAN + 9)
    assert log.verified().problems == []


def test_a_change_that_does_not_follow_asks_for_a_snapshot() -> None:
    """Nothing is put behind a hole."""
    gathering, change = Gathering(), Change({"session": {"1": b"1"}})
    gathering.take([Heard("snapshot", COMPANIES[0], BEGAN, 7, 4, 4, Change())])
    gathering.take([Heard("changed", COMPANIES[0], BEGAN, 7, 6, 6, change)])
    gathering.take([Heard("changed", COMPANIES[0], BEGAN, 7, 7, 7, change)])
    assert [entry.kind for entry in gathering.entries[COMPANIES[0]]] == ["snapshot"]
    assert list(gathering.due) == [COMPANIES[0]]
    gathering.take([Heard("snapshot", COMPANIES[0], BEGAN + 9, 7, 7, 7, Change())])
    newest = gathering.entries[COMPANIES[0]][-1]
    assert (newest.kind, newest.since) == ("snapshot", BEGAN)


def test_what_no_identity_opens_is_said(tmp_path: Path) -> None:
    """Of another node's segments checksums are compared, and no state is made up."""
    log = Log(tmp_path, 4)
    stranger = settings_in(tmp_path / "other").model_copy(
        update={"backup_root": log.settings.backup_directory}
    )
    assert verify_folders(folders(stranger.backup_directory), Opener.of(stranger)).sealed == 4
    with pytest.raises(BackupDamaged, match="no identity"):
        state_within(stranger, COMPANIES[0])


def test_a_segment_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """With a word about the version, and without a guess."""
    log = Log(tmp_path, 1)
    place = log.folder.segments()[0]
    opened = open_segment(place)
    assert read_entries(opened, Company("nobody"), Opener.of(log.settings)) == []
    place.path.write_bytes(place.path.read_bytes().replace(b"SFCHANG1", b"SFCHANG2"))
    with pytest.raises(BackupDamaged, match="no segment"):
        open_segment(place)


def test_a_clock_that_was_set_back_hides_nothing(tmp_path: Path) -> None:
    """States follow the order of what was written, whatever the clock said."""
    log = Log(tmp_path, 6)
    log.change(COMPANIES[0], 100, BEGAN - 500, snapshot=False)
    found = state_within(log.settings, COMPANIES[0], BEGAN - 400)
    assert found is not None
    assert found.keys["session"] == log.states[COMPANIES[0]]
    asyncio.run(compact(log.settings, BEGAN + 60))
    assert log.verified().problems == []


async def test_the_daily_look_tells_what_is_damaged_and_what_is_not(tmp_path: Path) -> None:
    """By alerts, so that nobody has to look; the next sound look ends them."""
    log, alerts = Log(tmp_path, 4), Taken()
    context = JobContext(log.settings, None, alerts, "node", "a")  # type: ignore[arg-type]  # no database is needed
    assert (await maintain(context)).verified.problems == []
    victim = log.folder.files()[1].path
    content = victim.read_bytes()
    victim.write_bytes(content[:-1])
    assert len((await maintain(context)).verified.problems) == 1
    victim.write_bytes(content)
    assert "0 problems" in str(await maintain(context))
    assert [alert.name for alert in alerts.taken] == [
        "change_log_sound",
        "change_log_damaged",
        "change_log_sound",
    ]
    assert "segment" in alerts.taken[1].message


class Taken:
    """Every alert."""

    def __init__(self) -> None:
        self.taken: list[Alert] = []

    def take(self, alert: Alert) -> None:
        self.taken.append(alert)
