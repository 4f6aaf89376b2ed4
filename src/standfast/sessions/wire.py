"""One connection of the gateway protocol (docs/protocol.md), either end.

Owns framing, ids and limits. Invariant: whatever a peer sends, only this connection suffers, and every
request made here ends: with an answer, an error, its deadline, or the connection's end.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec

from standfast.errors import ProtocolError, ServiceUnavailable, StandfastError, from_wire

PROTOCOL_VERSION = 1
_MAX_ID = 2**53 - 1
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may ask of this end."""

    frame_bytes: int = 16 * 1024 * 1024
    in_flight: int = 1024
    unread_bytes: int = 64 * 1024 * 1024


class Frame(msgspec.Struct):
    """Any frame; `params` and `result` stay raw until the method is known."""

    id: int | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class Handler(Protocol):
    """What a connection does with what its peer asks."""

    async def handle(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        """The result of a request, JSON-able (`msgspec.Raw` passes as it is); raises `StandfastError`."""
        ...

    def notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        """Take a notification. Must not block."""
        ...

    def closed(self, connection: Connection) -> None:
        """The connection has ended; called exactly once."""
        ...


_decode = msgspec.json.Decoder(Frame).decode
_encode = msgspec.json.Encoder().encode


class Connection(asyncio.Protocol):
    """One end of one connection; hand the constructor to `create_unix_server` or `create_unix_connection`."""

    def __init__(self, handler: Handler, limits: Limits | None = None) -> None:
        self._handler = handler
        self.limits = limits or Limits()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._scanned = 0
        self._next_id = 0
        self._answers: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._paused = False
        self._ended = False
        self.role: str | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._ended

    @property
    def is_serving(self) -> bool:
        return bool(self._serving)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface and not the base class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ServiceUnavailable("the connection ended before the answer came"))
        self._answers.clear()
        # Requests being served go on to their end: a batch that arrived whole is applied whole.
        self._handler.closed(self)

    def close(self) -> None:
        """End the connection after what is already written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read_frames()

    def _read_frames(self) -> None:
        buffer, start = self._buffer, 0
        while not self._paused and not self._ended:
            end = buffer.find(b"\n", max(start, self._scanned))
            if end < 0:
                self._scanned = len(buffer)
                if len(buffer) - start > self.limits.frame_bytes:
                    self._fail(f"a frame is larger than {self.limits.frame_bytes} bytes")
                break
            if end - start > self.limits.frame_bytes:
                self._fail(f"a frame is larger than {self.limits.frame_bytes} bytes")
                break
            self._take(bytes(buffer[start:end]))
            start = end + 1
        if start:
            del buffer[:start]
            self._scanned = max(0, self._scanned - start)

    def _take(self, line: bytes) -> None:
        try:
            frame = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._fail("a frame is not a JSON object of the protocol's form")
            return
        if frame.id is not None and not 0 <= frame.id <= _MAX_ID:
            self._fail("a frame's id is not an integer from 0 to 2^53-1")
        elif frame.method is None:
            self._take_answer(frame)
        elif frame.id is None:
            self._handler.notified(self, frame.method, frame.params)
        else:
            self._serve(frame.id, frame.method, frame.params)

    def _serve(self, request_id: int, method: str, params: msgspec.Raw) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(request_id, method, params))
        self._serving.add(task)
        task.add_done_callback(self._served)
        if len(self._serving) >= self.limits.in_flight:
            self._pause()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if self._paused and len(self._serving) < self.limits.in_flight // 2:
            self._resume()

    async def _answer(self, request_id: int, method: str, params: msgspec.Raw) -> None:
        try:
            result = await self._handler.handle(self, method, params)
            frame = _encode({"id": request_id, "result": result})
        except StandfastError as error:
            frame = _encode({"id": request_id, "error": error.as_wire()})
        except Exception as error:
            # A defect of ours must not leave the client waiting; its text may hold values, so it stays here.
            log.exception("request %s failed unexpectedly", method)
            wire = StandfastError(f"{method} failed: {type(error).__name__}").as_wire()
            frame = _encode({"id": request_id, "error": wire})
        self._write(frame)

    def _take_answer(self, frame: Frame) -> None:
        answer = self._answers.pop(frame.id, None) if frame.id is not None else None
        if frame.error is not msgspec.UNSET:
            error = from_wire(frame.error)
            if answer is None:
                log.warning("the peer reported an error: %s: %s", error.code, error.message)
            elif not answer.done():
                answer.set_exception(error)
        elif answer is not None and not answer.done():
            answer.set_result(msgspec.Raw(b"null") if frame.result is msgspec.UNSET else frame.result)

    def _fail(self, message: str) -> None:
        log.warning("connection of role %s cut off: %s", self.role, message)
        self._write(_encode({"id": None, "error": ProtocolError(message).as_wire()}))
        self._buffer.clear()
        self._scanned = 0
        self.close()
        if self._transport is not None:
            self._transport.pause_reading()
        self._paused = True

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._paused = False
        self._transport.resume_reading()
        self._read_frames()

    def _write(self, frame: bytes) -> None:
        if self._transport is None or self._ended or self._transport.is_closing():
            return
        self._transport.write(frame + b"\n")
        if self._transport.get_write_buffer_size() > self.limits.unread_bytes:
            log.warning("connection of role %s cut off: the peer does not read its answers", self.role)
            self._transport.abort()

    def notify(self, method: str, params: Any) -> None:
        """Send a notification; lost without a word if the connection has ended."""
        self._write(_encode({"method": method, "params": params}))

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw:
        """The peer's raw result. Raises the peer's error as its class, or `ServiceUnavailable` after
        `timeout_s` seconds or when the connection ends."""
        if not self.is_open:
            raise ServiceUnavailable(f"cannot ask for {method}: the connection has ended")
        request_id, self._next_id = self._next_id, self._next_id + 1
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        self._write(_encode({"id": request_id, "method": method, "params": params}))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise ServiceUnavailable(f"no answer to {method} within {timeout_s:g} s") from None
        finally:
            self._answers.pop(request_id, None)

    async def drained(self, timeout_s: float) -> None:
        """Wait until every request being served has been answered, at most `timeout_s` seconds."""
        if self._serving:
            await asyncio.wait(set(self._serving), timeout=timeout_s)
