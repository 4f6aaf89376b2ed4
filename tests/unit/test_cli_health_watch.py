"""The screen of `standfast health --watch`: what it shows as pictures come, stop coming and come back."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from standfast.cli import health_watch
from standfast.cli.health_watch import Screen
from standfast.errors import SettingsError
from tests.health_pictures import empty, full


class Clock:
    """Time that goes when it is told to."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000.0 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(health_watch, "time", made)
    return made


def shown(screen: Screen, columns: int = 100, lines: int = 60) -> list[str]:
    """The lines of the window."""
    console = Console(
        file=io.StringIO(),
        width=columns,
        height=lines,
        color_system=None,
        highlight=False,
        markup=False,
        legacy_windows=False,
    )
    with console.capture() as capture:
        console.print(screen, end="")
    return capture.get().splitlines()


async def test_the_age_of_the_picture_ticks(clock: Clock) -> None:
    """Each second that nothing comes is told."""
    screen = Screen(10.0, verbose=False)
    assert shown(screen) == ["Looking …"]
    screen._take(full())
    assert shown(screen)[0].startswith("just looked, every 10 s; q quits")
    clock.now += 7
    assert shown(screen)[0].startswith("7 s old, every 10 s")


async def test_a_service_that_goes_and_comes_back_is_told(clock: Clock) -> None:
    """Since when it has not answered, and for some looks that it is back; one that never was there is no news."""
    screen = Screen(10.0, verbose=False)
    screen._take(empty())
    assert "has not answered" not in shown(screen)[0]
    screen._take(full())
    assert "is back" not in shown(screen)[0]
    screen._take(empty())
    clock.now += 65
    screen._take(empty())
    assert shown(screen)[0].startswith("The service has not answered for 1 m 05 s. ")
    screen._take(full())
    assert shown(screen)[0].startswith("The service is back. ")
    clock.now += 31
    screen._take(full())
    assert shown(screen)[0].startswith("just looked")


async def test_a_look_that_fails_leaves_the_last_picture(clock: Clock) -> None:
    """With the error above it, until the next one succeeds."""
    screen = Screen(10.0, verbose=False)
    screen._error = SettingsError("POSTGRES_PORT is no port")
    assert shown(screen) == ["POSTGRES_PORT is no port"]
    screen._take(full())
    screen._error = SettingsError("POSTGRES_PORT is no port")
    lines = shown(screen)
    assert lines[0].startswith("POSTGRES_PORT is no port. just looked")
    assert any("CRITICAL" in line for line in lines)
    screen._take(full())
    assert "POSTGRES_PORT" not in shown(screen)[0]


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize(("columns", "lines"), [(120, 60), (80, 24), (40, 12), (20, 5), (100, 2)])
async def test_it_fits_any_window(clock: Clock, columns: int, lines: int, verbose: bool) -> None:
    """No more lines and columns than there are; what is left out is said, and never the verdict."""
    screen = Screen(10.0, verbose=verbose)
    screen._take(full())
    drawn = shown(screen, columns, lines)
    assert len(drawn) <= lines
    assert max(cell_len(line) for line in drawn) <= columns
    if lines > 2:
        assert "CRITICAL" in drawn[1]
    if lines < 30:
        assert drawn[-1].startswith("enlarge the window")


async def test_keys(clock: Clock) -> None:
    """q ends it, v and r look again at once; all others do nothing."""
    screen = Screen(10.0, verbose=False)
    for key, wanted in (("x", False), ("v", True), ("r", True)):
        screen._wanted.clear()
        screen.typed(key)
        assert screen._wanted.is_set() is wanted
        assert not screen.left
    assert screen._verbose
    screen.typed("q")
    assert screen.left
