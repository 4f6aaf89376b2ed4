"""`LiveFolder`: a folder in Baileys' multi-file layout that follows an auth state, change by change.

Invariant: what is about to be touched is noted, durably, before it is touched; so each file is known for ever after as
one that was left here, or as one that somebody else has changed. A file is there whole, old or new.

Notes gather in a hidden file beside the index, for the index names every file and would cost more than most changes do;
`settle` makes one of both.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from standfast.authstate.buffer_json import passed_on
from standfast.authstate.change import Change
from standfast.authstate.creds import parse_creds
from standfast.authstate.file_names import CREDS, INDEX, SUFFIX, file_name, key_of_name, masked
from standfast.authstate.key_types import OWN_PREFIX
from standfast.authstate.multifile import (
    Entry,
    Keys,
    canonical,
    digest,
    live_files,
    live_index,
    names_in,
    read_file,
    read_index,
    sync,
)
from standfast.authstate.traces import Trace, digest_of, trace, traces_in
from standfast.errors import AuthStateCorrupt

NOTES = ".standfast-mirror"
_NEW = ".standfast-new"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Note(msgspec.Struct, omit_defaults=True):
    """A line of the notes: what comes is the state at `sequence` under `epoch`. `files`: for each name its type, id and
    the checksum that it is to have; no checksum: it is to be gone. `traces`: the checksum of all files' traces as they
    were left, where nobody else had changed any."""

    epoch: int
    sequence: int
    files: dict[str, tuple[str, str, str | None]] = {}
    traces: str = ""


@dataclass(slots=True)
class _Known:
    type: str
    id: str
    digests: dict[str | None, None] = field(default_factory=dict)  # in the order in which they were noted


class LiveFolder:
    """One company's. `open` or `create` first; not from two threads at once. All raise `OSError`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.epoch = self.sequence = 0
        self._known: dict[str, _Known] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._types: set[str] = set()
        self._is_settled = False
        self._noted = 0

    @classmethod
    def create(cls, directory: Path, creds: bytes, keys: Keys, epoch: int, sequence: int) -> int:
        """Write the whole as `directory`, which must not exist; how many files that took. Not synced: who makes many
        syncs once."""
        directory.mkdir(mode=0o700)
        at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            traces, of_creds = list[Trace](), ""
            for name, content in live_files(creds, keys):
                traces.append(_put(at, name, content))
                of_creds = digest(content) if name == CREDS else of_creds
            left = digest_of(one for one in traces if one[0] != INDEX)
            _put(at, NOTES, _line(Note(epoch, sequence, {CREDS: ("", "", of_creds)}, left)))
        finally:
            os.close(at)
        return len(traces)

    def untouched(self) -> tuple[int, int] | None:
        """The epoch and sequence that it was left at, where nobody has changed a file of it since; None: it has to be
        read to know. Reads no content, and needs no `open`."""
        try:
            notes = self._notes()
            if len(notes) != 1 or notes[0].traces != digest_of(traces_in(self.directory, {INDEX})):
                return None
        except FileNotFoundError:
            return None
        return notes[0].epoch, notes[0].sequence

    def open(self) -> None:
        """Learn what was left here. `AuthStateCorrupt` where the index is damaged, `UsageError` where there is no such
        folder."""
        self._known, self._names, self._types, self.epoch, self.sequence = {}, {}, set(), 0, 0
        names = names_in(self.directory)
        if INDEX in names:
            for name, entry in read_index(self.directory).items():
                self._learn(name, entry["type"], entry["id"], entry["sha256"])
        notes = self._notes()
        self._noted = len(notes)
        for note in notes:
            self.epoch, self.sequence = note.epoch, note.sequence
            for name, (key_type, key_id, digested) in note.files.items():
                self._learn(name, key_type, key_id, digested)

    def _notes(self) -> list[Note]:
        try:
            lines = (self.directory / NOTES).read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        notes = []
        for line in lines:
            with contextlib.suppress(
                msgspec.MsgspecError
            ):  # the last one, cut off by a crash, has touched nothing
                notes.append(msgspec.json.decode(line, type=Note))
        return notes

    def _learn(self, name: str, key_type: str, key_id: str, digested: str | None) -> None:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Known(key_type, key_id)
            if name != CREDS:
                self._names[key_type, key_id] = name
                self._types.add(key_type)
        known.digests.pop(digested, None)
        known.digests[digested] = None

    def apply(self, change: Change, epoch: int, sequence: int) -> int:
        """Bring the folder from the state before the change to that after it; how many files that took."""
        files: dict[str, bytes | None] = {}
        if change.cleared:
            files.update(dict.fromkeys(self._names.values()))
        for key_type, entries in change.keys.items():
            if key_type.startswith(OWN_PREFIX):
                continue
            for key_id, value in entries.items():
                name = self._name(key_type, key_id)
                if value is not None:
                    files[name] = _content_of(value, key_type, name)
                elif name in self._known or (self.directory / name).exists():
                    files[name] = None
        if change.creds is not None:
            files[CREDS] = canonical(change.creds, CREDS)
        return self._put(files, epoch, sequence)

    def put(self, creds: bytes, keys: Keys, epoch: int, sequence: int) -> int:
        """Make it the whole state, whatever it is now; only files that differ are written. How many these are."""
        wanted: dict[str, bytes | None] = {CREDS: canonical(creds, CREDS)}
        for key_type, entries in keys.items():
            if not key_type.startswith(OWN_PREFIX):
                for key_id, value in entries.items():
                    name = self._name(key_type, key_id)
                    wanted[name] = _content_of(value, key_type, name)
        present = {name for name in names_in(self.directory) - {INDEX} if self._is_ours(name)}
        files = {name: content for name, content in wanted.items() if self._content(name) != content}
        files.update(dict.fromkeys(present - wanted.keys()))
        return self._put(files, epoch, sequence)

    def _content(self, name: str) -> bytes | None:
        try:
            return (self.directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def _name(self, key_type: str, key_id: str) -> str:
        name = self._names.get((key_type, key_id))
        if name is None:
            name = file_name(key_type, key_id)
            if name is None or name in self._known:
                # Two ids of one name, or a name that no file can have: only the index can tell.
                name = f"standfast-{len(self._names)}{SUFFIX}"
                while name in self._known:
                    name = f"standfast-x{name.removeprefix('standfast-')}"
            self._learn(name, key_type, key_id, None)
        return name

    def _put(self, files: dict[str, bytes | None], epoch: int, sequence: int) -> int:
        touched: dict[str, tuple[str, str, str | None]] = {}
        for name, content in files.items():
            known = self._known.get(name)
            key = (known.type, known.id) if known is not None else ("", "")
            touched[name] = (*key, None if content is None else digest(content))
        self._note(Note(epoch, sequence, touched))
        for name, content in files.items():
            path = self.directory / name
            if content is None:
                path.unlink(missing_ok=True)
            else:
                fresh = self.directory / _NEW
                fresh.unlink(missing_ok=True)
                _write(fresh, content, synced=True)
                fresh.rename(path)
        sync(self.directory)
        self.epoch, self.sequence = epoch, sequence
        return len(files)

    def _note(self, note: Note) -> None:
        for name, (key_type, key_id, digested) in note.files.items():
            self._learn(name, key_type, key_id, digested)
        self._is_settled, self._noted = False, self._noted + 1
        _append(self.directory / NOTES, _line(note))

    def settle(self) -> None:
        """One index of everything that is here; the notes begin anew."""
        if self._is_settled:
            return
        traces = traces_in(
            self.directory, {INDEX}
        )  # before contents: what changes after that has other traces
        entries: dict[str, Entry] = {}
        present = names_in(self.directory) - {INDEX, CREDS}
        left = {name: self._left(name) for name in sorted(present & self._known.keys())}
        left |= {name: (digested, False) for name, digested in self._missed(present)}
        for name, (digested, _) in left.items():
            known = self._known[name]
            entries[name] = {"type": known.type, "id": known.id, "sha256": digested}
        fresh = self.directory / _NEW
        fresh.unlink(missing_ok=True)
        _write(fresh, live_index(entries), synced=True)
        fresh.rename(self.directory / INDEX)
        of_creds, is_ours = self._left(CREDS)
        is_ours &= all(one for _, one in left.values())
        is_ours &= all(name in self._known or not self._is_ours(name) for name in present)
        first = Note(
            self.epoch, self.sequence, {CREDS: ("", "", of_creds)}, digest_of(traces) if is_ours else ""
        )
        _write(fresh, _line(first), synced=True)
        fresh.rename(self.directory / NOTES)
        sync(self.directory)
        self._is_settled, self._noted = True, 1

    def _left(self, name: str) -> tuple[str, bool]:
        """The checksum of the file as it was left here last, and whether it still is that."""
        present, digests = digest(read_file(self.directory / name)), self._known[name].digests
        if present in digests:
            return present, True
        return next((one for one in reversed(digests) if one is not None), present), False

    def _missed(self, present: set[str]) -> Iterator[tuple[str, str]]:
        """Files that somebody else has removed, with the checksums that they had."""
        for name in self._known.keys() - present - {CREDS}:
            digests = self._known[name].digests
            last = next((one for one in reversed(digests) if one is not None), None)
            if None not in digests and last is not None:
                yield name, last

    @property
    def is_level(self) -> bool:
        """Whether all that was noted is known to be done: the folder is what it was at `sequence`."""
        return self._noted == 1

    @property
    def is_open(self) -> bool:
        return bool(self._known)

    def whole(self) -> Change:
        """All that the folder has, as a change that leaves just that. `AuthStateCorrupt` names a file that cannot be
        read."""
        change = Change(cleared=True)
        for name in self._names_here():
            self._add(change, name, read_file(self.directory / name))
        if change.creds is None:
            raise AuthStateCorrupt(f"{self.directory} has no {CREDS}")
        return change

    def foreign(self, damaged: list[str] | None = None) -> Change | None:
        """What somebody else has changed in the folder since it was left; None: nothing. Files that are no auth state
        are named in `damaged`, or, without it, an error as of `whole`."""
        change, present = Change(), self._names_here()
        for name in present:
            known = self._known.get(name)
            # As a rule it is, byte for byte, what was left here.
            if known is not None and digest((self.directory / name).read_bytes()) in known.digests:
                continue
            try:
                content = read_file(self.directory / name)
                if known is None or digest(content) not in known.digests:
                    self._add(change, name, content)
            except AuthStateCorrupt:
                if damaged is None:
                    raise
                damaged.append(name)
        for name, known in self._known.items():
            if name not in present and None not in known.digests:
                self._gone(change, name, known, damaged)
        return change if change.keys or change.creds is not None else None

    def _gone(self, change: Change, name: str, known: _Known, damaged: list[str] | None) -> None:
        if name != CREDS:
            change.keys.setdefault(known.type, {})[known.id] = None
        elif damaged is None:
            raise AuthStateCorrupt(f"{self.directory} has no {CREDS}")
        else:
            damaged.append(name)  # no bot removes its creds and goes on

    def _names_here(self) -> list[str]:
        return sorted(name for name in names_in(self.directory) - {INDEX} if self._is_ours(name))

    def _is_ours(self, name: str) -> bool:
        """Whether it is a file of the layout, and not one that somebody keeps beside."""
        return name == CREDS or name in self._known or key_of_name(name, self._types) is not None

    def _add(self, change: Change, name: str, content: bytes) -> None:
        if name == CREDS:
            parse_creds(content)
            change.creds = content
            return
        known = self._known.get(name)
        key = (known.type, known.id) if known is not None else key_of_name(name, self._types)
        assert key is not None, "only files of the layout are read"
        change.keys.setdefault(key[0], {})[key[1]] = content


def _content_of(value: bytes, key_type: str, name: str) -> bytes:
    try:
        return passed_on(value)
    except AuthStateCorrupt as error:
        raise AuthStateCorrupt(f"the {key_type} key of {masked(name)}: {error.message}") from None


def _put(directory: int, name: str, content: bytes) -> Trace:
    """Into an open directory: the kernel need not walk to it for each file."""
    descriptor = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        done = os.write(descriptor, content)
        while done < len(content):
            done += os.write(descriptor, content[done:])
        return trace(name, descriptor)
    finally:
        os.close(descriptor)


def _line(note: Note) -> bytes:
    return msgspec.json.encode(note) + b"\n"


def _write(path: Path, content: bytes, *, synced: bool = False) -> None:
    descriptor = os.open(path, _CREATE, 0o600)
    try:
        done = os.write(descriptor, content)
        while done < len(content):
            done += os.write(descriptor, content[done:])
        if synced:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _append(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
