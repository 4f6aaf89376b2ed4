"""`TokenFile`: the bearer tokens of one state directory, kept as hashes in `tokens.json` (mode 0600).

Invariant: the text of a token is shown once and lies nowhere; the file is replaced whole, or not at all; a file that
cannot be read is an error and never the absence of tokens.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from standfast.authstate.company import company_id
from standfast.errors import Conflict, NotFound, StateDirectoryError, UsageError

Scope = Literal["read", "send", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "send", "admin")
PREFIX = "sf_"
SECRET_BYTES = 32
GIVEN_LENGTH = 32
_LOCK_TIMEOUT_S = 5.0
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$"


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a token; times in seconds since 1970. No `companies`: all of them."""

    name: Annotated[str, Meta(pattern=_NAME)]
    sha256: str
    scopes: tuple[Scope, ...]
    companies: tuple[str, ...] | None = None
    created_at: float
    expires_at: float | None = None

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def allows(self, scope: Scope) -> bool:
        """`admin` may do everything."""
        return scope in self.scopes or "admin" in self.scopes

    def covers(self, company: str) -> bool:
        return self.companies is None or company in self.companies

    def as_shown(self, now: float) -> dict[str, object]:
        """Everything but the hash."""
        shown = msgspec.to_builtins(self)
        del shown["sha256"]
        return {**shown, "expired": self.expired(now)}


class _Document(msgspec.Struct):
    version: Literal[1]
    tokens: list[Token]


class TokenFile:
    """Changes are made under a lock between processes; who only reads looks whether the file is another one."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tokens.json"
        self._seen: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}

    def tokens(self) -> list[Token]:
        """Every token, expired ones too. `StateDirectoryError` where the file cannot be read."""
        return list(self._current().values())

    def exists(self) -> bool:
        """Whether tokens were ever made here: then one is needed, though all of them may be revoked."""
        self._current()
        return self._seen is not None

    def find(self, text: str) -> Token | None:
        """The token of this text, expired or not; None where there is none."""
        wanted, found = _digest(text), None
        for token in self._current().values():
            if hmac.compare_digest(token.sha256, wanted):
                found = token
        return found

    def create(
        self,
        name: str,
        scopes: Sequence[str],
        companies: Sequence[str] = (),
        lifetime_s: float | None = None,
        *,
        given: str | None = None,
    ) -> tuple[str, Token]:
        """A new token: its text, shown this once, and what is kept. `UsageError`, `Conflict` for a name in use. With a
        `given` text that is the token, and takes the place of one of that name."""
        text = PREFIX + secrets.token_urlsafe(SECRET_BYTES) if given is None else _strong(given)
        now = time.time()
        token = _checked(
            {
                "name": name,
                "sha256": _digest(text),
                "scopes": _scopes(scopes),
                "companies": [company_id(company) for company in companies] or None,
                "created_at": round(now, 3),
                "expires_at": None if lifetime_s is None else round(now + lifetime_s, 3),
            }
        )
        with self._changing() as tokens:
            if name in tokens and given is None:
                raise Conflict(
                    f"there is a token named {name!r}",
                    next_step="Choose another name, or revoke that one first.",
                )
            tokens[name] = token
        return text, token

    def revoke(self, name: str) -> Token:
        """Have the token be worth nothing from now on. `NotFound`."""
        with self._changing() as tokens:
            token = tokens.pop(name, None)
            if token is None:
                raise NotFound(
                    f"there is no token named {name[:50]!r}", next_step="'standfast tokens list' shows them."
                )
        return token

    def _current(self) -> dict[str, Token]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self._seen is not None:
                # Whoever removes the file of a running service must not open it to everybody.
                self._tokens = {}
            return self._tokens
        except OSError as error:
            raise self._unreadable(error.strerror or "it cannot be looked at") from error
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._tokens = self._read()
            self._seen = seen
        return self._tokens

    def _read(self) -> dict[str, Token]:
        try:
            document = msgspec.json.decode(self.path.read_bytes(), type=_Document)
        except OSError as error:
            raise self._unreadable(error.strerror or "it cannot be read") from error
        except msgspec.MsgspecError:
            raise self._unreadable("it is damaged, or was made by another version") from None
        return {token.name: token for token in document.tokens}

    def _unreadable(self, why: str) -> StateDirectoryError:
        return StateDirectoryError(
            f"the file of tokens {self.path} cannot be used: {why}",
            next_step="Make it readable; or remove it, restart the service and create new tokens.",
        )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Token]]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self.path.with_suffix(".lock")):
                tokens = self._read() if self.path.exists() else {}
                yield tokens
                self._write(tokens)
        except OSError as error:
            raise StateDirectoryError(f"{self.path} cannot be written: {error.strerror}") from error

    def _write(self, tokens: dict[str, Token]) -> None:
        content = msgspec.json.format(msgspec.json.encode(_Document(1, list(tokens.values()))), indent=2)
        beside = self.path.with_suffix(".new")
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(fd, 0o600)
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        beside.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _strong(text: str) -> str:
    if len(text) < GIVEN_LENGTH or not (text.isascii() and text.isprintable()) or " " in text:
        raise UsageError(
            f"that is no token: it needs {GIVEN_LENGTH} or more printable characters without spaces",
            next_step="Make one with: openssl rand -hex 32",
        )
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _scopes(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in SCOPES]
    if unknown or not names:
        raise UsageError(
            f"there is no scope {unknown[0][:20]!r}" if unknown else "a token needs a scope",
            next_step=f"Scopes: {', '.join(SCOPES)}; admin may do everything.",
        )
    return [scope for scope in SCOPES if scope in names]


def _checked(fields: dict[str, object]) -> Token:
    try:
        return msgspec.convert(fields, Token)
    except msgspec.ValidationError:
        raise UsageError(
            "that cannot be a token's name",
            next_step="Use 1 to 50 letters, digits, '.', '-' or '_', a letter or digit first.",
        ) from None


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StateDirectoryError(
                        f"{file} is held by another process", next_step="Try again."
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(fd)
