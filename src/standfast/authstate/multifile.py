"""Auth state as a folder in Baileys' multi-file layout, out and in again without loss.

Invariant: a folder is written beside and renamed, so it is there whole or not at all; what is read is checked file by
file, and a file that cannot be read is an error, never a missing key.

Beside Baileys' files stands `standfast-index.json`: which type and id each file holds, and its checksum. With it every
id returns exactly as it was. Plain Baileys may use the folder meanwhile: files that it changed, added or deleted since
are taken as they are now.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import orjson

from standfast.authstate.buffer_json import canonical_json, passed_on
from standfast.authstate.creds import parse_creds
from standfast.authstate.file_names import CREDS, INDEX, SUFFIX, file_name, key_of_name, masked
from standfast.authstate.key_types import OWN_PREFIX
from standfast.errors import AuthStateCorrupt, UsageError

_FORMAT = "standfast-multifile"
_VERSION = 1
_FILE_LIMIT_BYTES = 64 * 1024 * 1024

Keys = Mapping[str, Mapping[str, bytes]]


class Entry(TypedDict):
    """What the index says of a file; `sha256` is that of its JSON in canonical form."""

    type: str
    id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder holds. The counts compare it with its index; without one, all is `added`."""

    creds: bytes = field(repr=False)
    keys: dict[str, dict[str, bytes]] = field(repr=False)
    changed: int = 0
    added: int = 0
    deleted: int = 0

    @property
    def key_count(self) -> int:
        return sum(map(len, self.keys.values()))


def export_folder(
    directory: Path, creds: bytes, keys: Keys, *, overwrite: bool = False, with_own: bool = False
) -> int:
    """Write `creds` and `keys` as `directory` (made; its parent must exist); how many files that took.

    Types of Standfast's own (`OWN_PREFIX`) stay behind unless `with_own`: other clients have no use for them.
    A directory that holds something is refused, except an earlier export where `overwrite` is set.
    """
    parse_creds(creds)
    directory = directory.absolute()
    _check_target(directory, overwrite=overwrite)
    files = dict(folder_files(creds, keys, with_own=with_own))
    fresh = Path(tempfile.mkdtemp(prefix=f".{directory.name}.new-", dir=directory.parent))
    try:
        for name, content in files.items():
            _write(fresh / name, content)
        sync(fresh)
        _swap(fresh, directory)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return len(files)


def import_folder(directory: Path, left_out: list[tuple[str, str]] | None = None) -> Folder:
    """Everything in `directory`, in canonical form. `UsageError` where it is no such folder, `AuthStateCorrupt` naming
    the file that is damaged. With `left_out`, damaged keys are left out and named there, by type and id; damaged creds
    are an error still."""
    names = names_in(directory)
    if CREDS not in names:
        raise AuthStateCorrupt(
            f"{directory} has no {CREDS}",
            next_step="Name the folder that useMultiFileAuthState was given; without its creds.json pair anew.",
        )
    creds = read_file(directory / CREDS)
    _checked_creds(directory, creds)
    index = _index_if_whole(directory, tolerant=left_out is not None) if INDEX in names else {}
    types = {entry["type"] for entry in index.values()}
    keys: dict[str, dict[str, bytes]] = {}
    changed = added = 0
    for name in names - {CREDS, INDEX}:
        key_type, key_id = _key(directory, name, index, types)
        try:
            raw = read_file(directory / name)
        except AuthStateCorrupt:
            if left_out is None:
                raise
            left_out.append((key_type, key_id))
            continue
        keys.setdefault(key_type, {})[key_id] = raw
        added += name not in index
        changed += name in index and index[name]["sha256"] != digest(raw)
    return Folder(creds, keys, changed, added, len(index.keys() - names))


