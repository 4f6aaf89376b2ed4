"""Which PostgreSQL server the settings name, in libpq's words.

Invariant: connection strings are understood by libpq's own parser, and no message repeats any part of one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from standfast.errors import SettingsError

if TYPE_CHECKING:
    from standfast.settings.model import Settings

_SERVER_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")
_URL_SCHEMES = ("postgresql", "postgres")
_ENCODING = "has @ : / or % in its password: write them %40 %3A %2F %25, or use POSTGRES_PASSWORD"
_PARTS = {
    "host": "POSTGRES_HOST",
    "port": "POSTGRES_PORT",
    "dbname": "POSTGRES_DATABASE",
    "user": "POSTGRES_USER",
    "password": "POSTGRES_PASSWORD",
}


def libpq_names_a_server() -> bool:
    """Whether libpq's own environment variables say where PostgreSQL is."""
    return any(os.environ.get(name) for name in _SERVER_VARIABLES)


def check_connection_string(dsn: str) -> None:
    """Raises `ValueError` with the reason, if it can be told without repeating the string."""
    _parse(dsn)


def libpq_parameters(settings: Settings) -> dict[str, str]:
    """The connection string's parameters, completed by the POSTGRES_* parts that it does not name."""
    name, dsn = _connection_string(settings)
    parameters = _parse(dsn) if dsn else {}
    for keyword, value in _parts(settings).items():
        if parameters.setdefault(keyword, value) != value:
            raise SettingsError(
                f"{name} and {_PARTS[keyword]} name different values",
                next_step=f"Remove {_PARTS[keyword]}, or take it out of {name}.",
            )
    if not dsn and "host" not in parameters and not libpq_names_a_server():
        parameters["host"] = "localhost"
    return parameters


def _connection_string(settings: Settings) -> tuple[str, str | None]:
    url, string = settings.database_url, settings.postgres_connection_string
    if url and string and url.get_secret_value() != string.get_secret_value():
        raise SettingsError(
            "DATABASE_URL and POSTGRES_CONNECTION_STRING differ, and only one can be meant",
            next_step="Remove one of them.",
        )
    if url:
        return "DATABASE_URL", url.get_secret_value()
    return "POSTGRES_CONNECTION_STRING", string.get_secret_value() if string else None


def _parts(settings: Settings) -> dict[str, str]:
    password = settings.postgres_password
    parts = {
        "host": settings.postgres_host,
        "port": str(settings.postgres_port) if settings.postgres_port is not None else None,
        "dbname": settings.postgres_database,
        "user": settings.postgres_user,
        "password": password.get_secret_value() if password else None,
    }
    return {keyword: value for keyword, value in parts.items() if value is not None}


def _parse(dsn: str) -> dict[str, str]:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    if _is_split_by_its_password(dsn):
        raise ValueError(_ENCODING)
    try:
        parsed = conninfo_to_dict(dsn)
    except ProgrammingError:  # its message repeats the string, password and all
        raise ValueError(_reason(dsn)) from None
    return {keyword: str(value) for keyword, value in parsed.items() if value is not None}


def _reason(dsn: str) -> str:
    scheme = dsn.partition("://")[0] if "://" in dsn else ""
    if scheme and scheme.isascii() and scheme.replace("+", "").isalnum() and scheme not in _URL_SCHEMES:
        return f"begins with {scheme}:// where libpq knows only postgresql://"
    unknown = _unknown_query_names(dsn) if scheme else []
    if unknown:
        return f"has parameters that libpq does not know: {', '.join(unknown)}"
    return f"is neither a postgresql:// URL nor 'keyword=value' pairs as libpq reads them; if it {_ENCODING}"


def _is_split_by_its_password(dsn: str) -> bool:
    """Whether libpq would take a piece of an unencoded password for the host, and show it in its errors."""
    scheme, found, rest = dsn.partition("://")
    if not found or scheme not in _URL_SCHEMES:
        return False
    authority, _, path = rest.partition("?")[0].partition("/")
    return authority.count("@") > 1 or "@" in path


def _unknown_query_names(dsn: str) -> list[str]:
    from psycopg import pq

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    try:
        names = [name for name, _ in parse_qsl(urlsplit(dsn).query, keep_blank_values=True)]
    except ValueError:
        return []
    return sorted(name for name in set(names) - known if name.isidentifier() and len(name) <= 30)
