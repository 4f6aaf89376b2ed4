"""The settings of the emergency.

Invariant: `Settings` adds nothing to these but their values' sources; none names a file that has to exist yet.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from standfast.settings.keeping import AbsolutePath


class EmergencySettings(BaseSettings):
    """The part of `Settings` that the emergency reads."""

    emergency_dir: AbsolutePath | None = Field(None, alias="STANDFAST_EMERGENCY_DIR")
    drill_company: str | None = Field(None, alias="STANDFAST_DRILL_COMPANY", max_length=50)
    mirror_interval_ms: int = Field(200, alias="STANDFAST_MIRROR_INTERVAL_MS", ge=20, le=60_000)
    runbook_contacts: str | None = Field(None, alias="STANDFAST_RUNBOOK_CONTACTS", max_length=2_000)
