"""Errors as `application/problem+json` (RFC 9457): which HTTP status each of ours has, and the document.

Invariant: a document holds what an error of ours says, and nothing of what the caller sent: no text, number or token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from standfast.errors import StandfastError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = {"session_not_open": 5, "too_many_requests": 60}
_RETRY_AFTER_S = 2
STATUS: Mapping[str, int] = {
    "internal": 500,
    "usage": 422,
    "settings": 500,
    "database_unavailable": 503,
    "database_rejected": 503,
    "company_unknown": 404,
    "company_in_use": 409,
    "session_not_open": 409,
    "service_unavailable": 503,
    "state_directory": 503,
    "port_in_use": 500,
    "node": 503,
    "auth_state_corrupt": 500,
    "protocol": 502,
    "pairing_failed": 409,
    # It was WhatsApp that refused what the caller wanted sent; a proxy must not take it for an outage and ask again.
    "send_failed": 422,
    "grace_expired": 503,
    "journal_unwritable": 503,
    "conflict": 409,
    "target_failed": 422,
    "not_found": 404,
    "unauthorized": 401,
    "forbidden": 403,
    "too_many_requests": 429,
    "backup_failed": 503,
    "backup_damaged": 500,
    "client_tools": 500,
    "job_running": 409,
    "remote_failed": 503,
    "restore_refused": 409,
    "emergency_refused": 409,
    "emergency_failed": 503,
    "drill_failed": 500,
    # Only HTTP has these.
    "malformed": 400,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "timeout": 408,
    "too_large": 413,
    "unsupported_media_type": 415,
    "misdirected": 421,
    "header_too_large": 431,
}
_TITLES = {
    "usage": "The request cannot be done as it was asked",
    "company_unknown": "There is no such company",
    "session_not_open": "The session is not connected to WhatsApp",
    "send_failed": "The message was not sent",
    "internal": "Something went wrong here",
    "malformed": "The request could not be read",
}


class HttpProblem(StandfastError):
    """What is wrong with a request as HTTP; `kind` is a code of `STATUS` that only HTTP has."""

    default_next_step = "See docs/http.md, or /docs of this service."

    def __init__(self, kind: str, message: str, *, next_step: str | None = None, **facts: Any) -> None:
        super().__init__(message, next_step=next_step, **facts)
        self.kind = kind


def code_of(error: StandfastError) -> str:
    return error.kind if isinstance(error, HttpProblem) else error.code


def status_of(error: StandfastError) -> int:
    """The HTTP status; 500 for a code that nobody named one for."""
    return STATUS.get(code_of(error), 500)


def document(error: StandfastError) -> dict[str, Any]:
    """The problem document."""
    code, status = code_of(error), status_of(error)
    problem: dict[str, Any] = {
        "type": f"urn:standfast:error:{code}",
        "title": _TITLES.get(code, HTTPStatus(status).phrase),
        "status": status,
        "detail": error.message,
        "code": code,
        "next_step": error.next_step,
        "retryable": error.retryable,
    }
    if error.facts:
        problem["facts"] = error.facts
    return problem


def headers(error: StandfastError) -> dict[str, str]:
    """`Retry-After` where the same request may succeed later, `WWW-Authenticate` where a token would help."""
    code, status = code_of(error), status_of(error)
    found: dict[str, str] = {}
    if error.retryable and status in (409, 429, 503):
        found["Retry-After"] = str(RETRY_AFTER_S.get(code, _RETRY_AFTER_S))
    if status == HTTPStatus.UNAUTHORIZED:
        why = ', error="invalid_token"' if error.facts.get("given") else ""
        found["WWW-Authenticate"] = f'Bearer realm="standfast"{why}'
    elif code == "forbidden" and error.facts.get("scope"):
        scope = error.facts["scope"]
        found["WWW-Authenticate"] = f'Bearer realm="standfast", error="insufficient_scope", scope="{scope}"'
    return found


def wrong_fields(errors: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Where the checks of path, query and headers failed, without what was given."""
    found = []
    for error in errors:
        where = ".".join(str(part) for part in error.get("loc", ()))
        found.append({"where": where[:100], "message": str(error.get("msg", "is wrong"))[:200]})
    return found
