"""The doctor at a real PostgreSQL: each fault made at the server, found with its mend, and gone when it was mended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from standfast.errors import DatabaseRejected
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.options import DatabaseOptions
from standfast.service.doctor import addresses, leftovers, login, refusals
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result
from standfast.settings.survey import survey_settings
from standfast.state_dir import StateDirectory
from tests.cli_support import own_surroundings
from tests.doctoring import found, outcome, patient
from tests.pooler import Relay

SECRET = "hunter2-marker"
Seen = dict[str, Result]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings but the test's own."""
    with own_surroundings(monkeypatch, tmp_path):
        yield


def at(options: DatabaseOptions, **settings: Any) -> Patient:
    """A patient whose settings name this server."""
    return patient(database_url=options.to_conninfo(), **settings)


def look(options: DatabaseOptions, **settings: Any) -> Seen:
    """What a login there finds."""
    return found(login.look, at(options, **settings))


@pytest.fixture
def execute(database_options: DatabaseOptions) -> Callable[..., None]:
    """As superuser in the test's own database."""

    def run(*statements: str) -> None:
        with psycopg.connect(database_options.to_conninfo(), autocommit=True) as connected:
            for statement in statements:
                connected.execute(statement.encode())

    return run


@pytest.fixture
def bot(execute: Callable[..., None], tcp_options: DatabaseOptions) -> Iterator[DatabaseOptions]:
    """A role without any right of its own, by password over TCP."""
    execute(f"create role doctor_bot login password '{SECRET}'")
    yield replace(tcp_options, user="doctor_bot", password=SECRET)
    execute("drop owned by doctor_bot", "drop role doctor_bot")


def test_a_sound_server_is_ok_in_every_line(tcp_options: DatabaseOptions) -> None:
    """A migrated database by password over TCP; the server of tests is not durable, and that is told."""
    seen = look(tcp_options)
    durability = seen.pop("postgres.durability")
    assert {one.check: one.message for one in seen.values() if one.outcome != "ok"} == {}
    assert len(seen) >= 14
    assert durability.outcome == "warning"
    assert "fsync" in durability.message


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ({"password": SECRET}, "refused the user name or password"),
        ({"dbname": "absent"}, "does not exist"),
        ({"port": 1}, "nothing accepts connections"),
        ({"conninfo": "sslmode=require"}, "TLS"),
    ],
)
def test_a_login_that_fails_is_told_by_its_reason(
    tcp_options: DatabaseOptions, mistake: dict[str, Any], told: str
) -> None:
    """With the step that mends it, and without the password."""
    result = look(replace(tcp_options, **mistake))["postgres.login"]
    assert result.outcome == "wrong"
    assert told in result.message
    assert result.mend
    assert SECRET not in f"{result.message} {result.mend}"


@pytest.mark.parametrize(
    ("cause", "text", "message", "mend"),
    [
        (
            "access",
            'FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "bot", database "bots", SSL encryption',
            "does not let user bot from 10.0.0.7 into database bots",
            "hostssl bots bot 10.0.0.7/32 scram-sha-256",
        ),
        (
            "access",
            'FATAL:  pg_hba.conf rejects connection for host "fe80::7", user "bot", database "bots", no encryption',
            "from fe80::7",
            "host bots bot fe80::7/128 scram-sha-256",
        ),
        ("access", "FATAL:  role is not permitted to log in", "ours", "step"),
        (
            "no_database",
            'FATAL:  database "bo\'ts" does not exist',
            "bo'ts does not exist",
            'CREATE DATABASE "bo\'ts"',
        ),
        (
            "tls",
            'root certificate file "/x/root.crt" does not exist',
            "and there is none",
            "sslrootcert=FILE",
        ),
        ("tls", 'certificate for "a" does not match host name "b"', "another name", "subjectAltName"),
        ("tls", "SSL error: certificate verify failed", "not signed by whom", "sslrootcert=FILE"),
        ("tls", "certificate has expired", "has ended", "pg_reload_conf"),
        (
            "transaction_pooling",
            "unsupported startup parameter: options",
            "a pooler",
            "ignore_startup_parameters",
        ),
        ("password", f"password={SECRET}", "ours", "step"),
    ],
)
def test_a_refusal_is_told_as_exactly_as_its_text_allows(
    cause: str, text: str, message: str, mend: str
) -> None:
    """The line that pg_hba.conf lacks, the database to create, the certificate's fault; never the text itself."""
    told = refusals.told(DatabaseRejected("ours", next_step="step", cause=cause), text)
    assert message in told[0]
    assert mend in told[1]
    assert SECRET not in str(told)


