"""`Link`: a client's connection to the service, made anew once it was lost.

Invariant: a request is asked once, over one connection; what was lost with that is the caller's to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from standfast import __version__
from standfast.errors import ServiceUnavailable, StandfastError, StateDirectoryError
from standfast.sessions.wire import PROTOCOL_VERSION, Connection
from standfast.state_dir import StateDirectory

CONNECT_TIMEOUT_S = 5.0


class Listener(Protocol):
    """Who takes what the service tells without being asked. Must not block."""

    def notified(self, method: str, params: msgspec.Raw) -> None: ...

    def lost(self) -> None:
        """The connection over which it was subscribed has ended."""
        ...


class Link:
    """`request` connects by itself; `close` is for good. Listeners are held weakly."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self.is_closed = False
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._subscribed: Connection | None = None

    async def open(self) -> Connection:
        """The connection; made if there is none. `ServiceUnavailable` within 5 s where no service answers."""
        if self.is_closed:
            raise ServiceUnavailable("this client is closed", next_step="Use 'async with connect()'.")
        if self._connection is not None and self._connection.is_open:
            return self._connection  # at once: requests leave in the order in which they are asked
        async with self._opening:
            if self._connection is None or not self._connection.is_open:
                self._connection = await self._connect()
        return self._connection

    async def request(self, method: str, params: Mapping[str, Any], timeout_s: float) -> msgspec.Raw:
        """The raw result; raises the service's error as its class."""
        return await (await self.open()).request(method, dict(params), timeout_s=timeout_s)

    async def listen(self, listener: Listener, timeout_s: float) -> None:
        """Have the service tell `listener` of its events, from when this is called."""
        connection = await self.open()
        self._listeners.add(listener)
        if self._subscribed is not connection:
            self._subscribed = connection
            try:
                await connection.request("events.subscribe", {}, timeout_s=timeout_s)
            except BaseException:
                if self._subscribed is connection:
                    self._unsubscribed()
                raise

    def unlisten(self, listener: Listener) -> None:
        """Tell `listener` of nothing more."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """End the connection; nothing can be asked any more."""
        self.is_closed = True
        if self._connection is not None:
            self._connection.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_unix_connection(lambda: Connection(self), str(self.socket))
        except (OSError, TimeoutError) as error:
            raise ServiceUnavailable(
                f"no service answers at {self.socket}", next_step=_beside(self.socket)
            ) from error
        hello = {
            "protocol": PROTOCOL_VERSION,
            "role": "operator",
            "client": f"standfast-python/{__version__}",
        }
        try:
            await connection.request("hello", hello, timeout_s=CONNECT_TIMEOUT_S)
        except BaseException:
            connection.close()
            raise
        return connection

    async def handle(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        """See `wire.Handler`: the service asks nothing of operators."""
        raise StandfastError(f"an operator's client does not serve {method[:60]!r}")

    def notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        """See `wire.Handler`."""
        for listener in tuple(self._listeners):
            listener.notified(method, params)

    def closed(self, connection: Connection) -> None:
        """See `wire.Handler`."""
        if connection is self._subscribed:
            self._unsubscribed()

    def _unsubscribed(self) -> None:
        self._subscribed = None
        for listener in tuple(self._listeners):
            listener.lost()


def _beside(path: Path) -> str | None:
    """The next step where the one that runs is `standfast up --simulator`, which keeps a directory of its own."""
    simulated = StateDirectory(path.parent / "simulator")
    with contextlib.suppress(StateDirectoryError):
        if simulated.holder() is not None:
            return f"One with the simulator runs: name it with '--state-dir {simulated.path}'; or 'standfast up'."
    return None
