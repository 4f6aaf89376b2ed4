"""`Messenger`: everything that people and programs may do with messages; the gateway, HTTP and MCP only translate.

Invariant: what is refused changes nothing, and what is accepted is on the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from standfast.authstate.company import company_id
from standfast.errors import NotFound, UsageError
from standfast.messaging.baileys import prepared
from standfast.messaging.content import FETCHED, checked, with_addresses
from standfast.messaging.downloads import Download, Downloads
from standfast.messaging.events import LoggedEvent
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.media import MediaFiles
from standfast.messaging.outbox import Outbox, OutboxOptions, Prepared
from standfast.messaging.outgoing import STATES, Outgoing, State
from standfast.messaging.outside import Outside
from standfast.messaging.quoting import Targets, key_of
from standfast.messaging.reach import Reach
from standfast.sessions.events import EventBus
from standfast.sessions.phone import address
from standfast.sessions.pool import SessionPool

WAIT_LIMIT_S = 60.0
PAGE_LIMIT = 500
TYPING_LIMIT_S = 25.0


class Messenger:
    """`region` is an ISO 3166 code for national phone numbers."""

    def __init__(
        self,
        mailbox: Mailbox,
        pool: SessionPool,
        bus: EventBus,
        region: str | None,
        options: OutboxOptions | None = None,
        media: MediaFiles | None = None,
    ) -> None:
        self.mailbox = mailbox
        self._pool = pool
        self._region = region
        self._targets = Targets(mailbox)
        self.media = media or MediaFiles(
            mailbox.spool, Outside(Reach()), mailbox.outgoing.unfinished_messages, mailbox.written
        )
        self._downloads = Downloads(mailbox, pool, self.media.max_bytes)
        self.outbox = Outbox(mailbox.outgoing, pool, bus, self._prepare, options)
        self._accepting: set[asyncio.Task[Outgoing]] = set()
        bus.subscribe(self.media.take)

    async def send(
        self,
        company: str,
        to: str,
        content: dict[str, Any],
        *,
        idempotency_key: str | None = None,
        wait_s: float = 0.0,
        lifetime_s: float | None = None,
        local_files: bool = False,
    ) -> Outgoing:
        """Accept a message to a phone number or address, and wait at most `wait_s` until WhatsApp has confirmed it.
        `local_files`: whether the content may name a file of this machine. Raises as `Outbox.accept` and
        `MediaFiles.fetched`, and `UsageError` for content or an address that cannot be."""
        _check_key(idempotency_key)
        jid = address(to, self._region)
        body = with_addresses(checked(content), self._region)
        message = self.outbox.repeated(company, jid, body, idempotency_key)
        if message is None:
            self._targets.check(company_id(company), jid, body)
            # A caller that goes away in the middle must not leave a message that is on disk and in no lane.
            message = await self._to_its_end(
                self._accept(company, jid, body, idempotency_key, lifetime_s, local_files=local_files)
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
            raise NotFound(f"company {company!r} has no message with this id")
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

    async def read(self, company: str, chat: str, message_ids: Sequence[str] | None = None) -> list[str]:
        """Mark messages of a chat as read, or all that came since this was asked for without ids the last time; the
        ids that were marked. Raises `SessionNotOpen` while the session is not open."""
        jid, company = address(chat, self._region), company_id(company)
        log = self.mailbox.log
        if message_ids is None:
            messages = log.unread(company, jid, PAGE_LIMIT)
        else:
            messages = [self._received(company, jid, one) for one in message_ids[:PAGE_LIMIT]]
        keys = [key_of(one.data) for one in messages if not one.data.get("from_me")]
        if keys:
            await self._pool.ask(company, "messages.read", {"keys": keys})
        if message_ids is None and messages:
            await log.mark_read(company, jid, max(one.number for one in messages))
        return [str(key["id"]) for key in keys]

    def download(self, company: str, chat: str, message_id: str) -> AbstractAsyncContextManager[Download]:
        """A received message's file, while the context lasts; raises as `Downloads.opened`."""
        return self._downloads.opened(company_id(company), address(chat, self._region), message_id)

    async def typing(self, company: str, chat: str, on: bool, ttl_s: float = TYPING_LIMIT_S) -> None:
        """Show that the company is typing, for at most `ttl_s`, or no longer. `SessionNotOpen`, `UsageError`."""
        if not 0 < ttl_s <= TYPING_LIMIT_S:
            raise UsageError(f"typing is shown for at most {TYPING_LIMIT_S:g} s at a time")
        params = {"jid": address(chat, self._region), "typing": on, "ttl_s": ttl_s}
        await self._pool.ask(company, "chat.presence", params)

    async def groups(self, company: str) -> list[dict[str, Any]]:
        """The groups that the company is in, without their members. `SessionNotOpen`."""
        groups: list[dict[str, Any]] = await self._pool.ask(company, "groups.list", {})
        return groups

    async def group(self, company: str, jid: str) -> dict[str, Any]:
        """A group with its members. `SessionNotOpen`, `UsageError` where WhatsApp does not show it."""
        if not jid.endswith("@g.us"):
            raise UsageError("a group's address ends in @g.us", next_step="List them: 'standfast groups'.")
        group: dict[str, Any] = await self._pool.ask(company, "groups.info", {"jid": address(jid)})
        return group

    async def _to_its_end(self, work: Coroutine[Any, Any, Outgoing]) -> Outgoing:
        task = asyncio.get_running_loop().create_task(work)
        self._accepting.add(task)
        task.add_done_callback(self._accepted)
        return await asyncio.shield(task)

    def _accepted(self, task: asyncio.Task[Outgoing]) -> None:
        self._accepting.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone: nothing is to be said of it then

    async def _accept(
        self,
        company: str,
        jid: str,
        body: dict[str, Any],
        key: str | None,
        lifetime_s: float | None,
        *,
        local_files: bool,
    ) -> Outgoing:
        self._pool.awaited(company)  # before a file is fetched for nothing
        fetched = await self.media.fetched(body, local_files=local_files)
        try:
            message = await self.outbox.accept(
                company, jid, fetched, idempotency_key=key, lifetime_s=lifetime_s
            )
        except BaseException:
            self.media.discard(fetched)
            raise
        if message.content is fetched:
            self.media.keep(message)
        else:
            self.media.discard(fetched)  # the same request, accepted in the same moment
        return message

    def _received(self, company: str, jid: str, message_id: str) -> LoggedEvent:
        found = self.mailbox.log.found(company, jid, message_id)
        if found is None:
            raise NotFound("there is no received message with this id in this chat")
        return found

    async def _prepare(self, message: Outgoing) -> Prepared:
        left_as = None
        if message.state is State.SENDING and FETCHED in message.content:
            left_as = self.mailbox.outgoing.content(message.company, message.message_id)
        return prepared(message, self._targets, self.media.spool.directory, left_as)


def _check_key(key: str | None) -> None:
    if key is not None and not (1 <= len(key) <= 200 and key.isprintable()):
        raise UsageError("an idempotency key has 1 to 200 printable characters")