def test_missing_rights_are_granted_by_the_mend(execute: Callable[..., None], bot: DatabaseOptions) -> None:
    """Each GRANT that is told is one that PostgreSQL takes, and then all is well."""
    before = [one for one in login.look(at(bot)) if one.check in {"postgres.rights", "postgres.create"}]
    assert {one.outcome for one in before} == {"wrong"}
    assert any(
        "whatsapp_keys: DELETE, INSERT, SELECT, UPDATE is not granted" in one.message for one in before
    )
    execute(*(one.mend or "" for one in before if one.check == "postgres.rights"))
    assert look(bot)["postgres.create"].outcome == "warning"  # nothing is to be made now
    execute("grant create on schema public to doctor_bot")
    seen = look(bot)
    assert seen["postgres.rights"].outcome == "ok"
    assert seen["postgres.create"].mend is not None  # the tables are still another role's
    assert "GRANT standfast TO doctor_bot" in seen["postgres.create"].mend


def test_a_role_that_reads_only_one_table_is_told_of_the_others(
    execute: Callable[..., None], bot: DatabaseOptions
) -> None:
    """A single right that is missing is named alone."""
    execute(
        "grant select, insert, update on whatsapp_auth to doctor_bot",
        "grant all on all sequences in schema public to doctor_bot",
    )
    rights = [one.message for one in login.look(at(bot)) if one.check == "postgres.rights"]
    assert "whatsapp_auth: DELETE is not granted" in rights
    assert not any("standfast_epochs" in one for one in rights)


def test_a_schema_that_is_behind_or_ahead_is_told(
    execute: Callable[..., None], tcp_options: DatabaseOptions, bare_database_options: DatabaseOptions
) -> None:
    """Nothing yet, one missing, altered, a table gone, and one of a newer program."""
    bare = look(bare_database_options)["postgres.schema"]
    assert (bare.outcome, "standfast migrate" in (bare.mend or "")) == ("warning", True)
    for statements, expected, told in (
        (["delete from standfast_migrations where version = 4"], "warning", "1 of"),
        (["insert into standfast_migrations values (4, 'x', 'x')"], "wrong", "other contents"),
        (["insert into standfast_migrations values (99, 'x', 'x')"], "wrong", "newer Standfast"),
    ):
        execute(*statements)
        result = look(tcp_options)["postgres.schema"]
        assert (result.outcome, told in result.message) == (expected, True), result


def test_a_table_that_was_dropped_is_missed(
    execute: Callable[..., None], tcp_options: DatabaseOptions
) -> None:
    """Though the ledger says that it was made."""
    execute("drop table whatsapp_keys")
    result = look(tcp_options)["postgres.schema"]
    assert (result.outcome, "whatsapp_keys" in result.message) == ("wrong", True)


def test_what_the_role_is_told_is_read_from_the_server(
    execute: Callable[..., None], tcp_options: DatabaseOptions
) -> None:
    """Read-only, and timeouts that end the pool's connections, set for the database; the mends take them back."""
    name = tcp_options.dbname
    execute(
        f"alter database {name} set default_transaction_read_only = on",
        f"alter database {name} set idle_session_timeout = 60000",
    )
    seen = look(tcp_options)
    assert seen["postgres.writable"].outcome == "wrong"
    assert "default_transaction_read_only" in seen["postgres.writable"].message
    assert seen["postgres.limits"].outcome == "warning"
    assert "idle_session_timeout = 1min" in seen["postgres.limits"].message


def test_too_few_connections_are_told_before_they_run_out(
    execute: Callable[..., None], tcp_options: DatabaseOptions, bot: DatabaseOptions
) -> None:
    """Above the server's limit, above the role's own, and with others holding what is left."""
    assert look(tcp_options, postgres_max_connections=500)["postgres.connections"].outcome == "wrong"
    execute("alter role doctor_bot connection limit 5")
    own = look(bot)["postgres.connections"]
    assert (own.outcome, (own.mend or "").endswith("\nPOSTGRES_MAX_CONNECTIONS=3")) == ("wrong", True)
    assert look(tcp_options, postgres_max_connections=43)["postgres.connections"].outcome == "ok"
    with contextlib.ExitStack() as others:
        for _ in range(5):
            others.enter_context(psycopg.connect(tcp_options.to_conninfo()))
        assert look(tcp_options, postgres_max_connections=43)["postgres.connections"].outcome == "warning"


def test_a_database_in_another_encoding_is_wrong(
    execute: Callable[..., None], tcp_options: DatabaseOptions
) -> None:
    """SQL_ASCII takes any bytes and knows no characters."""
    execute(
        "create database doctor_ascii encoding 'SQL_ASCII' locale 'C' locale_provider libc template template0"
    )
    try:
        assert look(replace(tcp_options, dbname="doctor_ascii"))["postgres.encoding"].outcome == "wrong"
    finally:
        execute("drop database doctor_ascii")


