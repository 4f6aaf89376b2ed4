"""A login at PostgreSQL, as the service makes it, and everything that is looked at once it is in.

Invariant: only `select` and `show` are sent, each with a deadline of the server's and of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import psycopg

from standfast.errors import DatabaseUnavailable, StandfastError
from standfast.postgres import cluster
from standfast.postgres.binaries import embedded_binaries
from standfast.postgres.embedded import running_options
from standfast.postgres.failures import from_driver
from standfast.service.doctor import capacity, connection, refusals, schema
from standfast.service.doctor.addresses import CONNECT_TIMEOUT_S, options_of, server_is_known
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, unknown, wrong
from standfast.service.doctor.session import Session

_Look = Callable[[Session], Iterable[Result]]


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    subject: str
    look: _Look


STEPS = (
    _Step("postgres.tls", "encryption", connection.tls),
    _Step("postgres.version", "version", connection.version),
    _Step("postgres.pooler", "pooler", connection.pooler),
    _Step("postgres.clock", "clock", connection.clock),
    _Step("postgres.writable", "writable", connection.writable),
    _Step("postgres.encoding", "encoding", connection.encoding),
    _Step("postgres.schema", "schema", schema.version),
    _Step("postgres.rights", "rights", schema.rights),
    _Step("postgres.create", "right to create", schema.create),
    _Step("postgres.connections", "connections", capacity.connections),
    _Step("postgres.limits", "limits of the role", capacity.limits),
    _Step("postgres.upkeep", "autovacuum", capacity.upkeep),
    _Step("postgres.durability", "durability", capacity.durability),
    _Step("leftovers.nodes", "nodes", schema.nodes),
)


def look(patient: Patient) -> Iterator[Result]:
    """The login, then each step; one that fails does not end the others."""
    if not server_is_known(patient):
        yield skipped("postgres.login", "login", "which server is meant is not known")
        return
    if patient.settings.database_is_embedded:
        if patient.is_shut_out():
            yield skipped("postgres.login", "login", "this account cannot look into the state directory")
            return
        options = running_options(patient.settings.state_dir)
        if options is None:
            yield _not_running(patient)
            return
        options = replace(options, connect_timeout_s=CONNECT_TIMEOUT_S, statement_timeout_s=CONNECT_TIMEOUT_S)
    else:
        options = options_of(patient)
    try:
        # Synchronous: this thread can be given up on, a loop's look-ups of names could not.
        connected = psycopg.connect(options.to_conninfo(), autocommit=True)
    except (psycopg.Error, OSError) as error:
        message, mend = refusals.told(from_driver(error, options.describe()), str(error))
        yield wrong("postgres.login", "login", message, mend)
        return
    with connected:
        session = Session(connected, patient, options.describe())
        user = connected.info.user
        yield ok("postgres.login", "login", f"accepted as {user}, database {connected.info.dbname}")
        for step in STEPS:
            yield from _guarded(step, session)


def embedded(patient: Patient) -> Iterator[Result]:
    """The embedded server's programs, its data's version, and whether it can be started by this account."""
    if not server_is_known(patient) or not patient.settings.database_is_embedded or patient.is_shut_out():
        return
    try:
        programs = embedded_binaries()
        data_dir = patient.state.postgres_dir
        exists = data_dir.is_dir()
        if exists:
            cluster.check(data_dir)
        _check_namespace()
    except StandfastError as error:
        yield wrong("postgres.embedded", "embedded server", error.message, error.next_step)
        return
    yield ok(
        "postgres.embedded",
        "embedded server",
        f"{programs}, " + ("data of its version" if exists else "no data yet"),
    )


def _check_namespace() -> None:
    """Started by root it needs a user namespace: made here for `true`, to see whether that is allowed."""
    import os
    import shutil
    import subprocess
    from pathlib import Path

    from standfast.postgres.binaries import launch_command, launch_environment
    from standfast.postgres.launcher import NAMESPACE_REFUSED

    program = shutil.which("true")
    if os.geteuid() != 0 or program is None:
        return
    command, environment = launch_command(Path(program)), launch_environment()
    asked = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        timeout=CONNECT_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if asked.returncode == NAMESPACE_REFUSED:
        raise cluster.namespace_refused()


def _not_running(patient: Patient) -> Result:
    if patient.service_runs():
        return wrong(
            "postgres.login",
            "login",
            "the service runs and its embedded PostgreSQL does not",
            "The service starts it again by itself; why it ended:\n"
            + command("tail", "-n", 20, patient.settings.state_dir / "postgres.log"),
        )
    return skipped("postgres.login", "login", "the embedded server runs with the service, which does not run")


def _guarded(step: _Step, session: Session) -> Iterator[Result]:
    try:
        yield from step.look(session)
    except StandfastError as error:
        yield unknown(step.name, step.subject, error.message, error.next_step)
    except psycopg.Error as error:
        ours = from_driver(error, session.where)
        if isinstance(ours, DatabaseUnavailable) and session.connection.closed:
            raise ours from None
        yield unknown(step.name, step.subject, ours.message, ours.next_step)
