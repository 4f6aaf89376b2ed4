"""The doctor on the messages' file: read beside whoever uses it, webhooks looked up and none of them called."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from standfast.messaging.file import MessageFile
from standfast.messaging.webhooks_registry import Registry, Webhook
from standfast.messaging.webhooks_signature import Secret
from standfast.service.doctor import messages
from standfast.vault.storage.cipher import own_key
from tests.doctoring import found, outcome, patient

SECRET = "hunter2-marker"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory with a vault's key."""
    (tmp_path / "vault").mkdir()
    own_key(tmp_path / "vault" / "vault.key")
    return tmp_path


def opened(directory: Path) -> MessageFile:
    """The messages' file, as a service has it open."""
    key = own_key(directory / "vault" / "vault.key")
    file = MessageFile(directory / "messages", key, lambda _path, _why: None)
    file.open()
    return file


def webhook(name: str, host: str) -> Webhook:
    return Webhook(name, f"https://u:{SECRET}@{host}/{SECRET}", (Secret(SECRET),), (), ("message",), 0.0)


async def test_messages_are_read_without_touching_them(directory: Path) -> None:
    """While they are in use and after; without a file there is nothing to say."""
    who = patient(state_dir=directory)
    assert list(messages.messages(who)) == []
    file = opened(directory)
    for _ in range(2):
        before = sorted((one.name, one.stat().st_mtime_ns) for one in (directory / "messages").iterdir())
        assert "0 to be sent" in found(messages.messages, who)["state.messages"].message
        assert (
            sorted((one.name, one.stat().st_mtime_ns) for one in (directory / "messages").iterdir()) == before
        )
        await file.close()
        file = opened(directory)
    await file.close()


async def test_messages_under_another_key_are_wrong(directory: Path) -> None:
    """As they are where the file is no database; without a key that is told at the vault."""
    who = patient(state_dir=directory)
    await opened(directory).close()
    key = directory / "vault" / "vault.key"
    key.write_bytes(b"\x01" * 32)
    assert found(messages.messages, who)["state.messages"].outcome == "wrong"
    (directory / "messages" / "messages.db").write_bytes(b"no database at all, but of some length" * 40)
    result = found(messages.messages, who)["state.messages"]
    assert (result.outcome, f"cp -a {directory / 'messages'}" in (result.mend or "")) == ("wrong", True)
    key.unlink()
    assert outcome(messages.messages, who) == "skipped"
    assert not key.exists()


async def test_a_webhook_that_leads_nowhere_is_told_by_name_and_host(directory: Path) -> None:
    """Without an address, failing for a while, with events given up, and well; its URL and secret are in no line."""
    file = opened(directory)
    registry = Registry(file)
    for name, host in (
        ("lost", "hook.invalid"),
        ("failing", "localhost"),
        ("dead", "localhost"),
        ("well", "localhost"),
    ):
        await registry.add(webhook(name, host))

    def spoil(connection: sqlite3.Connection) -> None:
        connection.execute("update webhooks set failing_since = 1 where name = 'failing'")
        connection.execute(
            "insert into deliveries (webhook, number, company, lane, queued_at, dead_at)"
            " values ('dead', 1, 'a', x'', 0, 1)"
        )

    await file.write(spoil)
    results = {one.subject: one for one in messages.webhooks(patient(state_dir=directory))}
    await file.close()
    assert {name.removeprefix("webhook "): one.outcome for name, one in results.items()} == {
        "lost": "warning",
        "failing": "warning",
        "dead": "warning",
        "well": "ok",
    }
    assert results["webhook dead"].mend == "standfast webhooks replay dead --dead"
    assert SECRET not in str(results)
