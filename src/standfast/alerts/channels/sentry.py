"""`SentryChannel`: notes as events of Sentry.

Invariant: a note counts as delivered only once Sentry's server has taken it, and however often it is tried it is one
event there, because its id is the note's. sentry-sdk builds the event and its envelope; the way is ours, because the
SDK's own sends in the background and drops what it cannot send.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import msgspec

from standfast.alert import Level
from standfast.alerts.channel import Note, Undelivered
from standfast.alerts.channels.answers import cause_of, reason, refused, retried, seconds_of, wait_s
from standfast.alerts.channels.aside import Aside
from standfast.alerts.channels.shown import clean, facts_of, line, shorten, tags_of
from standfast.alerts.channels.wording import moment

if TYPE_CHECKING:
    from sentry_sdk.types import Event

TIMEOUT_S = 8.0
RELEASE = f"standfast@{version('standfast')}"
_CLIENT = f"standfast/{version('standfast')}"
_MEND = (
    "Check SENTRY_DSN against the project's settings in Sentry (Client Keys); then 'standfast alerts test'."
)
_MESSAGE_CHARS = 8_000
_TAG_CHARS = 200
_TEXT_CHARS = 2_000
_ENTRIES = 10
_ANSWER_BYTES = 16_384
_LEVELS = {"critical": "fatal"}
_CATEGORIES = frozenset({"", "error", "default"})
# The SDK adds more (modules, breadcrumbs of the whole process): what is not named here does not leave.
_SENT = frozenset(
    {
        "event_id",
        "timestamp",
        "level",
        "logger",
        "message",
        "platform",
        "release",
        "environment",
        "server_name",
        "fingerprint",
        "tags",
        "extra",
        "sdk",
    }
)


class _Refusal(msgspec.Struct):
    detail: str | None = None


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    words: str


class SentryChannel:
    """One project of Sentry. `timeout_s` bounds a whole delivery."""

    def __init__(
        self, dsn: str, level: Level, environment: str | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.name = "sentry"
        self.level = level
        self._dsn = dsn
        self._environment = environment or "production"
        self._timeout_s = timeout_s
        self._aside = Aside(self.name)
        self._closed_until = 0.0  # of the monotonic clock: Sentry asked for silence until then

    async def deliver(self, note: Note) -> None:
        """Raises `Undelivered`; see `Channel`."""
        left_s = self._closed_until - time.monotonic()
        if left_s > 0:
            raise Undelivered(
                f"Sentry's rate limit is used up for {left_s:.0f} s", retry_after_s=round(left_s, 1)
            )
        content = await self._aside.run(lambda: self._envelope(note), self._timeout_s)
        answer = await self._post(content)
        limit_s = _limit_s(answer.headers)
        if limit_s is not None:
            self._closed_until = time.monotonic() + limit_s
        if not 200 <= answer.status < 300:
            retry_after_s = limit_s if limit_s is not None else wait_s(answer.status, answer.headers)
            raise refused(self._whom, answer.status, answer.words, _MEND, "SENTRY_DSN", retry_after_s)

    async def check(self) -> None:
        """Whether the DSN can be used at all, without telling anything. Raises `Undelivered`."""
        await self._aside.run(lambda: self._auth, self._timeout_s)

    def _envelope(self, note: Note) -> bytes:
        from sentry_sdk import Client, Scope  # a tenth of a second: not at the service's start

        _ = self._auth  # says what is wrong with a DSN better than the client does
        posts = _letterbox()
        client = Client(
            dsn=self._dsn,
            transport=posts,
            default_integrations=False,
            auto_enabling_integrations=False,
            server_name=line(note.node),
            release=RELEASE,
            environment=self._environment,
            before_send=_only_ours,
            max_breadcrumbs=0,
            auto_session_tracking=False,
            send_client_reports=False,
            debug=False,
            spotlight=False,
        )
        client.capture_event(_event(note), scope=Scope(client=client))
        client.close(timeout=0)
        if not posts.taken:
            raise Undelivered("sentry-sdk made no event of the alert", next_step=_MEND, permanent=True)
        _authorities()  # here, because reading them takes a tenth of a second
        return gzip.compress(posts.taken[0])

    async def _post(self, content: bytes) -> _Answer:
        auth = self._auth
        headers = {
            "Content-Type": "application/x-sentry-envelope",
            "Content-Encoding": "gzip",
            "User-Agent": _CLIENT,
            "X-Sentry-Auth": auth.to_header(),
        }
        try:
            async with asyncio.timeout(self._timeout_s):
                async with (
                    httpx.AsyncClient(verify=_authorities(), timeout=self._timeout_s) as client,
                    client.stream("POST", auth.get_api_url(), content=content, headers=headers) as answer,
                ):
                    return _Answer(answer.status_code, answer.headers, await _words(answer))
        except (TimeoutError, httpx.TimeoutException):
            raise self._unreached(f"did not answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = cause_of(error) or reason(str(error)) or type(error).__name__
            raise self._unreached(f"cannot be reached: {said}") from error

    def _unreached(self, why: str) -> Undelivered:
        return Undelivered(f"{self._whom} {why}", next_step=retried("SENTRY_DSN"))

    @cached_property
    def _auth(self) -> Any:
        from sentry_sdk.utils import BadDsn, Dsn

        try:
            return Dsn(self._dsn).to_auth(_CLIENT)
        except (BadDsn, ValueError):
            raise Undelivered(
                "SENTRY_DSN is not a Sentry DSN (https://KEY@HOST/PROJECT)", next_step=_MEND, permanent=True
            ) from None

    @property
    def _whom(self) -> str:
        return f"Sentry at {self._auth.host}"


def _event(note: Note) -> Event:
    name = line(", ".join(note.ends) or note.name)  # of a "resolved" what it ends: one search finds both
    state = {"alert": name, "node": line(note.node), "level": note.level, "state": note.kind}
    tags = {**tags_of(note), **state}
    if note.company:
        tags["company_id"] = note.company
    event: dict[str, Any] = {
        "event_id": note.id,
        "timestamp": note.at,
        "level": _LEVELS.get(note.level, note.level),
        "logger": "standfast.alerts",
        "message": shorten(clean(note.message), _MESSAGE_CHARS),
        "fingerprint": [_fingerprint(note)],
        "tags": {name: shorten(value, _TAG_CHARS) for name, value in tags.items()},
        "extra": _extra(note),
    }
    return event  # type: ignore[return-value]  # a TypedDict, of which this is a part


def _extra(note: Note) -> dict[str, Any]:
    """sentry-sdk keeps ten entries of a mapping or a list and drops the rest: what is ours comes first, lists become
    text, and what would be dropped goes together under one name."""
    extra: dict[str, Any] = {"since": moment(note.since), "count": note.count}
    if note.next_step:
        extra["next_step"] = clean(note.next_step)
    if note.duration_s is not None:
        extra["duration_s"] = note.duration_s
    facts = {name: value for name, value in facts_of(note).items() if name not in extra}
    room = _ENTRIES - len(extra)
    names = list(facts) if len(facts) <= room else list(facts)[: room - 1]
    extra.update({name: _flat(facts[name]) for name in names})
    rest = {name: value for name, value in facts.items() if name not in extra}
    return {**extra, "more": _flat(rest)} if rest else extra


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return shorten(", ".join(str(item) for item in value), _TEXT_CHARS)
    if isinstance(value, dict):
        return shorten(msgspec.json.encode(value).decode(), _TEXT_CHARS)
    return shorten(value, _TEXT_CHARS) if isinstance(value, str) else value


def _fingerprint(note: Note) -> str:
    """As the alert's; where something in it may not be shown, the same for the same alert still."""
    if line(note.fingerprint) == note.fingerprint:
        return note.fingerprint
    return f"{line(note.name)}|{hashlib.sha256(note.fingerprint.encode()).hexdigest()[:16]}"


