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


async def chat(line: Line, what: str) -> None:
    """A message each way, which must arrive readable."""
    for sender, receiver in (("acme", "bolt"), ("bolt", "acme")):
        await line.send(sender, receiver, f"{what} from {sender}")
        await line.received(receiver, [f"{what} from {sender}"])


async def test_after_the_loss_of_everything_both_decrypt_again(
    pair_of: Line, database_options: DatabaseOptions
) -> None:
    """Neither database nor replica is left: from the backup both log in, are understood at the price of sessions set up
    anew, and go on; the next backup is as good, also for one company alone whose peer has moved on."""
    line = pair_of
    await back_up(line)
    await chat(line, "after the backup")
    await line.stop()
    lose(database_options)
    shutil.rmtree(line.settings.state_dir / "vault")
    report = await restored(line.settings)
    assert {one.action for one in report.companies} == {"rolled back"}
    await line.start()
    for company in ("acme", "bolt"):
        await line.state(company, State.OPEN)
    await chat(line, "after the loss")
    await back_up(line)
    await chat(line, "after the second backup")
    report = await restored(line.settings, companies=frozenset({"acme"}), replay=False)
    assert [(one.action, one.session) for one in report.companies] == [("rolled back", "open")]
    await chat(line, "after the second restore")
    assert len(line.texts("bolt")) == len(set(line.texts("bolt")))


async def test_with_the_service_running_its_replica_loses_nothing(
    pair_of: Line, database_options: DatabaseOptions
) -> None:
    """The database is emptied under a running service: what it knows is replayed, sessions are open again, and nobody
    has to ask for a message a second time."""
    line = pair_of
    await back_up(line)
    await chat(line, "after the backup")
    retries = await line.retries()
    lose(database_options)
    report = await restored(line.settings)
    assert {(one.action, one.session, one.error) for one in report.companies} == {("replay", "open", None)}
    await chat(line, "after the restore")
    assert await line.retries() == retries
