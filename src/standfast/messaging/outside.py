"""`Outside`: HTTP to addresses that callers name: webhooks, and media by URL.

Invariant: nothing is connected to but what `Reach` permits, no redirect is followed, and no answer takes longer, or
more memory, than was granted.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from standfast.errors import StandfastError, TargetFailed, UsageError
from standfast.messaging.reach import IPAddress, Reach, Target

USER_AGENT = f"standfast/{version('standfast')}"
CONNECT_TIMEOUT_S = 5.0
# An acknowledgement is its status; a body of this size or less is read so that the connection can serve again.
_ANSWER_BYTES = 65_536
_ANSWER_TIMEOUT_S = 1.0
_IDLE_S = 20.0


class Fetched(NamedTuple):
    """What lay at a URL; `mime_type` as its server named it, without parameters."""

    body: bytes
    mime_type: str


class _Judge(AbstractResolver):
    """Looks a name up once, for the very connection that is made, and hands out only what may be connected to."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._granted: set[IPAddress] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        permitted = self._reach.permitted(host, await _addresses(host, port))
        self._granted.update(permitted)
        return [_resolved(host, port, address) for address in permitted]

    async def close(self) -> None:
        self._granted.clear()

    def open_socket(self, info: Any) -> socket.socket:
        """The net below: a socket for an address that nobody has judged is never made."""
        family, kind, protocol, _, address = info
        found = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if found not in self._granted and not self._reach.is_permitted(found):
            raise PermissionError(errno.EACCES, "not an address outside")
        return socket.socket(family, kind, protocol)


class Outside:
    """One for the whole service. `close()` ends its connections."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Give idle connections back."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> int:
        """The status that `url` answered with; its body is of no interest. Raises `TargetFailed` where there was none
        in time, and `UsageError` for an address that may not be reached."""
        target, way = self.reach.check_url(url), {"reused": False}
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._post(target, body, headers, way)
                except aiohttp.ClientConnectionError:
                    if not way["reused"]:
                        raise
                # Its server ended the connection between two requests: that says nothing of the next one.
                return await self._post(target, body, headers, way)
        except aiohttp.ClientError as error:
            raise _failed(target, error) from error
        except TimeoutError:
            raise TargetFailed(f"{target.origin} did not answer within {timeout_s:g} s") from None

    async def fetch(self, url: str, max_bytes: int, timeout_s: float) -> Fetched:
        """What lies at `url`. Raises `TargetFailed` where it cannot be had in time, and `UsageError` where it is larger
        than `max_bytes`, was moved, or may not be reached."""
        target = self.reach.check_url(url)
        try:
            async with asyncio.timeout(timeout_s), await self._request("GET", target, {}) as answer:
                _check_answer(answer, target, max_bytes)
                body = await _read(answer, max_bytes)
                answer.close()
        except aiohttp.ClientError as error:
            raise _failed(target, error) from error
        except TimeoutError:
            raise TargetFailed(f"{target.origin} did not hand over within {timeout_s:g} s") from None
        if body is None:
            raise UsageError(f"what lies at {target.origin} is larger than {max_bytes} bytes")
        return Fetched(body, _mime_type(answer))

    async def _post(
        self, target: Target, body: bytes, headers: Mapping[str, str], way: dict[str, bool]
    ) -> int:
        async with await self._request("POST", target, headers, data=body, trace_request_ctx=way) as answer:
            read = None
            with suppress(aiohttp.ClientError, TimeoutError):
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    read = await _read(answer, _ANSWER_BYTES)
            if read is None:
                answer.close()
            return int(answer.status)

    async def _request(self, method: str, target: Target, headers: Mapping[str, str], **more: Any) -> Any:
        session = self._session or await self._open()
        path, _, query = target.path.partition("?")
        url = yarl.URL.build(
            scheme=target.scheme,
            host=target.host,
            port=target.port,
            path=path,
            query_string=query,
            encoded=True,
        )
        return session.request(method, url, headers=headers, allow_redirects=False, **more)

    async def _open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                # In a thread: reading the list of authorities takes a tenth of a second.
                self._session = self._made(await asyncio.to_thread(_authorities))
            return self._session

    def _made(self, authorities: ssl.SSLContext) -> aiohttp.ClientSession:
        judge = _Judge(self.reach)
        connector = aiohttp.TCPConnector(
            resolver=judge,
            socket_factory=judge.open_socket,
            use_dns_cache=False,
            ssl=authorities,
            limit=0,  # who asks has bounds of his own
            keepalive_timeout=_IDLE_S,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            trace_configs=[_noting_reuse()],
        )


@cache
def _authorities() -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=True)
    context.load_default_certs()  # beside the shipped list: a company's own authorities
    return context


def _noting_reuse() -> aiohttp.TraceConfig:
    async def reused(_session: Any, context: Any, _params: Any) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx["reused"] = True

    async def created(_session: Any, context: Any, _params: Any) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx["reused"] = False

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(reused)
    config.on_connection_create_start.append(created)
    return config


async def _addresses(host: str, port: int) -> list[IPAddress]:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]


def _resolved(host: str, port: int, address: IPAddress) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=str(address),
        port=port,
        family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST,
    )


def _check_answer(answer: aiohttp.ClientResponse, target: Target, max_bytes: int) -> None:
    if 300 <= answer.status < 400:
        raise UsageError(
            f"{target.origin} answered {answer.status}: redirects are not followed",
            next_step="Give the URL where it lies now.",
        )
    if answer.status != 200:
        message = f"{target.origin} answered {answer.status}"
        raise TargetFailed(message) if answer.status >= 500 else UsageError(message)
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UsageError(f"{target.origin} sends it compressed, though it was asked not to")
    if answer.content_length is not None and answer.content_length > max_bytes:
        raise UsageError(f"what lies at {target.origin} is larger than {max_bytes} bytes")


async def _read(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes | None:
    """The body; None where it is larger, the rest of it unread."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


def _mime_type(answer: aiohttp.ClientResponse) -> str:
    named = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return named or "application/octet-stream"


def _failed(target: Target, error: aiohttp.ClientError) -> StandfastError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        what = f"did not take a connection within {CONNECT_TIMEOUT_S:g} s"
    elif isinstance(error, aiohttp.ClientSSLError):
        what = "has no certificate that can be trusted"
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        what = "cannot be found: its name is not known"
    elif isinstance(error, aiohttp.ClientConnectorError):
        what = "cannot be connected to"
    elif isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
        what = "ended the connection before it had answered"
    else:
        what = "broke the HTTP protocol"
    return TargetFailed(f"{target.origin} {what}")
