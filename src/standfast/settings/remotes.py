"""BACKUP_REMOTES taken apart: which places copies go to, and how each is reached.

Invariant: an address that was parsed is complete; what is wrong with one is told by its number, never by its text, for
that holds secrets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from standfast.errors import SettingsError
from standfast.redaction import MASK

Kind = Literal["folder", "s3", "sftp"]
SETTING = "BACKUP_REMOTES"
DEFAULT_TIMEOUT_S = 60.0
_KINDS: dict[str, Kind] = {"": "folder", "file": "folder", "s3": "s3", "sftp": "sftp"}
_COMMON = frozenset({"name", "keep_daily", "keep_monthly", "timeout_s"})
_OPTIONS: dict[Kind, frozenset[str]] = {
    "folder": frozenset(),
    "s3": frozenset({"region", "endpoint", "access_key", "secret_key", "session_token", "style"}),
    "sftp": frozenset({"key", "known_hosts"}),
}
_HIDDEN = frozenset({"access_key", "secret_key", "session_token"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_NEXT_STEP = (
    "Correct BACKUP_REMOTES: URLs separated by spaces; docs/remotes.md shows each kind with its options."
)


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """`host`: a bucket or a host's name. `path`: absolute, or an S3 prefix. `keep_daily`, `keep_monthly`: None: as for
    the backups here. `timeout_s`: without any progress."""

    name: str
    kind: Kind
    path: str
    host: str = ""
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)
    keep_daily: int | None = None
    keep_monthly: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S

    @property
    def shown(self) -> str:
        """Where it is, without a secret: s3://bucket/prefix, sftp://user@host:22/path, /path."""
        if self.kind == "folder":
            return self.path
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{self.kind}://{user}{self.host}{port}/{self.path.lstrip('/')}"


def remote_addresses(setting: str | None) -> list[RemoteAddress]:
    """Every address of the setting, in its order. `SettingsError` names the first that cannot be used."""
    found: list[RemoteAddress] = []
    for number, text in enumerate((setting or "").split(), 1):
        address = _Parser(number, text).address()
        if any(one.name == address.name for one in found):
            raise SettingsError(
                f"two of {SETTING} are called {address.name!r}",
                next_step=f"Give number {number} another name with the option name=, such as ?name={address.name}-2.",
            )
        found.append(address)
    return found


def masked_remotes(setting: str) -> str:
    """The setting as it may be shown; what cannot be parsed is hidden wholly."""
    return " ".join(_masked(text) for text in setting.split())


def _masked(text: str) -> str:
    try:
        address = _Parser(1, text).address()
    except SettingsError:
        return MASK
    hidden = [f"{name}={MASK}" for name in sorted(_HIDDEN & address.options.keys())]
    query = [f"{name}={value}" for name, value in address.options.items() if name not in _HIDDEN]
    shown = address.shown
    if address.password is not None:
        shown = shown.replace("@", f":{MASK}@", 1)
    return "?".join(filter(None, (shown, "&".join((*query, *hidden)))))


class _Parser:
    def __init__(self, number: int, text: str) -> None:
        self._where = f"number {number} of {SETTING}"
        try:
            self._url: SplitResult = urlsplit(text)
            self._port = self._url.port
        except ValueError:
            self._refuse("is no URL")
        if self._url.scheme not in _KINDS:
            self._refuse("is of no kind that is known (s3://…, sftp://…, file:///…, or an absolute path)")
        if self._url.fragment:
            self._refuse("has a '#': write it %23")
        self._kind = _KINDS[self._url.scheme]
        self._options = self._parsed_options()

    def address(self) -> RemoteAddress:
        url, options = self._url, self._options
        host, path = self._place()
        user = unquote(url.username) if url.username else None
        password = unquote(url.password) if url.password else None
        name = options.get("name") or self._default_name(host, path)
        if not _NAME.fullmatch(name):
            self._refuse("has a name that is none (letters, digits, '.', '_', '-'; at most 40)")
        return RemoteAddress(
            name=name,
            kind=self._kind,
            path=path,
            host=host,
            port=self._port,
            user=user,
            password=password,
            options={key: value for key, value in options.items() if key not in _COMMON},
            keep_daily=self._whole("keep_daily"),
            keep_monthly=self._whole("keep_monthly"),
            timeout_s=self._timeout_s(),
        )

    def _place(self) -> tuple[str, str]:
        host, path = self._url.hostname or "", unquote(self._url.path)
        if "\0" in path or any(part in {".", ".."} for part in path.split("/")):
            self._refuse("has a path that leads elsewhere ('..')")
        if self._kind == "folder":
            if self._url.netloc or not path.startswith("/"):
                self._refuse("is no absolute path (file:///mnt/backups has three slashes)")
            return "", path.rstrip("/") or "/"
        if not host:
            self._refuse("names no host" if self._kind == "sftp" else "names no bucket")
        if self._kind == "sftp":
            self._check_sftp(path)
            return host, path.rstrip("/")
        self._check_s3()
        return self._url.netloc, path.strip("/")

    def _check_sftp(self, path: str) -> None:
        if len(path) < 2:  # "/" alone
            self._refuse("names no directory")
        for name in ("key", "known_hosts"):
            if name in self._options and not Path(self._options[name]).expanduser().is_absolute():
                self._refuse(f"has a {name}= that is no absolute path")

    def _check_s3(self) -> None:
        options = self._options
        if not _BUCKET.fullmatch(self._url.netloc):
            self._refuse("has a bucket that is none; credentials go into access_key= and secret_key=")
        if ("access_key" in options) != ("secret_key" in options):
            self._refuse("has only one of access_key= and secret_key=")
        if not re.fullmatch(r"https?://[^\s@?#]+", options.get("endpoint", "https://x")):
            self._refuse("has an endpoint= that is no http(s) URL")
        if options.get("style", "path") not in {"path", "virtual"}:
            self._refuse("has a style= other than 'path' and 'virtual'")

    def _parsed_options(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for pair in filter(None, self._url.query.split("&")):
            name, _, value = pair.partition("=")
            if name not in _COMMON | _OPTIONS[self._kind]:
                known = ", ".join(sorted(_COMMON | _OPTIONS[self._kind]))
                self._refuse(f"has an option that this kind has not; it has {known}")
            if name in found or not value:
                self._refuse(f"has {name}= twice or empty")
            found[name] = unquote(value)  # not parse_qsl: a '+' is one, as secret keys have it
        return found

    def _default_name(self, host: str, path: str) -> str:
        given = host or path.rpartition("/")[2] or "folder"
        return re.sub(r"[^A-Za-z0-9._-]+", "-", given).strip("-._")[:40] or self._kind

    def _whole(self, name: str) -> int | None:
        text = self._options.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"[1-9]\d{0,3}", text):
            self._refuse(f"has a {name}= that is no number from 1 to 9999")
        return int(text)

    def _timeout_s(self) -> float:
        text = self._options.get("timeout_s", str(DEFAULT_TIMEOUT_S))
        if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", text) or not 0.1 <= float(text) <= 3_600:
            self._refuse("has a timeout_s= that is no number of seconds from 0.1 to 3600")
        return float(text)

    def _refuse(self, fault: str) -> NoReturn:
        raise SettingsError(f"{self._where} {fault}", next_step=_NEXT_STEP) from None
