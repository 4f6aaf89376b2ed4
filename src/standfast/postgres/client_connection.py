"""How PostgreSQL's own programs are told where the server is.

Invariant: nothing that libpq holds for a secret stands on a command line, where every user of the machine can read it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from psycopg import pq
from psycopg.conninfo import make_conninfo

from standfast.errors import SettingsError
from standfast.postgres.options import DatabaseOptions

_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ")
_PASSED_ON_PREFIXES = ("PG", "KRB5", "LD_", "DYLD_", "SSL_", "OPENSSL_")
_PASSWORD_EQUIVALENTS = (b"scram_client_key", b"scram_server_key")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The one server that a connection reached, of all that its parameters may name."""

    host: str
    hostaddr: str
    port: int


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """`conninfo` goes to `--dbname`, `environment` is the whole of the program's."""

    conninfo: str
    environment: dict[str, str] = field(repr=False)


def client_connection(
    options: DatabaseOptions, *, application_name: str, at: Endpoint | None = None
) -> ClientConnection:
    """The same database for a program that sets its own limits. `at`: the very server, where the parameters name
    several hosts. `SettingsError` where a secret could only be given on the command line."""
    # The limits of our pool's sessions are not for a program that reads for minutes.
    apart = replace(options, transaction_pooling=True, application_name=application_name)
    parameters = {name: str(value) for name, value in apart.parameters().items() if value not in ("", None)}
    if at is not None:
        parameters |= {"host": at.host, "port": str(at.port)}
        parameters.pop("load_balance_hosts", None)
        parameters.pop("hostaddr", None)
        if at.hostaddr and not at.host.startswith(("/", "@")):
            parameters["hostaddr"] = at.hostaddr
    environment = _passed_on()
    for name, variable in _secrets().items():
        secret = parameters.pop(name, None)
        if secret is None:
            continue
        if not variable:
            raise SettingsError(
                f"{name} in the database's connection string would stand on a command line of pg_dump",
                next_step="Put it into a service file (PGSERVICEFILE); a client key may also go without a passphrase.",
            )
        environment[variable] = secret
    return ClientConnection(make_conninfo(**parameters), environment)


def _passed_on() -> dict[str, str]:
    known = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    return known | {"LC_ALL": "C"}


def _secrets() -> dict[str, str]:
    """What libpq itself would not show, with the environment variable that gives it, or an empty text."""
    return {
        default.keyword.decode(): (default.envvar or b"").decode()
        for default in pq.Conninfo.get_defaults()
        if default.dispchar == b"*" or default.keyword in _PASSWORD_EQUIVALENTS
    }
