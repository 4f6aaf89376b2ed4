"""`Messenger`: everything that people and programs may do with messages; the gateway, HTTP and MCP only translate.

Invariant: what is refused changes nothing, and what is accepted is on the disk.
"""

from __future__ import annotations

from typing import Any

from standfast.authstate.company import company_id
from standfast.errors import CompanyUnknown, UsageError
from standfast.messaging.content import checked
from standfast.messaging.events import LoggedEvent
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.outbox import Outbox, OutboxOptions, Prepared
from standfast.messaging.outgoing import STATES, Outgoing
from standfast.sessions.events import EventBus
from standfast.sessions.phone import address
from standfast.sessions.pool import SessionPool

WAIT_LIMIT_S = 60.0
PAGE_LIMIT = 500


class Messenger:
    """`region` is an ISO 3166 code for national phone numbers."""

    def __init__(
        self,
        mailbox: Mailbox,
        pool: SessionPool,
        bus: EventBus,
        region: str | None,
        options: OutboxOptions | None = None,
    ) -> None:
        self.mailbox = mailbox
        self._pool = pool
        self._region = region
        self.outbox = Outbox(mailbox.outgoing, pool, bus, self._prepare, options)

    async def send(
        self,
        company: str,
        to: str,
        content: dict[str, Any],
        *,
        idempotency_key: str | None = None,
        wait_s: float = 0.0,
        lifetime_s: float | None = None,
    ) -> Outgoing:
        """Accept a message to a phone number or address, and wait at most `wait_s` until WhatsApp has confirmed it.
        Raises as `Outbox.accept`, and `UsageError` for content or an address that cannot be."""
        _check_key(idempotency_key)
        jid = address(to, self._region)
        body = checked(content)
        message = await self.outbox.accept(
            company, jid, body, idempotency_key=idempotency_key, lifetime_s=lifetime_s
        )
        if wait_s > 0:
            message = await self.outbox.settled(message, min(wait_s, WAIT_LIMIT_S))
        return message

    def message(self, company: str, message_id: str) -> Outgoing | None:
        """A message that was sent, as it stands; None where it is not kept."""
        return self.outbox.get(company_id(company), message_id)

    def cancel(self, company: str, message_id: str) -> Outgoing:
        """Do not send a message that still waits. `UsageError` where it is on its way or was sent."""
        message = self.message(company, message_id)
        if message is None:
            raise CompanyUnknown(f"company {company!r} has no message with this id")
        if not self.outbox.cancel(company, message_id):
            raise UsageError(
                f"the message is {message.state.word} and cannot be cancelled any more",
                next_step="Only messages that are queued can be cancelled.",
            )
        return message

    def sent(
        self,
        company: str,
        *,
        to: str | None = None,
        state: str | None = None,
        before: int = 2**62,
        limit: int = 50,
    ) -> list[Outgoing]:
        """Messages that were to be sent, newest first."""
        if state is not None and state not in STATES:
            raise UsageError(f"there is no state {state[:20]!r}", next_step=f"States: {', '.join(STATES)}.")
        jid = address(to, self._region) if to is not None else None
        return self.mailbox.outgoing.newest(
            company_id(company),
            jid=jid,
            state=STATES[state] if state is not None else None,
            before=before,
            limit=min(limit, PAGE_LIMIT),
        )

    def received(
        self, company: str, *, chat: str | None = None, before: int = 2**62, limit: int = 50
    ) -> list[LoggedEvent]:
        """Messages that came in, newest first."""
        jid = address(chat, self._region) if chat is not None else None
        return self.mailbox.log.newest(company_id(company), jid, before=before, limit=min(limit, PAGE_LIMIT))

    async def _prepare(self, message: Outgoing) -> Prepared:
        content = message.content
        if content["type"] == "text":
            return Prepared({"text": content["text"]})
        raise UsageError(f"content of type {content['type']!r} cannot be sent")


def _check_key(key: str | None) -> None:
    if key is not None and not (1 <= len(key) <= 200 and key.isprintable()):
        raise UsageError("an idempotency key has 1 to 200 printable characters")
