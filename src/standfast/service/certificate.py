"""The TLS certificate of the simulator's server of files: made anew at each start, for loopback only.

Invariant: nobody but the simulator's own clients is told to trust it, and its key never leaves its directory.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from standfast.errors import StateDirectoryError

CERTIFICATE, KEY = "media-cert.pem", "media-key.pem"
_LIFETIME = datetime.timedelta(days=365)


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Write a certificate and its key into `directory`, made where it is missing. `StateDirectoryError`."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "standfast simulator")])
    alternatives = [x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(
            x509.SubjectAlternativeName([*alternatives, x509.DNSName("localhost")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(directory / KEY, pem)
        _write(directory / CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    except OSError as error:
        raise StateDirectoryError(f"{directory} cannot be written: {error.strerror}") from error
    return directory / CERTIFICATE, directory / KEY


def _write(file: Path, content: bytes) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(content)
