"""What is told to systemd, and what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from standfast.service.notify import Notifier
from tests.manager import manager_at


def test_paths_and_abstract_sockets_are_told(tmp_path: Path) -> None:
    """Both kinds of address get one datagram with every line."""
    for address in (str(tmp_path / "n"), f"@standfast-{os.getpid()}"):
        with manager_at(address) as manager:
            assert Notifier(address).tell("READY=1", "STATUS=stands")
            assert manager.told == ["READY=1", "STATUS=stands"]


def test_no_child_inherits_the_address() -> None:
    """What the manager gave is taken out of the environment, and the rest stays."""
    environment = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "", "HOME": "/"}
    notifier = Notifier.from_environment(environment)
    assert (notifier.is_asked, notifier.watchdog_s, environment) == (True, 3.0, {"HOME": "/"})


@pytest.mark.parametrize(
    ("given", "is_asked"),
    [
        ({}, False),
        ({"WATCHDOG_USEC": "3000000"}, False),
        ({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "3000000"}, False),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, True),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "soon"}, True),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "0"}, True),
    ],
)
def test_a_watchdog_that_is_not_ours_is_not_fed(given: dict[str, str], is_asked: bool) -> None:
    """Another process's watchdog, none, or one that nobody can read, is none."""
    notifier = Notifier.from_environment(dict(given))
    assert (notifier.is_asked, notifier.watchdog_s) == (is_asked, None)


def test_a_manager_that_went_away_harms_nothing(tmp_path: Path) -> None:
    """Telling says that it was not taken, and raises nothing."""
    assert not Notifier(str(tmp_path / "gone")).tell("WATCHDOG=1")
    assert not Notifier().tell("WATCHDOG=1")
