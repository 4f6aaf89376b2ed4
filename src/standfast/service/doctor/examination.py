"""The checks there are, and the examination with all of them.

Invariant: what a check needs is imported in its own thread, so that a package that is missing fails that check alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module

from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Report, Result
from standfast.service.doctor.runner import Check, run

_SERVER_HINT = (
    "Look at the server's load and locks (pg_stat_activity), and at the network between here and there."
)


def _look(module: str, function: str) -> Callable[[Patient], Iterable[Result]]:
    """The function of one of this package's modules, imported when it is called."""

    def look(patient: Patient) -> Iterable[Result]:
        found: Iterable[Result] = getattr(import_module(f"{__package__}.{module}"), function)(patient)
        return found

    return look


_CHECKS = (
    Check("settings.values", "values", _look("configuration", "values")),
    Check("machine.python", "Python", _look("machine", "python")),
    Check("machine.packages", "packages", _look("machine", "packages")),
    Check("machine.install", "Standfast", _look("machine", "install")),
    Check("machine.account", "account", _look("machine", "account")),
    Check("machine.clock", "clock", _look("machine", "clock")),
    Check("machine.memory", "memory", _look("machine", "memory")),
    Check("machine.open_files", "open files", _look("machine", "open_files")),
    Check("node.binary", "Node.js", _look("bridge", "node")),
    Check("node.packages", "bridge", _look("bridge", "packages")),
    Check("postgres.server", "server", _look("addresses", "server")),
    Check("postgres.embedded", "embedded server", _look("login", "embedded")),
    Check("postgres.login", "login", _look("login", "look"), _SERVER_HINT, 8.0),
    Check("state.directory", "directory", _look("state", "directory")),
    Check("state.files", "files", _look("state", "files"), inside=True),
    Check("state.socket", "gateway socket", _look("state", "socket_path")),
    Check("state.filesystem", "file system", _look("disk", "filesystem")),
    Check("state.space", "free space", _look("disk", "space")),
    Check("state.sync", "disk", _look("disk", "sync"), inside=True),
    Check("state.service", "service", _look("state", "holder"), inside=True),
    Check("state.vault", "vault", _look("vault", "vault"), inside=True),
    Check("state.messages", "messages", _look("messages", "messages"), inside=True),
    Check("state.backups", "backups", _look("keeping", "place")),
    Check("credentials.dotenv", ".env", _look("configuration", "dotenv")),
    Check("credentials.passfile", "password file", _look("configuration", "passfile")),
    Check("credentials.key_file", "vault key file", _look("configuration", "key_file")),
    Check("credentials.tokens", "HTTP tokens", _look("configuration", "tokens"), inside=True),
    Check("network.whatsapp", "WhatsApp", _look("network", "whatsapp")),
    Check("network.http", "HTTP API", _look("network", "http")),
    Check("alerts.channels", "channels", _look("channels", "formed")),
    Check("alerts.sentry", "Sentry", _look("channels", "sentry")),
    Check("alerts.telegram", "Telegram", _look("channels", "telegram"), deadline_s=8.0),
    Check("alerts.webhooks", "webhooks", _look("messages", "webhooks"), inside=True),
    Check("backups.encryption", "encryption", _look("keeping", "encryption")),
    Check("backups.remotes", "remotes", _look("keeping", "remotes")),
    Check("backups.schedule", "schedule", _look("keeping", "schedule")),
    Check("leftovers.set_aside", "damaged copies", _look("leftovers", "set_aside"), inside=True),
    Check("leftovers.archive", "archive", _look("leftovers", "archives"), inside=True),
    Check("leftovers.restore", "unfinished restore", _look("leftovers", "restores"), inside=True),
    Check("leftovers.unfinished", "unfinished files", _look("leftovers", "unfinished"), inside=True),
    Check("leftovers.spool", "spool", _look("leftovers", "spool"), inside=True),
    Check("leftovers.sockets", "stale sockets", _look("leftovers", "sockets"), inside=True),
    Check("leftovers.server", "stray server", _look("leftovers", "servers"), inside=True),
)


def examine(patient: Patient) -> Report:
    """Everything at once; within 8 s, whatever is broken."""
    checks = list(_CHECKS)
    after = next(place for place, one in enumerate(checks) if one.name == "postgres.server") + 1
    checks[after:after] = _hosts(patient)
    return run(checks, patient)


def _hosts(patient: Patient) -> Iterator[Check]:
    """One for each host of the server that is named, so that one that hangs does not hold up another."""
    try:
        from standfast.service.doctor import addresses

        if not addresses.server_is_known(patient) or patient.settings.database_is_embedded:
            return
        for where in addresses.addresses_of(patient):
            yield Check("postgres.address", str(where), functools.partial(addresses.address, where=where))
    except Exception as error:  # noqa: BLE001 - a line of the report
        reason = error
        yield Check("postgres.address", "hosts", lambda _patient: _raise(reason))


def _raise(error: Exception) -> Iterable[Result]:
    raise error
