"""The gateway: the Unix socket through which Baileys clients, the Node host and operators reach Standfast.

Owns the socket file, the handshake and which connection holds which company. Invariant: a company's auth
state is answered to the one connection that opened it, and to nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from standfast.authstate.company import Company, company_id
from standfast.authstate.store import AuthStore
from standfast.errors import CompanyInUse, ProtocolError, StandfastError, StateDirectoryError
from standfast.sessions.wire import PROTOCOL_VERSION, Connection, Limits

log = structlog.get_logger(__name__)
HELLO_TIMEOUT_S = 5.0
LAST_REQUESTS_TIMEOUT_S = 30.0
_NULL = b"null"


class Hello(msgspec.Struct):
    """Params of the first request."""

    protocol: int
    role: str
    client: str = "unknown"
    token: str = ""


class Opening(msgspec.Struct):
    """Params of `auth.open`. `client` is one client's own word, the same at each of its openings."""

    company: str
    pair: bool = False
    client: str = ""


class Named(msgspec.Struct):
    """Params that name a company and nothing else."""

    company: str


class Creds(msgspec.Struct):
    """Params of `creds.create` and `creds.save`."""

    company: str
    creds: msgspec.Raw


class KeysGet(msgspec.Struct):
    """Params of `keys.get`."""

    company: str
    type: str
    ids: list[str]


class KeysSet(msgspec.Struct):
    """Params of `keys.set`."""

    company: str
    data: dict[str, dict[str, msgspec.Raw]]


