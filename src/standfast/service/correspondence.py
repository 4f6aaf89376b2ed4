"""`Correspondence`: this service's messages on disk, and who outside is told of them.

Invariant: what is written down to the very end of the service is written before the file is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from standfast.alert import AlertSink
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.messenger import Messenger
from standfast.messaging.outbox import OutboxOptions
from standfast.messaging.outside import Outside
from standfast.messaging.rate import parse_limit
from standfast.messaging.reach import Reach
from standfast.messaging.taken import Taken
from standfast.messaging.webhooks import Webhooks
from standfast.messaging.webhooks_courier import CourierOptions
from standfast.service.media import media_files
from standfast.service.vault import message_key
from standfast.sessions.events import EventBus
from standfast.sessions.pool import SessionPool
from standfast.settings import Settings
from standfast.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class Correspondence:
    """What `open_correspondence` has opened."""

    mailbox: Mailbox
    outside: Outside
    webhooks: Webhooks


@contextlib.asynccontextmanager
async def open_correspondence(
    settings: Settings, vault: Vault, bus: EventBus, alerts: AlertSink
) -> AsyncIterator[Correspondence]:
    """Open the messages' file, record what `bus` tells, and go on telling webhooks. Raises `JournalUnwritable`."""
    mailbox = Mailbox(
        settings.state_dir / "messages",
        message_key(settings),
        alerts,
        settings.messages_kept_days,
        taken=Taken(vault),
    )
    outside = Outside(Reach(settings.allow_private_urls or ""))
    options = CourierOptions(give_up_s=settings.webhook_give_up_h * 3_600)
    webhooks = Webhooks(mailbox.file, mailbox.log, outside, alerts, options)
    async with contextlib.AsyncExitStack() as stack:
        mailbox.open()
        stack.push_async_callback(mailbox.close)
        webhooks.load()
        stack.callback(mailbox.record(bus))
        upkeep = asyncio.create_task(mailbox.run())
        stack.push_async_callback(_cancelled, upkeep)
        stack.push_async_callback(outside.close)
        stack.push_async_callback(webhooks.stop)
        webhooks.start()
        yield Correspondence(mailbox, outside, webhooks)


def make_messenger(settings: Settings, opened: Correspondence, pool: SessionPool, bus: EventBus) -> Messenger:
    """What people and programs use, as the settings want it."""
    options = OutboxOptions(limit=parse_limit(settings.new_chats_per_minute))
    media = media_files(settings, opened.mailbox, opened.outside)
    return Messenger(opened.mailbox, pool, bus, settings.default_region, options, media)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
