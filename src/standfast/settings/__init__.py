"""Every setting that Standfast has; see `model` for the values, `loading` and `places` for where they come from."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from standfast.settings.places import COMMAND_LINE, state_directory

if TYPE_CHECKING:
    from standfast.settings.loading import load_settings
    from standfast.settings.model import Settings, SettingView, Source

__all__ = ["COMMAND_LINE", "SettingView", "Settings", "Source", "load_settings", "state_directory"]

# Loaded when first used: a command that only asks a running service needs the state directory alone.
_HOMES = {"load_settings": "loading", "Settings": "model", "SettingView": "model", "Source": "model"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'standfast.settings' has no attribute {name!r}")
    return getattr(import_module(f"standfast.settings.{_HOMES[name]}"), name)
