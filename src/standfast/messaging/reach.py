"""`Reach`: which addresses outside may be connected to on somebody's word.

A URL that a caller gives must not open what only this machine or its network can see. Invariant: what is judged is the
address that is connected to, after every spelling and every name has become one; a name is never trusted.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import httpx

from standfast.errors import SettingsError, UsageError

URL_BYTES = 2_048
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_ALLOW = "Name its host or network in STANDFAST_ALLOW_PRIVATE_URLS if it is meant to be reached."


class Target(NamedTuple):
    """A URL in its parts; `host` in lower case and ASCII, `path` with its query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """What may be shown of it: paths and queries hold tokens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    @property
    def authority(self) -> str:
        """The header Host."""
        return self.origin.partition("://")[2]


class Reach:
    """`allowed` (STANDFAST_ALLOW_PRIVATE_URLS): host names and networks that may be reached though they are not public,
    separated by commas. Raises `SettingsError`."""

    def __init__(self, allowed: str = "") -> None:
        self._hosts: set[str] = set()
        self._networks: list[IPNetwork] = []
        for part in filter(None, (part.strip().lower() for part in allowed.split(","))):
            self._allow(part)

    def _allow(self, part: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            if "/" in part or ":" in part or not part.isascii() or " " in part:
                raise SettingsError(
                    f"STANDFAST_ALLOW_PRIVATE_URLS: {part[:60]!r} is neither a host name nor a network",
                    next_step="Separate host names and networks by commas: hooks.internal,10.0.0.0/8",
                ) from None
            self._hosts.add(part.removesuffix("."))

    def check_url(self, url: str) -> Target:
        """Its parts. Raises `UsageError` for what can never be reached; what a name stands for is judged later."""
        target = _parsed(url)
        literal = _literal(target.host)
        if literal is not None:
            self.permitted(target.host, [literal])
        elif target.host == "localhost" or target.host.endswith(".localhost"):
            self.permitted(target.host, [ipaddress.IPv4Address("127.0.0.1")])
        return target

    def origin(self, url: str) -> str:
        """What may be shown of a URL that passed."""
        return _parsed(url).origin

    def permitted(self, host: str, addresses: Iterable[IPAddress]) -> list[IPAddress]:
        """Those of a host's addresses that may be connected to. Raises `UsageError` where there is none."""
        if host in self._hosts:
            return list(addresses)
        found = [address for address in addresses if self.is_permitted(address)]
        if not found:
            raise UsageError("the URL leads to an address that is not public", next_step=_ALLOW)
        return found

    def is_permitted(self, address: IPAddress) -> bool:
        """Whether it may be connected to whatever it is called."""
        if is_public(address):
            return True
        meant = _embedded(address) or address
        return any(meant.version == network.version and meant in network for network in self._networks)


def is_public(address: IPAddress) -> bool:
    """Whether it is an address of the internet's, and no way round to another."""
    if address.version == 6 and (inner := _embedded(address)) is not None:
        return is_public(inner)
    if address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return address.is_global and not getattr(address, "is_site_local", False)


def _embedded(address: IPAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to: mapped, 6to4 or NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _literal(host: str) -> IPAddress | None:
    """The address that a host is without any name: also decimal, octal, hexadecimal and shortened."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


@lru_cache(maxsize=256)  # a webhook's is asked for with every delivery
def _parsed(url: str) -> Target:
    if not 1 <= len(url.encode()) <= URL_BYTES or not url.isprintable() or any(one in url for one in " \\"):
        raise UsageError(
            f"the URL has blanks, control characters, backslashes or more than {URL_BYTES} bytes"
        )
    try:
        found = httpx.URL(url)
        host = found.raw_host.decode("ascii").lower().removesuffix(".")
        port = _PORTS.get(found.scheme, 0) if found.port is None else found.port
    except (httpx.InvalidURL, ValueError):
        raise UsageError("the URL cannot be read", next_step="Write it as https://host/path.") from None
    if found.scheme not in _PORTS:
        raise UsageError("the URL must begin with https:// or http://")
    if found.userinfo:
        raise UsageError(
            "the URL holds a user or a password", next_step="Leave out what stands before the @."
        )
    if not host or not 1 <= port <= 65_535:
        raise UsageError("the URL names no host, or a port that does not exist")
    return Target(found.scheme, host, port, found.raw_path.decode("ascii") or "/")
