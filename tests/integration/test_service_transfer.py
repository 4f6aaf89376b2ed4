"""Exports and imports where a vault holds what PostgreSQL does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from standfast.authstate.multifile import export_folder, import_folder
from standfast.errors import CompanyInUse, CompanyUnknown, DatabaseUnavailable, UsageError
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from standfast.service.client import connect
from standfast.service.transfer import export_company, import_company
from standfast.settings import Settings
from tests.integration.services import ACME, Running, running, settings_of
from tests.support import Proxy, made_up_creds, until


@pytest.fixture
def settings(state: Path, proxied: DatabaseOptions) -> Settings:
    return settings_of(state, proxied)


async def in_an_outage(now: Running, proxy: Proxy, store: PostgresAuthStore) -> None:
    """acme is open; its key `latest` was acknowledged and PostgreSQL has never heard of it."""
    await store.install(ACME, made_up_creds(), {"session": {"a": b"1"}})
    await now.in_state("online")
    await now.service.vault.open(ACME)
    await proxy.close()
    await now.in_state("outage")
    await now.service.vault.set_keys(ACME, {"session": {"latest": b"2"}})


def sessions_in(folder: Path) -> set[str]:
    return set(import_folder(folder).keys["session"])


async def test_an_export_beside_a_service_has_what_the_journal_has(
    state: Path,
    proxied: DatabaseOptions,
    proxy: Proxy,
    store: PostgresAuthStore,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """In an outage too: the service writes the folder from its replica. What it does not know, it cannot say."""
    async with running(state, proxied) as now:
        await in_an_outage(now, proxy, store)
        done = await export_company(settings, ACME, tmp_path / "out", overwrite=False)
        assert (done.keys, done.source) == (2, "service")
        assert sessions_in(tmp_path / "out") == {"a", "latest"}
        async with connect(now.service.gateway.path) as client:
            with pytest.raises(DatabaseUnavailable):
                await client.export("bolt", tmp_path / "bolt")
            with pytest.raises(UsageError, match="absolute"):
                await client.export("acme", Path("out"))
        await proxy.listen()
        await now.in_state("online")
        async with connect(now.service.gateway.path) as client:
            with pytest.raises(CompanyUnknown):
                await client.export("bolt", tmp_path / "bolt")


async def test_after_a_service_that_ended_in_an_outage(
    state: Path,
    proxied: DatabaseOptions,
    proxy: Proxy,
    store: PostgresAuthStore,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """Its journal still is the latest: an export has it, PostgreSQL there or not; an import may not overtake it."""
    async with running(state, proxied) as now:
        await in_an_outage(now, proxy, store)
    for name in ("away", "there"):
        done = await export_company(settings, ACME, tmp_path / name, overwrite=False)
        assert done.source == "replica"
        assert sessions_in(tmp_path / name) == {"a", "latest"}
        if name == "away":
            await proxy.listen()
    with pytest.raises(CompanyInUse, match="not in PostgreSQL yet"):
        await import_company(settings, tmp_path / "there", ACME, replace=True)
    async with running(state, proxied) as now:
        await until(lambda: _is_settled(now))
    done = await export_company(settings, ACME, tmp_path / "settled", overwrite=False)
    assert done.source == "postgresql"
    assert sessions_in(tmp_path / "settled") == {"a", "latest"}


async def _is_settled(now: Running) -> bool:
    status = await now.service.status()
    return bool(status["vault"]["state"] == "online" and not status["vault"]["journal"]["batches"])


async def test_an_import_is_refused_while_the_company_is_open_and_seen_afterwards(
    state: Path, proxied: DatabaseOptions, store: PostgresAuthStore, settings: Settings, tmp_path: Path
) -> None:
    """It never fights the lease; once the company is closed, the next opening has what was imported."""
    await store.install(ACME, made_up_creds(), {"session": {"old": b"1"}})
    folder = tmp_path / "folder"
    export_folder(folder, made_up_creds(nextPreKeyId=77), {"session": {"new": b"1"}})
    async with running(state, proxied) as now:
        vault = now.service.vault
        await now.in_state("online")
        await vault.open(ACME)
        with pytest.raises(CompanyInUse, match="has acme open"):
            await import_company(settings, folder, ACME, replace=True)
        vault.release(ACME)
        await until(lambda: not vault.holdings())
        done = await import_company(settings, folder, ACME, replace=True)
        assert done.archive is not None
        creds = await vault.open(ACME)
        assert creds
        assert b"77" in creds
        assert set(await vault.get_keys(ACME, "session", ["old", "new"])) == {"new"}
