"""The network beside PostgreSQL: WhatsApp, and the address of the HTTP API.

Invariant: nothing is said to WhatsApp but the beginning of a TLS connection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import Iterator

import httpx
import psutil

from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, wrong

CONNECT_TIMEOUT_S = 3.0
LOOK_TIMEOUT_S = 1.5
_OURS = "another Standfast"
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def whatsapp(patient: Patient) -> Iterator[Result]:
    """Name, port and certificate of the server that every session connects to."""
    host, port = patient.whatsapp
    if patient.offline:
        yield skipped("network.whatsapp", "WhatsApp", "--offline")
        return
    began = time.monotonic()
    try:
        with (
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as connection,
            ssl.create_default_context().wrap_socket(connection, server_hostname=host) as wrapped,
        ):
            version = wrapped.version()
    except socket.gaierror:
        yield _away(
            f"the name {host} cannot be resolved",
            "Look at /etc/resolv.conf and at the servers that it names, until this answers:\n"
            + command("getent", "hosts", host),
        )
    except ssl.SSLCertVerificationError as error:
        yield _away(
            f"{host} shows a certificate that is not WhatsApp's: {error.verify_message}",
            "Something reads along (a firewall that inspects TLS?): let this machine past it; "
            "or update ca-certificates and the clock.",
        )
    except OSError as error:
        reason = (
            "no answer in time" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
        )
        yield _away(
            f"{host}:{port} cannot be reached: {reason}",
            f"Let this machine out to {host}:{port} (TCP) in the firewall.",
        )
    else:
        took_ms = (time.monotonic() - began) * 1000
        yield ok("network.whatsapp", "WhatsApp", f"{host}:{port} answers with {version} ({took_ms:.0f} ms)")


def http(patient: Patient) -> Iterator[Result]:
    """The address is free, or our own service listens there."""
    settings = patient.settings
    if settings.http == "off":
        yield skipped("network.http", "HTTP API", "STANDFAST_HTTP=off")
        return
    where = f"{settings.http_host}:{settings.http_port}"
    if settings.http_port == 0:
        yield ok("network.http", "HTTP API", "any free port")
        return
    fault = _bind_fault(settings.http_host, settings.http_port)
    if fault is None:
        yield ok("network.http", "HTTP API", f"{where} is free")
        return
    said, listener = _server_at(settings.http_host, settings.http_port), _listener(settings.http_port)
    if patient.service_runs() and (said == _OURS or _holds(patient, listener)):
        yield ok("network.http", "HTTP API", f"{where} is this service's")
        return
    who = f"{listener.name()} (pid {listener.pid})" if listener else said or "another program"
    yield wrong(
        "network.http",
        "HTTP API",
        f"{where} cannot be listened at: {fault}" + (f" by {who}" if fault == "it is taken" else ""),
        f"End that program (ss -ltnp 'sport = :{settings.http_port}' shows it), or set:\n"
        f"STANDFAST_HTTP_PORT={settings.http_port + 1 if settings.http_port < 65_535 else 3003}",
    )


def _away(message: str, mend: str) -> Result:
    if any(os.environ.get(name) for name in _PROXIES):
        mend = f"Sessions do not go through the proxy that HTTPS_PROXY names.\n{mend}"
    return wrong("network.whatsapp", "WhatsApp", message, mend)


def _bind_fault(host: str, port: int) -> str | None:
    """Why nobody could listen there now; None where one could."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror:
        return "the name cannot be resolved"
    except OSError as error:
        return "it is taken" if error.errno == errno.EADDRINUSE else error.strerror or type(error).__name__
    return None


def _server_at(host: str, port: int) -> str | None:
    """What the program there calls itself; None where it does not speak HTTP."""
    loop = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    at = f"[{loop}]" if ":" in loop else loop
    try:
        answer = httpx.get(f"http://{at}:{port}/health/live", timeout=LOOK_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return None
    if answer.text.replace(" ", "").startswith('{"status":"live"'):
        return _OURS
    return answer.headers.get("server") or "a web server"


def _listener(port: int) -> psutil.Process | None:
    """Who listens at the port, where this account may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return psutil.Process(one.pid)
    return None


def _holds(patient: Patient, process: psutil.Process | None) -> bool:
    """Whether it is the service's process, which may hang: that is another line's to tell."""
    holder = patient.holder()
    return process is not None and holder is not None and process.pid == holder.pid
