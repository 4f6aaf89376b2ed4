"""What of the vault's file is told to whoever keeps a history of it.

Invariant: a tap hears of every change of a company's state after it is durable and in the order in which it is read;
where it cannot be told change by change it hears that the state is another one now. It never delays or fails a write.
"""

from __future__ import annotations

from typing import Protocol

from standfast.authstate.change import Change
from standfast.authstate.company import Company


class Tap(Protocol):
    """Called on the event loop. Must be quick and must not raise, and leaves what it is given as it is."""

    def changed(self, company: Company, epoch: int, first: int, last: int, change: Change) -> None:
        """A batch was acknowledged; it follows the one that ended at `first` - 1."""
        ...

    def replaced(self, company: Company) -> None:
        """The replica holds another state of the company, fetched from PostgreSQL; it is complete."""
        ...

    def claimed(self, company: Company, epoch: int) -> None:
        """The company is written under `epoch` from now on, what it holds being what it was."""
        ...

    def removed(self, company: Company, epoch: int, sequence: int) -> None:
        """The company's auth state was deleted, as its batch `sequence`."""
        ...

    def left(self, company: Company) -> None:
        """The vault holds the company no longer; somebody else may."""
        ...

    def rebuilt(self) -> None:
        """The file was damaged and replaced: nothing that was heard before is sure to be followed."""
        ...


class NoTap:
    """Nobody listens."""

    def changed(self, company: Company, epoch: int, first: int, last: int, change: Change) -> None:
        pass

    def replaced(self, company: Company) -> None:
        pass

    def claimed(self, company: Company, epoch: int) -> None:
        pass

    def removed(self, company: Company, epoch: int, sequence: int) -> None:
        pass

    def left(self, company: Company) -> None:
        pass

    def rebuilt(self) -> None:
        pass
