"""Which messages a session remembers having handed over."""

from pathlib import Path

from standfast.sessions.recent import RecentMessages


def test_a_message_is_known_by_chat_and_id() -> None:
    """The same id in another chat is another message."""
    recent = RecentMessages()
    recent.add(("a@lid", "ID1"))
    assert ("a@lid", "ID1") in recent
    assert ("b@lid", "ID1") not in recent


def test_only_the_latest_are_remembered() -> None:
    """Memory is bounded: the oldest message is forgotten first."""
    recent = RecentMessages(limit=2)
    for number in range(3):
        recent.add(("a@lid", str(number)))
    assert [("a@lid", str(number)) in recent for number in range(3)] == [False, True, True]


def test_what_was_handed_over_is_remembered_over_a_restart(tmp_path: Path) -> None:
    """The latest are known to the next process, also after the file has been shortened; no address is in it."""
    file = tmp_path / "recent" / "acme"
    first = RecentMessages(file, limit=10)
    for number in range(35):
        first.add(("79990000001@s.whatsapp.net", str(number)))
    assert "7999" not in file.read_text()
    assert len(file.read_text().splitlines()) <= 20
    # Not closed: the process may have been killed.
    second = RecentMessages(file, limit=10)
    known = [number for number in range(35) if ("79990000001@s.whatsapp.net", str(number)) in second]
    assert known == list(range(25, 35))
    second.add(("79990000001@s.whatsapp.net", "x"))
    second.close()
    first.close()
    assert ("79990000001@s.whatsapp.net", "x") in RecentMessages(file, limit=10)


def test_a_file_that_cannot_be_used_costs_only_the_memory(tmp_path: Path) -> None:
    """A directory in its place, a torn line: the session goes on."""
    (tmp_path / "acme").mkdir()
    recent = RecentMessages(tmp_path / "acme")
    recent.add(("a@lid", "1"))
    assert ("a@lid", "1") in recent
    torn = tmp_path / "bolt"
    torn.write_bytes(b"0123\n\xff\xfe")
    assert ("a@lid", "1") not in RecentMessages(torn)
