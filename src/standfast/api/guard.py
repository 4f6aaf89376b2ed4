"""`Guard`: who may ask: bearer tokens, and what browsers must not do for a page that they show.

Invariant: without any token the API answers only on loopback addresses, and only to requests that name one of them;
once a token was made, each request needs one, but for those that `PUBLIC` names, or the operator.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog

from standfast.api.problems import HttpProblem
from standfast.api.token_file import Scope, Token, TokenFile
from standfast.errors import Forbidden, SettingsError, TooManyRequests, Unauthorized

log = structlog.get_logger(__name__)
PUBLIC = frozenset({"/health/live", "/health/ready", "/openapi.json", "/docs", "/"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
WINDOW_S = 60.0
FAILURES_A_WINDOW = 20
ADDRESSES_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides; header values as they came, None where there is none."""

    method: str
    path: str
    client: str
    host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None
    authorization: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `token` is None where none is needed."""

    token: Token | None = None

    def need(self, scope: Scope, company: str | None = None) -> None:
        """Raises `Forbidden` where the token lacks the scope or the company."""
        token = self.token
        if token is None:
            return
        if not token.allows(scope):
            raise Forbidden(f"the token {token.name!r} lacks the scope {scope!r}", scope=scope)
        if company is not None and not token.covers(company):
            raise Forbidden(f"the token {token.name!r} is not for this company")

    def need_all(self, scope: Scope) -> None:
        """The same for what concerns every company."""
        self.need(scope)
        if self.token is not None and self.token.companies is not None:
            raise Forbidden(f"the token {self.token.name!r} is for single companies only")

    @property
    def companies(self) -> tuple[str, ...] | None:
        """The companies that it may see; None for all."""
        return None if self.token is None else self.token.companies


ANYBODY = Caller()


class Guard:
    """`host` is the address that the service listens at."""

    def __init__(
        self,
        tokens: TokenFile,
        host: str,
        clock: Callable[[], float] = time.monotonic,
        public: Collection[str] = (),
    ) -> None:
        """`public`: paths that the operator opened to everybody."""
        self.public = PUBLIC.union(public)
        self._tokens = tokens
        self._host = host
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check_start(self) -> None:
        """Raises `SettingsError` where the address is not a loopback one and nobody has a token."""
        if not is_loopback(self._host) and not self._tokens.exists():
            raise SettingsError(
                f"STANDFAST_HTTP_HOST={self._host} can be reached from other machines, and there is no token yet",
                next_step="Make one: standfast tokens create NAME --scope admin; or listen at 127.0.0.1.",
            )

    def admit(self, asked: Asked) -> Caller:
        """Who asks. Raises `Unauthorized`, `Forbidden`, `TooManyRequests`, `HttpProblem`, `StateDirectoryError`."""
        self._check_origin(asked)
        if asked.path in self.public:
            return ANYBODY
        if not self._tokens.exists():
            self._check_open(asked)
            return ANYBODY
        return Caller(self._checked_token(asked))

    def _check_origin(self, asked: Asked) -> None:
        """Pages of other sites must not act through a browser that runs on this machine."""
        if asked.method in SAFE_METHODS:
            return
        if asked.fetch_site not in (None, "same-origin", "none"):
            raise Forbidden("requests from pages of other sites are refused", next_step=_NO_BROWSER)
        if asked.origin is not None and urlsplit(asked.origin).netloc != (asked.host or ""):
            raise Forbidden("requests from pages of other sites are refused", next_step=_NO_BROWSER)

    def _check_open(self, asked: Asked) -> None:
        if not is_loopback(self._host):
            raise Unauthorized("every token is gone, and this address is not a loopback one")
        # A name of an attacker's that was made to mean 127.0.0.1 must not let his page read answers.
        if asked.host is not None and not is_loopback(host_of(asked.host)):
            raise HttpProblem(
                "misdirected",
                "without a token only requests to a loopback address or 'localhost' are answered",
                next_step="Ask http://127.0.0.1, or make a token: standfast tokens create NAME --scope admin",
            )

    def _checked_token(self, asked: Asked) -> Token:
        text = _bearer(asked.authorization)
        token = None if text is None else self._tokens.find(text)
        if token is not None and not token.expired(time.time()):
            return token
        if text is None:
            # Nobody guesses who shows nothing: it is not counted.
            raise Unauthorized("this request needs a token")
        self._count_failure(asked.client)
        if token is not None:
            raise Unauthorized(f"the token {token.name!r} has expired", given=True)
        raise Unauthorized("the token is not known here", given=True)

    def _count_failure(self, client: str) -> None:
        now = self._clock()
        began, count = self._failures.pop(client, (now, 0))
        if now - began > WINDOW_S:
            began, count = now, 0
        self._failures[client] = (began, count + 1)
        if len(self._failures) > ADDRESSES_KEPT:
            self._failures.popitem(last=False)
        if count in (0, FAILURES_A_WINDOW):
            log.warning("a request with a wrong token was refused", address=client, count=count + 1)
        if count >= FAILURES_A_WINDOW:
            raise TooManyRequests("too many requests with wrong tokens from this address")


_NO_BROWSER = "Ask from a program, or from a page of this service."


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The host of a `Host` header, without the port; empty where it is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _bearer(header: str | None) -> str | None:
    if header is None:
        return None
    scheme, _, text = header.partition(" ")
    return text.strip() if scheme.lower() == "bearer" and text.strip() else None
