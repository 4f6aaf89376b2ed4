"""What health says of copies in remotes, of the change log and of the next backup."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from standfast.health.copies import BEHIND_S, Attempt, Copied, findings, remote_copies
from standfast.health.document import BackupSection
from standfast.health.monitor import CLEAR_S
from standfast.jobs.remotes.report import RemotesReport, Sent
from standfast.service.backup_outlook import BackupOutlook
from standfast.service.job_table import jobs_of
from standfast.settings import Settings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0
HOUR = 3_600.0


def _good(days_ago: float, *, held: bool = False, failed: str = "") -> Copied:
    at = NOW - days_ago * DAY
    return Copied(
        f"b{days_ago:g}", at, at + 60, {"nas": at + 90} if held else {}, {"nas": failed} if failed else {}
    )


def test_what_is_newer_than_all_that_a_remote_has_is_missing() -> None:
    """An older one that was never sent is none of what the remote keeps, unless the last attempt left it waiting."""
    backups = [_good(0.1, failed="no route"), _good(1), _good(2, held=True), _good(3), _good(4)]
    state = remote_copies("nas", backups, None)
    assert (state.up_to_date, state.missing, state.error) == (False, 2, "no route")
    assert (state.since, state.sent_at) == (NOW - DAY + 60, NOW - 2 * DAY + 90)
    state = remote_copies("nas", backups, Attempt(("b0.1", "b1", "b3"), "it is full"))
    assert (state.missing, state.since, state.error) == (3, NOW - 3 * DAY + 60, "it is full")
    assert state.behind_since == NOW - DAY + 60
    state = remote_copies("nas", [_good(0.1, held=True), _good(3, failed="long ago")], Attempt())
    assert (state.up_to_date, state.missing, state.since, state.error) == (True, 0, None, None)


@pytest.mark.parametrize(("days_ago", "is_told"), [((0.1, 1.0, 2.0), False), ((0.1, 1.0, 1.1, 2.0), True)])
def test_a_remote_without_the_newest_for_26_hours_is_told(days_ago: tuple[float, ...], is_told: bool) -> None:
    """By the oldest that is newer than all it has: with a backup each day the newest itself is never that old. It
    becomes no alert: the job has raised one."""
    backups = [_good(one, held=one == 2.0) for one in days_ago]
    section = BackupSection(state="ok", root="/b", remotes=[remote_copies("nas", backups, None)])
    found = list(findings(section, NOW))
    assert [(one.code, one.level, one.subject) for one in found] == [
        ("backup_remote_behind", "warning", "nas")
    ] * is_told
    assert BEHIND_S == 26 * HOUR
    assert "backup_remote_behind" not in CLEAR_S


def _outlook(report: RemotesReport | None, change_log: dict[str, Any] | None, **more: Any) -> BackupOutlook:
    settings = Settings(
        backup_remotes=SecretStr("/mnt/nas"), backup_recipients="none", time_zone="UTC", **more
    )
    return BackupOutlook(settings, jobs_of(settings), lambda: report, lambda: change_log, lambda: NOW)


def _section() -> BackupSection:
    return BackupSection(state="ok", root="/b")


def test_a_service_tells_what_comes_next_and_how_copies_stand() -> None:
    """The next time of cron; the error of the last attempt; nothing is said of a remote where backups are not known."""
    sent = Sent("nas", "/mnt/nas", waiting=["b0.1"], error={"code": "x", "message": "it is full"})
    outlook = _outlook(RemotesReport([sent]), None, backup_cron="30 13 * * *")
    section = _section()
    outlook.tell(section, [_good(0.1)])
    (nas,) = section.remotes
    assert (nas.name, nas.up_to_date, nas.missing, nas.error) == ("nas", False, 1, "it is full")
    assert section.next_at == NOW + 1.5 * HOUR
    outlook.tell(section, None)
    assert (section.remotes[0].up_to_date, section.remotes[0].missing) == (None, None)
    _outlook(None, None, schedule="off").tell(section, [])
    assert section.next_at is None


def test_the_change_log_is_told_and_alerts_only_by_itself() -> None:
    """Off; written; or failing, which health only shows: the change log has its own alert."""
    section = _section()
    _outlook(None, None).tell(section, [])
    assert section.change_log is not None
    assert not section.change_log.on
    status = {"segments": 3, "newest_at": NOW - 4, "pending_s": 1.5, "failing": True}
    _outlook(None, status).tell(section, [])
    told = section.change_log
    assert (told.on, told.segments, told.newest_age_s, told.pending_s) == (True, 3, 4.0, 1.5)
    assert [(one.code, one.level) for one in findings(section, NOW)] == [("change_log_failing", "info")]
    status["failing"] = False
    _outlook(None, status).tell(section, [])
    assert list(findings(section, NOW)) == []
