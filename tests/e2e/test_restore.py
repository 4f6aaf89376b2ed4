"""The whole chain with real Baileys: back up, lose, restore, log in, decrypt, go on writing, back up, restore again."""

from __future__ import annotations

import shutil

from standfast.postgres.options import DatabaseOptions
from standfast.service.job_context import command_context
from standfast.sessions.session import State
from tests.e2e.conftest import Line
from tests.integration.restoring import backed_up, lose, restored


async def back_up(line: Line) -> str:
    async with command_context(line.settings, "backup") as context:
        return await backed_up(line.settings, context.database)


async def grouped(line: Line) -> str:
    """A group of both."""
    made = {"subject": "made up", "participants": [line.phones["acme"], line.phones["bolt"]]}
    return str((await line.simulator.ask("POST", "/groups", made))["jid"])


async def chat(line: Line, group: str, what: str) -> int:
    """A message each way, to each other and to the group, which must arrive readable; how many had to be asked for
    again."""
    retries = await line.retries()
    for sender, receiver in (("acme", "bolt"), ("bolt", "acme")):
        await line.send(sender, receiver, f"{what} from {sender}")
        await line.received(receiver, [f"{what} from {sender}"])
        await line.service.pool.send(sender, group, {"text": f"{what} to all from {sender}"})
        await line.received(receiver, [f"{what} to all from {sender}"])
    return await line.retries() - retries


async def test_after_the_loss_of_everything_both_decrypt_again(
    pair_of: Line, database_options: DatabaseOptions
) -> None:
    """Neither database nor replica is left: from the backup both log in, are understood at the price of sessions set up
    anew, and go on; the next backup is as good, also for one company alone whose peer has moved on."""
    line, group = pair_of, await grouped(pair_of)
    await chat(line, group, "before")
    await back_up(line)
    assert await chat(line, group, "after the backup") == 0
    await line.stop()
    lose(database_options)
    shutil.rmtree(line.settings.state_dir / "vault")
    report = await restored(line.settings)
    assert {one.action for one in report.companies} == {"rolled back"}
    await line.start()
    for company in ("acme", "bolt"):
        await line.state(company, State.OPEN)
    assert await chat(line, group, "after the loss") <= 1
    await back_up(line)
    assert await chat(line, group, "after the second backup") == 0
    report = await restored(line.settings, companies=frozenset({"acme"}), replay=False)
    assert [(one.action, one.session) for one in report.companies] == [("rolled back", "open")]
    assert await chat(line, group, "after the second restore") <= 1
    assert await chat(line, group, "long after") == 0
    assert len(line.texts("bolt")) == len(set(line.texts("bolt")))


async def test_with_the_service_running_its_replica_loses_nothing(
    pair_of: Line, database_options: DatabaseOptions
) -> None:
    """The database is emptied under a running service: what it knows is replayed, sessions are open again, and nobody
    has to ask for a message a second time."""
    line, group = pair_of, await grouped(pair_of)
    await back_up(line)
    await chat(line, group, "after the backup")
    lose(database_options)
    report = await restored(line.settings)
    assert {(one.action, one.session, one.error) for one in report.companies} == {("replay", "open", None)}
    assert await chat(line, group, "after the restore") == 0
