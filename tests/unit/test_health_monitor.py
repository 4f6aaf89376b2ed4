"""The monitor: findings become alerts, and their absence ends them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from standfast.alert import Alert
from standfast.health.document import Finding
from standfast.health.monitor import CLEAR_S, Monitor, Pace


class Taken:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def take(self, alert: Alert) -> None:
        self.alerts.append(alert)

    @property
    def ended(self) -> list[Alert]:
        return [alert for alert in self.alerts if alert.ends]


class Bench:
    """A monitor whose clock and findings the test moves."""

    def __init__(self, standing: Iterable[Alert] = ()) -> None:
        self.now = 1000.0
        self.taken = Taken()

        async def nothing() -> list[Finding]:
            return []

        self.monitor = Monitor(nothing, self.taken, lambda: standing, clock=lambda: self.now)

    def judge(self, *findings: Finding, after_s: float = 10.0) -> None:
        self.now += after_s
        self.monitor.judge(findings)


def found(code: str = "pool_usage_high", level: str = "warning", subject: str | None = None) -> Finding:
    return Finding(
        code=code,
        section="pool",
        level=level,  # type: ignore[arg-type]
        message="it is high",
        recommendation="lower it",
        subject=subject,
    )


def test_a_finding_is_reported_at_each_look_as_one_trouble() -> None:
    """The sink counts and stays silent: all reports have one fingerprint, and say what to do."""
    bench = Bench()
    bench.judge(found())
    bench.judge(found(level="error"))
    first, second = bench.taken.alerts
    assert first.fingerprint == second.fingerprint
    assert (first.level, second.level) == ("warning", "error")
    assert first.lasts
    assert first.facts["next_step"] == "lower it"


def test_a_finding_that_comes_and_goes_is_one_trouble() -> None:
    """It ends only when it has been gone for as long as its code asks."""
    bench = Bench()
    bench.judge(found())
    bench.judge(after_s=CLEAR_S["pool_usage_high"] - 10)
    assert not bench.taken.ended
    bench.judge(found())
    bench.judge(after_s=CLEAR_S["pool_usage_high"] - 1)
    assert not bench.taken.ended
    bench.judge(after_s=1)
    (end,) = bench.taken.ended
    assert end.ends == ("pool_usage_high",)
    bench.judge(after_s=1000)
    assert len(bench.taken.ended) == 1


def test_an_end_names_whom_it_concerns() -> None:
    """One full disk is emptied while the other stays full."""
    bench = Bench()
    bench.judge(found("disk_low", subject="state"), found("disk_low", subject="backups"))
    bench.judge(found("disk_low", subject="backups"), after_s=61)
    (end,) = bench.taken.ended
    assert end.subject == bench.taken.alerts[0].subject == "subject=state"


def test_what_an_earlier_run_told_is_ended_where_it_is_over() -> None:
    """A restart must not leave an alert standing for ever, nor end what goes on."""
    over = Alert("disk_low", "error", "full", {"component": "health", "subject": "state"}, lasts=True)
    goes_on = Alert("expired_keys", "error", "many", {"component": "health"}, lasts=True)
    elsewhere = Alert("outage_began", "error", "away", {"component": "vault"}, lasts=True)
    bench = Bench([over, goes_on, elsewhere])
    bench.judge(found("expired_keys"))
    bench.judge(found("expired_keys"), after_s=61)
    assert [(end.ends, end.subject) for end in bench.taken.ended] == [(("disk_low",), over.subject)]


def test_what_others_alert_or_what_is_only_worth_a_word_is_not_raised() -> None:
    """No trouble has two alerts."""
    bench = Bench()
    bench.judge(found("sessions_down", "error"), found("backup_old", "info"), found("disk_low", "unknown"))
    assert not bench.taken.alerts


async def test_a_look_that_fails_ends_nothing() -> None:
    """The next look comes all the same."""
    taken, looks = Taken(), 0

    async def look() -> list[Finding]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("a bug")
        return [found()]

    monitor = Monitor(look, taken, pace=Pace(delay_s=0, interval_s=0.01))
    task = asyncio.create_task(monitor.run())
    async with asyncio.timeout(5):
        while not taken.alerts:
            await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert monitor.failures == 1
    assert taken.alerts[0].name == "pool_usage_high"


def test_what_could_not_be_measured_ends_nothing() -> None:
    """Alerts of the section stay, those of an earlier run too, until it was measured again; those of others end."""
    alert = Alert("expired_keys", "warning", "many", {"section": "keys"}, lasts=True)
    other = Alert("backup_old", "warning", "old", {"section": "backups"}, lasts=True)
    bench = Bench([alert, other])
    unknown = Finding(code="keys_unknown", section="keys", level="info", message="not counted")
    bench.judge(unknown)
    bench.judge(unknown)
    assert [ended.ends for ended in bench.taken.ended] == [("backup_old",)]
    bench.judge()
    assert [ended.ends for ended in bench.taken.ended] == [("backup_old",), ("expired_keys",)]
