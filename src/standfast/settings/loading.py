"""Where settings come from: command line, then environment, then `.env` in the working directory, then defaults.
For secrets the environment may name a file instead.

Invariant: a bad value is reported with its name, its source and its fault; a secret is never repeated.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from standfast.errors import SettingsError
from standfast.redaction import is_secret_name
from standfast.settings.model import Settings, Source, name_of
from standfast.settings.places import COMMAND_LINE, DOTENV, read_dotenv
from standfast.settings.secret_files import BY_FILE, secrets_by_file

_OURS = ("STANDFAST_", "POSTGRES_")
_INTERNAL = frozenset({"STANDFAST_HOST_TOKEN"})  # given by the service to its Node host
_NEVER_SHOWN = frozenset(
    {"DATABASE_URL", "POSTGRES_CONNECTION_STRING", "SENTRY_DSN", "WHATSAPP_PHONE_NUMBER", "BACKUP_REMOTES"}
)


def load_settings(*, dotenv: Path | None = None) -> Settings:
    """The settings in force. `dotenv` is `.env` of the working directory unless named. Raises `SettingsError`
    naming every bad value."""
    told = read_dotenv(DOTENV if dotenv is None else dotenv)
    values, sources = merged(told)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError("; ".join(problem(item, values, sources) for item in error.errors())) from None
    return settings.with_sources(sources, tuple(remarks(set(sources), told)))


def merged(dotenv: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Source]]:
    """The value of each name that is set, and where each name's comes from."""
    layers: list[tuple[Source, Mapping[str, Any]]] = [
        (".env", dotenv),
        ("environment", secrets_by_file()),
        ("environment", EnvSettingsSource(Settings, case_sensitive=True, env_ignore_empty=True)()),
        ("command line", {name: value for name, value in COMMAND_LINE.get().items() if value is not None}),
    ]
    names = {name_of(field) for field in Settings.model_fields}
    values: dict[str, Any] = {}
    sources: dict[str, Source] = dict.fromkeys(sorted(names), "default")
    for source, layer in layers:
        for name in names & layer.keys():
            values[name], sources[name] = layer[name], source
    return values, sources


def problem(item: Any, values: Mapping[str, Any], sources: Mapping[str, Source]) -> str:
    """One of pydantic's errors in a sentence, without a secret."""
    name = str(item["loc"][0]) if item["loc"] else "settings"
    name = name_of(name) if name in Settings.model_fields else name
    fault = str(item["msg"]).removeprefix("Value error, ")
    fault = fault[:1].lower() + fault[1:] if fault.startswith("Input") else fault
    shown = ""
    if name in values and name not in _NEVER_SHOWN and not is_secret_name(name):
        shown = f"={str(values[name])[:40]!r}"
    return f"{name}{shown} (from {sources.get(name, 'default')}): {fault}"


def remarks(names: set[str], dotenv: Mapping[str, str]) -> list[str]:
    """What is said of names that look like settings and are none."""
    found = []
    for name in sorted({*os.environ, *dotenv}):
        if name.startswith(_OURS) and name not in names | _INTERNAL | BY_FILE.keys():
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
            found.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    found += [
        f"{name} in .env is not seen by libpq; export it, or use DATABASE_URL"
        for name in sorted(dotenv)
        if name.startswith("PG") and name not in os.environ
    ]
    return found
