"""The backups that lie in a remote: backups/NAME/ with a content file and, written last, a manifest.

Invariant: one counts only with a manifest that can be read and a content file of the size that it names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from standfast.errors import BackupDamaged, NotFound, StandfastError
from standfast.jobs.backup.catalogue import NAME, parse_manifest
from standfast.jobs.backup.manifest import MANIFEST, RECORD, Manifest
from standfast.jobs.backup.rotation import Dated
from standfast.jobs.remotes.remote import Remote, Stored

PREFIX = "backups/"
_MANIFEST_LIMIT_BYTES = 64 << 20
_MOST_READ = 2_000
# A manifest is written once: a service that looks every few minutes need not have each sent again and again.
_read: dict[tuple[str, str, int, float], Manifest] = {}
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Held:
    """One backup there. `manifest` is without its companies. `at`: when it came to count."""

    name: str
    manifest: Manifest
    at: float

    @property
    def dated(self) -> Dated:
        """As rotation looks at it: only good ones are sent."""
        return Dated(self.name, self.manifest.snapshot_at, tuple(self.manifest.kinds), "good")


@dataclass(frozen=True, slots=True)
class Shelf:
    """`held` by name; `unusable`: why those of these names do not count though they have a manifest; `begun`: files of
    names without one."""

    held: dict[str, Held]
    unusable: dict[str, StandfastError]
    begun: dict[str, list[Stored]]

    @property
    def newest(self) -> Held | None:
        return max(self.held.values(), key=lambda one: (one.manifest.snapshot_at, one.name), default=None)

    @property
    def bytes(self) -> int:
        return sum(one.manifest.content.bytes for one in self.held.values())


def content_name(manifest: Manifest) -> str:
    """What its content file is called there. `BackupDamaged` where the manifest names none that could be."""
    file = manifest.content.file
    if not _FILE.fullmatch(file) or file in {MANIFEST, RECORD}:
        raise BackupDamaged(f"the manifest of {manifest.name} names a content file that cannot be one")
    return f"{PREFIX}{manifest.name}/{file}"


def manifest_name(name: str) -> str:
    """What the manifest of a backup is called there."""
    return f"{PREFIX}{name}/{MANIFEST}"


async def look(remote: Remote) -> Shelf:
    """What lies there. Raises `RemoteFailed`."""
    files: dict[str, list[Stored]] = {}
    for one in await remote.list(PREFIX):
        name = one.name.removeprefix(PREFIX).partition("/")[0]
        if NAME.fullmatch(name):
            files.setdefault(name, []).append(one)
    shelf = Shelf({}, {}, {})
    for name, found in files.items():
        if not any(one.name == manifest_name(name) for one in found):
            shelf.begun[name] = found
            continue
        try:
            shelf.held[name] = await _held(remote, name, found)
        except (BackupDamaged, NotFound) as error:
            shelf.unusable[name] = error
    return shelf


async def read_whole(remote: Remote, name: str) -> tuple[Manifest, bytes]:
    """The manifest of a backup there, with its companies, and as it lies there."""
    data = await remote.read(manifest_name(name), _MANIFEST_LIMIT_BYTES)
    manifest = parse_manifest(data, f"{manifest_name(name)} of the remote {remote.name}")
    if manifest.name != name:
        raise BackupDamaged(f"{manifest_name(name)} of the remote {remote.name} is that of another backup")
    return manifest, data


async def _held(remote: Remote, name: str, found: list[Stored]) -> Held:
    files = {one.name: one for one in found}
    written = files[manifest_name(name)]
    key = (f"{remote.name} {remote.address.shown}", name, written.bytes, written.at)
    manifest = _read.get(key)
    if manifest is None:
        manifest = msgspec.structs.replace((await read_whole(remote, name))[0], companies={})
        if len(_read) >= _MOST_READ:
            _read.clear()
        _read[key] = manifest
    content = files.get(content_name(manifest))
    if content is None or content.bytes != manifest.content.bytes:
        raise BackupDamaged(
            f"the content of {name} in the remote {remote.name} is missing or of another size"
        )
    return Held(name, manifest, written.at)
