"""A node that is killed between its disk and PostgreSQL: what it acknowledged arrives, once, whoever opens what."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.store import PostgresAuthStore
from tests.integration.vaults import QUICK, node
from tests.support import made_up_creds, until

COMPANIES = [Company("acme"), Company("bolt")]
BATCHES = 20
_COUNTING = (
    "create table arrivals (company text, id text, value text)",
    """
    create function note_arrival() returns trigger language plpgsql as $$
    begin insert into arrivals values (new.company_id, new.key_id, new.value::text); return new; end $$
    """,
    "create trigger arrivals after insert or update on whatsapp_keys for each row execute function note_arrival()",
)
_ARRIVALS = Statement("test.arrivals", "select company, id, value from arrivals order by company, value::int")
_LEASED = Statement("test.leased", "select company_id from standfast_writers where node is not null")


async def _write_and_die(directory: Path, conninfo: str, moment: str) -> None:
    """Acknowledged batches of both companies; SIGKILL before any was delivered, or right after all were."""
    gather_s = 60.0 if moment == "before delivery" else 0.01
    async with node(directory, DatabaseOptions(conninfo), replace(QUICK, gather_s=gather_s)) as one:
        for company in COMPANIES:
            await one.vault.open(company)
        for number in range(BATCHES):
            for company in COMPANIES:
                await one.vault.set_keys(company, {"session": {f"{number}": b"%d" % number}})
        if moment == "after delivery":
            await until(lambda: not any(holding.pending for holding in one.vault.holdings()))
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
async def paired(database: Database) -> Database:
    """Both companies, and a note of every value that arrives."""
    for number, company in enumerate(COMPANIES):
        await PostgresAuthStore(database).install(company, made_up_creds(bytes([number] * 32)), {})
    for statement in _COUNTING:
        await database.fetch(Statement("test.counting", statement))
    return database


@pytest.mark.parametrize("moment", ["before delivery", "after delivery"])
async def test_what_a_killed_node_acknowledged_arrives_once(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database, moment: str
) -> None:
    """Also of a company that nobody opens again; its lease is given back once PostgreSQL has it all."""
    command = [sys.executable, "-m", "tests.integration.test_vault_crash", str(tmp_path)]
    killed = await asyncio.to_thread(
        subprocess.run,
        [*command, database_options.to_conninfo(), moment],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=30,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-3000:]
    assert len(await paired.fetch(_ARRIVALS)) == (0 if moment == "before delivery" else 2 * BATCHES)
    acme, bolt = COMPANIES
    async with node(tmp_path, database_options) as one:
        await one.vault.open(acme)
        await until(lambda: arrived(paired))
        await until(lambda: leased(paired, [acme]))
        await until(lambda: one.vault.held.get(bolt) is None)  # the lease goes first
        assert one.alerts.names() == []
    expected = [(company, f"{n}", f"{n}") for company in COMPANIES for n in range(BATCHES)]
    assert await paired.fetch(_ARRIVALS) == expected


async def arrived(database: Database) -> bool:
    return len(await database.fetch(_ARRIVALS)) >= 2 * BATCHES


async def leased(database: Database, companies: list[Company]) -> bool:
    return await database.fetch(_LEASED) == [(company,) for company in companies]


if __name__ == "__main__":
    asyncio.run(_write_and_die(Path(sys.argv[1]), *sys.argv[2:]))
