"""The doctor on the network: real sockets on this machine that answer as they should, wrongly, or not at all."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from standfast.service.doctor import addresses, channels, network
from standfast.state_dir import StateDirectory
from tests.cli_support import own_surroundings
from tests.doctoring import found, outcome, patient

SECRET = "123456:hunter2-marker"
Answers = dict[str, tuple[int, object]]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings and no proxy but the test's own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with own_surroundings(monkeypatch, tmp_path):
        yield


@contextlib.contextmanager
def web_server(answers: Answers) -> Iterator[tuple[int, list[str]]]:
    """Its port, and the paths that it was asked for. A path's answer is that of the first part that is in it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, document = next((answers[part] for part in answers if part in self.path), (404, {}))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a certificate for 127.0.0.1 that ends in so many days, with its key in the same file."""

    def make(days: int) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.datetime.now(datetime.UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=100))
            .not_valid_after(now + datetime.timedelta(days=days, hours=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        file = tmp_path / f"{days}.pem"
        file.write_bytes(
            built.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return file

    return make


@contextlib.contextmanager
def tls_server(file: Path, greeting: bytes = b"") -> Iterator[int]:
    """Its port. With a `greeting` it first reads PostgreSQL's request for TLS and answers so: "S" goes on to TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                if greeting:
                    connection.recv(8)
                    connection.sendall(greeting)
                if greeting in {b"", b"S"}:
                    with context.wrap_socket(connection, server_side=True) as wrapped:
                        wrapped.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_whatsapp_is_ok_only_behind_its_own_certificate(
    certificate: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answering is not enough: a certificate of somebody else's means that something reads along."""
    file = certificate(100)
    with tls_server(file) as port:
        who = patient(whatsapp=("127.0.0.1", port))
        stranger = found(network.whatsapp, who)["network.whatsapp"]
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        trusted = outcome(network.whatsapp, who)
    assert (stranger.outcome, trusted) == ("wrong", "ok")
    assert "certificate" in stranger.message


def test_whatsapp_that_cannot_be_reached_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """No port, no name; and a proxy in the environment is said to be of no use."""
    closed = found(network.whatsapp, patient(whatsapp=("127.0.0.1", unused_port())))["network.whatsapp"]
    assert (closed.outcome, "refused" in closed.message) == ("wrong", True)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    unknown = found(network.whatsapp, patient(whatsapp=("whatsapp.invalid", 443)))["network.whatsapp"]
    assert (unknown.outcome, "resolved" in unknown.message) == ("wrong", True)
    assert "HTTPS_PROXY" in (unknown.mend or "")


def test_offline_asks_nothing_outside() -> None:
    """Each look that would is skipped, also where it would fail."""
    who = patient(
        offline=True,
        whatsapp=("whatsapp.invalid", 443),
        sentry_dsn="https://key@sentry.invalid/1",
        telegram_bot_token=SECRET,
        telegram_chat_id="1",
    )
    for look in (network.whatsapp, channels.sentry, channels.telegram):
        assert outcome(look, who) == "skipped"


def test_the_http_port_is_free_or_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program that has it is named; a free one is ok, and so is one that is not asked for."""
    monkeypatch.setattr(network, "LOOK_TIMEOUT_S", 0.1)
    port = unused_port()
    who = patient(http_port=port, state_dir=tmp_path)
    assert outcome(network.http, who) == "ok"
    with socket.create_server(("127.0.0.1", port)):
        taken = found(network.http, who)["network.http"]
    assert taken.outcome == "wrong"
    assert "taken" in taken.message
    assert f"STANDFAST_HTTP_PORT={port + 1}" in (taken.mend or "")
    assert outcome(network.http, patient(http="off")) == "skipped"
    elsewhere = found(network.http, patient(http_host="192.0.2.1", http_port=port))["network.http"]
    assert (elsewhere.outcome, "taken" in elsewhere.message) == ("wrong", False)


def test_the_http_port_of_the_running_service_is_its_own(tmp_path: Path) -> None:
    """Only where a service holds the state directory, and what listens answers as one."""
    with web_server({"/health/live": (200, {"status": "live"})}) as (port, _):
        who = patient(http_port=port, state_dir=tmp_path / "state")
        assert outcome(network.http, who) == "wrong"
        with StateDirectory(tmp_path / "state"):
            assert outcome(network.http, who) == "ok"


def test_the_http_port_of_a_service_that_hangs_is_still_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known by its process; that it does not answer is another line."""
    monkeypatch.setattr(network, "LOOK_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listening, StateDirectory(tmp_path / "state"):
        who = patient(http_port=listening.getsockname()[1], state_dir=tmp_path / "state")
        assert outcome(network.http, who) == "ok"


@pytest.mark.parametrize(
    ("days", "mode", "expected"),
    [
        (100, "verify-full", "ok"),
        (10, "prefer", "warning"),
        (-1, "prefer", "warning"),
        (-1, "verify-ca", "wrong"),
    ],
)
def test_a_certificate_of_postgresql_that_ends_is_told(
    certificate: Callable[[int], Path], days: int, mode: str, expected: str
) -> None:
    """30 days before it does, by PostgreSQL's own way into TLS; wrong once it has and somebody looks at it."""
    with tls_server(certificate(days), b"S") as port:
        who = patient(database_url=f"postgresql://bot@127.0.0.1:{port}/x?sslmode={mode}")
        (where,) = addresses.addresses_of(who)
        results = found(lambda one: addresses.address(one, where), who)
    assert results["postgres.address"].outcome == "ok"
    assert results["postgres.certificate"].outcome == expected


@pytest.mark.parametrize(
    ("mode", "expected"), [("verify-full", "wrong"), ("prefer", None), ("disable", None)]
)
def test_a_server_without_tls_is_wrong_where_it_is_demanded(
    certificate: Callable[[int], Path], mode: str, expected: str | None
) -> None:
    """And of no concern where it is not."""
    with tls_server(certificate(1), b"N") as port:
        who = patient(database_url=f"postgresql://bot@127.0.0.1:{port}/x?sslmode={mode}")
        (where,) = addresses.addresses_of(who)
        result = found(lambda one: addresses.address(one, where), who).get("postgres.certificate")
    assert (result.outcome if result else None) == expected


def test_a_server_that_takes_connections_and_says_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was stopped: the system accepts, nobody answers."""
    monkeypatch.setattr(addresses, "CONNECT_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        who = patient(database_url=f"postgresql://bot@127.0.0.1:{listener.getsockname()[1]}/x")
        (where,) = addresses.addresses_of(who)
        results = found(lambda one: addresses.address(one, where), who)
    assert [one.outcome for one in results.values()] == ["ok", "wrong"]
    assert "no answer in time" in results["postgres.certificate"].message


def test_no_channel_at_all_is_a_warning() -> None:
    """Then nobody is told of anything."""
    assert outcome(channels.formed, patient()) == "warning"


def test_sentry_is_asked_whether_it_is_there_and_sent_nothing() -> None:
    """Any answer will do; no key is told in a line."""
    with web_server({"/api/0/": (200, {})}) as (port, asked):
        who = patient(sentry_dsn=f"http://hunter2marker@127.0.0.1:{port}/42")
        result = found(channels.sentry, who)["alerts.sentry"]
    assert result.outcome == "ok"
    assert asked == ["/api/0/"]
    with web_server({"/api/0/": (503, {})}) as (port, _):
        assert outcome(channels.sentry, patient(sentry_dsn=f"http://k@127.0.0.1:{port}/42")) == "warning"
    gone = found(channels.sentry, who)["alerts.sentry"]
    assert gone.outcome == "wrong"
    assert "hunter2marker" not in f"{result} {gone}"


@pytest.mark.parametrize(
    ("answers", "expected", "told"),
    [
        ({"getMe": (401, {})}, "wrong", "TELEGRAM_BOT_TOKEN"),
        (
            {"getMe": (200, {"result": {"username": "our_bot"}}), "getChat": (400, {})},
            "wrong",
            "@our_bot does not know",
        ),
        ({"getMe": (429, {})}, "warning", "429"),
        (
            {
                "getMe": (200, {"result": {"username": "our_bot"}}),
                "getChat": (200, {"result": {"type": "group"}}),
            },
            "ok",
            "knows group -100200",
        ),
        ({"getMe": (200, "no object"), "getChat": (200, [])}, "ok", "@?"),
    ],
)
def test_telegram_knows_the_bot_and_the_chat(answers: Answers, expected: str, told: str) -> None:
    """Both are asked for and no message is sent; the token is in no line."""
    with web_server(answers) as (port, asked):
        who = patient(
            telegram_bot_token=SECRET, telegram_chat_id="-100200", telegram_api_url=f"http://127.0.0.1:{port}"
        )
        result = found(channels.telegram, who)["alerts.telegram"]
    assert (result.outcome, told in result.message) == (expected, True), result
    assert asked == [f"/bot{SECRET}/getMe", f"/bot{SECRET}/getChat?chat_id=-100200"][: len(answers)]
    assert "hunter2" not in str(result)
    gone = found(channels.telegram, who)["alerts.telegram"]
    assert gone.outcome == "wrong"
    assert "hunter2" not in str(gone)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise's own import
def test_notification_urls_are_understood_or_named_by_their_place(capfd: pytest.CaptureFixture[str]) -> None:
    """By number and scheme alone: the rest of a URL is its secret, here and in apprise's own log."""
    good = patient(notify_urls="json://localhost/hunter2, mailto://u:hunter2@example.com")
    results = list(channels.formed(good))
    assert [one.outcome for one in results] == ["ok"]
    results = list(channels.formed(patient(notify_urls="json://localhost/hunter2 nosuch://hunter2/x")))
    assert [one.outcome for one in results] == ["wrong", "ok"]
    assert "URL 2 of STANDFAST_NOTIFY_URLS (nosuch://…)" in results[0].message
    said = capfd.readouterr()
    assert "hunter2" not in f"{results} {said.out} {said.err}"
