"""A switch to files that was cut off between two calls to the disk: the next start leaves nothing of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.jobs.emergency.folders import Folders
from tests.support import made_up_creds

ACME, BOLT = Company("acme"), Company("bolt")
SWITCH = "20261123T000000Z-1"


class Cut(BaseException):
    """The process ends here: what would have come after it does not."""


class Calls:
    """Of the file system; none is made after `last`."""

    def __init__(self, last: int) -> None:
        self.made, self._last = 0, last

    def counted(self, call: Callable[..., object]) -> Callable[..., object]:
        def made(*arguments: object, **options: object) -> object:
            if self.made == self._last:
                raise Cut
            self.made += 1
            return call(*arguments, **options)

        return made


@pytest.mark.parametrize("last", range(9))
def test_whatever_was_the_last_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Former folders are where they were, and there is nothing else."""
    folders, calls = Folders(tmp_path), Calls(last)
    for company in (ACME, BOLT):
        (tmp_path / company).mkdir()
        (tmp_path / company / "mine").write_text(company)
        folders.write(SWITCH, company, made_up_creds(), {"session": {"a": b"1"}}, 1, 1)
    with monkeypatch.context() as patched:
        patched.setattr(Folders, "undo", lambda *_: None)
        for name in ("mkdir", "rename"):
            patched.setattr(Path, name, calls.counted(getattr(Path, name)))
        with contextlib.suppress(Cut):
            folders.place(SWITCH, [ACME, BOLT])
    assert calls.made == last
    Folders(tmp_path).recover(None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ACME, BOLT]
    assert [(tmp_path / company / "mine").read_text() for company in (ACME, BOLT)] == [ACME, BOLT]
