"""How files to be sent are kept, as the settings say."""

from __future__ import annotations

from standfast.messaging.file_types import MIB
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.media import MediaFiles, MediaOptions
from standfast.messaging.outside import Outside
from standfast.service.vault import vault_directory
from standfast.settings import Settings


def media_files(settings: Settings, mailbox: Mailbox, outside: Outside) -> MediaFiles:
    """Files in the mailbox's spool; what the service itself keeps is never taken as one to be sent."""
    options = MediaOptions(settings.media_max_mb * MIB, (settings.state_dir, vault_directory(settings)))
    return MediaFiles(mailbox.spool, outside, mailbox.outgoing.unfinished_messages, mailbox.written, options)
