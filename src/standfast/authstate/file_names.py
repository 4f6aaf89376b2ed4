"""Names in Baileys' multi-file layout: `<type>-<id>.json`, with `/` written `__` and `:` written `-`.

That mapping loses information. Undoing it follows the forms of the ids that Baileys mints:

- `sender-key`: the last two `--` of `group--user--device` were `::`; a group's own `-` (`123-456@g.us`) stays.
- `app-state-sync-key`: base64, which has no `_`, so every `__` was `/`.
- a user's JID (`tctoken` and others) is digits only, so in `1-2@lid` the `-` was the `:` before a device.
- everything else stays as it stands: `tctoken`'s `__index`, old group ids, names of collections.

What remains ambiguous: an unknown type (where it ends cannot be seen) and ids in forms that Baileys does not mint.
An export's index knows both; without it, an unknown type is refused. Invariant: a type and id restored from a name
map back to that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from standfast.authstate.key_types import type_of_name

SUFFIX = ".json"
CREDS = f"creds{SUFFIX}"
INDEX = f"standfast-index{SUFFIX}"
_NAME_LIMIT_BYTES = 255
_USER_AND_DEVICE = re.compile(r"(\d+)-(\d+)(@(?:s\.whatsapp\.net|c\.us|lid|hosted|hosted\.lid))")


def file_name(key_type: str, key_id: str) -> str | None:
    """The name that Baileys uses, or None where a file cannot be called so."""
    name = f"{key_type}-{key_id}{SUFFIX}".replace("/", "__").replace(":", "-")
    ours = name.startswith(("standfast-", "."))
    return None if ours or "\0" in name or len(name.encode()) > _NAME_LIMIT_BYTES else name


def key_of_name(name: str, more_types: Iterable[str] = ()) -> tuple[str, str] | None:
    """Type and id of a file that no index knows; None where the type is not known."""
    stem = name.removesuffix(SUFFIX)
    key_type = type_of_name(stem, more_types) if stem != name else None
    if key_type is None:
        return None
    return key_type, _restored_id(key_type, stem[len(key_type) + 1 :])


def masked(name: str) -> str:
    """The name for messages: of a phone number only the last four digits are shown."""
    return re.sub(r"\d+(?=\d{4})", "…", name)


def _restored_id(key_type: str, written: str) -> str:
    if key_type == "sender-key":
        return "::".join(written.rsplit("--", 2))
    if key_type == "app-state-sync-key":
        return written.replace("__", "/")
    return _USER_AND_DEVICE.sub(r"\1:\2\3", written)
