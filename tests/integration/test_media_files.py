"""Files that are to be sent, in the spool: real files, a real server, no session."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from standfast.errors import JournalUnwritable, NotFound, TargetFailed, UsageError
from standfast.messaging.file_types import MIB
from standfast.messaging.media import MediaFiles, MediaOptions
from standfast.messaging.outside import Outside
from standfast.messaging.reach import Reach
from standfast.messaging.spool import Spool
from standfast.vault.storage.cipher import Unreadable
from tests import files


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    made.open()
    return made


@pytest.fixture
async def media(spool: Spool) -> AsyncIterator[MediaFiles]:
    outside = Outside(Reach("127.0.0.1/32"))

    async def written() -> None: ...

    yield MediaFiles(spool, outside, tuple, written, MediaOptions(2 * MIB))
    await outside.close()


def left(spool: Spool) -> list[str]:
    return [file.name for file in spool.directory.iterdir()]


def plain(spool: Spool, content: dict[str, Any]) -> bytes:
    fetched = content["media"]
    return b"".join(spool.read(fetched["spool"], bytes.fromhex(fetched["key"])))


@pytest.fixture
async def served() -> AsyncIterator[dict[str, Any]]:
    """A server at `origin` that answers with `body`."""
    answer: dict[str, Any] = {"body": b"", "status": "200 OK"}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = (
            f"HTTP/1.1 {answer['status']}",
            "Content-Type: text/html",
            f"Content-Length: {len(answer['body'])}",
        )
        writer.write("\r\n".join((*lines, "", "")).encode() + answer["body"])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    answer["origin"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield answer
    server.close()


async def test_a_file_by_url_is_fetched_once_and_judged_by_its_bytes(
    media: MediaFiles, spool: Spool, served: dict[str, Any]
) -> None:
    """Whatever its server calls it; its name is that of the URL's path."""
    served["body"] = body = files.pdf(1_000_000)
    content = {"type": "document", "url": f"{served['origin']}/a/made%20up.pdf?token=x"}
    fetched = await media.fetched(content, local_files=False)
    told = fetched["media"]
    assert (told["mime_type"], told["size_bytes"]) == ("application/pdf", len(body))
    assert (told["file_name"], told["sha256"]) == ("made up.pdf", hashlib.sha256(body).hexdigest())
    assert plain(spool, fetched) == body
    media.discard(fetched)
    assert left(spool) == []


async def test_what_lies_at_a_url_may_be_too_large_moved_or_away(
    media: MediaFiles, spool: Spool, served: dict[str, Any]
) -> None:
    """Each is refused, and leaves nothing."""
    content = {"type": "document", "url": served["origin"] + "/a"}
    served["body"] = bytes(2 * MIB + 1)
    with pytest.raises(UsageError, match="larger than"):
        await media.fetched(content, local_files=False)
    served |= {"body": b"x", "status": "302 Found"}
    with pytest.raises((UsageError, TargetFailed)):
        await media.fetched(content, local_files=False)
    served["status"] = "500 Oops"
    with pytest.raises(TargetFailed):
        await media.fetched(content, local_files=False)
    assert left(spool) == []


async def test_an_upload_is_sent_once(media: MediaFiles, spool: Spool) -> None:
    """By its id; a second time it is not there, and one that is too large never was."""

    async def chunks(count: int) -> AsyncIterator[bytes]:
        yield files.pdf(10)
        for _ in range(count):
            yield bytes(MIB)

    content = {"type": "document", "upload": await media.upload(chunks(1)), "file_name": "up.pdf"}
    fetched = await media.fetched(content, local_files=False)
    assert fetched["media"]["size_bytes"] == MIB + 19
    with pytest.raises(NotFound):
        await media.fetched(content, local_files=False)
    with pytest.raises(UsageError, match="too large"):
        await media.upload(chunks(3))
    assert len(left(spool)) == 1


async def test_a_file_that_grows_beyond_the_limit_is_refused(
    media: MediaFiles, spool: Spool, tmp_path: Path
) -> None:
    """By what was read, and nothing is left."""
    file = tmp_path / "large"
    file.write_bytes(bytes(2 * MIB + 1))
    with pytest.raises(UsageError, match="document may have 2 MiB"):
        await media.fetched({"type": "document", "file": str(file)}, local_files=True)
    assert left(spool) == []


async def test_a_changed_file_is_unreadable(spool: Spool) -> None:
    """A flipped bit, another key, or a missing end shows at the latest when all was read."""
    spooled = await spool.put((files.pdf(500_000),), 2**20)
    path, key = spool.path(spooled.name), spooled.key
    body = path.read_bytes()
    for damaged in (body[:-1], body[:400] + bytes([body[400] ^ 1]) + body[401:], body[:10]):
        path.write_bytes(damaged)
        with pytest.raises(Unreadable):
            b"".join(spool.read(spooled.name, key))
    path.write_bytes(body)
    with pytest.raises(Unreadable):
        b"".join(spool.read(spooled.name, bytes(32)))


async def test_what_nobody_needs_is_swept(spool: Spool) -> None:
    """Old files that no message waits with go; young ones, and those that are needed, stay."""
    kept, old, young = [await spool.put((b"x",), 10) for _ in range(3)]
    long_ago = time.time() - 7_200
    for one in (kept, old):
        os.utime(spool.path(one.name), (long_ago, long_ago))
    assert spool.sweep({kept.name}, 3_600.0) == 1
    assert set(left(spool)) == {kept.name, young.name}


async def test_a_spool_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """As the error of a disk that does not take messages; there is no half of a file."""
    spool = Spool(tmp_path / "absent")
    with pytest.raises(JournalUnwritable, match="files cannot be kept"):
        await spool.put((b"x",), 10)
