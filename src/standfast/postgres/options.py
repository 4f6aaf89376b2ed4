"""Where PostgreSQL is and how long to wait for it.

Invariant: connection strings are built and taken apart by libpq's own rules, and nothing secret is ever shown.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from standfast.errors import SettingsError

_ENCODING_STEP = (
    "Give the password apart in POSTGRES_PASSWORD, or percent-encode it in the URL "
    "('@' is %40, '/' is %2F, ':' is %3A, '%' is %25)."
)
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3}


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """`conninfo` is a libpq DSN or URL; the fields beside it fill what it leaves out, libpq's environment
    variables and `.pgpass` fill the rest.

    Set `transaction_pooling` behind a proxy that shares server connections between transactions (PgBouncer
    in transaction mode): no prepared statements, no session parameters; deadlines are kept on this side.
    """

    conninfo: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    dbname: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    max_connections: int = 10
    connect_timeout_s: float = 5.0
    checkout_timeout_s: float = 5.0
    statement_timeout_s: float = 5.0
    application_name: str = "standfast"
    transaction_pooling: bool = False

    def parameters(self) -> dict[str, Any]:
        """libpq parameters. Raises `SettingsError` where the connection string cannot be meant as it stands."""
        given = _parsed(self.conninfo) if self.conninfo else {}
        own = {name: getattr(self, name) for name in ("host", "port", "dbname", "user", "password")}
        merged = {**{name: value for name, value in own.items() if value is not None}, **given}
        _check_ports(merged)
        return (
            self._defaults() | merged | {"client_encoding": "UTF8", "options": self._session_options(merged)}
        )

    def to_conninfo(self) -> str:
        """The whole as one libpq connection string; it holds the password."""
        return make_conninfo(**{name: value for name, value in self.parameters().items() if value != ""})

    def describe(self) -> str:
        """Host, port and database for messages: never user or password."""
        merged = self.parameters()
        hosts, ports = (
            (_hosts(merged) or "the default host").split(","),
            str(merged.get("port") or 5432).split(","),
        )
        ports = ports * len(hosts) if len(ports) == 1 else ports
        places = ", ".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=False))
        return f"{places}, database {merged.get('dbname') or '(default)'}"

    def connect_deadline_s(self) -> float:
        """How long one attempt over all hosts may take. libpq counts its timeout for each address, and a name
        may have two: one of IPv6, which may lead nowhere, and one of IPv4."""
        merged = self.parameters()
        addresses = [1 if _is_address(host) else 2 for host in _hosts(merged).split(",")]
        each_s = self.connect_timeout_s if addresses == [1] else float(merged["connect_timeout"])
        return each_s * sum(addresses)

    def _defaults(self) -> dict[str, Any]:
        return {
            "connect_timeout": max(2, math.ceil(self.connect_timeout_s)),
            "tcp_user_timeout": int(self.statement_timeout_s * 1000),
            "application_name": self.application_name,
            **_KEEPALIVES,
        }

    def _session_options(self, merged: dict[str, Any]) -> str:
        theirs = str(merged.get("options") or "")
        if self.transaction_pooling:
            return theirs
        limit_ms = int(self.statement_timeout_s * 1000)
        # Theirs come last, so that an operator's own limits win.
        ours = f"-c statement_timeout={limit_ms} -c idle_in_transaction_session_timeout={4 * limit_ms}"
        return f"{ours} {theirs}".rstrip()


def _hosts(merged: dict[str, Any]) -> str:
    return str(merged.get("hostaddr") or merged.get("host") or os.environ.get("PGHOST") or "")


def _is_address(host: str) -> bool:
    """A socket's directory or a numeric address, which needs no resolving."""
    if not host or host.startswith(("/", "@")):
        return True
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False


def _parsed(conninfo: str) -> dict[str, Any]:
    """The parts of a DSN. No message quotes it: libpq's own would repeat a piece of the password."""
    if _misencoded(conninfo):
        raise SettingsError(
            "the database URL holds characters in its password that must be encoded", next_step=_ENCODING_STEP
        )
    try:
        return {name: value for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except psycopg.ProgrammingError:
        raise SettingsError("the database URL cannot be parsed", next_step=_ENCODING_STEP) from None


def _misencoded(conninfo: str) -> bool:
    """Whether a URL's password splits it in the wrong place: libpq would take a piece of it for the host."""
    scheme, found, rest = conninfo.partition("://")
    if not found or scheme not in {"postgres", "postgresql"}:
        return False
    place = rest.split("?", 1)[0]
    authority, _, path = place.partition("/")
    return authority.count("@") > 1 or "@" in path


def _check_ports(merged: dict[str, Any]) -> None:
    ports = str(merged.get("port") or "").split(",")
    if all(not port or (port.isdecimal() and 0 < int(port) < 65536) for port in ports):
        return
    raise SettingsError("the database's port is not a number from 1 to 65535", next_step=_ENCODING_STEP)