def _only_ours(event: Event, _hint: object) -> Event:
    return {name: value for name, value in event.items() if name in _SENT}  # type: ignore[return-value]


def _letterbox() -> Any:
    """A transport that keeps what it is given."""
    from sentry_sdk.envelope import Envelope
    from sentry_sdk.transport import Transport

    class Letterbox(Transport):
        def __init__(self) -> None:
            super().__init__()
            self.taken: list[bytes] = []

        def capture_envelope(self, envelope: Envelope) -> None:
            self.taken.append(envelope.serialize())

    return Letterbox()


def _limit_s(headers: Mapping[str, str]) -> float | None:
    """How long Sentry takes no events, as it says with any answer: "60:error;default:organization, 5:session"."""
    found = []
    for limit in headers.get("X-Sentry-Rate-Limits", "").split(","):
        seconds, _, scope = limit.strip().partition(":")
        wait = seconds_of(seconds)
        if wait and not _CATEGORIES.isdisjoint(scope.partition(":")[0].split(";")):
            found.append(wait)
    return max(found, default=None)


async def _words(answer: httpx.Response) -> str:
    """Why it was refused: Sentry's own header, or the beginning of the body."""
    if answer.is_success:
        return ""
    content = b""
    async for chunk in answer.aiter_bytes():
        content += chunk
        if len(content) > _ANSWER_BYTES:
            break
    said = answer.headers.get("X-Sentry-Error") or _detail(content)
    return str(said or content[:_ANSWER_BYTES].decode("utf-8", "replace"))


def _detail(content: bytes) -> str | None:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(content, type=_Refusal).detail
    return None


@cache
def _authorities() -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=True)
    context.load_default_certs()  # beside the shipped list: a company's own authorities
    return context
