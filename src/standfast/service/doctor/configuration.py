"""What is set, and who else could read it: bad values, misspelt names, files that hold secrets.

Invariant: no value of a secret is told, only its name and where it stands.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from standfast.errors import StandfastError
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, warning, wrong
from standfast.settings.model import Settings, name_of

_SECRETS = frozenset(
    name_of(field) for field, info in Settings.model_fields.items() if "SecretStr" in str(info.annotation)
)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def values(patient: Patient) -> Iterator[Result]:
    """Bad values, one a line, and names that mean nothing."""
    survey = patient.survey
    for fault in survey.faults:
        yield wrong("settings.values", "value", fault.message, fault.next_step)
    if not survey.faults:
        given = sum(source != "default" for source in survey.settings.sources.values())
        yield ok("settings.values", "values", f"{given} set, the others have their defaults")
    for remark in survey.settings.ignored:
        yield warning(
            "settings.names",
            "name",
            remark,
            "Correct the name, or remove it; 'standfast config' lists those that there are.",
        )


def dotenv(_patient: Patient) -> Iterator[Result]:
    """`.env` in the working directory: only its owner may read it where it holds a secret."""
    file = Path(".env").absolute()
    try:
        found = file.stat()
    except FileNotFoundError:
        yield skipped("credentials.dotenv", ".env", "there is none in the working directory")
        return
    names = sorted(_SECRETS & _names_in(file))
    if names and found.st_mode & _OTHERS:
        yield wrong(
            "credentials.dotenv",
            ".env",
            f"{file} holds {', '.join(names)} and other accounts can read it (mode {_mode(found)})",
            command("chmod", 600, file),
        )
    else:
        yield ok("credentials.dotenv", ".env", f"mode {_mode(found)}, {len(names)} secrets in it")


def passfile(_patient: Patient) -> Iterator[Result]:
    """libpq passes over a password file that others can read, with a warning that nobody sees."""
    file = Path(os.environ.get("PGPASSFILE") or "~/.pgpass").expanduser()
    try:
        found = file.stat()
    except FileNotFoundError:
        return
    if found.st_mode & _OTHERS:
        yield wrong(
            "credentials.passfile",
            "password file",
            f"PostgreSQL's client passes {file} over: other accounts can read it (mode {_mode(found)})",
            command("chmod", 600, file),
        )
    else:
        yield ok("credentials.passfile", "password file", f"{file}, mode {_mode(found)}")


def key_file(patient: Patient) -> Iterator[Result]:
    """The operator's key of the vault, where one is named."""
    from standfast.vault.storage.cipher import read_key

    file = patient.settings.vault_key_file
    if file is None:
        return
    try:
        read_key(file)
    except StandfastError as error:
        yield wrong("credentials.key_file", "vault key file", error.message, error.next_step)
        return
    found = file.stat()
    if found.st_mode & _OTHERS:
        yield wrong(
            "credentials.key_file",
            "vault key file",
            f"{file} can be read by other accounts (mode {_mode(found)})",
            command("chmod", 600, file),
        )
    else:
        yield ok("credentials.key_file", "vault key file", f"{file}, mode {_mode(found)}")


def tokens(patient: Patient) -> Iterator[Result]:
    """The HTTP API's tokens, and whether others could get at it without one."""
    from standfast.api.guard import Guard
    from standfast.api.token_file import TokenFile

    settings = patient.settings
    file = TokenFile(settings.state_dir)
    try:
        found = file.tokens()
        if settings.http == "on":
            Guard(file, settings.http_host).check_start()
    except StandfastError as error:
        yield wrong("credentials.tokens", "HTTP tokens", error.message, error.next_step)
        return
    expired = [one.name for one in found if one.expired(time.time())]
    if expired:
        yield warning(
            "credentials.tokens",
            "HTTP tokens",
            f"expired: {', '.join(expired[:5])}",
            "Make a new one where it is still needed (standfast tokens create), then:\n"
            + command("standfast", "tokens", "revoke", expired[0]),
        )
    elif found:
        yield ok("credentials.tokens", "HTTP tokens", f"{len(found)} valid")
    else:
        yield ok("credentials.tokens", "HTTP tokens", f"none; it answers on {settings.http_host} only")


def _names_in(file: Path) -> set[str]:
    """The names that are given a value there."""
    found = set()
    for line in file.read_text("utf-8", "replace").splitlines():
        name, is_set, value = line.strip().removeprefix("export ").partition("=")
        if is_set and value.strip():
            found.add(name.strip())
    return found


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"
