"""A machine with backups and remotes, for tests of what goes where."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from pydantic import SecretStr

from standfast.alert import Alert
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.manifest import Content, Kind, Manifest, Record, Validation
from standfast.jobs.context import JobContext
from standfast.jobs.remotes.report import Sent
from standfast.jobs.remotes.sending import send_backups
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.settings import Settings

DAY_S = 86_400.0


@dataclass
class Heard:
    alerts: list[Alert] = field(default_factory=list)

    def take(self, alert: Alert) -> None:
        self.alerts.append(alert)

    def names(self, remote: str) -> list[str]:
        return [one.name for one in self.alerts if one.tags["remote"] == remote]


class Node:
    """A machine with backups that are made up, but lie there as real ones do."""

    def __init__(self, root: Path, remotes: str, **settings: int | str) -> None:
        root.mkdir(exist_ok=True)
        self.settings = Settings(
            state_dir=root,
            backup_remotes=SecretStr(remotes),
            **{"backup_recipients": "none", **settings},  # type: ignore[arg-type]  # by name
        )
        self.catalogue = Catalogue(self.settings.backup_directory)
        self.heard = Heard()

    def backup(
        self, days_ago: float, *kinds: Kind, good: bool = True, identity: str = "one", encrypted: bool = False
    ) -> Backup:
        self.catalogue.prepare()
        at = time.time() - days_ago * DAY_S
        name, data = self.catalogue.free_name(at), os.urandom(50_000)
        path = self.catalogue.root / name
        path.mkdir(mode=0o700)
        (path / "content.dump.zst").write_bytes(data)
        content = Content(
            "content.dump.zst", len(data), hashlib.sha256(data).hexdigest(), 1, "zstd", encrypted
        )
        manifest = Manifest(
            1, name, list(kinds) or ["daily"], at, at, 1.0, "node", "0", 6, "18.4", "18.4", "test", "", content,
            {}, {}, "", "", identity,
        )  # fmt: skip
        (path / "manifest.json").write_bytes(msgspec.json.encode(manifest))
        verdict = Validation(at=time.time(), ok=good, duration_s=0.1)
        self.catalogue.record(name, Record(validations=[verdict]))
        return self.catalogue.get(name)

    async def push(self, *, at_once: bool = True) -> list[Sent]:
        database = Database(DatabaseOptions())
        context = JobContext(self.settings, database, self.heard, "00000000-0000-0000-0000-000000000000", "a")
        return (await send_backups(context, at_once=at_once)).remotes

    def attempts(self, backup: Backup, remote: str) -> int:
        return self.catalogue.get(backup.name).record.uploads[remote].attempts
