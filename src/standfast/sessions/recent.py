"""Which messages a session has handed over lately.

Invariant: at most `limit` are remembered, the latest ones; they outlive the Node host that delivered them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class RecentMessages:
    """Tells a message's second delivery from its first: the server, a retry and a host that was killed
    before it confirmed a message all bring it again under the same id."""

    limit: int = 2_000
    _known: dict[tuple[str, str], None] = field(default_factory=dict, repr=False)

    def __contains__(self, message: tuple[str, str]) -> bool:
        """Whether the message, as (chat, id), has been handed over."""
        return message in self._known

    def add(self, message: tuple[str, str]) -> None:
        self._known[message] = None
        if len(self._known) > self.limit:
            del self._known[next(iter(self._known))]
