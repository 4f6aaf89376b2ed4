"""`Past`: what the change log, or else the newest good backup, has of companies that nothing else has any more.

Invariant: what comes from there is taken for a state of the past: ratchets that contacts may have seen further on are
left out, as in a restore.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from standfast.authstate.company import Company
from standfast.errors import CompanyUnknown, NotFound, StandfastError
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.changelog.state import companies_at, state_within
from standfast.jobs.restore.copied import value
from standfast.jobs.restore.from_backup import BackupSource
from standfast.jobs.restore.rules import kept, rolled_back
from standfast.postgres.client_tools import find_client_tools
from standfast.settings import Settings

log = structlog.get_logger(__name__)
CHANGE_LOG = "change log"
BACKUP = "backup "


@dataclass(frozen=True, slots=True)
class PastState:
    """A company as it is to go on: `at` is when the source had it so."""

    creds: bytes = field(repr=False)
    keys: dict[str, dict[str, bytes]] = field(repr=False)
    epoch: int
    sequence: int
    at: float


class Past:
    """Reads the directory of the backups; PostgreSQL is not needed."""

    def __init__(self, settings: Settings, node_name: str) -> None:
        self._settings = settings
        self._node_name = node_name

    async def offers(self, known: Collection[str]) -> dict[str, str]:
        """By company, where its state can be had; none of those that are `known`. What cannot be read offers nothing,
        and the log says why."""
        return await asyncio.to_thread(self._offers, frozenset(known))

    def _offers(self, known: frozenset[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        try:
            for company in companies_at(self._settings):
                if company not in known and self._logged(company) is not None:
                    found[company] = CHANGE_LOG
        except (OSError, StandfastError) as error:
            log.warning("the change log offers nothing", reason=str(error))
        backup = self._newest()
        if backup is not None and backup.manifest is not None:
            for name, content in backup.manifest.companies.items():
                if content.creds and name not in known:
                    found.setdefault(name, f"{BACKUP}{backup.name}")
        return found

    def _newest(self) -> Backup | None:
        try:
            return Catalogue(self._settings.backup_directory).get("latest")
        except NotFound:
            return None
        except (OSError, StandfastError) as error:
            log.warning("the backups offer nothing", reason=str(error))
            return None

    async def state(self, company: Company, source: str) -> PastState:
        """The state that `offers` named. `CompanyUnknown` where it is not there any more; errors of reading it."""
        found = (
            await asyncio.to_thread(self._logged, company)
            if source == CHANGE_LOG
            else await self._backed_up(company, source.removeprefix(BACKUP))
        )
        if found is None:
            raise CompanyUnknown(f"the {source} has no state of {company}")
        return found

    def _logged(self, company: Company) -> PastState | None:
        state = state_within(self._settings, company)
        if state is None or state.creds is None:
            return None
        return _ruled(state.creds, state.keys, state.epoch, state.sequence, state.at)

    async def _backed_up(self, company: Company, name: str) -> PastState | None:
        backup = await asyncio.to_thread(Catalogue(self._settings.backup_directory).get, name)
        assert backup.manifest is not None, "the catalogue gives none without one"
        major = max(_major(backup.manifest.server_version), _major(backup.manifest.client_version))
        tools = await asyncio.to_thread(find_client_tools, major, self._settings.pg_bin_dir)
        source = BackupSource(backup, self._settings, tools.pg_restore, self._node_name)
        offer = (await source.offers()).get(company)
        if offer is None:
            return None
        keys: dict[str, dict[str, bytes]] = {}
        async with aclosing(source.lines(frozenset({company}))) as chunks:
            async for chunk in chunks:
                for line in chunk.splitlines():
                    _, key_type, key_id, raw, *_ = (value(part) for part in line.split(b"\t"))
                    if key_type is not None and key_id is not None and raw is not None:
                        keys.setdefault(key_type.decode(), {})[key_id.decode()] = raw
        return _ruled(offer.creds, keys, offer.epoch, offer.sequence, source.at)


def _ruled(
    creds: bytes, keys: dict[str, dict[str, bytes]], epoch: int, sequence: int, at: float
) -> PastState:
    ruled = rolled_back(creds, age_s=max(0.0, time.time() - at))
    held = {
        key_type: {key_id: raw for key_id, raw in ids.items() if kept(ruled, key_type, key_id)}
        for key_type, ids in keys.items()
    }
    return PastState(ruled.creds, held, epoch, sequence, at)


def _major(version: str) -> int:
    digits = version.split(".", maxsplit=1)[0].rsplit(maxsplit=1)[-1]
    return int(digits) if digits.isdecimal() else 0
