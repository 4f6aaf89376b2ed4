"""WhatsApp's list of a company's pre-keys, asked through the company's open session.

Invariant: asking changes nothing, here or there.
"""

from __future__ import annotations

import msgspec

from standfast.authstate.company import Company
from standfast.errors import ProtocolError
from standfast.jobs.cleanup.pre_keys import AskWhatsApp, PreKeyList
from standfast.sessions.pool import SessionPool


def asks_sessions(pool: SessionPool) -> AskWhatsApp:
    """Asks the sessions of `pool`: `SessionNotOpen` where a company's is not open."""

    async def ask(company: Company) -> PreKeyList:
        answer = await pool.ask(company, "session.pre_keys", {})
        try:
            return msgspec.convert(answer, PreKeyList)
        except msgspec.ValidationError as error:
            raise ProtocolError(f"a host answered session.pre_keys with something else: {error}") from error

    return ask
