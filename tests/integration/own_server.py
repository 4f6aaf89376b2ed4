"""A PostgreSQL of a test's own, and what can befall it.

Invariant: every fault is a context: with its end the server is as it was, and what it had confirmed is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg

from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from tests.support import until

_TEMPLATE = "migrated"
_ROLE = "bot"
_HOG = "hog"
_numbers = itertools.count(1)


class OwnServer:
    """`node_options` are those of an ordinary account, by password over 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        self.embedded = EmbeddedServer(directory, listen_port=0, durable=False)
        self._database = _TEMPLATE

    async def start(self) -> None:
        await self.embedded.start()
        # What it has confirmed shall survive the death of its processes.
        self.execute("alter system set synchronous_commit = on", "select pg_reload_conf()")
        self.execute(f"create role {_ROLE} login password '{_ROLE}'", f"create database {_TEMPLATE}")
        async with Database(replace(self.embedded.options, dbname=_TEMPLATE)) as database:
            await migrate(database)
        for kind in ("tables", "sequences", "functions"):
            self.execute(f"grant all on all {kind} in schema public to {_ROLE}", dbname=_TEMPLATE)

    async def stop(self) -> None:
        await self.embedded.stop()

    def new_database(self, more: str = "") -> DatabaseOptions:
        """A migrated, empty database, as its superuser reaches it."""
        self._database = f"own_{next(_numbers)}"
        self.execute(f"create database {self._database} template {_TEMPLATE} {more}")
        return replace(self.embedded.options, dbname=self._database)

    def as_node(self, options: DatabaseOptions) -> DatabaseOptions:
        """The same database for the ordinary account."""
        return replace(self.embedded.tcp_options, dbname=options.dbname, user=_ROLE, password=_ROLE)

    def execute(self, *statements: str, dbname: str = "postgres") -> None:
        """As superuser, whatever the server is told to refuse to others."""
        own = replace(self.embedded.options, dbname=dbname).to_conninfo()
        with psycopg.connect(
            own, options="-c default_transaction_read_only=off", autocommit=True
        ) as connection:
            for statement in statements:
                connection.execute(statement)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """The rows of one statement, as superuser."""
        with psycopg.connect(replace(self.embedded.options, dbname="postgres").to_conninfo()) as connection:
            return connection.execute(statement.encode()).fetchall()

    async def kill(self) -> None:
        """SIGKILL of every process of it."""
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                process.kill()
        await self.embedded.stop()

    def cut(self) -> None:
        """End every connection of the ordinary account that this class has not made."""
        self.execute(
            "select pg_terminate_backend(pid, 2000) from pg_stat_activity"
            f" where usename = '{_ROLE}' and application_name <> '{_HOG}'"
        )

    # -- what can befall it

    @contextlib.asynccontextmanager
    async def read_only(self) -> AsyncIterator[None]:
        """As a standby after a failover, or an administrator in need."""
        self._set_read_only("on")
        yield
        self._set_read_only("off")

    def _set_read_only(self, value: str) -> None:
        self.execute(f"alter system set default_transaction_read_only = {value}", "select pg_reload_conf()")

    @contextlib.asynccontextmanager
    async def another_password(self) -> AsyncIterator[None]:
        self.execute(f"alter role {_ROLE} password 'changed'")
        self.cut()
        yield
        self.execute(f"alter role {_ROLE} password '{_ROLE}'")

    @contextlib.asynccontextmanager
    async def shut_out(self) -> AsyncIterator[None]:
        """A line of pg_hba.conf that lets nobody in who comes without TLS."""
        file = self.embedded.data_dir / "pg_hba.conf"
        lines = file.read_text()
        file.write_text("hostnossl all all 127.0.0.1/32 reject\n" + lines)
        self.execute("select pg_reload_conf()")
        self.cut()
        yield
        file.write_text(lines)
        self.execute("select pg_reload_conf()")

    @contextlib.asynccontextmanager
    async def no_slot(self) -> AsyncIterator[None]:
        """Other clients hold every connection that an ordinary account may have."""
        options = replace(self.embedded.tcp_options, dbname=_TEMPLATE, user=_ROLE, password=_ROLE)
        conninfo = replace(options, application_name=_HOG).to_conninfo()
        with contextlib.ExitStack() as held:
            _connect_all(conninfo, held)
            self.cut()
            _connect_all(conninfo, held)
            yield

    @contextlib.asynccontextmanager
    async def rights_gone(self) -> AsyncIterator[None]:
        """Somebody has revoked what the account may do with keys; all else it still may."""
        self.execute(f"revoke all on whatsapp_keys from {_ROLE}", dbname=self._database)
        yield
        self.execute(f"grant all on whatsapp_keys to {_ROLE}", dbname=self._database)

    @contextlib.asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """SIGSTOP: connections stand, the kernel accepts new ones, and nothing answers."""
        with suspended(self._family()):
            yield

    @contextlib.asynccontextmanager
    async def killed(self) -> AsyncIterator[None]:
        """SIGKILL of every process of it."""
        await self.kill()
        yield
        await self.embedded.start()

    @contextlib.asynccontextmanager
    async def starting(self) -> AsyncIterator[None]:
        """It was killed and recovers, which takes long; a standby that lets nobody read looks just so from outside."""
        await self.kill()
        data, settings = self.embedded.data_dir, self.embedded.data_dir / "postgresql.auto.conf"
        former = settings.read_text()
        (data / "standby.signal").touch()
        settings.write_text(f"{former}hot_standby = off\n")
        coming_up = asyncio.create_task(self.embedded.start())
        await until(self._says_not_yet)
        yield
        settings.write_text(former)
        (data / "promote").touch()
        assert self.embedded.pid is not None
        os.kill(self.embedded.pid, signal.SIGUSR1)
        await coming_up

    def _says_not_yet(self) -> bool:
        try:
            self.execute("select 1")
        except psycopg.OperationalError as error:
            return "not accepting connections" in str(error)
        return False

    def _family(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self.embedded.pid)
        return [postmaster, *postmaster.children(recursive=True)]


@contextlib.contextmanager
def suspended(family: list[psutil.Process]) -> Iterator[None]:
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


def _connect_all(conninfo: str, held: contextlib.ExitStack) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            held.callback(psycopg.connect(conninfo).close)
