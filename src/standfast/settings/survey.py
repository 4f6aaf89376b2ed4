"""Settings for whoever must go on with broken ones, as the doctor does.

Invariant: a value that is bad, or part of a contradiction, is named and left out; all others are as `load_settings` has
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from standfast.errors import SettingsError
from standfast.settings.loading import merged, problem, remarks
from standfast.settings.model import Settings
from standfast.settings.places import DOTENV, read_dotenv


@dataclass(frozen=True)
class Survey:
    """What can be used of settings that may be broken. `faults`, one by one; `passed_over`: names whose values were
    left out for that; `unread`: `.env` is there and could not be read."""

    settings: Settings
    faults: tuple[SettingsError, ...] = ()
    passed_over: frozenset[str] = frozenset()
    unread: bool = False


def survey_settings(dotenv: Path | None = None) -> Survey:
    """As `load_settings`, for whoever must go on with broken ones. Does not raise."""
    faults: list[SettingsError] = []
    told: Mapping[str, str] = {}
    try:
        told = read_dotenv(DOTENV if dotenv is None else dotenv)
    except SettingsError as error:
        faults.append(error)
    unread = bool(faults)
    values, sources = merged(told)
    given = frozenset(values)
    while True:
        try:
            settings = Settings(**values)
            break
        except ValidationError as error:
            items = error.errors()
            faults += [SettingsError(problem(item, values, sources)) for item in items]
            bad = {str(item["loc"][0]) for item in items if item["loc"]} & values.keys()
        except SettingsError as error:
            faults.append(error)
            bad = {name for name in values if re.search(rf"\b{name}\b", error.message)}
        if not values:
            raise AssertionError("the defaults contradict each other")
        # A fault that names none of them is one of all together.
        values = {name: value for name, value in values.items() if bad and name not in bad}
    settings = settings.with_sources(sources, tuple(remarks(set(sources), told)))
    return Survey(settings, tuple(faults), given - values.keys(), unread)
