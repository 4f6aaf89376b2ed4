"""Messages with files, without a Node host: how long a file is kept, and what is handed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from standfast.errors import Conflict, SessionNotOpen, UsageError
from standfast.messaging.outgoing import Outgoing
from tests import files
from tests.messaging import ACME, ANNA, Post
from tests.support import until


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    made = Post(tmp_path / "messages")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "a.pdf"
    file.write_bytes(files.pdf(1_000))
    return {"type": "document", "file": str(file), "caption": "look"}


async def send(post: Post, content: dict[str, Any], **more: Any) -> Outgoing:
    return await post.messenger.send(ACME, "+" + ANNA, content, local_files=True, **more)


def spooled(post: Post) -> list[str]:
    return [file.name for file in post.mailbox.spool.directory.iterdir()]


async def test_a_file_waits_with_its_message(post: Post, document: dict[str, Any]) -> None:
    """While the session is away it is in the spool; once WhatsApp has the message it is not."""
    message = await send(post, document)
    assert spooled(post) == [message.content["media"]["spool"]]
    await post.open()
    await until(lambda: spooled(post) == [])
    (content,) = post.host.contents
    assert (content["fileName"], content["mimetype"], content["caption"]) == (
        "a.pdf",
        "application/pdf",
        "look",
    )
    assert content["document"]["sealed"]["path"].endswith(message.content["media"]["spool"])


async def test_a_cancelled_or_expired_message_leaves_no_file(post: Post, document: dict[str, Any]) -> None:
    """Whatever its end was."""
    cancelled = await send(post, document)
    post.messenger.cancel(ACME, cancelled.message_id)
    await send(post, document, lifetime_s=0.05)
    await until(lambda: spooled(post) == [])


async def test_a_file_outlives_a_restart(post: Post, document: dict[str, Any]) -> None:
    """The next run knows which files its messages wait with, and sweeps only others."""
    message = await send(post, document)
    next_run = type(post.messenger.media)(
        post.mailbox.spool,
        post.messenger.media._outside,
        post.mailbox.outgoing.unfinished_messages,
        post.mailbox.written,
    )
    running = asyncio.create_task(next_run.run())
    await until(lambda: next_run._waiting != {})
    assert next_run._waiting == {(ACME, message.message_id): message.content["media"]["spool"]}
    running.cancel()
    assert post.mailbox.spool.sweep(set(next_run._waiting.values()), -1.0) == 0


async def test_what_has_left_is_not_uploaded_again(post: Post, document: dict[str, Any]) -> None:
    """Over the next connection it is handed over as what it left as."""
    await post.open()
    post.host.confirms = False
    message = await send(post, document)
    await until(lambda: len(post.host.contents) == 1)
    await post.mailbox.written()
    post.close_session()
    post.host.confirms = True
    await post.open()
    await until(lambda: len(post.host.contents) == 2)
    assert post.host.contents[1] == {"uploaded": b"\x0a\x01x"}
    assert [one[2] for one in post.host.handed] == [message.message_id] * 2


async def test_a_repeated_request_is_the_same_message(
    post: Post, document: dict[str, Any], tmp_path: Path
) -> None:
    """Its file is not fetched again, and may be gone; another file under the same key is refused."""
    first = await send(post, document, idempotency_key="once")
    await asyncio.to_thread(Path(document["file"]).unlink)
    assert (await send(post, document, idempotency_key="once")).message_id == first.message_id
    with pytest.raises(Conflict):
        await send(post, {**document, "caption": "another"}, idempotency_key="once")
    assert len(spooled(post)) == 1


async def test_nothing_is_fetched_for_a_session_that_will_not_open(
    post: Post, document: dict[str, Any]
) -> None:
    """Or for a reply to nothing: refused before the file is touched."""
    session = post.pool.session(ACME)
    assert session is not None
    with pytest.raises(UsageError):
        await send(post, {**document, "reply_to": "3EB000000000"})
    session.wanted = False
    with pytest.raises(SessionNotOpen):
        await send(post, document)
    assert spooled(post) == []
