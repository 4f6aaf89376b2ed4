"""A read error is not an absence: without PostgreSQL nothing is minted and nothing overwritten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
import psycopg
import pytest

from standfast.errors import DatabaseUnavailable
from standfast.postgres.options import DatabaseOptions
from standfast.service.vault import vault_directory
from standfast.sessions.session import Pairing, State
from standfast.vault.storage.replica import Replica
from tests.e2e.conftest import Line, until
from tests.support import Proxy


async def test_no_new_identity_while_the_creds_cannot_be_read(
    proxied_line: Line, proxy: Proxy, tcp_options: DatabaseOptions, new_phone: Callable[[], str]
) -> None:
    """Started without PostgreSQL and without a replica, a paired company shows no QR and waits; with PostgreSQL back
    it opens as who it was."""
    line = proxied_line
    await line.pair("acme", new_phone())
    await line.stop()
    before = await _creds(tcp_options)
    since = len(line.heard)

    await proxy.close()
    await _forget_keys(line)
    await line.start()
    await until(lambda: line.session("acme").hindrances >= 2, "two attempts")
    error = (await line.event("acme", "error", since))["error"]
    assert error["code"] == "database_unavailable"
    assert error["retryable"] is True
    assert line.events("acme", "qr", since) == []
    with pytest.raises(DatabaseUnavailable):
        await line.service.pool.pair("acme", Pairing("qr"))
    assert await _creds(tcp_options) == before

    await proxy.listen()
    await line.state("acme", State.OPEN)
    assert line.events("acme", "qr", since) == []
    after = await _creds(tcp_options)
    assert list(after) == ["acme"]
    assert _identity(after["acme"]) == _identity(before["acme"])


async def _forget_keys(line: Line) -> None:
    """Leave the replica only what it knows of the roster: the companies in it are gone."""
    replica = Replica.open(vault_directory(line.settings))
    for record in replica.companies():
        await replica.forget(record.number)
    await replica.close()


async def test_an_absent_company_is_not_minted_while_its_absence_is_unconfirmed(
    proxied_line: Line, proxy: Proxy, tcp_options: DatabaseOptions, new_phone: Callable[[], str]
) -> None:
    """Pairing a company without PostgreSQL is an error and leaves nothing; with it back, pairing works."""
    line = proxied_line
    await proxy.close()
    with pytest.raises(DatabaseUnavailable) as failed:
        await line.service.pool.pair("acme", Pairing("qr"))
    assert failed.value.retryable
    assert line.events("acme", "qr") == []
    await proxy.listen()
    await until(lambda: line.service.vault.outage.state == "online", "the end of the outage")
    assert await _creds(tcp_options) == {}
    await line.pair("acme", new_phone())
    assert list(await _creds(tcp_options)) == ["acme"]


async def test_a_host_that_restarts_without_postgresql_mints_nothing(
    proxied_line: Line, proxy: Proxy, tcp_options: DatabaseOptions, new_phone: Callable[[], str]
) -> None:
    """Host and database fail together: no QR; the session opens from the replica with the identity that it had, and
    PostgreSQL has that identity when it is back."""
    line = proxied_line
    await line.pair("acme", new_phone())
    before = await _creds(tcp_options)
    since = len(line.heard)
    await proxy.close()
    process = line.service.engine._process
    assert process is not None
    process.kill()
    await until(
        lambda: line.events("acme", "state", since)[-1:] and line.session("acme").generation > 1, "a restart"
    )
    await line.state("acme", State.OPEN)
    await proxy.listen()
    await until(lambda: line.service.vault.outage.state == "online", "the end of the outage")
    assert line.events("acme", "qr", since) == []
    assert _identity((await _creds(tcp_options))["acme"]) == _identity(before["acme"])


async def _creds(options: DatabaseOptions) -> dict[str, bytes]:
    """Every company's creds as they are in PostgreSQL, past the proxy."""

    def read() -> dict[str, bytes]:
        with psycopg.connect(options.to_conninfo()) as connection:
            rows = connection.execute("select company_id, creds::text from whatsapp_auth").fetchall()
        return {company: text.encode() for company, text in rows}

    return await asyncio.to_thread(read)


def _identity(creds: bytes) -> list[object]:
    document = orjson.loads(creds)
    return [document[name] for name in ("noiseKey", "signedIdentityKey", "registrationId", "advSecretKey")]
