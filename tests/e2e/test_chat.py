"""Messages between paired companies, end to end."""

from collections.abc import Callable

from tests.e2e.conftest import Line


async def test_two_companies_pair_by_qr_and_talk(line: Line, new_phone: Callable[[], str]) -> None:
    """Pairing goes through 515 to open, and a text arrives both ways."""
    await line.pair("acme", new_phone())
    await line.pair("bolt", new_phone())
    assert any(e.kind == "closed" and e.data["status"] == 515 for e in line.heard)
    await line.send("acme", "bolt", "hello")
    await line.received("bolt", ["hello"])
    await line.send("bolt", "acme", "hello yourself")
    await line.received("acme", ["hello yourself"])
