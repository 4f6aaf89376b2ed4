"""Real sentry-sdk and apprise at a server on this machine that fails, refuses, hangs or wants a pause."""

from __future__ import annotations

import asyncio
import io
import logging
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from standfast.alerts.channel import Undelivered
from standfast.alerts.channels import NotifyChannel, SentryChannel
from standfast.alerts.channels.aside import Aside
from standfast.alerts.channels.heard import hearing
from tests.outlet import (
    CHANNELS,
    SECRETS,
    Answer,
    Outlet,
    channel_to,
    note,
    refusal,
)

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", CHANNELS)
async def test_a_failure_that_passes_is_tried_again_as_the_same(name: str) -> None:
    """A 500 is no delivery and no refusal for good; the next attempt delivers the same note, under the same id."""
    async with Outlet(Answer(500, body=b"upstream is down")) as outlet:
        channel = channel_to(outlet, name)
        failed = await refusal(channel)
        assert not failed.permanent
        assert "500" in failed.message
        await channel.deliver(note())
        first, second = outlet.requests
    if name == "sentry":
        assert first.event["event_id"] == second.event["event_id"] == note().id


TELEGRAM_429 = (
    b'{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35",'
    b'"parameters":{"retry_after":35}}'
)


@pytest.mark.parametrize(
    ("name", "answer", "expected_s"),
    [
        ("sentry", Answer(429, {"Retry-After": "17"}), 17),
        ("sentry", Answer(429), 60),
        ("sentry", Answer(429, {"X-Sentry-Rate-Limits": "40:session, 90:error;default:organization"}), 90),
        ("telegram", Answer(429, body=TELEGRAM_429), 35),
        ("telegram", Answer(429, {"Retry-After": "12"}, b"<html>"), 12),
        ("json", Answer(429, {"Retry-After": "17"}), 17),
        ("json", Answer(503, {"Retry-After": "20"}), 20),
        ("json", Answer(429, {"Retry-After": "1000000"}), 3_600),
    ],
)
async def test_a_server_that_wants_a_pause_gets_it(name: str, answer: Answer, expected_s: float) -> None:
    """How long to wait is handed on, wherever the server says it, and is never more than an hour."""
    async with Outlet(answer) as outlet:
        failed = await refusal(channel_to(outlet, name))
    assert failed.retry_after_s == expected_s
    assert not failed.permanent


async def test_sentry_is_not_asked_while_it_wants_silence() -> None:
    """A limit that Sentry announces with a success holds for the next event too, which is kept."""
    limited = Answer(200, {"X-Sentry-Rate-Limits": "50::organization"})
    async with Outlet(limited) as outlet:
        channel = channel_to(outlet, "sentry")
        await channel.deliver(note())
        failed = await refusal(channel)
        assert len(outlet.requests) == 1
    assert 45 < (failed.retry_after_s or 0) <= 50


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("answer", [None, Answer(500, body=b"slow" * 50, drip_s=0.1)])
async def test_a_server_that_hangs_is_given_up_in_time(name: str, answer: Answer | None) -> None:
    """A delivery ends at its deadline, also where a server says a little now and then; it may pass."""
    async with Outlet(answer) as outlet:
        loaded = channel_to(outlet, name, timeout_s=30)  # loading libraries is not what is measured
        assert isinstance(loaded, NotifyChannel | SentryChannel)
        await loaded.check()
        channel = channel_to(outlet, name, timeout_s=0.3)
        started = time.monotonic()
        failed = await refusal(channel)
        assert time.monotonic() - started < 2
    assert "within 0.3 s" in failed.message
    assert not failed.permanent


