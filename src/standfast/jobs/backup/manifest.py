"""What a backup says of itself, and what was found out about it since.

Invariant: `manifest.json` is written once, before the backup stands under its name; `record.json` beside it is replaced
whole. A manifest of a later format than ours is refused, never guessed at.
"""

from __future__ import annotations

from typing import Literal

import msgspec

FORMAT = 1
MANIFEST = "manifest.json"
RECORD = "record.json"

Kind = Literal["daily", "monthly"]


class CompanyContent(msgspec.Struct, omit_defaults=True):
    """What a backup holds of one company. `digest` is of its rows in whatsapp_auth and whatsapp_keys, in no order
    (`Manifest.digest_method`). `epoch` and `sequence`: how far its history had come (standfast_writers), or 0."""

    creds: bool
    keys: dict[str, int]
    digest: str
    epoch: int = 0
    sequence: int = 0


class Content(msgspec.Struct):
    """The file with the data. `bytes` and `sha256` are of the file as it lies there, `plain_bytes` what pg_dump gave.
    `compression`: "zstd" (a stream of its own round the archive) or "pg_dump" (within the archive)."""

    file: str
    bytes: int
    sha256: str
    plain_bytes: int
    compression: Literal["zstd", "pg_dump"]
    encrypted: bool = False


class Manifest(msgspec.Struct, omit_defaults=True):
    """Times in seconds since 1970; `snapshot_at` by the server's clock, when what is in the backup was so. `identity`
    is the database's own (standfast_identity), which it keeps where it is moved or restored."""

    format: int
    name: str
    kinds: list[Kind]
    snapshot_at: float
    started_at: float
    duration_s: float
    node: str
    standfast_version: str
    schema_version: int
    server_version: str
    client_version: str
    database: str
    sentinel: str
    content: Content
    tables: dict[str, int]
    companies: dict[str, CompanyContent]
    digest: str
    digest_method: str
    identity: str = ""


class Validation(msgspec.Struct, omit_defaults=True):
    """`sealed`: only the checksum could be checked, for no identity that opens it is on this machine."""

    at: float
    ok: bool
    duration_s: float
    message: str = ""
    sealed: bool = False


class RestoreTest(msgspec.Struct, omit_defaults=True):
    """`rto_s`: from the start until a session had logged in. `rpo_s`: how old the content was when the test began."""

    at: float
    ok: bool
    rto_s: float
    rpo_s: float
    message: str = ""
    rows: int = 0
    companies: int = 0
    steps: dict[str, float] = {}


class Upload(msgspec.Struct, omit_defaults=True):
    """`at`: when the remote had it and gave back the same checksum; None: not yet. `tried_at`: the last attempt that
    failed."""

    at: float | None = None
    attempts: int = 0
    message: str = ""
    tried_at: float = 0.0


class Record(msgspec.Struct, omit_defaults=True):
    """`uploads` by the remote's name."""

    validations: list[Validation] = []
    restore_tests: list[RestoreTest] = []
    uploads: dict[str, Upload] = {}
