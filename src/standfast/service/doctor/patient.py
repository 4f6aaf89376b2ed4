"""`Patient`: what is examined: the settings as far as they can be used, and where things are.

Invariant: making one touches neither disk nor network but for the settings' own files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from standfast.redaction import MASK, redact_text
from standfast.settings import Settings
from standfast.settings.survey import Survey
from standfast.state_dir import Holder, StateDirectory

WHATSAPP = ("web.whatsapp.com", 443)
SERVICE = "service"  # as the service describes itself in the state directory's lock
_SECRET_LEAST = 4  # hiding shorter ones would only make holes in words


@dataclass(frozen=True)
class Patient:
    """`offline`: nothing outside this machine but PostgreSQL is asked."""

    survey: Survey
    offline: bool = False
    whatsapp: tuple[str, int] = WHATSAPP

    @property
    def settings(self) -> Settings:
        return self.survey.settings

    @property
    def state(self) -> StateDirectory:
        return StateDirectory(self.settings.state_dir)

    @property
    def vault_dir(self) -> Path:
        return self.settings.state_dir / "vault"

    @property
    def messages_dir(self) -> Path:
        return self.settings.state_dir / "messages"

    def is_shut_out(self) -> bool:
        """Whether the state directory is there and this account cannot look into it."""
        path = self.state.path
        return path.is_dir() and not os.access(path, os.R_OK | os.X_OK)

    def holder(self) -> Holder | None:
        """Who holds the state directory; None also where there is none yet. Raises `StateDirectoryError`."""
        return self.state.holder() if self.state.path.is_dir() else None

    def service_runs(self) -> bool:
        holder = self.holder()
        return holder is not None and holder.purpose == SERVICE

    def hide(self, text: str) -> str:
        """`text` without anything secret that the settings hold, whoever put it there."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return redact_text(text)

    @property
    def _secrets(self) -> list[str]:
        """The longest first: one may be a part of another."""
        return sorted(set(_secrets(self.settings)), key=len, reverse=True)


def _secrets(settings: Settings) -> Iterator[str]:
    for field in type(settings).model_fields:
        value = getattr(settings, field)
        if isinstance(value, SecretStr):
            whole = value.get_secret_value()
            yield from (one for one in (whole, *whole.replace(",", " ").split()) if len(one) >= _SECRET_LEAST)
    password = settings.database_parameters().get("password") or os.environ.get("PGPASSWORD")
    if password and len(password) >= _SECRET_LEAST:
        yield password
