"""A folder that nobody has touched since it was left is known without being read; any touch is seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from standfast.authstate.change import Change
from standfast.authstate.live_folder import LiveFolder
from tests.support import made_up_creds

KEYS = {"session": {"a.1": b'{"n":1}', "b.1": b'{"n":2}'}, "pre-key": {"1": b'{"n":3}'}}
CHANGE = Change(keys={"session": {"a.1": b'{"n":4}', "c.1": b'{"n":5}', "b.1": None}})


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """As a switch to files leaves it, under epoch 3 at 7."""
    LiveFolder.create(tmp_path / "acme", made_up_creds(), KEYS, 3, 7)
    return tmp_path / "acme"


def settled(directory: Path, change: Change, touch: Callable[[Path], object] = Path.exists) -> None:
    """It follows a change, is touched by somebody else, and is left."""
    folder = LiveFolder(directory)
    folder.open()
    folder.apply(change, 3, 8)
    touch(directory)
    folder.settle()


def rewritten(directory: Path) -> None:
    """As long as before, with the time that it had."""
    path = directory / "session-a.1.json"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"1", b"9").replace(b"4", b"9"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(directory: Path) -> None:
    """By a file of the same content."""
    shutil.copy2(directory / "pre-key-1.json", directory / "other")
    (directory / "other").rename(directory / "pre-key-1.json")


TOUCHES: dict[str, Callable[[Path], object]] = {
    "rewritten": rewritten,
    "replaced": replaced,
    "removed": lambda directory: (directory / "pre-key-1.json").unlink(),
    "added": lambda directory: (directory / "pre-key-2.json").write_bytes(b'{"n":9}'),
    "renamed": lambda directory: (directory / "pre-key-1.json").rename(directory / "pre-key-2.json"),
    "creds": lambda directory: (directory / "creds.json").write_bytes(made_up_creds()),
}


def test_a_folder_is_untouched_as_it_was_left(left: Path) -> None:
    assert LiveFolder(left).untouched() == (3, 7)
    settled(left, CHANGE)
    assert LiveFolder(left).untouched() == (3, 8)
    assert LiveFolder(left.rename(left.with_name("bolt"))).untouched() == (3, 8)


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_every_touch_is_seen(left: Path, touch: Callable[[Path], object]) -> None:
    settled(left, CHANGE)
    touch(left)
    assert LiveFolder(left).untouched() is None


def test_a_change_that_was_not_settled_has_to_be_read(left: Path) -> None:
    """It may have been cut off half-way."""
    folder = LiveFolder(left)
    folder.open()
    folder.apply(CHANGE, 3, 8)
    assert LiveFolder(left).untouched() is None


def test_a_copy_and_an_older_format_have_to_be_read(left: Path) -> None:
    shutil.copytree(left, left.with_name("copy"))
    assert LiveFolder(left.with_name("copy")).untouched() is None
    notes = left / ".standfast-mirror"
    notes.write_bytes(b'{"epoch":3,"sequence":7}\n')
    assert LiveFolder(left).untouched() is None
    notes.unlink()
    assert LiveFolder(left).untouched() is None
    shutil.rmtree(left)
    assert LiveFolder(left).untouched() is None


@pytest.mark.parametrize("touch", ["rewritten", "removed", "added"])
def test_what_somebody_else_changed_meanwhile_is_not_settled_as_ours(left: Path, touch: str) -> None:
    """A plain bot that runs beside: the next start must still find what it did."""
    settled(left, Change(keys={"session": {"c.1": b'{"n":5}'}}), TOUCHES[touch])
    assert LiveFolder(left).untouched() is None
    folder = LiveFolder(left)
    folder.open()
    assert folder.foreign() is not None
