"""`Outside`: HTTP to addresses that callers name: webhooks, and media by URL.

Invariant: nothing is connected to but what `Reach` permits, no redirect is followed, and no answer takes longer, or
more memory, than was granted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any, NamedTuple

import httpcore
import httpx

from standfast.errors import StandfastError, TargetFailed, UsageError
from standfast.messaging.reach import IPAddress, Reach, Target

USER_AGENT = f"standfast/{version('standfast')}"
CONNECT_TIMEOUT_S = 5.0
# An acknowledgement is its status; a body of this size or less is read so that the connection can serve again.
_ANSWER_BYTES = 65_536
_IDLE_EACH = 16
_IDLE_S = 20.0
_GONE = (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError)
_SockOptions = Iterable[Any] | None


class Fetched(NamedTuple):
    """What lay at a URL; `mime_type` as its server named it, without parameters."""

    body: bytes
    mime_type: str


class _Guarded(httpcore.AnyIOBackend):
    """Connects to what it has judged: the name is looked up here, once, and never again by anybody."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: _SockOptions = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception | None = None
        for address in self._reach.permitted(host, await _addresses(host, port)):
            try:
                return await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError("no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: _SockOptions = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("not outside")


class Outside:
    """One for the whole service. `close()` ends its idle connections."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self._backend = _Guarded(reach)
        self._tls: ssl.SSLContext | None = None
        self._swept_at = time.monotonic()
        self._idle: dict[str, list[httpcore.AsyncHTTPConnection]] = {}

    async def close(self) -> None:
        """Give idle connections back."""
        idle, self._idle = self._idle, {}
        for connection in [one for each in idle.values() for one in each]:
            await _end(connection)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> int:
        """The status that `url` answered with; its body is of no interest. Raises `TargetFailed` where there was none
        in time, and `UsageError` for an address that may not be reached."""
        target = self.reach.check_url(url)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._posted(target, body, headers)
        except TimeoutError:
            raise TargetFailed(f"{target.origin} did not answer within {timeout_s:g} s") from None

    async def fetch(self, url: str, max_bytes: int, timeout_s: float) -> Fetched:
        """What lies at `url`. Raises `TargetFailed` where it cannot be had in time, and `UsageError` where it is larger
        than `max_bytes`, was moved, or may not be reached."""
        target = self.reach.check_url(url)
        connection = self._connection(target)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchange(connection, target, "GET", None, {"Accept": "*/*"})
                _check_answer(answer, target, max_bytes)
                body = await _read(answer, max_bytes)
        except TimeoutError:
            raise TargetFailed(f"{target.origin} did not hand over within {timeout_s:g} s") from None
        except (httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException) as error:
            raise _failed(target, error) from error
        finally:
            await _end(connection)
        if body is None:
            raise UsageError(f"what lies at {target.origin} is larger than {max_bytes} bytes")
        return Fetched(body, _mime_type(answer))

    async def _posted(self, target: Target, body: bytes, headers: Mapping[str, str]) -> int:
        connection = await self._take_idle(target.origin)
        if connection is not None:
            try:
                return await self._post_over(connection, target, body, headers)
            except _GONE:
                pass  # its server ended it between two requests: that says nothing of the next connection
        try:
            return await self._post_over(self._connection(target), target, body, headers)
        except (httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException) as error:
            raise _failed(target, error) from error

    async def _post_over(
        self,
        connection: httpcore.AsyncHTTPConnection,
        target: Target,
        body: bytes,
        headers: Mapping[str, str],
    ) -> int:
        reusable = False
        try:
            answer = await self._exchange(connection, target, "POST", body, headers)
            with suppress(httpcore.ProtocolError, httpcore.NetworkError, TimeoutError):
                async with asyncio.timeout(1.0):
                    reusable = await _read(answer, _ANSWER_BYTES) is not None
            return int(answer.status)
        finally:
            if not (reusable and connection.is_idle() and await self._keep(target, connection)):
                await _end(connection)

    async def _exchange(
        self,
        connection: httpcore.AsyncHTTPConnection,
        target: Target,
        method: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> httpcore.Response:
        own: dict[bytes | str, bytes | str] = {
            "Host": target.authority,
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
        }
        own.update(headers)
        if body is not None:
            own["Content-Length"] = str(len(body))
        wanted = httpcore.URL(
            scheme=target.scheme, host=target.host, port=target.port, target=target.path.encode()
        )
        request = httpcore.Request(
            method,
            wanted,
            headers=own,
            content=body,
            extensions={"timeout": {"connect": CONNECT_TIMEOUT_S}},
        )
        return await connection.handle_async_request(request)

    def _connection(self, target: Target) -> httpcore.AsyncHTTPConnection:
        if target.scheme == "https" and self._tls is None:
            self._tls = httpx.create_ssl_context()
            self._tls.load_default_certs()  # beside the shipped list: a company's own authorities
        return httpcore.AsyncHTTPConnection(
            _origin(target), ssl_context=self._tls, keepalive_expiry=_IDLE_S, network_backend=self._backend
        )

    async def _take_idle(self, origin: str) -> httpcore.AsyncHTTPConnection | None:
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            if connection.is_idle() and not connection.has_expired():
                return connection
            await _end(connection)
        return None

    async def _keep(self, target: Target, connection: httpcore.AsyncHTTPConnection) -> bool:
        await self._sweep()
        idle = self._idle.setdefault(target.origin, [])
        if len(idle) >= _IDLE_EACH:
            return False
        idle.append(connection)
        return True

    async def _sweep(self) -> None:
        now = time.monotonic()
        if now < self._swept_at + _IDLE_S:
            return
        self._swept_at = now
        for origin, idle in list(self._idle.items()):
            for connection in [one for one in idle if one.has_expired()]:
                idle.remove(connection)
                await _end(connection)
            if not self._idle.get(origin):
                self._idle.pop(origin, None)


async def _end(connection: httpcore.AsyncHTTPConnection) -> None:
    with suppress(Exception):
        await asyncio.wait_for(connection.aclose(), 1.0)


def _origin(target: Target) -> httpcore.Origin:
    return httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)


async def _addresses(host: str, port: int) -> list[IPAddress]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise httpcore.ConnectTimeout("its name was not resolved in time") from None
    except OSError:
        raise httpcore.ConnectError("its name cannot be resolved") from None
    return [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]


def _check_answer(answer: httpcore.Response, target: Target, max_bytes: int) -> None:
    if 300 <= answer.status < 400:
        raise UsageError(
            f"{target.origin} answered {answer.status}: redirects are not followed",
            next_step="Give the URL where it lies now.",
        )
    if answer.status != 200:
        message = f"{target.origin} answered {answer.status}"
        raise TargetFailed(message) if answer.status >= 500 else UsageError(message)
    if _header(answer, b"content-encoding") not in ("", "identity"):
        raise UsageError(f"{target.origin} sends it compressed, though it was asked not to")
    length = _header(answer, b"content-length")
    if length.isdigit() and int(length) > max_bytes:
        raise UsageError(f"what lies at {target.origin} is larger than {max_bytes} bytes")


async def _read(answer: httpcore.Response, max_bytes: int) -> bytes | None:
    """The body; None where it is larger, the rest of it unread."""
    assert isinstance(answer.stream, AsyncIterable)
    body = bytearray()
    async for chunk in answer.stream:
        body += chunk
        if len(body) > max_bytes:
            return None
    await answer.aclose()
    return bytes(body)


def _header(answer: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in answer.headers if key.lower() == name), "")


def _mime_type(answer: httpcore.Response) -> str:
    return _header(answer, b"content-type").partition(";")[0].strip().lower() or "application/octet-stream"


def _failed(target: Target, error: Exception) -> StandfastError:
    if isinstance(error, httpcore.ConnectTimeout):
        what = f"did not take a connection within {CONNECT_TIMEOUT_S:g} s"
    elif isinstance(error, httpcore.ConnectError):
        what = "cannot be connected to"
    elif isinstance(error, httpcore.ProtocolError):
        what = "broke the HTTP protocol"
    else:
        what = "ended the connection before it had answered"
    return TargetFailed(f"{target.origin} {what}")
