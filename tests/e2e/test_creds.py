"""A read error is not an absence: without PostgreSQL nothing is minted and nothing overwritten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
import psycopg
import pytest

from standfast.errors import DatabaseUnavailable
from standfast.postgres.options import DatabaseOptions
from standfast.sessions.session import Pairing, State
from tests.e2e.conftest import Line, until
from tests.support import Proxy


async def test_no_new_identity_while_the_creds_cannot_be_read(
    proxied_line: Line, proxy: Proxy, tcp_options: DatabaseOptions, new_phone: Callable[[], str]
) -> None:
    """Started without PostgreSQL, a paired company shows no QR and waits; with it back it opens as who it was."""
    line = proxied_line
    await line.pair("acme", new_phone())
    await line.service.pool.stop("acme")
    before = await _creds(tcp_options)
    since = len(line.heard)

    await proxy.close()
    session = await line.service.pool.start("acme")
    await until(lambda: session.failures >= 2, "two attempts")
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
    assert await _creds(tcp_options) == {}
    await line.pair("acme", new_phone())
    assert list(await _creds(tcp_options)) == ["acme"]


async def test_a_host_that_restarts_without_postgresql_mints_nothing(
    proxied_line: Line, proxy: Proxy, tcp_options: DatabaseOptions, new_phone: Callable[[], str]
) -> None:
    """Host and database fail together: no QR, and both back, the session is open with the identity that it had."""
    line = proxied_line
    await line.pair("acme", new_phone())
    before = await _creds(tcp_options)
    since = len(line.heard)
    await proxy.close()
    process = line.service.engine._process
    assert process is not None
    process.kill()
    await line.event("acme", "error", since)
    await proxy.listen()
    await line.state("acme", State.OPEN)
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