class HostPort(Protocol):
    """Who runs the Node hosts: told when one arrives, speaks or leaves."""

    def host_attached(self, token: str, connection: Connection) -> bool:
        """Whether the token is that of a host that was started here."""
        ...

    def host_notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        """A host's notification."""
        ...

    async def host_asked(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        """Answer a host's request that is not about auth state."""
        ...

    def host_detached(self, connection: Connection) -> None:
        """A host's connection has ended."""
        ...


OperatorMethod = Callable[[Connection, msgspec.Raw], Awaitable[Any]]


class Gateway:
    """Serves the protocol at `path`. `start()` listens, `stop()` leaves no socket file behind."""

    def __init__(self, path: Path, store: AuthStore, service: str, limits: Limits | None = None) -> None:
        self.path = path
        self._store = store
        self._service = service
        self._limits = limits or Limits()
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._holders: dict[Company, Connection] = {}
        self._clients: dict[Company, str] = {}
        self._revoked: dict[Connection, dict[Company, StandfastError]] = {}
        self._releasing: set[asyncio.Task[None]] = set()
        self._hosts: HostPort | None = None
        self._operator: Mapping[str, OperatorMethod] = {}
        self._operator_gone: Callable[[Connection], None] = lambda _connection: None
        self._auth: dict[str, tuple[Any, Callable[[Connection, Any], Awaitable[Any]]]] = {
            "keys.get": (_decoder(KeysGet), self._keys_get),
            "keys.set": (_decoder(KeysSet), self._keys_set),
            "creds.save": (_decoder(Creds), self._creds_save),
            "creds.create": (_decoder(Creds), self._creds_create),
            "auth.open": (_decoder(Opening), self._open),
            "auth.close": (_decoder(Named), self._close),
            "keys.clear": (_decoder(Named), self._keys_clear),
        }

    def serve_hosts(self, hosts: HostPort) -> None:
        """Hand host connections to `hosts`."""
        self._hosts = hosts

    def serve_operators(
        self, methods: Mapping[str, OperatorMethod], gone: Callable[[Connection], None]
    ) -> None:
        """Answer operators' methods; `gone` is told when an operator's connection ends."""
        self._operator = methods
        self._operator_gone = gone

    async def start(self) -> None:
        """Listen. Raises `StateDirectoryError` where the socket cannot be made."""
        if len(os.fsencode(self.path)) > 100:
            raise StateDirectoryError(
                f"the gateway's socket path has more than 100 bytes: {self.path}",
                next_step="Choose a state directory with a shorter path (STANDFAST_STATE_DIR).",
            )
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The state directory's lock says that no other service lives here: what lies there is stale.
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(self.path.lstat().st_mode):
                    self.path.unlink()
            sock.bind(str(self.path))
            # Before listen(): nobody can connect while the mode is still the umask's.
            self.path.chmod(0o600)
        except OSError as error:
            sock.close()
            raise StateDirectoryError(
                f"cannot make the gateway socket {self.path}: {error.strerror}"
            ) from error
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._connect, sock=sock, backlog=256)

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Answer what is being served (at most `timeout_s`), then end every connection."""
        if self._server is not None:
            self._server.close()
        connections = list(self._connections)
        await asyncio.gather(*(connection.drained(timeout_s) for connection in connections))
        for connection in connections:
            connection.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def holder_role(self, company: Company) -> str | None:
        """The role of the connection that holds `company`, or None."""
        holder = self._holders.get(company)
        return holder.role if holder else None

    def revoke(self, company: Company, error: StandfastError) -> str | None:
        """The company has another owner: whoever holds it loses it at once, is told `auth.lost`, and hears `error`
        whenever it asks again. The role of who held it, or None."""
        holder = self._holders.get(company)
        if holder is None:
            return None
        if holder.is_open:
            self._revoked.setdefault(holder, {})[company] = error
        holder.notify("auth.lost", {"company": company, "error": error.as_wire()})
        self._give_back(holder, company)
        return holder.role

    def _connect(self) -> Connection:
        connection = Connection(self, self._limits)
        self._connections.add(connection)
        asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self._expect_hello, connection)
        return connection

    def _expect_hello(self, connection: Connection) -> None:
        if connection.role is None and connection in self._connections:
            log.warning("connection cut off", reason=f"no hello within {HELLO_TIMEOUT_S:g} s")
            connection.close()

    async def handle(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        """Answer one request; see docs/protocol.md."""
        if connection.role is None:
            return self._hello(connection, method, params)
        entry = self._auth.get(method)
        if entry is not None and connection.role != "operator":
            decode, serve = entry
            return await serve(connection, _params(decode, params, method))
        if connection.role == "host" and self._hosts is not None:
            return await self._hosts.host_asked(connection, method, params)
        operator = self._operator.get(method) if connection.role == "operator" else None
        if operator is None:
            raise ProtocolError(f"there is no method {method[:60]!r} for the role {connection.role!r}")
        return await operator(connection, params)

    def notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        """Notifications come from hosts only; any other is ignored."""
        if connection.role == "host" and self._hosts is not None:
            self._hosts.host_notified(connection, method, params)

    def closed(self, connection: Connection) -> None:
        """Forget the connection; what it held is given back once its last request has been served."""
        self._connections.discard(connection)
        self._revoked.pop(connection, None)
        if connection.is_serving:
            release = asyncio.get_running_loop().create_task(self._release_when_served(connection))
            self._releasing.add(release)
            release.add_done_callback(self._releasing.discard)
        else:
            self._release(connection)
        if connection.role == "host" and self._hosts is not None:
            self._hosts.host_detached(connection)
        elif connection.role == "operator":
            self._operator_gone(connection)

    async def _release_when_served(self, connection: Connection) -> None:
        # A batch that was still on its way to PostgreSQL must not land behind the next holder's reads.
        await connection.drained(LAST_REQUESTS_TIMEOUT_S)
        self._release(connection)

    def _release(self, connection: Connection) -> None:
        for company in list(self._holders):
            self._give_back(connection, company)

    def _hello(self, connection: Connection, method: str, params: msgspec.Raw) -> dict[str, Any]:
        try:
            if method != "hello":
                raise ProtocolError("the first request must be 'hello'")
            hello: Hello = _params(_decoder(Hello), params, method)
            self._admit(connection, hello)
        except ProtocolError:
            asyncio.get_running_loop().call_soon(connection.close)
            raise
        connection.role = hello.role
        return {
            "protocol": PROTOCOL_VERSION,
            "service": self._service,
            "limits": {"frame_bytes": self._limits.frame_bytes, "in_flight": self._limits.in_flight},
        }

    def _admit(self, connection: Connection, hello: Hello) -> None:
        if hello.protocol != PROTOCOL_VERSION:
            raise ProtocolError(
                f"this service speaks protocol {PROTOCOL_VERSION}, the client {hello.protocol}",
                next_step="Update the older of the two: service or bridge.",
            )
        if hello.role not in ("auth-state", "host", "operator"):
            raise ProtocolError("the role must be 'auth-state', 'host' or 'operator'")
        if hello.role == "host" and not (self._hosts and self._hosts.host_attached(hello.token, connection)):
            raise ProtocolError("the host's token is not that of a host started by this service")

    def _held(self, connection: Connection, company: str) -> Company:
        held = Company(company)
        if self._holders.get(held) is not connection:
            self._refuse_revoked(connection, held)
            raise CompanyInUse(
                f"this connection does not hold the company {company[:50]!r}",
                next_step="Call auth.open first.",
            )
        return held

    def _refuse_revoked(self, connection: Connection, company: Company) -> None:
        error = self._revoked.get(connection, {}).get(company)
        if error is not None:
            raise error

    async def _open(self, connection: Connection, params: Opening) -> dict[str, Any]:
        company = company_id(params.company)
        holder = self._holders.get(company)
        if holder is not None and not holder.is_open:
            await holder.drained(LAST_REQUESTS_TIMEOUT_S)
            self._release(holder)
            holder = self._holders.get(company)
        if holder is not None and holder is not connection:
            raise CompanyInUse(f"company {company!r} is held by another client (role {holder.role})")
        # Held before the first await: two openings at once must not both pass.
        self._holders[company] = connection
        self._revoked.get(connection, {}).pop(company, None)
        try:
            creds = await self._store.open(company, pair=params.pair)
            self._refuse_revoked(connection, company)
        except BaseException:
            if holder is None:
                self._give_back(connection, company)
            raise
        if not connection.is_open:
            self._give_back(connection, company)
        former = self._clients.get(company, params.client)
        self._clients[company] = params.client
        return {
            "creds": msgspec.Raw(_one_line(creds) if creds is not None else _NULL),
            "overtaken": former != params.client,
        }

    async def _close(self, connection: Connection, params: Named) -> None:
        self._give_back(connection, company_id(params.company))

    def _give_back(self, connection: Connection, company: Company) -> None:
        if self._holders.get(company) is connection:
            del self._holders[company]
            self._store.release(company)

    async def _creds_create(self, connection: Connection, params: Creds) -> None:
        await self._store.create_creds(self._held(connection, params.company), bytes(params.creds))

    async def _creds_save(self, connection: Connection, params: Creds) -> None:
        await self._store.save_creds(self._held(connection, params.company), bytes(params.creds))

    async def _keys_get(self, connection: Connection, params: KeysGet) -> dict[str, msgspec.Raw]:
        company = self._held(connection, params.company)
        values = await self._store.get_keys(company, params.type, params.ids)
        return {key_id: msgspec.Raw(_one_line(value)) for key_id, value in values.items()}

    async def _keys_set(self, connection: Connection, params: KeysSet) -> None:
        batch: dict[str, dict[str, bytes | None]] = {}
        for key_type, values in params.data.items():
            raw = {key_id: bytes(value) for key_id, value in values.items()}
            batch[key_type] = {key_id: None if value == _NULL else value for key_id, value in raw.items()}
        await self._store.set_keys(self._held(connection, params.company), batch)

    async def _keys_clear(self, connection: Connection, params: Named) -> int:
        return await self._store.clear_keys(self._held(connection, params.company))


def _decoder(params_type: type[Any]) -> Callable[[bytes | msgspec.Raw], Any]:
    return msgspec.json.Decoder(params_type).decode


def _params(decode: Callable[[msgspec.Raw], Any], params: msgspec.Raw, method: str) -> Any:
    try:
        return decode(params)
    except msgspec.ValidationError as error:
        # msgspec names the path and the expected type, never the value.
        raise ProtocolError(f"wrong params for {method}: {error}") from None
    except msgspec.DecodeError:
        raise ProtocolError(f"wrong params for {method}: not JSON") from None


def _one_line(value: bytes) -> bytes:
    # A column of type json (not jsonb) keeps the line breaks it was written with; inside JSON text a raw
    # line break can only be white space.
    return value.replace(b"\n", b" ") if b"\n" in value else value
