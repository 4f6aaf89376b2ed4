"""One embedded PostgreSQL for the whole run; a database of its own for each test, cloned from a migrated template."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from tests.file_order import longest_first
from tests.support import apart

_TEMPLATE = "standfast_template"
_numbers = itertools.count(1)
_OWN_TEMPORARY = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Short names for temporary directories: sockets lie in them, and pytest's own grow with the number of runs."""
    if not hasattr(config, "workerinput") and config.option.basetemp is None:
        config.stash[_OWN_TEMPORARY] = config.option.basetemp = tempfile.mkdtemp(prefix="sf-t-")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a run of several processes: after they were shuffled."""
    if hasattr(config, "workerinput"):
        longest_first(items)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What failed is left for a look."""
    own = session.config.stash.get(_OWN_TEMPORARY, None)
    if own is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(own, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Reached by socket (`options`) and by 127.0.0.1 with a password (`tcp_options`). Shared: stop none of it."""
    server = EmbeddedServer(tmp_path_factory.mktemp("postgres"), listen_port=0, durable=False)
    apart(server.start())
    yield server
    apart(server.stop())


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedServer) -> str:
    _create(postgres_server, _TEMPLATE, "template1")

    async def prepare() -> None:
        async with Database(replace(postgres_server.options, dbname=_TEMPLATE)) as database:
            await migrate(database)

    apart(prepare())
    return _TEMPLATE


@pytest.fixture
def database_options(postgres_server: EmbeddedServer, migrated_template: str) -> Iterator[DatabaseOptions]:
    """How to reach a migrated, empty database."""
    yield from _cloned(postgres_server, migrated_template)


@pytest.fixture
def other_database_options(
    postgres_server: EmbeddedServer, migrated_template: str
) -> Iterator[DatabaseOptions]:
    """How to reach another migrated, empty database."""
    yield from _cloned(postgres_server, migrated_template)


@pytest.fixture
def tcp_options(postgres_server: EmbeddedServer, database_options: DatabaseOptions) -> DatabaseOptions:
    """The same database by 127.0.0.1 with a password: where a proxy can stand between."""
    return replace(postgres_server.tcp_options, dbname=database_options.dbname)


@pytest.fixture
def bare_database_options(postgres_server: EmbeddedServer) -> Iterator[DatabaseOptions]:
    """How to reach a database that holds nothing at all."""
    yield from _cloned(postgres_server, "template1")


@pytest.fixture
async def database(database_options: DatabaseOptions) -> AsyncIterator[Database]:
    async with Database(database_options) as opened:
        yield opened


@pytest.fixture
async def bare_database(bare_database_options: DatabaseOptions) -> AsyncIterator[Database]:
    async with Database(bare_database_options) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> PostgresAuthStore:
    return PostgresAuthStore(database)


def _cloned(server: EmbeddedServer, template: str) -> Iterator[DatabaseOptions]:
    name = f"test_{next(_numbers)}"
    _create(server, name, template)
    yield replace(server.options, dbname=name, statement_timeout_s=3.0)
    _execute(server, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _create(server: EmbeddedServer, name: str, template: str) -> None:
    statement = sql.SQL("create database {} template {}")
    _execute(server, statement.format(sql.Identifier(name), sql.Identifier(template)))


def _execute(server: EmbeddedServer, statement: sql.Composed) -> None:
    conninfo = replace(server.options, dbname="postgres").to_conninfo()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement)
