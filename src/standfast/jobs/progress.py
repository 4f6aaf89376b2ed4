"""How far a job is, told to whoever watches.

Invariant: telling costs nothing worth measuring and never fails a job.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A job is a row of steps, one at a time. All calls are made on the event loop's thread."""

    def step(self, name: str, total: int | None = None, unit: str = "") -> None:
        """The next step begins, and the one before is done. `total` in `unit` ("keys", "bytes"), where it is known."""
        ...

    def advance(self, done: int) -> None:
        """So much more of the present step's total is done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


class Silent:
    """Nobody watches."""

    def step(self, name: str, total: int | None = None, unit: str = "") -> None:
        pass

    def advance(self, done: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass
