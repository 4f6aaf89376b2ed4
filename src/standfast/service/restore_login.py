"""A session started from restored auth state: by real Baileys, against the simulator.

Invariant: it never reaches WhatsApp. The Node host is confined to this machine's own addresses and knows no other URL
than the simulator's, which is checked before it starts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from standfast.authstate.buffer_json import as_bytes, parse
from standfast.authstate.company import Company
from standfast.errors import BackupDamaged, NodeError, SettingsError, StandfastError
from standfast.node import bridge_directory, node_binary
from standfast.postgres.observing import NOBODY
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.service.service import Service, ServiceOptions
from standfast.service.simulator import Simulator
from standfast.sessions.session import ENDED, State
from standfast.settings import Settings

OPEN_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
_LOOK_S = 0.05
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_CREDS = Statement("restore_test.creds", "select creds::text from whatsapp_auth where company_id = $1")
# No node of the backup's time holds anything here, and no session is wanted but the one that is tried.
_ALONE = tuple(
    Statement("restore_test.alone", f"delete from {table}")
    for table in ("standfast_sessions", "standfast_nodes", "standfast_duties")
)
_PRESENT = Statement("restore_test.present", "select to_regclass($1) is not null")
_JID = re.compile(r"(\d+)(?::(\d+))?@(?:s\.whatsapp\.net|c\.us)")
_LID = re.compile(r"(\d+)(?::\d+)?@lid")


class SimulatedLogin:
    """See `jobs.backup.restore_test.Login`. `settings` say where Node and the bridge are, and nothing else."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __call__(self, options: DatabaseOptions, company: Company, directory: Path) -> None:
        """`NodeError` where Node or the bridge is missing, `BackupDamaged` where no session comes of what was
        restored."""
        given = self._settings
        node, bridge = await asyncio.to_thread(
            lambda: (node_binary(given.node_binary), bridge_directory(given.bridge_dir))
        )
        async with contextlib.AsyncExitStack() as stack:
            database = await stack.enter_async_context(Database(options, NOBODY.queries))
            await _make_alone(database)
            simulator = Simulator(directory / "whatsapp", node, bridge)
            stack.push_async_callback(simulator.stop)
            await simulator.start()
            await simulator.ask("POST", *await _device(database, company))
            service = await stack.enter_async_context(
                _service(settings_apart(given, options, directory), simulator)
            )
            await _opened(service, company)


def settings_apart(settings: Settings, options: DatabaseOptions, directory: Path) -> Settings:
    """Those of a service that has nothing to do with the one that the operator runs: no channel, no door, no job."""
    return Settings(
        state_dir=directory / "login",
        database_url=SecretStr(replace(options, application_name="standfast-restore-test").to_conninfo()),
        node_binary=settings.node_binary,
        bridge_dir=settings.bridge_dir,
        node_name="restore-test",
        http="off",
        schedule="off",
        change_log="off",
        auto_start_monitoring=False,
    )


def confined(simulator: Mapping[str, str]) -> dict[str, str]:
    """The environment of a host that reaches this simulator alone. `SettingsError` where it is not on this machine."""
    address = urlsplit(simulator.get("STANDFAST_WA_URL", ""))
    if address.scheme != "ws" or address.hostname not in _LOOPBACK:
        raise SettingsError("a restore test connects to a simulator on this machine and to nothing else")
    return {**simulator, "STANDFAST_WA_CONFINED": "1"}


@contextlib.asynccontextmanager
async def _service(settings: Settings, simulator: Simulator) -> AsyncIterator[Service]:
    environment = confined(simulator.host_environment())
    service = Service(settings, ServiceOptions(host_environment=environment, channels=()))
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await service.start()
    except TimeoutError:
        raise NodeError(f"a service for the login did not start within {START_TIMEOUT_S:g} s") from None
    try:
        yield service
    finally:
        await service.stop()


async def _make_alone(database: Database) -> None:
    for statement in _ALONE:
        table = statement.sql.rpartition(" ")[2]
        if (await database.fetch(_PRESENT, [table]))[0][0]:
            await database.fetch(statement)


async def _device(database: Database, company: Company) -> tuple[str, dict[str, Any]]:
    """What the simulator is told of the device: where, and its public keys. No private one leaves the database."""
    rows = await database.fetch(_CREDS, [company])
    creds = parse(str(rows[0][0]).encode())
    jid, lid = _JID.fullmatch(creds["me"]["id"]), _LID.fullmatch(str(creds["me"].get("lid") or ""))
    if jid is None or jid[2] is None:
        raise BackupDamaged(f"the creds of {company} name no linked device")
    signed = creds["signedPreKey"]
    device: dict[str, Any] = {
        "device": int(jid[2]),
        "noise_key": _public(creds["noiseKey"]),
        "identity": _public(creds["signedIdentityKey"]),
        "registration_id": creds["registrationId"],
        "signed_pre_key": {
            "id": signed["keyId"],
            "value": _public(signed["keyPair"]),
            "signature": base64.b64encode(as_bytes(signed["signature"])).decode(),
        },
    }
    if lid is not None:
        device["lid"] = lid[1]
    return f"/phones/{jid[1]}/devices", device


def _public(pair: Mapping[str, Any]) -> str:
    return base64.b64encode(as_bytes(pair["public"])).decode()


async def _opened(service: Service, company: Company) -> None:
    """Start the session and see it open."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + OPEN_TIMEOUT_S
    try:
        session = await service.pool.start(company)
    except StandfastError as error:
        raise BackupDamaged(f"{company} could not be started: {error.message}") from error
    while session.state is not State.OPEN:
        if session.state in ENDED or loop.time() > deadline:
            why = f": {session.reason}" if session.reason else ""
            raise BackupDamaged(
                f"{company} did not log in within {OPEN_TIMEOUT_S:g} s ({session.state.value}{why})"
            )
        await asyncio.sleep(_LOOK_S)
