"""What is kept of drills, and what recovering took as last measured."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from standfast.drill.history import DISASTERS, NEVER, last_measured
from standfast.drill.kept import KEPT_OF_A_SORT, KeptDrills
from standfast.errors import NotFound, UsageError
from standfast.jobs.backup.manifest import Content, Manifest, Record, RestoreTest, Upload
from standfast.settings import Settings
from tests.drills import BEGAN, made_up


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


def test_a_record_comes_back_as_it_was_kept(settings: Settings) -> None:
    """By its id and as the latest; in a file that only its owner may read."""
    drills, record = KeptDrills(settings), made_up()
    path = drills.keep(record)
    assert drills.get(record.id) == record == drills.get("latest")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_history_is_bounded_and_a_full_drill_outlives_fast_ones(settings: Settings) -> None:
    """However many fast drills follow, the figures of the last full one stay."""
    drills = KeptDrills(settings)
    drills.keep(made_up(id="full"))
    for number in range(KEPT_OF_A_SORT + 2):
        drills.keep(made_up(id=f"fast-{number}", kind="fast", started_at=BEGAN + number + 1))
    kept = {one.id for one in drills.listing().records}
    assert len(kept) == KEPT_OF_A_SORT + 1
    assert "full" in kept
    assert not kept & {"fast-0", "fast-1"}


def test_a_damaged_record_is_named_and_hides_no_other(settings: Settings) -> None:
    """A history with one bad file is still a history."""
    drills = KeptDrills(settings)
    path = drills.keep(made_up())
    path.with_name("torn.json").write_bytes(path.read_bytes()[:300])
    listing = drills.listing()
    assert ([one.id for one in listing.records], listing.damaged) == ([made_up().id], ["torn.json"])


@pytest.mark.parametrize(("name", "error"), [("../secrets", UsageError), ("absent", NotFound)])
def test_an_id_names_a_drill_and_no_other_file(settings: Settings, name: str, error: type[Exception]) -> None:
    """What is not an id is refused, what is none of ours is not found."""
    with pytest.raises(error):
        KeptDrills(settings).get(name)


def test_without_drills_and_tests_nothing_was_ever_measured(settings: Settings) -> None:
    """No figure is guessed."""
    found = last_measured(settings)
    assert [one.disaster for one in found] == list(DISASTERS)
    assert {(one.by, one.rto_s, one.is_known) for one in found} == {(NEVER, None, False)}


def test_each_disaster_has_the_newest_figure_that_was_measured(settings: Settings) -> None:
    """From the newest drill in full length that tried it, never from a fast one; copies elsewhere count apart."""
    drills = KeptDrills(settings)
    drills.keep(made_up(id="older"))
    drills.keep(made_up(id="newer", started_at=BEGAN + 60, rto_s=1.1, to_files_s=None, messages_lost=1))
    drills.keep(made_up(id="fast", started_at=BEGAN + 90, kind="fast", rto_s=0.1))
    drills.keep(made_up(id="here", started_at=BEGAN + 95, here=True, rto_s=0.2))
    _backup(settings, "20260920T030000Z", RestoreTest(BEGAN, True, 9.0, 3600.0), held=True)
    _backup(settings, "20260921T030000Z", RestoreTest(BEGAN + 5, True, 8.0, 1800.0), held=False)
    _backup(settings, "20260922T030000Z", RestoreTest(BEGAN + 9, False, 1.0, 60.0), held=True)
    found = {one.disaster: one for one in last_measured(settings)}
    unreachable, lost = found["unreachable"], found["loss-of-database"]
    assert (unreachable.rto_s, unreachable.rpo_s, unreachable.messages_lost) == (1.1, None, 1)
    assert (lost.rto_s, lost.rpo_s, lost.by) == (0.8, 0.0, "drill older")
    assert (found["deletion"].rto_s, found["corruption"].rpo_s) == (8.0, 1800.0)
    assert (found["data-centre"].rto_s, found["everything"].by) == (9.0, "restore test of 20260920T030000Z")


def test_a_history_that_cannot_be_read_is_never_an_absence(settings: Settings) -> None:
    """It says why in place of "never measured"."""
    settings.state_dir.mkdir()
    (settings.state_dir / "drills").write_text("not a directory")
    found = {one.disaster: one.by for one in last_measured(settings)}
    assert "cannot be read" in found["unreachable"]
    assert found["deletion"] == NEVER


def _backup(settings: Settings, name: str, test: RestoreTest, *, held: bool) -> None:
    directory = settings.backup_directory / name
    directory.mkdir(parents=True)
    manifest = Manifest(
        format=1,
        name=name,
        kinds=["daily"],
        snapshot_at=test.at - test.rpo_s,
        started_at=test.at - test.rpo_s,
        duration_s=1.0,
        node="node",
        standfast_version="0.1.0",
        schema_version=1,
        server_version="18.0",
        client_version="18.0",
        database="standfast",
        sentinel="",
        content=Content("whole.dump", 1, "", 1, "zstd"),
        tables={},
        companies={},
        digest="",
        digest_method="",
    )
    uploads = {"nas": Upload(at=test.at)} if held else {}
    (directory / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    (directory / "record.json").write_bytes(msgspec.json.encode(Record([], [test], uploads)))
