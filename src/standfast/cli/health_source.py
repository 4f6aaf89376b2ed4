"""Where `standfast health` has its picture from: the service, or, where none answers, a look from outside.

Invariant: somebody who hangs is waited for beside what is measured meanwhile, not before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from standfast.errors import ProtocolError, ServiceUnavailable, SettingsError, StandfastError
from standfast.health.document import Health
from standfast.service.health_asking import ask_health
from standfast.service.link import Link
from standfast.settings import state_directory

if TYPE_CHECKING:
    from standfast.service.health_offline import Outside

HEAD_START_S = 0.4


async def current_health(*, verbose: bool = False) -> Health:
    """The picture as it is now."""
    with contextlib.closing(Source()) as source:
        return await source.health(verbose=verbose)


class Source:
    """Gives pictures, one after the other; a connection to the service is kept and made anew."""

    def __init__(self) -> None:
        self._link = Link(state_directory() / "gateway.sock")

    async def health(self, *, verbose: bool = False) -> Health:
        """The service's within 1.5 s, or that from outside within another 1.5 s and a moment. Raises `SettingsError`
        where nobody can look from outside, and what the service refused with."""
        asking = asyncio.ensure_future(ask_health(self._link, verbose=verbose))
        try:
            await asyncio.wait({asking}, timeout=HEAD_START_S)
            if asking.done() and asking.exception() is None:
                return asking.result()
            return await self._beside(asking)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    async def _beside(self, asking: asyncio.Task[Health]) -> Health:
        """The service's answer after all, or what is seen from outside."""
        try:
            outside = _outside()
        except SettingsError:
            with contextlib.suppress(StandfastError):
                return await asking
            raise
        looking = asyncio.ensure_future(outside.look())
        try:
            return await asking
        except (ServiceUnavailable, ProtocolError) as why:
            await looking
            return outside.health(why)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


def _outside() -> Outside:
    from standfast.cli.context import current_settings
    from standfast.service.health_offline import Outside

    return Outside(current_settings())
