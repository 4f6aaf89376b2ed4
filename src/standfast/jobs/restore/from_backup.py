"""`BackupSource`: a backup as the source of a restore.

Invariant: what it offers is what the manifest names, no company more or less; where the two differ it is damaged.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from standfast.authstate.company import Company, company_id
from standfast.errors import BackupDamaged, RestoreRefused, UsageError
from standfast.jobs.backup import sealing
from standfast.jobs.backup.catalogue import Backup
from standfast.jobs.backup.manifest import Manifest
from standfast.jobs.restore.copied import Rows, rows_of, value
from standfast.jobs.restore.same import same_as
from standfast.jobs.restore.source import COLUMNS, Offer, Wished
from standfast.postgres.migrations.ledger import NUMBERED
from standfast.postgres.pool import Database
from standfast.settings import Settings

_AUTH, _KEYS = "whatsapp_auth", "whatsapp_keys"
_SESSIONS, _NODES = "standfast_sessions", "standfast_nodes"


class BackupSource:
    """See `Source`. `unusable`: companies whose ids Standfast refuses, known once the offers were read.
    `without_creds`: those that it has keys of and nothing else."""

    def __init__(self, backup: Backup, settings: Settings, pg_restore: Path, node_name: str) -> None:
        """`node_name`: this node's, which is not waited for. `RestoreRefused` where a later version has made it."""
        manifest = backup.manifest
        assert manifest is not None, "the catalogue gives none without one"
        known = NUMBERED[-1].version
        if manifest.schema_version > known:
            raise RestoreRefused(
                f"{backup.name} is of a database of version {manifest.schema_version}; this Standfast knows {known}",
                next_step="Restore with the version of Standfast that made it, or a later one.",
            )
        self.name = backup.name
        self.at = manifest.snapshot_at
        self.identity = manifest.identity or None
        self.nodes: frozenset[str] = frozenset()
        self.unusable: tuple[str, ...] = ()
        self.without_creds = tuple(
            sorted(name for name, content in manifest.companies.items() if content.keys and not content.creds)
        )
        self._backup = backup
        self._manifest: Manifest = manifest
        self._settings = settings
        self._pg_restore = pg_restore
        self._node_name = node_name
        self._creds: dict[str, bytes] = {}
        self._wished: dict[str, Wished] = {}

    async def offers(self) -> dict[Company, Offer]:
        """See `Source.offers`."""
        async with aclosing(self._rows(_AUTH, _SESSIONS, _NODES)) as found:
            async for rows in found:
                self._take(rows)
        said = {company for company, content in self._manifest.companies.items() if content.creds}
        if said != self._creds.keys():
            raise BackupDamaged(f"{self.name} does not hold the companies that its manifest names")
        usable = {company: raw for company, raw in self._creds.items() if _is_usable(company)}
        self.unusable = tuple(sorted(self._creds.keys() - usable.keys()))
        return {Company(company): self._offer(company, raw) for company, raw in sorted(usable.items())}

    async def same_in(self, database: Database) -> frozenset[str]:
        """See `Source.same_in`."""
        return await same_as(database, self._manifest)

    async def lines(self, companies: frozenset[Company]) -> AsyncGenerator[bytes, None]:
        """See `Source.lines`."""
        wanted = {company.encode() for company in companies}
        async with aclosing(self._rows(_KEYS)) as found:
            async for rows in found:
                if text := _lines(rows, wanted):
                    yield text

    def _rows(self, *tables: str) -> AsyncGenerator[Rows, None]:
        return rows_of(self._opened, self._pg_restore, tables)

    def _opened(self) -> AbstractContextManager[BinaryIO]:
        return sealing.opened(self._backup, sealing.identities(self._settings))

    def _take(self, rows: Rows) -> None:
        place = {name: number for number, name in enumerate(rows.columns)}
        for row in rows.rows:
            got = {name: value(row[number]) for name, number in place.items()}
            if rows.table == _NODES:
                if self._lived(got["alive_until"]) and _text(got["name"]) != self._node_name:
                    self.nodes |= {_text(got["node"]) or ""}
                continue
            company = (got["company_id"] or b"").decode()
            if rows.table == _AUTH:
                self._creds[company] = got["creds"] or b""
            elif rows.table == _SESSIONS:
                self._wished[company] = Wished(
                    got["wanted"] == b"t", _text(got.get("phone")), _text(got.get("unlinked_at"))
                )

    def _lived(self, until: bytes | None) -> bool:
        """Whether a lease that ends then was alive at the snapshot. PostgreSQL writes it with its offset."""
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(_text(until) or "").timestamp() > self.at
        return False

    def _offer(self, company: str, creds: bytes) -> Offer:
        content = self._manifest.companies[company]
        return Offer(
            Company(company),
            creds,
            sum(content.keys.values()),
            content.epoch,
            content.sequence,
            self._wished.get(company),
        )


def _lines(rows: Rows, wanted: set[bytes]) -> bytes:
    """Those of the wanted companies, with the columns that a restore takes and no others."""
    places = [rows.columns.index(name) if name in rows.columns else -1 for name in COLUMNS]
    company = places[0]
    chosen = (row for row in rows.rows if row[company] in wanted)
    if places == list(range(len(rows.columns))):
        lines = [b"\t".join(row) for row in chosen]
    else:
        lines = [b"\t".join([row[at] if at >= 0 else rb"\N" for at in places]) for row in chosen]
    return b"\n".join(lines) + b"\n" if lines else b""


def _is_usable(company: str) -> bool:
    try:
        company_id(company)
    except UsageError:
        return False
    return True


def _text(found: bytes | None) -> str | None:
    return None if found is None else found.decode()
