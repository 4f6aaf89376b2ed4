"""Every setting that Standfast has; see `model` for the values and `loading` for where they come from."""

from standfast.settings.loading import COMMAND_LINE, load_settings
from standfast.settings.model import Settings, SettingView, Source

__all__ = ["COMMAND_LINE", "SettingView", "Settings", "Source", "load_settings"]
