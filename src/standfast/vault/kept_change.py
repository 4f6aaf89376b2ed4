"""A discarded change as a file, so that discarding can be taken back.

Invariant: a file that is read back is whole: its digest is checked; deletions are in it as well as values.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from standfast.authstate.change import Change
from standfast.authstate.company import Company, company_id
from standfast.errors import AuthStateCorrupt, UsageError

FORMAT = "standfast-quarantined-1"
_LIMIT_BYTES = 2**30


class _Body(msgspec.Struct):
    company: str
    facts: dict[str, Any]
    cleared: bool
    creds: msgspec.Raw
    keys: dict[str, dict[str, msgspec.Raw]]


class _File(msgspec.Struct):
    format: str
    sha256: str
    body: msgspec.Raw


def write(path: Path, company: Company, change: Change, facts: dict[str, Any]) -> None:
    """Write it durably as a new file that only this account may read."""
    keys = {
        key_type: {key_id: msgspec.Raw(b"null" if value is None else value) for key_id, value in ids.items()}
        for key_type, ids in change.keys.items()
    }
    creds = msgspec.Raw(b"null" if change.creds is None else change.creds)
    body = msgspec.json.encode(_Body(company, facts, change.cleared, creds, keys))
    document = msgspec.json.encode(_File(FORMAT, hashlib.sha256(body).hexdigest(), msgspec.Raw(body)))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # pathlib cannot open a descriptor
        file.write(document + b"\n")
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(path: Path) -> tuple[Company, Change]:
    """Whose it is and what it says. `UsageError` where it cannot be read, `AuthStateCorrupt` where it is damaged."""
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise UsageError(f"{path} is larger than any export of quarantined writes")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    try:
        document = msgspec.json.decode(content, type=_File)
        body = bytes(document.body)
        if document.format != FORMAT or hashlib.sha256(body).hexdigest() != document.sha256:
            raise ValueError("digest")
        found = msgspec.json.decode(body, type=_Body)
    except (msgspec.MsgspecError, ValueError, UnicodeDecodeError):
        raise AuthStateCorrupt(
            f"{path.name} is damaged or no export of quarantined writes",
            next_step="Name a file that 'standfast quarantine discard' wrote.",
        ) from None
    keys = {
        key_type: {key_id: None if bytes(value) == b"null" else bytes(value) for key_id, value in ids.items()}
        for key_type, ids in found.keys.items()
    }
    creds = None if bytes(found.creds) == b"null" else bytes(found.creds)
    return company_id(found.company), Change(keys, creds, found.cleared)
