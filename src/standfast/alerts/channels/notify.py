"""`NotifyChannel`: notes to Telegram and the other services of apprise.

Invariant: a note counts as delivered only once the service has taken it; why it has not is said without what the
address holds, and a wait that the server asks for is handed on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from standfast.alert import Level
from standfast.alerts.channel import Note, Undelivered
from standfast.alerts.channels import telegram
from standfast.alerts.channels.answers import reason, refused, retried, wait_s
from standfast.alerts.channels.aside import Aside
from standfast.alerts.channels.heard import Heard, hearing
from standfast.alerts.channels.services import LOGGER, masked, unusable
from standfast.alerts.channels.wording import TELEGRAM_CHARS, Markup, body, is_resolved, title, whole

TIMEOUT_S = 9.0
_MOST_CHARS = 8_000
_KINDS = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}


class NotifyChannel:
    """One address. `make` makes its service, when it is first needed; `where` says to operators which address is meant,
    and `secrets` are the pieces of it that are never shown. `timeout_s` bounds a whole delivery."""

    def __init__(
        self,
        name: str,
        level: Level,
        make: Callable[[], Any],
        *,
        where: str,
        secrets: frozenset[str],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.name = name
        self.level = level
        self._make = make
        self._where = where
        self._secrets = secrets
        self._timeout_s = timeout_s
        self._aside = Aside(name)
        self._service: Any = None

    async def deliver(self, note: Note) -> None:
        """Raises `Undelivered`; see `Channel`."""
        await self._aside.run(lambda: self._tell(note), self._timeout_s)

    async def check(self) -> None:
        """Whether the address can be used at all, without telling anything. Raises `Undelivered`."""
        await self._aside.run(self._made, self._timeout_s)

    def _made(self) -> Any:
        if self._service is None:
            try:
                self._service = self._make()
            except Undelivered:
                raise
            except Exception as error:  # noqa: BLE001 - a plugin's, which may say anything, also the address
                raise unusable(self._where, f"apprise failed with {type(error).__name__}") from None
        return self._service

    def _tell(self, note: Note) -> None:
        service = self._made()
        content = _content(service, note)
        with hearing(LOGGER) as heard:
            try:
                is_taken = service.notify(**content)
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises: the note is not delivered
                heard.lines.append(type(error).__name__)
                is_taken = False
        if not is_taken:
            raise self._failure(service, heard)

    def _failure(self, service: Any, heard: Heard) -> Undelivered:
        answer = heard.refusal
        if answer is None:
            return Undelivered(
                f"{service.service_name} cannot be told: {self._shown(heard.said) or 'apprise gives no reason'}",
                next_step=retried(self._where),
            )
        if telegram.is_telegram(service):
            return telegram.refusal(answer, self._where, self._shown)
        return refused(
            str(service.service_name),
            answer.status_code,
            self._shown(answer.text),
            f"Check {self._where}; then 'standfast alerts test {self.name}'.",
            self._where,
            wait_s(answer.status_code, answer.headers),
        )

    def _shown(self, text: str) -> str:
        return reason(masked(text, self._secrets))


def _content(service: Any, note: Note) -> dict[str, Any]:
    """In the markup that the service likes best; with the title within where it shows none of its own."""
    markup = service.resolve_format(None)
    if telegram.is_telegram(service) and markup.value == "html":
        return {
            "body": whole(note, "telegram", TELEGRAM_CHARS),
            "body_format": markup,
            "notify_type": _kind(note),
        }
    written: Markup = markup.value
    limit = min(service.body_maxlen, _MOST_CHARS)
    with_title = service.title_maxlen > 0
    return {
        "title": title(note, service.title_maxlen) if with_title else "",
        "body": body(note, written, limit) if with_title else whole(note, written, limit),
        "body_format": markup,
        "notify_type": _kind(note),
    }


def _kind(note: Note) -> str:
    return "success" if is_resolved(note) else _KINDS[note.level]
