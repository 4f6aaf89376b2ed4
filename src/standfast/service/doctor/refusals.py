"""Why PostgreSQL, or libpq on the way to it, refused a login, as exactly as its text tells.

Invariant: of the text only names are repeated that the settings hold too, never the text itself: it can quote a
connection string.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from standfast.errors import StandfastError

_Told = tuple[str, str]
_ENTRY = re.compile(
    r"(?:no pg_hba\.conf entry|pg_hba\.conf rejects connection) for (?:host \"(?P<host>[0-9a-fA-F.:]+)\"|\[local\]),"
    r" user \"(?P<user>[^\"]{1,63})\", database \"(?P<database>[^\"]{1,63})\"(?P<encrypted>, SSL encryption)?"
)
_DATABASE = re.compile(r"database \"(?P<name>[^\"]{1,63})\" does not exist")
_TLS = (
    (
        r"root certificate file .* does not exist",
        "sslmode=verify-… needs the certificate of who signed the server's, and there is none",
        "Add sslrootcert=FILE to DATABASE_URL, or sslrootcert=system for a certificate of a public authority.",
    ),
    (
        r"does not match host name|hostname mismatch|certificate is not valid for",
        "the server's certificate is for another name than the one that it is reached by",
        "Reach it by a name of the certificate, or make one with that name (subjectAltName).",
    ),
    (
        r"expired",
        "the server's certificate has ended",
        "Renew it (ssl_cert_file), then:\nSELECT pg_reload_conf()",
    ),
    (
        r"certificate verify failed|self.signed|unable to get local issuer",
        "the server's certificate is not signed by whom sslrootcert names",
        "Name the certificate of who signed it: sslrootcert=FILE in DATABASE_URL.",
    ),
    (
        r"does not support SSL",
        "the server offers no TLS, and sslmode demands it",
        "Turn it on (with ssl_cert_file and ssl_key_file):\nALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()",
    ),
)


def told(ours: StandfastError, text: str) -> _Told:
    """Message and mend for a login that failed with `ours`, made of a driver's error with this text."""
    refine = _REFINED.get(str(ours.facts.get("cause")))
    return (refine(text) if refine else None) or (ours.message, ours.next_step)


def _access(text: str) -> _Told | None:
    found = _ENTRY.search(text)
    if found is None:
        return None
    user, database, host = found["user"], found["database"], found["host"]
    bits = 128 if host and ":" in host else 32
    kind = "local" if host is None else "hostssl" if found["encrypted"] else "host"
    place = "" if host is None else f" {host}/{bits}"
    line = f"{kind} {database} {user}{place} scram-sha-256"
    who = f"user {user} from {host or 'its socket'} into database {database}"
    return (
        f"PostgreSQL's pg_hba.conf does not let {who}",
        f"Add this to pg_hba.conf, then run SELECT pg_reload_conf():\n{line}",
    )


def _database(text: str) -> _Told | None:
    found = _DATABASE.search(text)
    if found is None:
        return None
    name = found["name"].replace('"', '""')
    make = f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0"
    return (
        f"the database {found['name']} does not exist",
        f"Correct POSTGRES_DATABASE (or the URL), or make it:\n{make}",
    )


def _tls(text: str) -> _Told | None:
    return next(((message, mend) for pattern, message, mend in _TLS if re.search(pattern, text)), None)


def _pooler(_text: str) -> _Told:
    mend = "Name PostgreSQL itself in DATABASE_URL (Standfast pools by itself), or pool_mode = session there, and:"
    return (
        "a pooler before PostgreSQL (PgBouncer?) refuses the deadlines that Standfast asks for at login",
        f"{mend}\nignore_startup_parameters = options",
    )


_REFINED: dict[str, Callable[[str], _Told | None]] = {
    "access": _access,
    "no_database": _database,
    "tls": _tls,
    "transaction_pooling": _pooler,
}
