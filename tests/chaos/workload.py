"""What the chaos runs write: operations and values, drawn from the seed alone.

Invariant: operation number n of a company is the same in every run of a seed, whatever happened before it, and a
value tells by itself which operation wrote it, to which key, and whether it is whole.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from tests.chaos.model import KeyName, Operation
from tests.support import made_up_creds

_NAMES: tuple[KeyName, ...] = (
    *(("session", f"7999000000{n}.0") for n in range(5)),
    *(("pre-key", str(n)) for n in range(6)),
    *(("sender-key", f"group{n}@g.us::7") for n in range(2)),
)
# Every batch writes these three, so that half a batch never looks like a state that was.
_MARKERS: tuple[KeyName, ...] = (("aaa-marker", "left"), ("mmm-marker", "middle"), ("zzz-marker", "right"))
KEY_IDS: dict[str, list[str]] = {}
for _type, _id in (*_NAMES, *_MARKERS):
    KEY_IDS.setdefault(_type, []).append(_id)
_IDENTITY = b"\x07" * 32


def operation(seed: int, label: str, number: int) -> Operation:
    """Operation `number` of the company that the schedule calls `label`."""
    chance = random.Random(f"{seed}/{label}/{number}")
    kind = chance.random()
    if kind < 0.12:
        return Operation(number, creds=number)
    if kind < 0.16:
        return Operation(number, cleared=True)
    keys: dict[KeyName, int | None] = {
        name: None if chance.random() < 0.2 else number
        for name in chance.sample(_NAMES, chance.randint(1, 4))
    }
    return Operation(number, {**keys, **dict.fromkeys(_MARKERS, number)})


def value(key_type: str, key_id: str, number: int) -> bytes:
    """The JSON that operation `number` writes to a key; some are long enough to be moved out of their row."""
    chance = random.Random(f"{key_type}/{key_id}/{number}")
    size = chance.choices((10, 200, 2_700, 40_000), (40, 40, 18, 2))[0]
    pad = chance.randbytes(size // 2).hex()
    return json.dumps({"n": number, "key": f"{key_type}/{key_id}", "pad": pad}).encode()


def creds(number: int) -> bytes:
    return made_up_creds(_IDENTITY, nextPreKeyId=number)


def batch(keys: Mapping[KeyName, int | None]) -> dict[str, dict[str, bytes | None]]:
    """The keys of an operation as `AuthStore.set_keys` takes them."""
    made: dict[str, dict[str, bytes | None]] = {}
    for (key_type, key_id), number in keys.items():
        made.setdefault(key_type, {})[key_id] = None if number is None else value(key_type, key_id, number)
    return made


def number_of_value(key_type: str, key_id: str, raw: bytes) -> int:
    """Which operation wrote `raw`; raises `ValueError` where it is not exactly what that one wrote there."""
    number = _number(raw, "n")
    if json.loads(raw) != json.loads(value(key_type, key_id, number)):
        raise ValueError(f"{key_type}/{key_id} holds a damaged value of operation {number}")
    return number


def number_of_creds(raw: bytes) -> int:
    """Which operation wrote these creds; raises `ValueError` where they are not exactly what it wrote."""
    number = _number(raw, "nextPreKeyId")
    if json.loads(raw) != json.loads(creds(number)):
        raise ValueError(f"the creds are damaged ones of operation {number}")
    return number


def _number(raw: bytes, field: str) -> int:
    document: dict[str, Any] = json.loads(raw)
    return int(document[field])
