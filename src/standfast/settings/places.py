"""Where values come from before they are settings: the command line's options and `.env`; and from both, and the
environment, the state directory alone.

Invariant: the state directory found here is that of `load_settings`, which takes ten times as long.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from standfast.errors import SettingsError

DOTENV = Path(".env")
_STATE_DIR = "STANDFAST_STATE_DIR"

COMMAND_LINE: ContextVar[Mapping[str, Any]] = ContextVar("COMMAND_LINE", default=MappingProxyType({}))
"""What this invocation's options set, by environment name; None is not set."""


def state_directory() -> Path:
    """The state directory in force; no other setting is looked at. Raises `SettingsError` where `.env` must be read
    and cannot be."""
    given = COMMAND_LINE.get().get(_STATE_DIR) or os.environ.get(_STATE_DIR)
    given = given or read_dotenv(DOTENV).get(_STATE_DIR)
    return absolute(Path(given)) if given else absolute(default_state_dir())


def default_state_dir() -> Path:
    """The state directory where none is set."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "standfast"


def absolute(path: Path) -> Path:
    """`path` from the root, `~` resolved."""
    return path.expanduser().absolute()


def read_dotenv(path: Path) -> Mapping[str, str]:
    """Its values, empty ones left out; nothing where there is no such file. Raises `SettingsError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} cannot be read: {type(error).__name__}",
            next_step="Make it a UTF-8 text file that this account may read, or remove it.",
        ) from None
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    for line in parse_stream(io.StringIO(text)):
        if line.error:
            raise SettingsError(
                f"line {line.original.line} of {path} is not NAME=value",
                next_step="Correct the line; see .env.example.",
            )
    return {name: value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value}
