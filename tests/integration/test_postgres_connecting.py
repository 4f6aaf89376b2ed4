"""Reaching PostgreSQL, and what is said when it cannot be reached."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql as compose

from standfast.errors import DatabaseRejected, DatabaseUnavailable, StandfastError
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from tests.support import until, works


async def failure_of(options: DatabaseOptions, limit_s: float = 6.0) -> StandfastError:
    """The error of the first call, which must come within `limit_s`."""
    async with asyncio.timeout(limit_s), Database(options) as database:
        with pytest.raises(StandfastError) as caught:
            await database.ping()
    return caught.value


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_refused_is_told_within_a_second_or_two(tcp_options: DatabaseOptions) -> None:
    """Nothing listens: the cause is named after three short retries, not after a checkout timeout."""
    start = time.monotonic()
    error = await failure_of(replace(tcp_options, port=unused_port()))
    assert isinstance(error, DatabaseUnavailable)
    assert error.facts["cause"] == "refused"
    assert 0.6 < time.monotonic() - start < 2.5


async def test_a_missing_socket_is_refused(tmp_path: Path) -> None:
    error = await failure_of(DatabaseOptions(host=str(tmp_path), user="x", dbname="x"))
    assert error.facts["cause"] == "refused"


async def test_an_unknown_host_name(tcp_options: DatabaseOptions) -> None:
    error = await failure_of(replace(tcp_options, host="no-such-host.invalid"), limit_s=15)
    assert isinstance(error, DatabaseUnavailable)
    assert error.facts["cause"] == "dns"


async def test_a_wrong_password_is_rejected_at_once(tcp_options: DatabaseOptions) -> None:
    """Not retried, and neither the right nor the wrong password is in the message."""
    start = time.monotonic()
    error = await failure_of(replace(tcp_options, password="made-up-secret"))
    assert isinstance(error, DatabaseRejected)
    assert error.facts["cause"] == "password"
    assert "made-up-secret" not in f"{error} {error.next_step} {error.facts}"
    assert time.monotonic() - start < 1


async def test_no_password_at_all(tcp_options: DatabaseOptions) -> None:
    error = await failure_of(replace(tcp_options, password=None))
    assert error.facts["cause"] == "password"


async def test_a_database_that_does_not_exist(tcp_options: DatabaseOptions) -> None:
    error = await failure_of(replace(tcp_options, dbname="absent"))
    assert isinstance(error, DatabaseRejected)
    assert error.facts["cause"] == "no_database"


async def test_missing_rights(database: Database, tcp_options: DatabaseOptions) -> None:
    await make_role(database, "reader", "made-up")
    async with Database(replace(tcp_options, user="reader", password="made-up")) as limited:
        with pytest.raises(DatabaseRejected) as caught:
            await limited.fetch(Statement("read", "select * from whatsapp_keys"))
    assert caught.value.facts["cause"] == "rights"
    await database.fetch(Statement("drop", "drop role reader"))


async def test_too_many_connections_is_named_and_passes(
    database: Database, tcp_options: DatabaseOptions
) -> None:
    """No slot left: told as such; as soon as one is free, the next call works without a restart."""
    await make_role(database, "crowded", "made-up", "connection limit 1")
    crowded = replace(tcp_options, user="crowded", password="made-up")
    async with Database(crowded) as first, Database(crowded) as second:
        await first.ping()
        with pytest.raises(DatabaseUnavailable) as caught:
            await second.ping()
        assert caught.value.facts["cause"] == "too_many_connections"
        await first.close()
        await until(lambda: works(second))
    await until(lambda: alone(database, "crowded"))
    await database.fetch(Statement("drop", "drop role crowded"))


@pytest.mark.parametrize(
    "password", ["<>|}%@:/ ", 'it\'s \\ a "test"', "%40", "p@ss/w0rd?x=1#y", "пароль\u00a0é", "-c x=y", "$1"]
)
async def test_any_password_works(database: Database, tcp_options: DatabaseOptions, password: str) -> None:
    """By password field and percent-encoded in a URL, over TCP with SCRAM."""
    await make_role(database, "nasty", password)
    url = f"postgresql://nasty:{quote(password, safe='')}@127.0.0.1:{tcp_options.port}/{tcp_options.dbname}"
    for options in (replace(tcp_options, user="nasty", password=password), DatabaseOptions(conninfo=url)):
        async with Database(options) as opened:
            assert await opened.fetch(Statement("me", "select current_user::text")) == [("nasty",)]
    await until(lambda: alone(database, "nasty"))
    await database.fetch(Statement("drop", "drop role nasty"))


async def test_a_password_from_pgpass(
    tcp_options: DatabaseOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq's password file is read where no password is given."""
    file = tmp_path / "pgpass"
    file.touch(mode=0o600)
    file.write_text(f"127.0.0.1:{tcp_options.port}:*:{tcp_options.user}:{tcp_options.password}\n")
    monkeypatch.setenv("PGPASSFILE", str(file))
    async with Database(replace(tcp_options, password=None)) as opened:
        await opened.ping()


async def test_demanded_tls_that_the_server_lacks_is_named(tcp_options: DatabaseOptions) -> None:
    error = await failure_of(replace(tcp_options, conninfo="sslmode=require"))
    assert isinstance(error, DatabaseRejected)
    assert error.facts["cause"] == "tls"


async def test_the_second_of_two_hosts_is_found(tcp_options: DatabaseOptions) -> None:
    """libpq's multi-host DSN with target_session_attrs."""
    dsn = (
        f"host=127.0.0.1,127.0.0.1 port={unused_port()},{tcp_options.port} user={tcp_options.user} "
        f"dbname={tcp_options.dbname} target_session_attrs=read-write"
    )
    async with Database(DatabaseOptions(conninfo=dsn, password=tcp_options.password)) as opened:
        await opened.ping()


async def test_a_read_only_server_is_told_as_such(tcp_options: DatabaseOptions) -> None:
    options = replace(tcp_options, conninfo="options='-c default_transaction_read_only=on'")
    async with Database(options) as opened:
        with pytest.raises(DatabaseUnavailable) as caught:
            await opened.fetch(Statement("write", "delete from whatsapp_keys"))
    assert caught.value.facts == {"cause": "read_only", "sqlstate": "25006"}


async def make_role(database: Database, name: str, password: str, more: str = "") -> None:
    statement = compose.SQL("create role {} login password {} " + more)
    text = statement.format(compose.Identifier(name), compose.Literal(password))
    async with await psycopg.AsyncConnection.connect(
        database.options.to_conninfo(), autocommit=True
    ) as connection:
        await connection.execute(text)


async def alone(database: Database, role: str) -> bool:
    return not await database.fetch(
        Statement("alone", "select 1 from pg_stat_activity where usename = $1"), [role]
    )
