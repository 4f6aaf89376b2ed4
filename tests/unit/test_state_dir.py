"""The state directory: made private, held by one process, given back however that process ends."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from standfast.errors import StateDirectoryError
from standfast.state_dir import StateDirectory

_HOLD = """
import sys
from pathlib import Path
from standfast.state_dir import StateDirectory
StateDirectory(Path(sys.argv[1])).acquire(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path, purpose: str = "service") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `path` until it is killed or this block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path), purpose],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_it_is_made_private_with_its_parents(tmp_path: Path) -> None:
    """A new state directory may be entered by its owner only."""
    directory = StateDirectory(tmp_path / "a" / "state")
    directory.prepare()
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.path.parent.stat().st_mode) == 0o700


def test_another_process_that_holds_it_is_named(tmp_path: Path) -> None:
    """In use: the error names the holder's pid and purpose, and holds them as facts."""
    with held_elsewhere(tmp_path, "demo") as other:
        with pytest.raises(
            StateDirectoryError, match=rf"in use by pid {other.pid} \(demo, since 20"
        ) as caught:
            StateDirectory(tmp_path).acquire()
        assert caught.value.facts == {"pid": other.pid}
        holder = StateDirectory(tmp_path).holder()
        assert holder is not None
        assert (holder.pid, holder.purpose) == (other.pid, "demo")


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """After SIGKILL of the holder the directory is free at once, and its stale sockets are removed."""
    directory = StateDirectory(tmp_path)
    with held_elsewhere(tmp_path) as other:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(directory.gateway_socket))
        other.send_signal(signal.SIGKILL)
        other.wait(timeout=10)
    assert directory.holder() is None
    directory.acquire()
    assert not directory.gateway_socket.exists()
    directory.release()


def test_only_sockets_are_swept_away(tmp_path: Path) -> None:
    """A regular file that happens to end in .sock is somebody's data."""
    kept = tmp_path / "notes.sock"
    kept.write_text("mine")
    with StateDirectory(tmp_path):
        assert kept.read_text() == "mine"


def test_released_it_can_be_held_again(tmp_path: Path) -> None:
    """Release gives it back within the process too."""
    first, second = StateDirectory(tmp_path), StateDirectory(tmp_path)
    first.acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.release()
    assert second.holder() is None


def test_a_look_at_the_holder_keeps_nobody_out(tmp_path: Path) -> None:
    """`holder()` leaves the lock free and the lock file as it was."""
    directory = StateDirectory(tmp_path)
    assert directory.holder() is None
    with directory:
        assert directory.holder() is not None
    assert directory.holder() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_account_is_refused(tmp_path: Path) -> None:
    """Someone else's directory is not used, and stays untouched."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(StateDirectoryError, match=r"belongs to another account \(uid 12345"):
        StateDirectory(theirs).acquire()
    assert list(theirs.iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever can write the directory could swap its sockets."""
    tmp_path.chmod(mode)
    with pytest.raises(StateDirectoryError, match="written by other accounts") as caught:
        StateDirectory(tmp_path).acquire()
    assert "chmod 700" in caught.value.next_step


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """A path that is a file, or passes through one, is named in a clear error."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateDirectoryError, match="is not a directory"):
            StateDirectory(path).prepare()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """The error comes before anything listens, and counts bytes, not characters."""
    deep = tmp_path / ("ö" * 50)
    with pytest.raises(StateDirectoryError, match="too long for a socket"):
        StateDirectory(deep).acquire()


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """A planted link must not make us truncate what it points at."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "node.lock").symlink_to(victim)
    with pytest.raises(StateDirectoryError):
        StateDirectory(state).acquire()
    assert victim.read_text() == "precious"
