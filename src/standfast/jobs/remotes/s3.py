"""A bucket: S3, and what speaks its protocol.

Invariant: an object appears whole or not at all, which S3 itself guarantees; no more than a few parts are in memory.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from standfast.errors import StandfastError
from standfast.jobs.remotes.files import CHUNK_BYTES
from standfast.jobs.remotes.remote import Beat, Remote, Stored
from standfast.settings.remotes import RemoteAddress

_PART_BYTES = 5 << 20  # the least that S3 takes
_MAX_PARTS = 9_000  # of 10,000
_CODE = re.compile(r"<Code>(\w{1,60})</Code>|\b(NoSuchBucket|InvalidAccessKeyId|SignatureDoesNotMatch)\b")
_STATUS = re.compile(r"\bstatus:? (\d{3})\b|\b(\d{3}) [A-Z][a-z]+", re.IGNORECASE)
_ACCOUNT = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken"})


class S3Remote(Remote):
    """One pool of connections for all calls. Credentials that the address does not have come from the environment's
    AWS_… or the machine's role."""

    def __init__(self, address: RemoteAddress) -> None:
        super().__init__(address)
        self._store_of = _opened(address)

    async def _store(self, name: str, chunks: AsyncIterator[bytes], size: int, beat: Beat) -> None:
        if size <= _PART_BYTES:
            await obstore.put_async(
                self._store_of, name, b"".join([chunk async for chunk in chunks]), use_multipart=False
            )
            return
        part_bytes = max(_PART_BYTES, -(-size // _MAX_PARTS))
        await obstore.put_async(self._store_of, name, chunks, chunk_size=part_bytes, max_concurrency=2)

    async def _load(self, name: str) -> AsyncGenerator[bytes]:
        found = await obstore.get_async(self._store_of, name)
        async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)

    async def _entries(self, prefix: str, beat: Beat) -> AsyncIterator[Stored]:
        async for page in obstore.list(self._store_of, prefix or None):
            beat()
            for one in page:
                yield Stored(one["path"], one["size"], one["last_modified"].timestamp())

    async def _remove(self, name: str) -> None:
        try:
            await obstore.delete_async(self._store_of, name)
        except (NotFoundError, FileNotFoundError):
            return

    def _told(self, error: Exception, name: str) -> StandfastError | None:
        if not isinstance(error, BaseError | OSError | ValueError):
            return None
        code = _first(_CODE, str(error))
        if code == "NoSuchBucket":
            return self.failed(
                f"has no bucket {self.address.host}", "Make the bucket, or correct BACKUP_REMOTES."
            )
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in _ACCOUNT:
            return self.failed(
                f"refused the account{f' ({code})' if code else ''}",
                "Check access_key= and secret_key= of it in BACKUP_REMOTES (or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY), region=, and that the account may list, read, write and delete there.",
            )
        if isinstance(error, NotFoundError | FileNotFoundError):
            return self.absent(name)
        answer = code or _first(_STATUS, str(error))
        if answer:
            return self.failed(
                f"answered {answer}", "See what its provider says to that; check region= and endpoint=."
            )
        return self.failed(
            "cannot be reached", "Check the network to it, and endpoint= and region= of it in BACKUP_REMOTES."
        )


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next((group for group in found.groups() if group), "") if found else ""


def _opened(address: RemoteAddress) -> S3Store:
    options = address.options
    config: dict[str, Any] = {"virtual_hosted_style_request": options.get("style") == "virtual"}
    for option, name in (
        ("region", "region"),
        ("endpoint", "endpoint"),
        ("access_key", "access_key_id"),
        ("secret_key", "secret_access_key"),
        ("session_token", "session_token"),
    ):
        if option in options:
            config[name] = options[option]
    timeout = timedelta(seconds=address.timeout_s)
    return S3Store(
        address.host,
        prefix=address.path or None,
        config=config,  # type: ignore[arg-type]  # built by name
        client_options={
            "allow_http": options.get("endpoint", "").startswith("http://"),
            "connect_timeout": min(timeout, timedelta(seconds=10)),
            "read_timeout": timeout,
            "timeout": timedelta(
                days=1
            ),  # of a whole body, whatever its size; progress is watched by the caller
        },
        retry_config={"max_retries": 2, "retry_timeout": timeout},
    )
