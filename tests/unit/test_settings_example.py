"""`.env.example` against the settings themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from dotenv import dotenv_values

from standfast.settings import Settings, load_settings
from standfast.settings.model import name_of

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_every_setting_is_documented_and_no_other() -> None:
    """A setting that is added, renamed or removed must be so in the example too."""
    assert set(dotenv_values(EXAMPLE)) == {name_of(field) for field in Settings.model_fields}


def test_its_values_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Used as it stands, the example changes nothing."""
    names = set(dotenv_values(EXAMPLE))
    for name in names:
        monkeypatch.delenv(name, raising=False)
    loaded, default = load_settings(dotenv=EXAMPLE), Settings()
    assert loaded.model_dump() == default.model_dump()


def test_every_default_is_written_out() -> None:
    """Where a default is a plain value, the example shows it, so that nobody has to look it up."""
    values = dotenv_values(EXAMPLE)
    for field, info in Settings.model_fields.items():
        if info.default is not None and info.default_factory is None:
            assert values[name_of(field)], f"{name_of(field)} has a default that the example does not show"
