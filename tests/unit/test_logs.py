"""Logs: they go to stderr or a given stream, and no secret gets into them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from standfast.logs import configure_logging
from standfast.redaction import redact_fields, redact_text

PHONE = "79990000001"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The stream that logging goes to; the root logger is given back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every line, which must be JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_that_is_not_for_a_terminal_is_json(log: io.StringIO) -> None:
    """Event, level, logger and time, and the fields as they were."""
    structlog.get_logger("standfast.x").info("opened", company="acme", keys=12, exit_code=3, pid=123456)
    structlog.get_logger("standfast.x").debug("not at this level")
    (line,) = lines(log)
    assert line.pop("timestamp").startswith("20")
    assert line == {
        "event": "opened",
        "level": "info",
        "logger": "standfast.x",
        "company": "acme",
        "keys": 12,
        "exit_code": 3,
        "pid": 123456,
    }


def test_libraries_pass_the_same_way(log: io.StringIO) -> None:
    """A record of the standard library's logging is redacted too."""
    logging.getLogger("some.library").warning("cannot reach %s", "postgresql://bot:hush@db/wa")
    (line,) = lines(log)
    assert line["event"] == "cannot reach postgresql://bot:********@db/wa"


def test_a_traceback_shows_no_secret(log: io.StringIO) -> None:
    """Exceptions of drivers repeat what they were given."""
    try:
        raise ValueError(f"host=db password='hush hush' for {PHONE}")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(log)
    assert "ValueError" in line["exception"]
    assert "hush" not in log.getvalue()
    assert PHONE not in log.getvalue()


@pytest.mark.parametrize(
    "name", ["password", "bot_token", "creds", "keys", "key", "qr", "code", "phone", "secret", "DATABASE_URL"]
)
def test_fields_that_hold_secrets_by_name_are_masked(name: str) -> None:
    """Text, bytes and nested values under such a name are not shown."""
    for value in ("ABCD1234", b"ABCD1234", {"inner": "ABCD1234"}, ["ABCD1234"]):
        assert "ABCD1234" not in str(redact_fields({"outer": {name: value}}))


def test_raw_bytes_are_counted_and_never_shown() -> None:
    """Values of creds and keys are bytes."""
    assert redact_fields({"frame": b"key material"}) == {"frame": "<12 bytes>"}


@pytest.mark.parametrize(
    "text",
    [
        f"message from {PHONE}@s.whatsapp.net",
        f"device {PHONE}:12@s.whatsapp.net",
        f"lid {PHONE}@lid",
        "lid 12399945@lid",
        "hosted 12399945_1:2@hosted.lid",
        f"to +{PHONE}.",
        "to +7 999 000-00-01",
        f"pair {PHONE}",
        f"({PHONE})",
    ],
)
def test_phone_numbers_are_not_shown(text: str) -> None:
    """In any of the forms in which they appear in messages."""
    shown = redact_text(text)
    assert "999" not in shown
    assert "…" in shown


@pytest.mark.parametrize(
    "text",
    [
        "pid 123456 on port 5432",
        "2026-11-22T05:35:42Z",
        "10.0.0.1:5432",
        "took 1234 ms, 4294967296B",
        "id 3EB0C767D26A1",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    """Redaction must leave a log useful."""
    assert redact_text(text) == text


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=4))
def test_no_password_of_a_url_survives(password: str) -> None:
    """Whatever characters the password has, also those that should have been encoded."""
    assert "hush" not in redact_text(f"cannot reach postgresql://bot:{password}-hush@db/wa now")


@pytest.mark.parametrize("name", ["psycopg.pool", "stamina"])
def test_libraries_are_silent_about_each_failed_attempt(log: io.StringIO, name: str) -> None:
    """In an outage they would write several lines a second; one line for each change is ours."""
    configure_logging("info", stream=log, as_json=True)
    logging.getLogger(name).warning("error connecting")
    structlog.get_logger(name).warning("retry scheduled")
    assert log.getvalue() == ""
    configure_logging("debug", stream=log, as_json=True)
    logging.getLogger(name).warning("error connecting")
    assert "error connecting" in log.getvalue()
