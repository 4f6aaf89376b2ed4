"""A whole installation as its operator has it, and what befalls it: for documents that are run.

Invariant: all of it is of one machine's making and lies in one home: service and Node host, two paired companies, a
PostgreSQL of its own on a port that it keeps, backups in a directory apart from both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pyrage

from standfast.health.document import Health
from standfast.node import bridge_directory, node_binary
from standfast.postgres.binaries import embedded_binaries
from standfast.postgres.embedded import EmbeddedServer
from standfast.service.client import connect
from standfast.service.health_asking import ask_health
from standfast.service.link import Link
from standfast.service.simulator import Simulator
from tests.documents import Bound
from tests.e2e.command_server import write_client
from tests.e2e.conftest import until
from tests.e2e.processes import Home, Process, make_home

ROOT = Path(__file__).parents[2]
COMPANIES = ("acme", "bolt")
CONTACT = "79990000001"
PASSWORD = "made-up"
COMMAND_TIMEOUT_S = 30.0


class Installation:
    """`shell` runs a command of the operator's; the other methods are what happens to the installation meanwhile."""

    def __init__(self, home: Home, simulator: Simulator) -> None:
        self.home = home
        self.simulator = simulator
        self.server = EmbeddedServer(home.directory / "pg", listen_port=0, password=PASSWORD, durable=False)
        self.service: Process | None = None
        self._servers = 1
        self.backups, self.far = home.directory / "backups", home.directory / "f"
        for directory in (self.backups, self.far):
            directory.mkdir(mode=0o700)
        identity = pyrage.x25519.Identity.generate()
        identity_file = home.directory / "identity.txt"
        identity_file.write_text(f"{identity}\n")
        identity_file.chmod(0o600)
        options = self.server.tcp_options
        self.port = options.port
        self._programs = home.directory / "bin"
        self._programs.mkdir()
        tools = embedded_binaries()
        home.environment |= {
            "PATH": f"{self._programs}{os.pathsep}{tools}{os.pathsep}{home.environment['PATH']}",
            "DATABASE_URL": f"postgresql://{options.user}@127.0.0.1:{options.port}/{options.dbname}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), home.environment.get("PYTHONPATH", "")]).rstrip(
                os.pathsep
            ),
            "POSTGRES_PASSWORD": PASSWORD,
            "PGPASSWORD": PASSWORD,
            "BACKUP_ROOT": str(self.backups),
            "BACKUP_REMOTES": f"file://{self.far}?name=far",
            "BACKUP_RECIPIENTS": str(identity.to_public()),
            "BACKUP_IDENTITY_FILE": str(identity_file),
            "STANDFAST_CHANGE_LOG_SEGMENT_S": "0.5",
            "STANDFAST_NODE_NAME": "alpha",
            "STANDFAST_SCHEDULE": "off",
            "COLUMNS": "80",
        }
        self.bound = Bound(
            {
                "/var/lib/standfast": str(home.state.path),
                "/var/backups/standfast": str(self.backups),
                "/mnt/far": str(self.far),
                "db.example:5432": f"127.0.0.1:{options.port}",
                "+79990000001": f"+{CONTACT}",
            }
        )

    # -- what an operator does

    async def shell(self, command: str) -> tuple[int, str]:
        """Run a command line; its exit code and what it printed."""
        process = self.home.run(["sh", "-c", command], {})
        return await process.ended(COMMAND_TIMEOUT_S), process.text()

    async def does(self, command: str) -> None:
        """The same, which has to end well."""
        code, printed = await self.shell(command)
        assert code == 0, printed

    async def serve_commands(self) -> None:
        """From now on `standfast` is there for the shell."""
        address = self.home.directory / "commands"
        write_client(self._programs / "standfast", address)
        serving = self.home.run([sys.executable, "-m", "tests.e2e.command_server", address], {})
        await serving.says("ready")

    async def start(self) -> None:
        """The service comes up."""
        environment = json.dumps(self.simulator.host_environment())
        self.service = self.home.run([sys.executable, "-m", "tests.e2e.service_process", environment], {})
        self.bound.actual["/var/log/standfast.log"] = str(self.service.output)
        await self.service.says("running")

    @property
    def runs(self) -> bool:
        """Whether the service does."""
        return self.service is not None and self.service.popen.poll() is None

    async def stop(self) -> None:
        """The service ends, as with its machine's shutdown."""
        assert self.service is not None
        await self.service.end()

    async def pair(self, company: str, phone: str) -> None:
        """By QR, until its session is open."""
        async with connect(self.home.state.gateway_socket) as client, client.events(company) as events:
            await client.pair(company)
            async for event in events:
                if event.kind == "qr":
                    await self.simulator.ask("POST", "/scan", {"qr": event.data["qr"], "phone": phone})
                if event.kind == "state" and event.data["state"] == "open":
                    return

    # -- what befalls it

    def execute(self, *statements: str) -> None:
        """Somebody's SQL."""
        with psycopg.connect(self.server.options.to_conninfo(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    async def empty_server(self) -> None:
        """The server is gone with its disk; another one stands in its place, and has nothing."""
        await self.server.stop()
        self._servers += 1
        shutil.rmtree(self.server.state_dir)
        self.server = EmbeddedServer(
            self.home.directory / f"pg{self._servers}",
            listen_port=self.port,
            password=PASSWORD,
            durable=False,
        )
        await self.server.start()

    # -- what is waited for

    async def health(self) -> Health:
        """As the service has it."""
        link = Link(self.home.state.gateway_socket)
        with contextlib.closing(link):
            return await ask_health(link)

    async def vault_is(self, state: str) -> None:
        """Wait until the vault is in that state."""

        async def is_so() -> bool:
            vault = (await self.health()).vault
            return vault is not None and vault.state == state

        await until(is_so, f"the vault is {state}")

    async def outage_says(self, *words: str) -> None:
        """Wait until the vault says that PostgreSQL is away, and one of these about why."""

        async def says_so() -> bool:
            vault = (await self.health()).vault
            return vault is not None and any(one in (vault.cause or "") for one in words)

        await until(says_so, f"an outage because of {words}")

    async def answered(self) -> None:
        """Wait until the vault knows that PostgreSQL answers, though it leaves it alone."""

        async def is_so() -> bool:
            vault = (await self.health()).vault
            return vault is not None and bool(vault.answered)

        await until(is_so, "PostgreSQL answers")

    async def carried(self) -> None:
        """Wait until PostgreSQL has every write."""

        async def is_empty() -> bool:
            vault = (await self.health()).vault
            return vault is not None and not vault.journal_batches

        await until(is_empty, "the journal is empty")

    async def says(self, text: str) -> None:
        """Wait until the service's log has it."""
        assert self.service is not None
        await self.service.says(text)

    async def open(self, *companies: str) -> None:
        """Wait until the sessions of these are."""

        async def are_open() -> bool:
            async with connect(self.home.state.gateway_socket) as client:
                return {one.company for one in await client.sessions() if one.state == "open"} >= set(
                    companies
                )

        await until(are_open, f"{companies} are open")

    async def close(self) -> None:
        """Everything that was started ends."""
        await self.server.stop()
        await self.simulator.stop()
        self.home.clear()


@contextlib.asynccontextmanager
async def installed() -> AsyncIterator[Installation]:
    """One that stands: both companies paired, open, and known to a contact."""
    home = make_home()
    simulator = Simulator(home.directory / "wa", node_binary(), bridge_directory())
    made = Installation(home, simulator)
    try:
        await asyncio.gather(simulator.start(), made.server.start(), made.serve_commands())
        await made.start()
        await simulator.ask("POST", "/contacts", {"phone": CONTACT, "behaviour": "echo"})
        await asyncio.gather(*(made.pair(one, f"7999010000{n}") for n, one in enumerate(COMPANIES)))
        yield made
    finally:
        await made.close()
