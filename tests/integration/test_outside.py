"""HTTP to addresses that callers name, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from standfast.errors import TargetFailed, UsageError
from standfast.messaging.outside import Outside
from standfast.messaging.reach import Reach

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server of bytes on this machine; its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(handle(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports end one turn later


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    made = Outside(Reach("127.0.0.0/8"))
    yield made
    await made.close()


def answering(*answers: bytes, then_wait: bool = False) -> Serve:
    """Answers one request after the other on each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length[0].partition(b":")[2]) if length else 0)
            writer.write(answer)
            await writer.drain()
        if then_wait:
            await asyncio.sleep(30)

    return serve


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_posts_share_a_connection_and_survive_its_end(outside: Outside) -> None:
    """A server that ends its connection after two requests gets the third over a new one."""
    async with serving(answering(OK, OK)) as url:
        assert [await outside.post(url, b"{}", {}, 5.0) for _ in range(5)] == [200] * 5


async def test_a_redirect_is_an_answer_like_any_other(outside: Outside) -> None:
    """It is never followed: a post tells its status, a fetch is refused."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(moved)) as url:
        assert await outside.post(url, b"{}", {}, 5.0) == 302
        with pytest.raises(UsageError, match="redirects are not followed"):
            await outside.fetch(url, 100, 5.0)


async def test_a_server_that_hangs_is_left_in_time(outside: Outside) -> None:
    """Before the status, within the head, and within the body of a fetch."""
    for answer in (b"", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"):
        async with serving(answering(answer, then_wait=True)) as url:
            with pytest.raises(TargetFailed, match="within"):
                await outside.fetch(url, 100, 0.2)
    async with serving(answering(b"", then_wait=True)) as url:
        with pytest.raises(TargetFailed, match="did not answer"):
            await outside.post(url, b"{}", {}, 0.2)


async def test_a_broken_answer_is_a_failure_in_our_words(outside: Outside) -> None:
    """A connection that ends, garbage, and nobody there."""
    for answer in (b"HTTP/1.1 200", b"nonsense\r\n\r\n", b""):
        async with serving(answering(answer)) as url:
            with pytest.raises(TargetFailed, match=r"broke|ended"):
                await outside.post(url, b"{}", {}, 5.0)
    with pytest.raises(TargetFailed, match="cannot be connected"):
        await outside.post(url, b"{}", {}, 5.0)


async def test_an_endless_body_is_not_read_to_its_end(outside: Outside) -> None:
    """A post takes the status and leaves; a fetch stops at its limit, announced or not."""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
            await writer.drain()
            sent += 65_536

    async with serving(endless) as url:
        assert await outside.post(url, b"{}", {}, 5.0) == 200
        with pytest.raises(UsageError, match="larger than 1000000 bytes"):
            await outside.fetch(url, 1_000_000, 5.0)
        assert sent < 20_000_000
    announced = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    async with serving(answering(announced, then_wait=True)) as url:
        with pytest.raises(UsageError, match="larger than"):
            await outside.fetch(url, 1_000, 5.0)


async def test_a_file_is_fetched_with_its_type(outside: Outside) -> None:
    """The bytes as they lie there, and the type without its parameters."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: Image/PNG; charset=x\r\nContent-Length: 3\r\n\r\n\x89PN"
    async with serving(answering(answer)) as url:
        assert await outside.fetch(url, 3, 5.0) == (b"\x89PN", "image/png")
        with pytest.raises(UsageError, match="larger"):
            await outside.fetch(url, 2, 5.0)
