"""`Change`: what one acknowledged write, or several in a row, does to a company's auth state.

Invariant: applying `a.then(b)` leaves what applying `a` and then `b` leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from standfast.authstate.store import KeyBatch


@dataclass(slots=True)
class Change:
    """In the order in which its parts take effect: all keys cleared, creds replaced, keys set or deleted."""

    keys: dict[str, dict[str, bytes | None]] = field(default_factory=dict, repr=False)
    creds: bytes | None = field(default=None, repr=False)
    cleared: bool = False

    @classmethod
    def of_keys(cls, batch: KeyBatch) -> Change:
        return cls(keys={key_type: dict(entries) for key_type, entries in batch.items()})

    @property
    def key_count(self) -> int:
        """How many keys it sets or deletes by name."""
        return sum(len(entries) for entries in self.keys.values())

    def places(self) -> Iterator[tuple[str, str]]:
        """Type and id of every key that it sets or deletes by name."""
        return ((key_type, key_id) for key_type, entries in self.keys.items() for key_id in entries)

    @property
    def size(self) -> int:
        """Bytes of its values and names, about what it weighs on the wire."""
        names = sum(len(key_type) * len(entries) for key_type, entries in self.keys.items())
        values = sum(
            len(key_id) + len(value or b"")
            for entries in self.keys.values()
            for key_id, value in entries.items()
        )
        return names + values + len(self.creds or b"")

    def take(self, later: Change) -> None:
        """Become what this change and then `later` do together."""
        if later.cleared:
            self.keys = {}
            self.cleared = True
        for key_type, entries in later.keys.items():
            self.keys.setdefault(key_type, {}).update(entries)
        if later.creds is not None:
            self.creds = later.creds
