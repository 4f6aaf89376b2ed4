"""The way to PostgreSQL: which server is meant, name, port and TLS of each host.

Invariant: nothing is said to a server but the request for TLS, and no password leaves the settings.
"""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import struct
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from standfast.postgres.options import DatabaseOptions
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, warning, wrong

CONNECT_TIMEOUT_S = 2.5
CERTIFICATE_LEFT = datetime.timedelta(days=30)
DEFAULT_PORT = 5432
SERVER_NAMES = (
    "DATABASE_URL",
    "POSTGRES_CONNECTION_STRING",
    "POSTGRES_HOST",
    "POSTGRES_PORT",
    "POSTGRES_DATABASE",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
)
_LIBPQ_NAMES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_DEMANDING = frozenset({"require", "verify-ca", "verify-full"})


@dataclass(frozen=True, slots=True)
class Address:
    """`host` is a name, an address, or the directory of a socket. `tls` is libpq's sslmode."""

    host: str
    port: int
    tls: str

    @property
    def is_socket(self) -> bool:
        return self.host.startswith(("/", "@"))

    def __str__(self) -> str:
        return f"{self.host}/.s.PGSQL.{self.port}" if self.is_socket else f"{self.host}:{self.port}"


def server_is_known(patient: Patient) -> bool:
    """Whether the settings can be taken at their word about which server is meant."""
    survey = patient.survey
    return not survey.unread and survey.passed_over.isdisjoint(SERVER_NAMES)


def options_of(patient: Patient) -> DatabaseOptions:
    """How to reach the named server. Raises `SettingsError`."""
    from psycopg.conninfo import make_conninfo

    parameters = patient.settings.database_parameters()
    return DatabaseOptions(
        conninfo=make_conninfo("", **parameters) if parameters else None,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        statement_timeout_s=CONNECT_TIMEOUT_S,
        application_name="standfast doctor",
    )


def addresses_of(patient: Patient) -> list[Address]:
    """Every host that libpq would try; none where it would use its own default socket."""
    from psycopg import pq

    defaults = {one.keyword.decode(): one.val.decode() for one in pq.Conninfo.get_defaults() if one.val}
    merged = defaults | {name: str(value) for name, value in options_of(patient).parameters().items()}
    hosts = [one for one in (merged.get("hostaddr") or merged.get("host") or "").split(",") if one]
    ports = [int(one or DEFAULT_PORT) for one in str(merged.get("port") or DEFAULT_PORT).split(",")]
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [
        Address(host, port, merged.get("sslmode", "prefer")) for host, port in zip(hosts, ports, strict=False)
    ]


def server(patient: Patient) -> Iterator[Result]:
    """Which server the settings name, and by which of them."""
    if not server_is_known(patient):
        yield skipped("postgres.server", "server", "the settings that name it are broken (see Settings)")
        return
    if patient.settings.database_is_embedded:
        yield ok(
            "postgres.server",
            "server",
            f"embedded, in {patient.state.postgres_dir}: no setting names another",
        )
        return
    sources = patient.settings.sources
    named = [f"{name} ({sources[name]})" for name in SERVER_NAMES if sources[name] != "default"]
    named = named or [f"{name} (environment)" for name in _LIBPQ_NAMES if os.environ.get(name)]
    yield ok("postgres.server", "server", f"{options_of(patient).describe()}, by {', '.join(named)}")


def address(_patient: Patient, where: Address) -> Iterator[Result]:
    """One host: its name, its port, its certificate."""
    subject = str(where)
    try:
        found = [where.host] if where.is_socket else _resolved(where)
    except socket.gaierror:
        yield wrong(
            "postgres.address",
            subject,
            f"the name {where.host} cannot be resolved",
            "Correct POSTGRES_HOST (or the URL's host), /etc/hosts or /etc/resolv.conf, until this answers:\n"
            + command("getent", "hosts", where.host),
        )
        return
    began = time.monotonic()
    try:
        connection = _connected(where)
    except OSError as error:
        yield wrong("postgres.address", subject, f"nothing answers: {_reason(error)}", _unreached(where))
        return
    with connection:
        took_ms = (time.monotonic() - began) * 1000
        yield ok(
            "postgres.address", subject, f"{_counted(found, where)}accepts connections ({took_ms:.0f} ms)"
        )
        if not where.is_socket and where.tls != "disable":
            yield from _certificate(where, connection)


def _certificate(where: Address, connection: socket.socket) -> Iterator[Result]:
    """When the server's certificate ends, whoever signed it: whether it is to be trusted is libpq's to say."""
    try:
        connection.sendall(_SSL_REQUEST)
        has_tls = connection.recv(1) == b"S"
        ends = _end_of_certificate(connection, where) if has_tls else None
    except OSError as error:
        yield wrong(
            "postgres.certificate",
            str(where),
            f"takes connections and does not answer as PostgreSQL does: {_reason(error)}",
            "See what listens there, and whether it hangs (stopped, out of memory, a dead disk): its log, and ps.",
        )
        return
    if ends is not None:
        yield _judged(where, ends)
    elif where.tls in _DEMANDING:
        yield wrong(
            "postgres.certificate",
            str(where),
            f"the server offers no TLS, and sslmode={where.tls} demands it",
            "Turn it on (with ssl_cert_file and ssl_key_file):\nALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()",
        )


def _judged(where: Address, ends: datetime.datetime) -> Result:
    left = ends - datetime.datetime.now(datetime.UTC)
    mend = "Renew the server's certificate (ssl_cert_file), then:\nSELECT pg_reload_conf()"
    if left <= datetime.timedelta(0):
        tell = wrong if where.tls.startswith("verify") else warning  # the others do not look at it
        return tell(
            "postgres.certificate", str(where), f"the server's certificate ended on {ends:%Y-%m-%d}", mend
        )
    if left < CERTIFICATE_LEFT:
        said = f"the server's certificate ends in {left.days} days ({ends:%Y-%m-%d})"
        return warning("postgres.certificate", str(where), said, mend)
    return ok("postgres.certificate", str(where), f"the server's certificate is good until {ends:%Y-%m-%d}")


def _end_of_certificate(connection: socket.socket, where: Address) -> datetime.datetime:
    from cryptography import x509

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(connection, server_hostname=where.host) as wrapped, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # certificates that nobody should have made are read all the same
        return x509.load_der_x509_certificate(
            wrapped.getpeercert(binary_form=True) or b""
        ).not_valid_after_utc


def _connected(where: Address) -> socket.socket:
    if where.is_socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_TIMEOUT_S)
        try:
            connection.connect(str(where) if where.host.startswith("/") else "\0" + str(where)[1:])
        except OSError:
            connection.close()
            raise
        return connection
    return socket.create_connection((where.host, where.port), timeout=CONNECT_TIMEOUT_S)


def _resolved(where: Address) -> list[str]:
    return sorted(
        {str(one[4][0]) for one in socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)}
    )


def _counted(found: list[str], where: Address) -> str:
    if where.is_socket or found == [where.host]:
        return ""
    return f"is {found[0]}, " if len(found) == 1 else f"has {len(found)} addresses, "


def _reason(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__


def _unreached(where: Address) -> str:
    if where.is_socket:
        made = "" if Path(where.host).is_dir() else " (make it first)"
        return f"Start PostgreSQL; its unix_socket_directories must name {where.host}{made}."
    return (
        f"Start PostgreSQL on {where.host}; its listen_addresses, port {where.port} and the firewalls between must let "
        "this machine in."
    )
