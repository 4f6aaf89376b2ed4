"""How old the last confirmation is, whatever happened to clocks and machine since."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.vault.clock import SystemClock
from standfast.vault.confirmation import Confirmation, Stamp

FIRST, SECOND = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


@dataclass
class FakeClock:
    """A machine whose clocks a test can let run, set and start anew."""

    up_s: float = 1000.0
    wall_s: float = 1_700_000_000.0
    boot: str = FIRST

    def boottime(self) -> float:
        return self.up_s

    def wall(self) -> float:
        return self.wall_s

    def boot_id(self) -> str:
        return self.boot

    def pass_(self, seconds: float) -> None:
        self.up_s += seconds
        self.wall_s += seconds

    def reboot(self, off_s: float, *, set_back_s: float = 0.0) -> None:
        self.boot, self.up_s = SECOND, 0.0
        self.wall_s += off_s - set_back_s


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "confirmation"


def confirmed(path: Path, clock: FakeClock) -> Confirmation:
    confirmation = Confirmation(path, clock)
    confirmation.confirm(clock.boottime())
    return confirmation


def test_nothing_is_confirmed_at_first(path: Path, clock: FakeClock) -> None:
    """Absence is None."""
    assert Confirmation(path, clock).age_s() is None


def test_the_age_counts_from_before_the_request(path: Path, clock: FakeClock) -> None:
    """An answer that took 3 s confirms what was so 3 s ago, and never moves an earlier confirmation back."""
    confirmation = Confirmation(path, clock)
    begun = clock.boottime()
    clock.pass_(3)
    confirmation.confirm(begun)
    assert confirmation.age_s() == 3
    confirmation.confirm(begun - 10)
    assert confirmation.age_s() == 3
    confirmation.confirm(clock.boottime())
    assert confirmation.age_s() == 0


@pytest.mark.parametrize("jump_s", [0, 86_400, -86_400, 3e9])
def test_a_restart_and_a_set_wall_clock_change_nothing(path: Path, clock: FakeClock, jump_s: float) -> None:
    """Exact, by the clock that nobody sets."""
    confirmed(path, clock)
    clock.pass_(100)
    clock.wall_s += jump_s
    again = Confirmation(path, clock)
    assert again.age_s() == pytest.approx(100, abs=0.001)
    clock.pass_(201)
    assert again.age_s() == pytest.approx(301, abs=0.001)


def test_a_reboot_counts_by_the_wall_clock(path: Path, clock: FakeClock) -> None:
    confirmed(path, clock)
    clock.pass_(20)
    clock.reboot(off_s=60)
    clock.pass_(10)
    assert Confirmation(path, clock).age_s() == pytest.approx(90, abs=0.001)


def test_an_outage_before_the_reboot_counts_whatever_the_wall_clock_was(path: Path, clock: FakeClock) -> None:
    """The age noted in the outage is by the sure clock; only the time since is by the other one."""
    confirmation = confirmed(path, clock)
    clock.pass_(200)
    clock.wall_s -= 150
    confirmation.refresh()
    clock.reboot(off_s=60)
    clock.pass_(10)
    assert Confirmation(path, clock).age_s() == pytest.approx(270, abs=0.001)


def test_a_wall_clock_that_went_back_over_a_reboot_is_not_believed(path: Path, clock: FakeClock) -> None:
    """It says that less time passed than the machine has been up: no age can be told."""
    confirmed(path, clock)
    clock.reboot(off_s=60, set_back_s=100)
    clock.pass_(20)
    age_s = Confirmation(path, clock).age_s()
    assert age_s == math.inf
    confirmation = Confirmation(path, clock)
    confirmation.refresh()
    assert Confirmation(path, clock).age_s() == math.inf
    confirmation.confirm(clock.boottime())
    assert Confirmation(path, clock).age_s() == 0


@given(up_s=st.floats(0, 1e6), off_s=st.floats(0, 1e6), set_s=st.floats(-1e6, 1e6), then_s=st.floats(0, 1e6))
def test_no_age_is_below_what_is_sure(up_s: float, off_s: float, set_s: float, then_s: float) -> None:
    """Over any reboot and any setting of the wall clock, the machine's uptime is the least that passed; and where
    nobody set the clock back, the age is not too small."""
    clock = FakeClock()
    stamp = Stamp.now(clock)
    clock.pass_(up_s)
    stamp = stamp.refreshed(clock)
    clock.reboot(off_s, set_back_s=-set_s)
    clock.pass_(then_s)
    age_s = stamp.age_s(clock)
    assert age_s >= up_s + then_s - 0.01
    if set_s >= 0:
        assert age_s >= up_s + off_s + then_s - 0.01


@pytest.mark.parametrize("kind", ["flipped", "short", "long", "empty", "other"])
def test_a_damaged_record_is_none(path: Path, clock: FakeClock, kind: str) -> None:
    """Nothing is confirmed by it, and the next confirmation mends it."""
    confirmed(path, clock)
    content = path.read_bytes()
    flipped = bytes([content[12] ^ 1])
    damaged = {
        "flipped": content[:12] + flipped + content[13:],
        "short": content[:-1],
        "long": content + b"x",
        "empty": b"",
        "other": b"x" * len(content),
    }[kind]
    path.write_bytes(damaged)
    again = Confirmation(path, clock)
    assert again.age_s() is None
    path.unlink()
    again.confirm(clock.boottime())
    assert Confirmation(path, clock).age_s() == 0


def test_the_record_stays_small_private_and_one(path: Path, clock: FakeClock) -> None:
    """A confirmation each second writes over the last one; nobody else may read it."""
    confirmation = Confirmation(path, clock)
    for _ in range(5):
        clock.pass_(1)
        confirmation.confirm(clock.boottime())
    assert path.stat().st_size < 200
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_takes_no_record_stops_nobody(tmp_path: Path, clock: FakeClock) -> None:
    """This process knows; the next one trusts what is on disk, which is older or nothing."""
    path = tmp_path / "gone" / "confirmation"
    confirmation = confirmed(path, clock)
    assert confirmation.age_s() == 0
    assert Confirmation(path, clock).age_s() is None


def test_a_stamp_survives_as_text(clock: FakeClock) -> None:
    stamp = Stamp.of(clock.boottime() - 7, clock)
    again = Stamp.from_text(stamp.to_text())
    assert again == stamp
    assert again.age_s(clock) == 7
    assert len(stamp.to_text()) < 120


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", "[1, 2, 3, 4, 5]", '["a", 1, "b", 2]', "nonsense"])
def test_what_is_no_stamp_raises(text: str) -> None:
    """A read error is not a stamp of any age."""
    with pytest.raises(ValueError, match="stamp"):
        Stamp.from_text(text)


def test_a_boottime_from_the_future_is_not_believed(clock: FakeClock) -> None:
    stamp = Stamp.now(clock)
    clock.up_s -= 1
    assert stamp.age_s(clock) == math.inf


def test_the_real_clocks_agree(path: Path) -> None:
    """On this machine, over two processes' worth of instances."""
    clock = SystemClock()
    Confirmation(path, clock).confirm(clock.boottime() - 5)
    age_s = Confirmation(path, SystemClock()).age_s()
    assert age_s is not None
    assert 5 <= age_s < 6
    assert json.loads(Stamp.now(clock).to_text())[2] == clock.boot_id()
