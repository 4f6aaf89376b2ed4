"""What logs, process titles and file modes give away: no number, no key, no message."""

from __future__ import annotations

import io
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import psycopg
import pytest
import structlog

from standfast.logs import configure_logging
from standfast.postgres.options import DatabaseOptions
from standfast.service.service import ServiceOptions
from standfast.sessions.session import Pairing, State
from tests.e2e.conftest import QUICK, Line


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, at debug level, as it would reach standard error."""
    root, level = logging.getLogger(), logging.getLogger().level
    handlers = root.handlers[:]
    stream = io.StringIO()
    configure_logging("debug", stream=stream, as_json=True)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_logs_tell_no_secret(
    log: io.StringIO, line: Line, new_phone: Callable[[], str], database_options: DatabaseOptions
) -> None:
    """Pairing both ways, chat, a lost connection and a refusal at debug level: nothing secret is in the log, and
    nothing secret in the host's command line."""
    debugging = {**line.options.host_environment, "STANDFAST_LOG": "debug"}
    await line.stop()
    line.options = ServiceOptions(host_environment=debugging, backoff=QUICK)
    await line.start()
    await line.pair("acme", new_phone())
    code = await _pair_by_code(line, "bolt", new_phone())
    await line.acquaint("acme", "bolt")
    await line.simulator.ask("POST", "/faults", {"kind": "duplicate", "phone": line.phones["acme"]})
    await line.send("bolt", "acme", "a private remark")
    await line.simulator.ask("POST", "/faults", {"kind": "drop"})
    await line.state("acme", State.CLOSED)
    await line.state("acme", State.OPEN)
    host = psutil.Process(line.service.engine.pid)
    title = " ".join(host.cmdline())
    sessions = [line.session(company) for company in ("acme", "bolt")]
    await line.stop()

    logged = log.getvalue()
    assert '"line"' in logged
    assert "baileys" in logged, "the host's own debug lines are not in the log"
    users = {re.split("[:@]", jid)[0] for s in sessions for jid in (s.jid, s.lid) if jid}
    qr = line.events("acme", "qr")[0]["qr"]
    secrets = {
        *line.phones.values(),
        *users,
        *(part for part in qr.split("#")[1].split(",") if len(part) >= 20),
        code,
        "a private remark",
        "acme greets bolt",
        *_key_material(database_options),
    }
    assert len(secrets) > 100
    assert [secret for secret in secrets if secret in logged or secret in title] == []


async def test_files_are_the_owners_alone(line: Line, new_phone: Callable[[], str]) -> None:
    """No file of the state directory, archived auth state among them, can be read by others."""
    phone = new_phone()
    await line.pair("acme", phone)
    await line.pair("bolt", new_phone())
    await line.simulator.ask("POST", f"/phones/{phone}/unlink", {"device": 1})
    await line.state("acme", State.LOGGED_OUT)
    await line.pair("acme", phone)
    archived = list((line.settings.state_dir / "archive").rglob("creds.json"))
    assert len(archived) == 1
    assert _open_to_others(line.settings.state_dir) == []


async def _pair_by_code(line: Line, company: str, phone: str) -> str:
    line.phones[company] = phone
    await line.service.pool.pair(company, Pairing("code", phone))
    code = str((await line.event(company, "pairing_code"))["code"])
    await line.simulator.ask("POST", "/enter-code", {"phone": phone, "code": code})
    await line.state(company, State.OPEN)
    return code


def _key_material(options: DatabaseOptions) -> set[str]:
    """The base64 of every byte array in creds and keys, and the secret of the pairing."""
    with psycopg.connect(options.to_conninfo()) as connection:
        creds = connection.execute("select creds::text from whatsapp_auth").fetchall()
        keys = connection.execute("select value::text from whatsapp_keys").fetchall()
    found: set[str] = set()
    for (text,) in creds:
        found.add(orjson.loads(text)["advSecretKey"])
    for (text,) in (*creds, *keys):
        found |= _buffers(orjson.loads(text))
    return {value for value in found if len(value) >= 20}


def _buffers(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_buffers, value))
    if not isinstance(value, dict):
        return set()
    if value.get("type") == "Buffer":
        return {str(value["data"])}
    return set().union(*map(_buffers, value.values()))


def _open_to_others(directory: Path) -> list[str]:
    paths = [directory, *directory.rglob("*")]
    return [str(path) for path in paths if stat.S_IMODE(os.lstat(path).st_mode) & 0o077]
