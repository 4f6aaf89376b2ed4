"""Params of operators' methods, as typed records.

Invariant: what does not fit its type is refused before anything happens.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from standfast.errors import ProtocolError

T = TypeVar("T")


def checked(params_type: type[T], params: msgspec.Raw) -> T:
    """`params` as that type; `ProtocolError` says what is wrong with them."""
    try:
        return msgspec.json.decode(params, type=params_type)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"wrong params: {error}") from None
