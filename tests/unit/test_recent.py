"""Which messages a session remembers having handed over."""

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
