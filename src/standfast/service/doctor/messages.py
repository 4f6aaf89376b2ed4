"""The messages' file: that the key opens it, what waits there, and whether webhooks lead anywhere.

Invariant: no text, address, URL or secret of it is told; of a webhook its name and host.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from standfast.errors import StandfastError
from standfast.messaging import schema
from standfast.messaging.outgoing import State
from standfast.messaging.seals import Seals
from standfast.messaging.webhooks_registry import Webhook
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, warning, wrong
from standfast.service.doctor.sealed import is_busy, key_of, reading
from standfast.vault.storage.cipher import Unreadable
from standfast.vault.storage.damage import UNREADABLE, describe

_WAITING = "select count(*) from outgoing where state < ?"
_OWED = "select count(*), count(dead_at) from deliveries"
_SENTINEL = "select note from notes where name = 'sentinel'"
_WEBHOOKS = "select name, spec, failing_since from webhooks order by name"


class _Unfit(Exception):
    """Not a messages' file of this version."""


def messages(patient: Patient) -> Iterator[Result]:
    """The file as a whole."""
    try:
        with _opened(patient) as opened:
            if opened is None:
                return
            connection, _ = opened
            waiting = connection.execute(_WAITING, (int(State.SENT),)).fetchone()[0]
            owed, dead = connection.execute(_OWED).fetchone()
    except StandfastError:
        yield skipped("state.messages", "messages", "there is no key to open them with (see vault key)")
    except (_Unfit, *UNREADABLE) as error:
        if is_busy(error):
            yield skipped("state.messages", "messages", "another process keeps the file locked just now")
            return
        directory = patient.messages_dir
        said = str(error) if isinstance(error, _Unfit) else describe(error)
        yield wrong(
            "state.messages",
            "messages",
            f"{directory / 'messages.db'} cannot be read: {said}",
            "Start the service: it moves the file aside and begins a new one; what waits in it is lost. "
            "Copy it first:\n" + command("cp", "-a", directory, f"{directory}.kept"),
        )
    else:
        yield ok(
            "state.messages",
            "messages",
            f"the key opens them; {waiting} to be sent, {owed - dead} owed to webhooks",
        )


def webhooks(patient: Patient) -> Iterator[Result]:
    """Each one's host has an address, and it is not given up on."""
    try:
        with _opened(patient) as opened:
            if opened is None:
                return
            connection, seals = opened
            rows = connection.execute(_WEBHOOKS).fetchall()
            dead = dict(
                connection.execute(
                    "select webhook, count(dead_at) from deliveries group by webhook"
                ).fetchall()
            )
            found = [(seals.open(spec, f"webhook {name}", Webhook), since) for name, spec, since in rows]
    except (StandfastError, _Unfit, *UNREADABLE):
        return  # told by the look at the file itself
    for webhook, failing_since in found:
        yield _webhook(patient, webhook, failing_since, dead.get(webhook.name, 0))


def _webhook(patient: Patient, webhook: Webhook, failing_since: float | None, dead: int) -> Result:
    check, subject = "alerts.webhooks", f"webhook {webhook.name}"[:40]
    host = urlsplit(webhook.url).hostname or "?"
    if webhook.paused:
        return ok(check, subject, f"{host}, paused")
    if not patient.offline and not _has_address(host):
        return warning(
            check,
            subject,
            f"{host} has no address",
            f"standfast webhooks show {webhook.name}",
        )
    if failing_since is not None:
        minutes = max(0, int((time.time() - failing_since) / 60))
        return warning(
            check,
            subject,
            f"{host} has taken nothing for {minutes} minutes",
            f"standfast webhooks test {webhook.name}",
        )
    if dead:
        return warning(
            check, subject, f"{dead} events were given up", f"standfast webhooks replay {webhook.name} --dead"
        )
    return ok(check, subject, host)


@contextlib.contextmanager
def _opened(patient: Patient) -> Iterator[tuple[sqlite3.Connection, Seals] | None]:
    """None where there is no file yet. Raises `SettingsError`, `_Unfit` or what `UNREADABLE` names."""
    file = patient.messages_dir / "messages.db"
    if not file.exists():
        yield None
        return
    seals = Seals(key_of(patient))
    with reading(file) as connection:
        names = ("application_id", "user_version")
        if tuple(connection.execute(f"pragma {name}").fetchone()[0] for name in names) != (
            schema.APPLICATION_ID,
            schema.VERSION,
        ):
            raise _Unfit(f"it is not of version {schema.VERSION}")
        row = connection.execute(_SENTINEL).fetchone()
        if row is None or seals.open(row[0], "sentinel", str) != "standfast":
            raise Unreadable("it has another sentinel")
        yield connection, seals


def _has_address(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except (socket.gaierror, UnicodeError):
        return False
