"""A trace: the key operations of one real Baileys client, as its store saw them.

Invariant: every value that is read was stored before, in the trace's first state or by one of its writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from standfast.authstate.store import KeyBatch


@dataclass(frozen=True, slots=True)
class Get:
    key_type: str
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Set:
    batch: KeyBatch


@dataclass(frozen=True, slots=True)
class Trace:
    """`state` is one batch that holds everything stored before the first operation."""

    state: KeyBatch
    operations: Sequence[Get | Set]

    @classmethod
    def read(cls, path: Path) -> Trace:
        """What `record.mjs` wrote."""
        document = json.loads(path.read_text(encoding="utf-8"))
        state: dict[str, dict[str, bytes | None]] = {}
        for key_type, key_id, text in document["state"]:
            state.setdefault(key_type, {})[key_id] = text.encode()
        return cls(state, [_operation(*entry) for entry in document["operations"]])

    def described(self) -> dict[str, float]:
        """What it is made of."""
        sets = [operation for operation in self.operations if isinstance(operation, Set)]
        sizes = sorted(
            sum(len(value or b"") for values in one.batch.values() for value in values.values())
            for one in sets
        )
        return {
            "operations": len(self.operations),
            "sets": len(sets),
            "set_bytes_median": sizes[len(sizes) // 2] if sizes else 0,
            "keys_before": sum(len(values) for values in self.state.values()),
        }


def _operation(kind: str, *rest: object) -> Get | Set:
    if kind == "get":
        key_type, ids = rest
        assert isinstance(key_type, str)
        assert isinstance(ids, list)
        return Get(key_type, ids)
    (texts,) = rest
    assert isinstance(texts, dict)
    return Set(
        {
            key_type: {key_id: None if text is None else text.encode() for key_id, text in values.items()}
            for key_type, values in texts.items()
        }
    )
