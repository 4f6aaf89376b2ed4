"""What a library heard from HTTP servers and said in its log while it worked in this thread.

Invariant: nothing is kept of other threads. apprise says of a failure only that there was one; the status, the wait
that the server asks for and the cause are known to `requests` alone, which has no hook for all of its sessions.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from standfast.alerts.channels.answers import cause_of, reason


@dataclass(slots=True)
class Heard:
    """In the order in which it came. `answers` are of `requests`."""

    answers: list[Any] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def refusal(self) -> Any | None:
        """The last answer that is no success."""
        refused = [answer for answer in self.answers if not 200 <= answer.status_code < 300]
        return refused[-1] if refused else None

    @property
    def said(self) -> str:
        """Why nothing came of it."""
        if self.errors:
            return _cause(self.errors[-1])
        return reason(" ".join(self.lines))


_listening: ContextVar[Heard | None] = ContextVar("standfast_alerts_heard", default=None)


@contextmanager
def hearing(logger_name: str) -> Iterator[Heard]:
    """What is heard while this lasts, in this thread; and its warnings under `logger_name`."""
    _listen()
    heard, logger = Heard(), logging.getLogger(logger_name)
    handler = _Lines(heard.lines, threading.get_ident())
    token = _listening.set(heard)
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)
        _listening.reset(token)


class _Lines(logging.Handler):
    def __init__(self, lines: list[str], thread: int) -> None:
        super().__init__(logging.WARNING)
        self._lines, self._of = lines, thread

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._of:
            self._lines.append(record.getMessage())


@cache
def _listen() -> None:
    """New sessions get an adapter that does the same and notes what comes; old ones and other threads see nothing."""
    import requests

    class Listening(requests.adapters.HTTPAdapter):
        def send(self, *args: Any, **kwargs: Any) -> Any:
            heard = _listening.get()
            try:
                answer = super().send(*args, **kwargs)
            except requests.RequestException as error:
                if heard is not None:
                    heard.errors.append(error)
                raise
            if heard is not None:
                heard.answers.append(answer)
            return answer

    requests.sessions.HTTPAdapter = Listening  # type: ignore[attr-defined]


def _cause(error: Exception) -> str:
    """In few words: what `requests` says of it holds the whole address, and addresses hold tokens."""
    import requests

    words = {
        requests.exceptions.ProxyError: "the proxy of the environment does not let it through",
        requests.exceptions.SSLError: "the server's TLS certificate is not accepted",
        requests.exceptions.ConnectTimeout: "no connection in time",
        requests.exceptions.Timeout: "no answer in time",
    }
    said = next((text for kind, text in words.items() if isinstance(error, kind)), None)
    return said or cause_of(error) or "the connection broke off"