@pytest.mark.parametrize("name", CHANNELS)
async def test_the_proxy_of_the_environment_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the way out leads through a proxy, it is taken; NO_PROXY leads past it."""
    async with Outlet() as proxy, Outlet() as outlet:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        monkeypatch.setenv("NO_PROXY", "")
        await channel_to(outlet, name).deliver(note())
        assert proxy.requests[0].path.startswith(f"http://{outlet.host}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        await channel_to(outlet, name).deliver(note())
        assert (len(proxy.requests), len(outlet.requests)) == (1, 1)


@pytest.mark.parametrize("name", CHANNELS)
async def test_a_server_that_is_not_there_is_named_as_such(name: str) -> None:
    """A refused connection is told as one, and may pass."""
    async with Outlet() as outlet:
        channel = channel_to(outlet, name)
    failed = await refusal(channel)
    assert "connection refused" in failed.message
    assert not failed.permanent


@pytest.mark.parametrize(
    ("name", "answer", "mend"),
    [
        ("sentry", Answer(403, {"X-Sentry-Error": "bad key"}), "SENTRY_DSN"),
        ("sentry", Answer(404, body=b'{"detail":"no such project"}'), "SENTRY_DSN"),
        ("telegram", Answer(401, body=b'{"description":"Unauthorized"}'), "TELEGRAM_BOT_TOKEN"),
        ("telegram", Answer(404, body=b'{"description":"Not Found"}'), "TELEGRAM_BOT_TOKEN"),
        ("telegram", Answer(403, body=b'{"description":"Forbidden: bot was blocked by the user"}'), "/start"),
        ("telegram", Answer(400, body=b'{"description":"Bad Request: chat not found"}'), "TELEGRAM_CHAT_ID"),
        (
            "telegram",
            Answer(
                400, body=b'{"description":"upgraded","parameters":{"migrate_to_chat_id":-1009999999999}}'
            ),
            "TELEGRAM_CHAT_ID=-1009999999999",
        ),
        ("json", Answer(401, body=b"no T0PSECRET of geheim"), "JSON"),
        ("json", Answer(302, {"Location": "/elsewhere"}), "JSON"),
    ],
)
async def test_a_refusal_for_good_says_the_mend(name: str, answer: Answer, mend: str) -> None:
    """A wrong token, chat or address is permanent, and the error says which setting to correct, not what it holds."""
    async with Outlet(answer) as outlet:
        failed = await refusal(channel_to(outlet, name))
        assert len(outlet.requests) == 1
    assert failed.permanent
    assert mend in failed.next_step
    assert str(answer.status) in failed.message


async def test_channels_tell_side_by_side_and_hear_their_own_answers() -> None:
    """Channels in threads of their own do not take each other's answers or log lines for theirs."""
    async with (
        Outlet(None) as hanging,
        Outlet(*[Answer(429, {"Retry-After": "7"})] * 5) as busy,
        Outlet() as open_,
    ):
        slow = channel_to(hanging, "json", timeout_s=1.0)
        results = await asyncio.gather(
            slow.deliver(note()),
            *(channel_to(busy, "json").deliver(note()) for _ in range(5)),
            *(channel_to(open_, "telegram").deliver(note()) for _ in range(5)),
            return_exceptions=True,
        )
    assert "within 1 s" in str(results[0])
    assert [getattr(one, "retry_after_s", None) for one in results[1:6]] == [7.0] * 5
    assert results[6:] == [None] * 5


async def test_a_thread_that_never_ends_is_left_to_itself() -> None:
    """Calls that hang are not piled up without end: after three, the next says so at once."""
    ends = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang() -> None:
        asyncio.run_coroutine_threadsafe(ends.wait(), loop).result(20)

    aside = Aside("x")
    for _ in range(3):
        with pytest.raises(Undelivered, match="no answer"):
            await aside.run(hang, 0.02)
    with pytest.raises(Undelivered, match="3 earlier attempts"):
        await aside.run(hang, 5)
    ends.set()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert await aside.run(lambda: "done", 5) == "done"
            return
        except Undelivered:
            await asyncio.sleep(0.01)
    raise AssertionError("the threads have not ended")


async def test_libraries_keep_addresses_out_of_the_log() -> None:
    """Also a log of everything holds no token: apprise and urllib3 write whole addresses below a warning. What apprise
    has to say, the error says."""
    lines = io.StringIO()
    handler, root = logging.StreamHandler(lines), logging.getLogger()
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        async with Outlet(*[Answer(500)] * len(CHANNELS)) as outlet:
            for name in CHANNELS:
                await refusal(channel_to(outlet, name))
        logging.getLogger("tests.heard").debug("the log was listened to")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert "tests.heard" in lines.getvalue()
    assert not [word for word in (*SECRETS, "apprise", "urllib3") if word in lines.getvalue()]


async def test_a_channel_hears_its_own_lines_only() -> None:
    """What a library says of one delivery is not told as the reason of another that runs at the same time."""
    both = threading.Barrier(2, timeout=10)

    def deliver(word: str) -> str:
        with hearing("tests.library") as heard:
            both.wait()
            logging.getLogger("tests.library").warning("it is %s", word)
            both.wait()
        return heard.said

    said = await asyncio.gather(*(Aside(word).run(partial(deliver, word), 10) for word in ("a", "b")))
    assert said == ["it is a", "it is b"]


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    """The service ends when it is told to, whatever a library waits for."""
    code = (
        "import asyncio, time; from standfast.alerts.channels.aside import Aside; "
        "asyncio.run(Aside('x').run(lambda: time.sleep(60), 0.05))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert "no answer within 0.05 s" in done.stderr