def test_nodes_that_are_no_more_are_left_over(
    execute: Callable[..., None], tcp_options: DatabaseOptions
) -> None:
    """By when they were alive last, not by when they started; the mend removes those alone."""
    execute(
        "insert into standfast_nodes (node, name, instance, alive_until, seen_at) values"
        " (gen_random_uuid(), 'old-node', gen_random_uuid(), now() - interval '8 days', now()),"
        " (gen_random_uuid(), 'new-node', gen_random_uuid(), now(), now() - interval '30 days')"
    )
    result = look(tcp_options)["leftovers.nodes"]
    assert result.outcome == "warning"
    assert "old-node (8 days)" in result.message
    assert "new-node" not in result.message
    assert result.mend is not None
    execute(result.mend.splitlines()[-1])
    assert look(tcp_options)["leftovers.nodes"].outcome == "ok"


def test_a_clock_that_differs_is_told(tcp_options: DatabaseOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than two seconds, either way."""
    real = time.time
    for ahead_s, expected in ((5.0, "warning"), (-5.0, "warning"), (0.5, "ok")):
        monkeypatch.setattr(time, "time", lambda ahead_s=ahead_s: real() + ahead_s)
        assert look(tcp_options)["postgres.clock"].outcome == expected


def test_a_pg_dump_older_than_the_server_makes_no_backups(
    tcp_options: DatabaseOptions, tmp_path: Path
) -> None:
    """By the version that the program tells."""
    for name in ("pg_dump", "pg_restore", "psql"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 12.4'\n")
        (tmp_path / name).chmod(0o755)
    result = look(tcp_options, pg_bin_dir=tmp_path)["postgres.pg_dump"]
    assert (result.outcome, "12.4" in result.message) == ("warning", True)


async def test_a_pooler_in_between_is_told(tcp_options: DatabaseOptions) -> None:
    """It answers with another process id than the server has."""
    assert tcp_options.host is not None
    assert tcp_options.port is not None
    relay = Relay((tcp_options.host, tcp_options.port))
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen = await asyncio.to_thread(look, replace(tcp_options, port=port))
    server.close()
    await asyncio.gather(*relay.serving)
    assert seen["postgres.pooler"].outcome == "warning"
    assert seen["postgres.schema"].outcome == "ok"


def test_each_host_is_a_line_of_its_own(tcp_options: DatabaseOptions) -> None:
    """One that answers, one where nothing listens, one that has no address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    url = (
        f"postgresql://{tcp_options.user}:{SECRET}@127.0.0.1:{tcp_options.port},127.0.0.1:{free},"
        "db.invalid:5432/x?target_session_attrs=read-write"
    )
    who = patient(database_url=url)
    results = [one for where in addresses.addresses_of(who) for one in addresses.address(who, where)]
    assert [one.outcome for one in results] == ["ok", "wrong", "wrong"]
    assert "cannot be resolved" in results[2].message
    server = found(addresses.server, who)["postgres.server"].message
    assert "DATABASE_URL" in server
    assert SECRET not in server


def test_a_socket_is_a_host_too(database_options: DatabaseOptions, tmp_path: Path) -> None:
    """There, and not there."""
    for host, expected in ((database_options.host, "ok"), (str(tmp_path), "wrong")):
        who = at(replace(database_options, host=host))
        (where,) = addresses.addresses_of(who)
        assert [one.outcome for one in addresses.address(who, where)] == [expected]


def test_without_a_named_server_the_embedded_one_is_looked_at(tmp_path: Path) -> None:
    """Its programs and the version of its data; it is not started for a look."""
    who = patient(state_dir=tmp_path / "state")
    assert outcome(login.embedded, who) == "ok"
    assert outcome(login.look, who) == "skipped"
    (tmp_path / "state" / "postgres").mkdir(parents=True)
    (tmp_path / "state" / "postgres" / "PG_VERSION").write_text("16\n")
    result = found(login.embedded, who)["postgres.embedded"]
    assert (result.outcome, "made by PostgreSQL 16" in result.message) == ("wrong", True)


def test_an_embedded_server_without_its_service_is_left_over(postgres_server: EmbeddedServer) -> None:
    """Its postmaster alone is named, and not the processes below it; beside a service it is no stranger."""
    who = patient(state_dir=postgres_server.state_dir)
    (stray,) = leftovers.servers(who)
    assert (stray.outcome, stray.mend) == ("warning", f"kill -INT {postgres_server.pid}")
    with StateDirectory(postgres_server.state_dir):
        assert list(leftovers.servers(who)) == []


@pytest.mark.parametrize("broken", ["DATABASE_URL", ".env"])
def test_broken_settings_are_not_taken_for_the_embedded_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str
) -> None:
    """Where what names the server is broken, no other server is looked at in its place."""
    if broken == ".env":
        (tmp_path / ".env").write_text("this is no setting\n")
    else:
        monkeypatch.setenv(broken, f"mysql://bot:{SECRET}@db/x")
    who = Patient(survey_settings())
    assert "see Settings" in found(addresses.server, who)["postgres.server"].message
    assert "not known" in found(login.look, who)["postgres.login"].message
    assert list(login.embedded(who)) == []
