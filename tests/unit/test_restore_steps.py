"""The file that says how far a restore has come."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from standfast.errors import JobRunning, RestoreRefused, StateDirectoryError
from standfast.jobs.restore.steps import FORMAT, Step, Steps, StepsFile
from standfast.service.doctor import leftovers
from tests.doctoring import outcome, patient

STEPS = Steps(
    FORMAT, "0" * 32, "20261122T030000Z", "db", 1.0, {"acme": Step("replay", "kept", "/a", 5, True)}
)


async def test_it_is_read_as_it_was_written_and_bars_another(tmp_path: Path) -> None:
    """For its owner alone to read; gone when the restore has ended."""
    file = StepsFile(tmp_path)
    file.refuse_unfinished()
    await file.write(STEPS)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.read() == STEPS
    with pytest.raises(RestoreRefused, match="20261122T030000Z is unfinished"):
        file.refuse_unfinished()
    await file.remove()
    assert file.read() is None


async def test_what_cannot_be_read_is_no_absence(tmp_path: Path) -> None:
    """Damaged, or of a later version: nothing begins over it."""
    file = StepsFile(tmp_path)
    await file.write(Steps(FORMAT + 1, "x", "a", "b", 1.0, {}))
    with pytest.raises(StateDirectoryError, match="later version"):
        file.refuse_unfinished()
    file.path.write_text('{"format": 1')
    with pytest.raises(StateDirectoryError, match="cannot be read"):
        file.refuse_unfinished()


def test_one_process_works_it_off(tmp_path: Path) -> None:
    """A second one on this machine is told so."""
    with StepsFile(tmp_path).locked(), pytest.raises(JobRunning), StepsFile(tmp_path).locked():
        pass
    with StepsFile(tmp_path).locked():
        pass


def test_the_doctor_finds_one_that_was_cut_off(tmp_path: Path) -> None:
    """With what goes on with it, and what goes back."""
    who = patient(state_dir=tmp_path)
    assert outcome(leftovers.restores, who) == "ok"
    (tmp_path / "restore.json").write_text("{}")
    (result,) = leftovers.restores(who)
    assert result.outcome == "warning"
    assert "--resume" in str(result)
    assert "--abandon" in str(result)
