"""From a contact's phone to a webhook: the whole way, driven by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from standfast.postgres.options import DatabaseOptions
from standfast.service.simulator import Simulator
from tests.e2e.conftest import make_line, until
from tests.e2e.processes import make_home
from tests.receiver import Receiver


async def test_a_message_reaches_a_webhook_and_what_it_missed_is_replayed(
    state_dir: Path, simulator: Simulator, database_options: DatabaseOptions, new_phone: Callable[[], str]
) -> None:
    """Added by the command line while the service runs; the message comes signed, its backlog is shown, and a replay
    brings it again."""
    line = make_line(state_dir, simulator, database_options, allow_private_urls="127.0.0.1")
    home = make_home(STANDFAST_STATE_DIR=str(state_dir))
    async with Receiver() as receiver:
        await line.start()
        try:
            await line.pair("acme", phone := new_phone())
            await line.pair("bolt", new_phone())
            made = await home("webhooks", "add", "bot", receiver.url, "--company", "acme", "--json")
            assert made.document["secret"].startswith("whsec_")
            receiver.answers = lambda _event: 503
            await line.send("bolt", "acme", "hello webhook")
            await until(lambda: receiver.requests, "a request")
            shown = await home("status")
            assert "answered 503" in shown.out
            assert made.document["secret"] not in shown.out
            receiver.answers = lambda _event: 200
            await until(lambda: receiver.texts() == ["hello webhook"], "the message")
            event = receiver.taken[0]
            assert (event["company"], event["kind"]) == ("acme", "message")
            assert event["data"]["from_me"] is False
            headers, body = receiver.requests[-1]
            assert headers["standfast-event-number"] == str(event["number"])
            assert headers["standfast-signature"].startswith("v1=")
            assert json.loads(body) == event
            assert phone not in str(line.service.webhooks.all())
            again = await home("webhooks", "replay", "bot", "--since", "1h", "--json")
            assert again.document == {"replayed": 1}
            await until(lambda: receiver.numbers == [event["number"]] * 2, "the replay")
        finally:
            await line.stop()
            home.clear()
