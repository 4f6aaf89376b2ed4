"""Every trouble that is told of as going on is ended by something that is said as well."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from standfast.alert import Alert
from standfast.authstate.company import Company
from standfast.errors import BackupDamaged, DatabaseUnavailable, JournalUnwritable
from standfast.jobs.backup import alarms as backup_alarms
from standfast.jobs.backup import proof_alarms
from standfast.jobs.backup.manifest import RestoreTest, Validation
from standfast.jobs.changelog import alarms as changelog_alarms
from standfast.jobs.cleanup import alarms as cleanup_alarms
from standfast.jobs.cleanup.report import CleanupReport, Measures
from standfast.jobs.emergency import alarms as emergency_alarms
from standfast.jobs.remotes import alarms as remote_alarms
from standfast.jobs.schedule import alarms as schedule_alarms
from standfast.messaging import webhooks_alarms
from standfast.service import alarms as service_alarms
from standfast.service import archivist
from standfast.sessions import alarms as session_alarms
from standfast.sessions import hosts
from standfast.sessions.session import Session
from standfast.vault import alerts as vault_alerts
from tests.sources import SOURCE, parsed

ACME = Company("acme")
AWAY = DatabaseUnavailable("PostgreSQL does not answer", cause="timeout")
SESSION = Session(ACME)
NO_KEYS = Measures(0, 0, 0, 0, {})
CLEANED = CleanupReport("20261122T030000Z", "one", "safe", 30, False, 0.0, 0.1, {}, [], NO_KEYS, NO_KEYS)
LASTING = (
    vault_alerts.outage_began(AWAY),
    vault_alerts.grace_half_used(150.0, 300.0),
    vault_alerts.grace_expired(300.0, 300.0, 1),
    vault_alerts.foreign_database(1, 1, None),
    emergency_alarms.on_files("/x", 1, again=True),
    emergency_alarms.mirror_stopped("the disk is full"),
    emergency_alarms.folder_conflict(ACME, "both have moved on"),
    vault_alerts.node_shared("a"),
    vault_alerts.journal_growing(ACME, 1, 1, 61.0),
    vault_alerts.replication_stuck(ACME, AWAY),
    vault_alerts.journal_unwritable(JournalUnwritable("the disk is full")),
    session_alarms.breaker_open(SESSION, 300.0),
    session_alarms.replaced(SESSION, None),
    session_alarms.logged_out(SESSION),
    session_alarms.forbidden(SESSION),
    hosts._not_started(AWAY, 1),
    service_alarms.server_ended(AWAY),
    service_alarms.nothing_opens_yet(AWAY),
    service_alarms.running_from_replica(AWAY),
    service_alarms.schema_refused(AWAY),
    archivist._not_archived(ACME, AWAY),
    webhooks_alarms.failing("crm", 15.0, "answered 500"),
    webhooks_alarms.gone("crm", "it answered 410 Gone"),
    backup_alarms.failed(AWAY, None),
    cleanup_alarms.failed(AWAY, 3),
    proof_alarms.bad("20261122T030000Z", Validation(at=0.0, ok=False, duration_s=0.1)),
    proof_alarms.test_failed("20261122T030000Z", "it is cut off", BackupDamaged("it is cut off")),
    remote_alarms.failed("eu", AWAY, 2),
    changelog_alarms.stopped("No space left on device", None),
    changelog_alarms.damaged(["segment 3 is missing"]),
    changelog_alarms.not_sent("eu", AWAY, 3),
    schedule_alarms.failed("backup", "the disk is full", None),
    schedule_alarms.missed("backup", 0.0, "PostgreSQL does not answer"),
)
TOLD_BY_THE_DESK = {"alerts_not_kept"}  # of its own file, by a method that says its end too
# Said within one process that saw the trouble, or by the next one that finds none.
SAID_ANYWAY = (
    vault_alerts.database_stands(),
    schedule_alarms.ran("backup"),
    vault_alerts.own_database(),
    vault_alerts.node_alone(),
    emergency_alarms.off_files(quiet=True),
    emergency_alarms.mirror_goes_on(quiet=True),
    emergency_alarms.folder_decided(ACME),
    vault_alerts.journal_carried(ACME, wholly=True),
    vault_alerts.replication_goes_on(ACME),
    vault_alerts.journal_writable_again(quiet=True),
    session_alarms.stands(SESSION),
    session_alarms.unwanted(ACME),
    session_alarms.elsewhere(ACME),
    hosts._hosts_stand(),
    service_alarms.schema_ready(),
    archivist._archived(ACME),
    webhooks_alarms.back("crm", quiet=True),
    webhooks_alarms.resumed("crm"),
    webhooks_alarms.settled("crm", "works"),
    backup_alarms.made("20261122T030000Z", 1, 1_000),
    backup_alarms.made_elsewhere(),
    cleanup_alarms.done(CLEANED),
    proof_alarms.good("20261122T030000Z"),
    proof_alarms.gone("20261122T030000Z"),
    proof_alarms.tested("20261122T030000Z", RestoreTest(at=0.0, ok=True, rto_s=1.0, rpo_s=1.0)),
    remote_alarms.reached("eu"),
    changelog_alarms.goes_on(quiet=True),
    changelog_alarms.sound(),
    changelog_alarms.sent("eu", quiet=True),
)
REPORTS = (
    vault_alerts.restored(10.0, 3),
    emergency_alarms.off_files(quiet=False),
    emergency_alarms.on_files("/x", 1, again=False),
    vault_alerts.fenced(ACME, 2, 1, "the node b took it"),
    vault_alerts.foreign_database(1, 0, Path("former")),
    vault_alerts.journal_writable_again(),
    session_alarms.breaker_closed(SESSION),
    service_alarms.server_back(1),
    webhooks_alarms.back("crm"),
)


@pytest.mark.parametrize("lasting", LASTING, ids=lambda alert: alert.name)
def test_what_lasts_is_ended_by_something_that_names_it_and_concerns_the_same(lasting: Alert) -> None:
    """An alert that goes on has an end of the same subject, and one that the next process says as well."""
    assert lasting.lasts
    assert not lasting.quiet
    ends = [alert for alert in SAID_ANYWAY if lasting.name in alert.ends]
    assert [alert for alert in ends if alert.subject == lasting.subject], "nothing ends it after a restart"


@pytest.mark.parametrize("end", [*SAID_ANYWAY, *REPORTS], ids=lambda alert: alert.name)
def test_what_ends_something_ends_only_what_can_last(end: Alert) -> None:
    """Every name in `ends` is that of a lasting alert with the same subject; quiet ones are news of the best kind."""
    subjects = {alert.name: alert.subject for alert in LASTING}
    assert end.ends
    assert {subjects[name] for name in end.ends} == {end.subject}
    assert end.level == "info" or not end.quiet


def test_no_lasting_alert_was_left_out_of_the_list() -> None:
    """Whoever makes an alert last is held to an end by the tests above."""
    made = {
        name
        for room in ("vault", "sessions", "messaging", "service", "jobs")
        for path in (SOURCE / room).rglob("*.py")
        for name in _lasting_in(parsed(path))
    }
    assert made - TOLD_BY_THE_DESK == {alert.name for alert in LASTING}


def _lasting_in(tree: ast.AST) -> set[str]:
    """The names in calls that have `lasts=` something else than False."""
    found = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        passed = {word.arg: word.value for word in call.keywords}
        if "lasts" not in passed or isinstance(passed["lasts"], ast.Name):
            continue
        texts = [one.value for one in call.args if isinstance(one, ast.Constant)]
        found.add(str(texts[0]))
    return found
