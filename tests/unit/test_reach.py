"""Which URLs of a caller's may be reached."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from standfast.errors import SettingsError, UsageError
from standfast.messaging.outside import Outside, _Judge
from standfast.messaging.reach import Reach, is_public

LOOPBACK = (
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.0.1./",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.01/",
    "http://①②⑦.0.0.1/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:7f00:0001]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://a.localhost/",
    "http://0/",
    "http://0.0.0.0/",
    "http://[::]/",
)
OTHERS = (
    "http://10.0.0.1/",
    "http://172.16.5.4/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://0xA9FEA9FE/",
    "http://100.64.0.1/",
    "http://100.100.100.200/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[::ffff:a9fe:a9fe]/",
)
MALFORMED = (
    "",
    "no url",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "//example.com/",
    "http://",
    "http:///path",
    "http://user@example.com/",
    "http://user:word@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://example.com/\r\nHost: other",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http://example.com:x/",
    "http://[::1/",
    "http://exa mple.com/",
    "https://example.com/" + "a" * 2_100,
)


@pytest.mark.parametrize("url", LOOPBACK + OTHERS)
def test_an_address_that_is_not_public_is_refused_in_every_spelling(url: str) -> None:
    """Loopback, private, link-local, shared, multicast and reserved, however written, and ways round to them."""
    with pytest.raises(UsageError, match=r"not public|cannot be read"):
        Reach().check_url(url)


@pytest.mark.parametrize("url", MALFORMED)
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    """Other schemes, credentials, control characters, missing hosts and impossible ports."""
    with pytest.raises(UsageError, match="URL"):
        Reach().check_url(url)


def test_public_addresses_pass() -> None:
    """What is reachable for everybody stays so, ports and queries included."""
    target = Reach().check_url("https://Hooks.Example.com:8443/in?key=1")
    assert target == ("https", "hooks.example.com", 8443, "/in?key=1")
    assert target.origin == "https://hooks.example.com:8443"
    assert Reach().check_url("http://[2606:4700::1111]/").authority == "[2606:4700::1111]"
    assert Reach().check_url("https://xn--e1afmkfd.example/").host == "xn--e1afmkfd.example"
    assert is_public(ipaddress.ip_address("9.9.9.9"))


def test_what_is_allowed_may_be_private_and_nothing_else() -> None:
    """A host is allowed by its name, a network by its addresses, mapped ones too."""
    reach = Reach("hooks.internal, 10.1.0.0/16, 127.0.0.1, fd12::/16")
    for url in ("http://10.1.2.3/", "http://127.0.0.1:9/", "http://[::ffff:10.1.0.1]/", "http://[fd12::5]/"):
        reach.check_url(url)
    for url in ("http://10.2.0.1/", "http://127.0.0.2/", "http://[fd13::5]/"):
        with pytest.raises(UsageError):
            reach.check_url(url)
    private = [ipaddress.ip_address("192.168.0.9")]
    assert reach.permitted("hooks.internal", private) == private
    with pytest.raises(UsageError):
        reach.permitted("other.internal", private)


@pytest.mark.parametrize("text", ["10.0.0.0/40", "a b", "http://x", "::g"])
def test_a_wrong_list_of_allowed_hosts_is_told(text: str) -> None:
    """A list that cannot be read allows nothing in silence."""
    with pytest.raises(SettingsError, match="STANDFAST_ALLOW_PRIVATE_URLS"):
        Reach(text)


async def test_a_name_is_judged_by_the_address_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that stood for a public address a moment ago, and stands for this machine now, is not connected to."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    looked_up = []

    def rebound(host: Any, *_: Any, **__: Any) -> list[Any]:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    url = f"http://rebound.example.com:{port}/"
    Reach().check_url(url)
    outside = Outside(Reach())
    with pytest.raises(UsageError, match="not public"):
        await outside.post(url, b"{}", {}, 2.0)
    with pytest.raises(UsageError, match="not public"):
        await outside.fetch(url, 10, 2.0)
    await outside.close()
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.accept()
    listening.close()
    assert looked_up == ["rebound.example.com"] * 2


async def test_no_socket_is_made_for_an_address_that_nobody_has_judged() -> None:
    """Whatever way it came by: an allowed host's private address is one that was judged."""
    judge = _Judge(Reach("localhost"))
    inside = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))
    with pytest.raises(PermissionError):
        judge.open_socket(inside)
    await judge.resolve("localhost", 9)
    judge.open_socket(inside).close()
    judge.open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("9.9.9.9", 9))).close()
