"""Files between companies and people: what arrives is, byte for byte, what was sent."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from standfast.errors import Forbidden, NotFound, UsageError
from standfast.messaging.outgoing import Outgoing
from standfast.service.client import connect
from tests import files
from tests.e2e.conftest import Line, _phones, shares_loop, until

KINDS = {
    "image": ("image/png", files.png()),
    "video": ("video/mp4", files.mp4()),
    "audio": ("audio/mpeg", files.mp3()),
    "voice": ("audio/ogg; codecs=opus", files.opus()),
    "sticker": ("image/webp", files.webp()),
    "document": ("application/pdf", files.pdf()),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def contact(shared_pair: Line) -> str:
    """A contact of the simulator that downloads what it gets."""
    phone = str(next(_phones))
    await shared_pair.simulator.ask("POST", "/contacts", {"phone": phone, "behaviour": "silent"})
    return phone


async def _send(line: Line, to: str, content: dict[str, Any], **more: Any) -> Outgoing:
    sent = await line.service.messenger.send("acme", f"+{to}", content, wait_s=20, local_files=True, **more)
    assert sent.state.word in ("sent", "delivered", "read"), sent.error
    return sent


async def _at_contact(line: Line, phone: str, message_id: str) -> dict[str, Any]:
    """The message at the contact, once it has downloaded the file."""

    async def found() -> dict[str, Any] | None:
        answer = await line.simulator.ask("GET", f"/contacts/{phone}/messages?after=0")
        messages = [one for one in answer["messages"] if one["id"] == message_id and "media" in one]
        return next((one for one in messages if {"sha256", "error"} & one["media"].keys()), None)

    message: dict[str, Any] = await until(found, f"a file at the contact ({message_id})")
    return message


@shares_loop
@pytest.mark.parametrize("kind", KINDS)
async def test_a_file_arrives_as_what_it_is(
    shared_pair: Line, contact: str, tmp_path: Path, kind: str
) -> None:
    """Every kind is encrypted, uploaded, downloaded and decrypted; its type is told by its bytes, its file is gone from
    the spool then."""
    mime_type, body = KINDS[kind]
    file = tmp_path / "made up.bin"
    file.write_bytes(body)
    captioned = kind in ("image", "video", "document")
    content = {"type": kind, "file": str(file)} | ({"caption": "look"} if captioned else {})
    sent = await _send(shared_pair, contact, content)
    shown = sent.as_wire()["content"]["media"]
    assert shown["mime_type"] == mime_type
    assert not {"key", "spool"} & shown.keys()
    message = await _at_contact(shared_pair, contact, sent.message_id)
    media = message["media"]
    assert (media["kind"], media["mime_type"]) == (kind, mime_type)
    assert media["sha256"] == hashlib.sha256(body).hexdigest()
    assert message["text"] == ("look" if captioned else "")
    if kind == "image":
        assert (media["width"], media["height"], media["has_thumbnail"]) == (40, 30, True)
    if kind == "document":
        assert media["file_name"] == "made up.bin"
    spool = shared_pair.service.mailbox.spool.directory
    await until(lambda: not list(spool.iterdir()), "an empty spool")


@shares_loop
async def test_a_file_is_sent_though_its_source_is_gone_and_the_session_was_closed(
    shared_pair: Line, contact: str, tmp_path: Path
) -> None:
    """What was accepted is sent from the spool, where it lies encrypted: the file may be gone, the session may be away
    meanwhile, and the same request again is the same message."""
    line, body = shared_pair, files.pdf(100_000)
    await line.service.pool.ask("acme", "groups.list", {})
    await line.simulator.ask("POST", "/faults", {"kind": "stall", "phone": line.phones["acme"]})
    file = tmp_path / "gone.pdf"
    file.write_bytes(body)
    content = {"type": "document", "file": str(file), "file_name": "kept.pdf"}
    messenger = line.service.messenger
    queued = await messenger.send("acme", f"+{contact}", content, idempotency_key="once", local_files=True)
    (spooled,) = [one for one in messenger.media.spool.directory.iterdir() if len(one.name) == 32]
    assert body[1_000:1_100] not in spooled.read_bytes()
    assert spooled.stat().st_mode & 0o777 == 0o600
    file.unlink()
    again = await messenger.send("acme", f"+{contact}", content, idempotency_key="once", local_files=True)
    assert again.message_id == queued.message_id
    await line.simulator.ask("DELETE", "/faults")
    media = (await _at_contact(line, contact, queued.message_id))["media"]
    assert (media["sha256"], media["file_name"]) == (hashlib.sha256(body).hexdigest(), "kept.pdf")


@shares_loop
async def test_what_cannot_be_sent_as_that_is_refused(
    shared_pair: Line, contact: str, tmp_path: Path
) -> None:
    """A text as an image, a pipe, an absent or empty file, one of the service's own, or a private address: refused,
    and nothing is left in the spool."""
    line, text, empty = shared_pair, tmp_path / "a.png", tmp_path / "empty.png"
    text.write_text("no picture")
    empty.touch()
    own = line.service.state.path / "node.lock"
    refused: list[dict[str, Any]] = [
        {"type": "image", "file": str(text)},
        {"type": "image", "file": str(empty)},
        {"type": "image", "file": str(tmp_path / "absent.png")},
        {"type": "document", "file": str(tmp_path)},
        {"type": "document", "file": "/dev/zero"},
        {"type": "document", "file": str(own)},
        {"type": "document", "file": f"{tmp_path}/../../../../..{own}"},
        {"type": "image", "url": "http://127.0.0.1:1/a.png"},
        {"type": "image", "upload": "0" * 32},
        {"type": "image"},
        {"type": "image", "file": str(text), "url": "https://example.org/a.png"},
    ]
    before = len(line.service.messenger.sent("acme"))
    for content in refused:
        with pytest.raises((UsageError, Forbidden, NotFound)):
            await line.service.messenger.send("acme", f"+{contact}", content, local_files=True)
    with pytest.raises(Forbidden, match="over this interface"):
        await line.service.messenger.send("acme", f"+{contact}", {"type": "image", "file": str(text)})
    assert len(line.service.messenger.sent("acme")) == before
    assert not list(line.service.mailbox.spool.directory.iterdir())


@shares_loop
@pytest.mark.parametrize("kind", ["image", "voice", "document"])
async def test_a_received_file_is_told_and_downloaded(shared_pair: Line, tmp_path: Path, kind: str) -> None:
    """What its sender says of it comes with the message; its bytes when they are asked for, by either address of the
    chat, and nothing of them stays behind."""
    line, (mime_type, body) = shared_pair, KINDS[kind]
    file = tmp_path / "made up.bin"
    file.write_bytes(body)
    sent = await _send(line, line.phones["bolt"], {"type": kind, "file": str(file)})

    def arrived() -> dict[str, Any] | None:
        messages = (data["message"] for data in line.events("bolt", "message"))
        return next((one for one in messages if one["id"] == sent.message_id), None)

    message: dict[str, Any] = await until(arrived, "the message")
    media = message["media"]
    assert (message["type"], media["mime_type"], media["size_bytes"]) == (kind, mime_type, len(body))
    assert media["sha256"] == hashlib.sha256(body).hexdigest()
    messenger = line.service.messenger
    for chat in (message["chat"], "+" + line.phones["acme"]):
        async with messenger.download("bolt", chat, sent.message_id) as download:
            assert b"".join(download.chunks()) == body
            assert (download.mime_type, download.size_bytes) == (mime_type, len(body))
    await until(lambda: not list(line.service.mailbox.spool.directory.iterdir()), "an empty spool")


@shares_loop
async def test_a_download_becomes_a_new_file(shared_pair: Line, tmp_path: Path) -> None:
    """Over the gateway the service writes it; one that is there is not written over, and a message without a file, or
    none, is refused."""
    line, file, target = shared_pair, tmp_path / "a.pdf", tmp_path / "got.pdf"
    file.write_bytes(files.pdf(10_000))
    sent = await _send(line, line.phones["bolt"], {"type": "document", "file": str(file)})
    text = await _send(line, line.phones["bolt"], {"type": "text", "text": "no file"})
    messages = line.events
    await until(
        lambda: (
            {sent.message_id, text.message_id} <= {m["message"]["id"] for m in messages("bolt", "message")}
        ),
        "both messages",
    )
    acme = "+" + line.phones["acme"]
    async with connect(line.service.state.gateway_socket) as client:
        done = await client.download("bolt", acme, sent.message_id, target)
        assert (done.file, done.file_name) == (str(target), "a.pdf")
        assert target.read_bytes() == file.read_bytes()
        assert target.stat().st_mode & 0o777 == 0o600
        with pytest.raises(UsageError, match="cannot be made"):
            await client.download("bolt", acme, sent.message_id, target)
        with pytest.raises(UsageError, match="has no file"):
            await client.download("bolt", acme, text.message_id, tmp_path / "other")
        with pytest.raises(NotFound):
            await client.download("bolt", acme, "3EB000000000", tmp_path / "other")


@shares_loop
async def test_a_file_is_uploaded_once_though_its_message_is_sent_twice(
    shared_pair: Line, contact: str, tmp_path: Path
) -> None:
    """A message that left and was not confirmed before the connection fell is sent again, as what it left as."""
    line, file = shared_pair, tmp_path / "a.pdf"
    file.write_bytes(files.pdf(1_000))
    before = (await line.simulator.ask("GET", "/stats"))["uploads"]
    acme = line.phones["acme"]
    ask, messenger = line.simulator.ask, line.service.messenger
    # Nobody but the server may confirm it, and the server only over the next connection.
    stall = await ask("POST", "/faults", {"kind": "stall", "phone": contact})
    lost = await ask("POST", "/faults", {"kind": "lose-acks", "phone": acme})
    content = {"type": "document", "file": str(file)}
    sent = await messenger.send("acme", f"+{contact}", content, local_files=True)

    def state() -> str:
        return (messenger.message("acme", sent.message_id) or sent).state.word

    await until(lambda: state() == "sending", "its leaving")
    await ask("POST", "/faults", {"kind": "drop", "phone": acme})
    await ask("DELETE", f"/faults/{lost['id']}")
    await until(lambda: state() == "sent", lambda: f"its confirmation, not {state()}")
    await ask("DELETE", f"/faults/{stall['id']}")
    await _at_contact(line, contact, sent.message_id)
    stats = await line.simulator.ask("GET", "/stats")
    assert stats["uploads"] == before + 1


@shares_loop
async def test_the_command_line_sends_shows_and_downloads(shared_pair: Line, tmp_path: Path) -> None:
    """`send --file` tells a file's kind by its bytes; `messages`, `react` and `download` do what they say."""
    line, picture = shared_pair, tmp_path / "picture"
    picture.write_bytes(KINDS["image"][1])
    acme, bolt = ("+" + line.phones[company] for company in ("acme", "bolt"))

    async def told(*args: str) -> Any:
        command = (
            sys.executable,
            "-m",
            "standfast",
            "--state-dir",
            str(line.service.state.path),
            *args,
            "--json",
        )
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, out
        return json.loads(out)

    sent = await told("send", "acme", bolt, "look", "--file", str(picture))
    assert (sent["content"]["type"], sent["content"]["caption"]) == ("image", "look")
    await until(
        lambda: sent["message_id"] in {m["message"]["id"] for m in line.events("bolt", "message")},
        "the picture",
    )
    message_id, got = sent["message_id"], tmp_path / "got"
    shown, done, reaction = await asyncio.gather(
        told("messages", "bolt", "--chat", acme),
        told("download", "bolt", acme, message_id, str(got)),
        told("react", "bolt", acme, message_id, "👍"),
    )
    assert message_id in {one["id"] for one in shown["received"]}
    assert (done["mime_type"], got.read_bytes()) == ("image/png", picture.read_bytes())
    assert reaction["content"] == {"type": "reaction", "to": message_id, "emoji": "👍"}