def folder_files(creds: bytes, keys: Keys, *, with_own: bool = False) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a folder, the index last."""
    keys = keys if with_own else _of_clients(keys)
    yield CREDS, canonical_json(creds)
    index: dict[str, Entry] = {}
    for key_type, key_id in sorted((key_type, key_id) for key_type, ids in keys.items() for key_id in ids):
        name = file_name(key_type, key_id)
        if name is None or name in index:
            # Two ids of one name, or a name that no file can have: Baileys could not keep them either. The index can.
            name = f"standfast-{len(index)}{SUFFIX}"
        content = canonical(keys[key_type][key_id], f"the {key_type} key of {masked(name)}")
        index[name] = {"type": key_type, "id": key_id, "sha256": digest(content)}
        yield name, content
    yield INDEX, index_content(index)


def live_files(creds: bytes, keys: Keys) -> Iterator[tuple[str, bytes]]:
    """As `folder_files`, values passed on as they stand where Baileys reads them so; the creds and the index last."""
    index: dict[str, Entry] = {}
    for key_type, ids in keys.items():
        if key_type.startswith(OWN_PREFIX):
            continue
        for key_id, value in ids.items():
            name = file_name(key_type, key_id)
            if name is None or name in index:
                name = f"standfast-{len(index)}{SUFFIX}"
            try:
                content = passed_on(value)
            except AuthStateCorrupt as error:
                raise AuthStateCorrupt(f"the {key_type} key of {masked(name)}: {error.message}") from None
            index[name] = {"type": key_type, "id": key_id, "sha256": digest(content)}
            yield name, content
    yield CREDS, canonical_json(creds)
    yield INDEX, live_index(index)


def live_index(files: Mapping[str, Entry]) -> bytes:
    """As `index_content`, on one line: made in a tenth of the time."""
    return json.dumps(
        {"format": _FORMAT, "version": _VERSION, "files": files}, separators=(",", ":")
    ).encode()


def index_content(files: Mapping[str, Entry]) -> bytes:
    document = {"format": _FORMAT, "version": _VERSION, "files": files}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _of_clients(keys: Keys) -> Keys:
    return {key_type: ids for key_type, ids in keys.items() if not key_type.startswith(OWN_PREFIX)}


def _key(directory: Path, name: str, index: Mapping[str, Entry], types: set[str]) -> tuple[str, str]:
    entry = index.get(name)
    if entry is not None:
        return entry["type"], entry["id"]
    found = key_of_name(name, types)
    if found is None:
        raise UsageError(
            f"{masked(name)} in {directory} is not a file of Baileys' multi-file layout",
            next_step="Name a folder that useMultiFileAuthState or 'standfast export' wrote, and move other files out.",
        )
    return found


def names_in(directory: Path) -> set[str]:
    """The files of the folder, the index included. `UsageError` where there is no such folder."""
    try:
        names = os.listdir(directory)  # noqa: PTH208 - an object for each of a million names takes longer than the names
    except FileNotFoundError:
        raise UsageError(f"{directory} does not exist") from None
    except OSError as error:
        raise UsageError(f"{directory} cannot be read as a folder: {error.strerror}") from None
    # A file manager leaves hidden files; Baileys writes none.
    return {name for name in names if not name.startswith(".")}


def _index_if_whole(directory: Path, *, tolerant: bool) -> dict[str, Entry]:
    """Without a whole index, names tell what the files of known types are."""
    try:
        return read_index(directory)
    except AuthStateCorrupt:
        if not tolerant:
            raise
        return {}


def read_index(directory: Path) -> dict[str, Entry]:
    try:
        document = json.loads((directory / INDEX).read_bytes())
        files = document["files"]
        known = document["format"] == _FORMAT and document["version"] == _VERSION
        whole = all(
            isinstance(entry[part], str) for entry in files.values() for part in ("type", "id", "sha256")
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        known = whole = False
        files = {}
    if not (known and whole):
        raise AuthStateCorrupt(
            f"{INDEX} in {directory} is damaged or of another version",
            next_step=f"Take the folder from a backup, or remove {INDEX}: without it the known key types are read.",
        )
    return dict(files)


def read_file(path: Path) -> bytes:
    """A file's JSON in canonical form."""
    try:
        if path.stat().st_size > _FILE_LIMIT_BYTES:
            raise AuthStateCorrupt(f"{masked(path.name)} in {path.parent} is larger than any auth state")
        raw = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"{masked(path.name)} in {path.parent} cannot be read: {error.strerror}") from None
    return canonical(raw, f"{masked(path.name)} in {path.parent}")


def canonical(raw: bytes, what: str) -> bytes:
    """`AuthStateCorrupt` naming `what`."""
    try:
        return canonical_json(raw)
    except AuthStateCorrupt as error:
        raise AuthStateCorrupt(f"{what}: {error.message}") from None


def _checked_creds(directory: Path, creds: bytes) -> None:
    try:
        parse_creds(creds)
    except AuthStateCorrupt as error:
        raise AuthStateCorrupt(f"{CREDS} in {directory}: {error.message}") from None


def _check_target(directory: Path, *, overwrite: bool) -> None:
    if not directory.parent.is_dir():
        raise UsageError(f"{directory.parent} is not a folder", next_step="Make it first.")
    if not directory.exists() and not directory.is_symlink():
        return
    if directory.is_symlink() or not directory.is_dir():
        raise UsageError(f"{directory} exists and is not a folder")
    if not any(directory.iterdir()):
        return
    if not (directory / INDEX).is_file():
        raise UsageError(
            f"{directory} is not empty and no export of Standfast",
            next_step="Name a folder that does not exist yet.",
        )
    if not overwrite:
        raise UsageError(
            f"{directory} holds an export already", next_step="Name another folder, or ask to overwrite."
        )
    read_index(directory)


def _swap(fresh: Path, directory: Path) -> None:
    older = fresh.with_name(fresh.name.replace(".new-", ".old-"))
    replaced = directory.exists()
    if replaced:
        directory.rename(older)
    try:
        fresh.rename(directory)
    except BaseException:
        if replaced:
            older.rename(directory)
        raise
    sync(directory.parent)
    if replaced:
        shutil.rmtree(older)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # pathlib cannot open a descriptor
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(directory: Path) -> None:
    """Make what was made or renamed within it durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(content: bytes) -> str:
    """As the index has it."""
    return hashlib.sha256(content).hexdigest()
