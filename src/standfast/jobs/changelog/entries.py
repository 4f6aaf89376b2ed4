"""What the change log says of one company, entry by entry.

Invariant: the entries of a company in one node's log follow each other without a gap, but where a snapshot says since
when only its end is known; applied from a snapshot on, in order, they give the company's state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.errors import BackupDamaged
from standfast.zstd import zstd

Kind = Literal["change", "snapshot", "claim", "removed"]
Keys = dict[str, dict[str, bytes | None]]
LEVEL = 1  # what is in keys is random, and compresses no better by more work


class Entry(msgspec.Struct, array_like=True):
    """Sequences `first` to `last` of the company's history under `epoch`, acknowledged at `at` (the last of them, in
    seconds since 1970, by the node's clock).

    "change": what they did together, all within one second. "snapshot": the whole state at `last`; `since`: what was
    before it is known only up to that time; 0.0: nothing was before; None: it follows without a gap. "claim": the node
    holds the company under `epoch` now. "removed": the auth state was deleted."""

    kind: Kind
    epoch: int
    first: int
    last: int
    at: float
    cleared: bool = False
    creds: bytes | None = None
    keys: Keys = {}
    since: float | None = None

    @property
    def size(self) -> int:
        """Bytes of its values and names, about."""
        return Change(self.keys, self.creds).size + 40

    def merge(self, later: Entry) -> None:
        """Become what this change and `later`, which follows it, do together."""
        change = Change(self.keys, self.creds, self.cleared)
        change.take(Change(later.keys, later.creds, later.cleared))
        self.keys, self.creds, self.cleared = change.keys, change.creds, change.cleared
        self.last, self.at = later.last, later.at


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


def packed(entries: list[Entry]) -> bytes:
    """One company's entries, compressed."""
    return zstd.compress(_encode(entries), LEVEL)


def unpacked(data: bytes) -> list[Entry]:
    """Raises `BackupDamaged`."""
    try:
        return _decode(zstd.decompress(data))
    except (zstd.ZstdError, msgspec.MsgspecError) as error:
        raise BackupDamaged(f"entries of the change log are malformed: {error}") from error


@dataclass(slots=True)
class Replay:
    """A company's state as entries are applied to it. `entry` is the last one; None: none was."""

    company: Company
    creds: bytes | None = field(default=None, repr=False)
    keys: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)
    entry: Entry | None = None

    def apply(self, entries: Iterable[Entry]) -> None:
        """In order, the first of all a snapshot. `BackupDamaged` where one does not follow the one before."""
        for entry in entries:
            self._check(entry)
            if entry.kind in ("snapshot", "removed"):
                self.creds, self.keys = None, {}
            if entry.kind in ("snapshot", "change"):
                self._change(entry)
            self.entry = entry

    def _check(self, entry: Entry) -> None:
        if entry.kind in ("snapshot", "removed"):
            return
        expected = None if self.entry is None else self.entry.last + (entry.kind == "change")
        if entry.first != expected:
            raise BackupDamaged(
                f"the change log of {self.company} lacks what is between its batches {expected} and {entry.first}"
            )

    def _change(self, entry: Entry) -> None:
        if entry.cleared:
            self.keys = {}
        if entry.creds is not None:
            self.creds = entry.creds
        for key_type, ids in entry.keys.items():
            kept = self.keys.setdefault(key_type, {})
            for key_id, value in ids.items():
                if value is None:
                    kept.pop(key_id, None)
                else:
                    kept[key_id] = value
