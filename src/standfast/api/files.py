"""Files over HTTP: uploaded to be sent, and those of received messages.

Invariant: a file is held in memory for a few callers at a time only; what a sender says of his file decides nothing
about how a browser takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from standfast.api.answers import Upload
from standfast.api.bodies import too_large
from standfast.api.problems import HttpProblem
from standfast.api.routes import Answer, CompanyPath, Json, Routes
from standfast.errors import TooManyRequests, UsageError
from standfast.messaging.downloads import Download

_TAG = "files"
UPLOADS_AT_ONCE = 3
UPLOAD_TIMEOUT_S = 60.0
OCTETS = "application/octet-stream"
Chat = Annotated[
    str,
    Query(min_length=1, max_length=120, description="The message's chat: a phone number or an address."),
]


def add(routes: Routes) -> None:
    """The operations of this resource."""
    parts = routes.parts
    coming: set[object] = set()

    async def upload_file(request: Request, company: CompanyPath) -> Response:
        """Keep a file, the request's body as it is, for an hour. `content` of a message names it by `upload`, once."""
        if len(coming) >= UPLOADS_AT_ONCE:
            raise TooManyRequests(f"{UPLOADS_AT_ONCE} files are being uploaded already")
        coming.add(request)
        try:
            async with asyncio.timeout(UPLOAD_TIMEOUT_S):
                chunks = _Counted(request, parts.messenger.media.max_bytes)
                name = await parts.messenger.media.upload(chunks.read())
        except TimeoutError:
            raise HttpProblem("timeout", f"the file did not come within {UPLOAD_TIMEOUT_S:g} s") from None
        finally:
            coming.discard(request)
        return Json(Upload(name, chunks.size_bytes), 201)

    async def get_file(company: CompanyPath, message_id: str, chat: Chat) -> Response:
        """The file of a received message, fetched from WhatsApp. Its name and type are its sender's word: it is
        served as bytes to be saved."""
        stack = contextlib.AsyncExitStack()
        download = await stack.enter_async_context(parts.messenger.download(company, chat, message_id))
        name = quote(download.file_name or message_id, safe="")
        return StreamingResponse(
            _bytes_of(download, stack),
            media_type=OCTETS,
            headers={
                "Content-Length": str(download.size_bytes),
                "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            },
        )

    routes.add(
        "POST",
        "/sessions/{company}/uploads",
        upload_file,
        tag=_TAG,
        scope="send",
        summary="Upload a file to be sent",
        binary_body=OCTETS,
        answers={201: Answer("It is kept.", Upload, {"upload": "0" * 32, "size_bytes": 52_000})},
    )
    routes.add(
        "GET",
        "/sessions/{company}/messages/{message_id}/file",
        get_file,
        tag=_TAG,
        scope="read",
        summary="The file of a received message",
        answers={200: Answer("The file.", None, None, (OCTETS,))},
        problems=(404, 409),
    )


class _Counted:
    def __init__(self, request: Request, limit: int) -> None:
        self._request = request
        self._limit = limit
        self.size_bytes = 0

    async def read(self) -> AsyncIterator[bytes]:
        async for chunk in self._request.stream():
            self.size_bytes += len(chunk)
            if self.size_bytes > self._limit:
                raise too_large(self._limit)
            yield chunk
        if self.size_bytes == 0:
            raise UsageError("the file is empty", next_step="Send the file as the request's body.")


async def _bytes_of(download: Download, stack: contextlib.AsyncExitStack) -> AsyncIterator[bytes]:
    async with stack:
        chunks = download.chunks()
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield chunk
