"""Secrets in files, as containers and systemd hand them over: `POSTGRES_PASSWORD_FILE` names the file of
`POSTGRES_PASSWORD`, and so for every secret setting.

Invariant: a file that is named and cannot be read is an error; its content is shown nowhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

from pydantic import SecretStr

from standfast.errors import SettingsError
from standfast.settings.model import Settings, name_of

LIMIT_BYTES = 65_536
BY_FILE = {
    f"{name_of(field)}_FILE": name_of(field)
    for field, info in Settings.model_fields.items()
    if SecretStr in get_args(info.annotation)
}
"""The variables that name files, and the settings that these hold."""


def secrets_by_file() -> dict[str, str]:
    """The secrets that files hold, by their settings' names; without line breaks at the end. Raises `SettingsError`."""
    found = {}
    for variable, name in BY_FILE.items():
        path = os.environ.get(variable)
        if not path:
            continue
        if os.environ.get(name):
            raise SettingsError(
                f"{name} and {variable} are both set, and only one can be meant",
                next_step="Unset one of them.",
            )
        found[name] = _content(variable, Path(path))
    return found


def _content(variable: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
        text = content.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(
            f"{variable} names {path}, which cannot be read: {error.strerror}",
            next_step="Make it readable for this account, or unset the variable.",
        ) from error
    except UnicodeDecodeError:
        raise SettingsError(f"{variable} names {path}, which is not text") from None
    if not text or len(content) > LIMIT_BYTES:
        raise SettingsError(f"{variable} names {path}, which is {'too large' if text else 'empty'}")
    return text
