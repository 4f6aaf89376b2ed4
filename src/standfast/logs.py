"""Where log lines go and what they may say.

Invariant: every line, also of a library, passes `_redact` before it is rendered; nothing is written to stdout.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from standfast.redaction import redact_fields

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(
    level: str = "info",
    *,
    stream: TextIO | None = None,
    handler: logging.Handler | None = None,
    as_json: bool | None = None,
) -> None:
    """Send structlog's and the standard library's records to `stream` (stderr), JSON when it is no terminal; or to
    `handler`, which the caller closes."""
    out = stream or sys.stderr
    if as_json is None:
        as_json = handler is not None or not out.isatty()
    handler = handler or logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_common(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(as_json)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    _quieten_libraries(level)
    structlog.configure(
        processors=[*_common(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        cache_logger_on_first_use=False,
    )


def _common() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]


def _rendering(as_json: bool) -> list[Processor]:
    if as_json:
        return [_redact, structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [_redact, structlog.dev.ConsoleRenderer(colors=True)]


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    """Last before rendering, so that formatted tracebacks are redacted too. Times are not phone numbers."""
    return {**redact_fields(event), "timestamp": event.get("timestamp")}


def _quieten_libraries(level: str) -> None:
    """Request lines of HTTP clients name addresses that hold tokens (Telegram's), so they stay out below debug. The
    pool and the retries tell of every failed attempt, many a second in an outage; what operators need of it is one
    line for each change, and that is ours."""
    is_debugging = level == "debug"
    for name in ("httpx", "httpcore", "asyncio", "apscheduler"):
        logging.getLogger(name).setLevel(logging.DEBUG if is_debugging else logging.WARNING)
    for name in ("psycopg", "stamina"):
        logging.getLogger(name).setLevel(logging.DEBUG if is_debugging else logging.CRITICAL)
