"""The whole chain with real Baileys: back up, lose, restore, log in, decrypt, go on; and through files and back."""

from __future__ import annotations

import shutil

import pytest

from standfast.postgres.options import DatabaseOptions
from standfast.service.job_context import command_context
from standfast.service.restore_run import resume_unfinished
from standfast.sessions.session import State
from tests.e2e.chatting import Chat, stand_on_files
from tests.e2e.conftest import Line, shares_loop, until
from tests.integration.restoring import backed_up, lose, restored
from tests.integration.returns import returned
from tests.integration.test_restore_crash import killed_at, stages


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
    what = f"{group}: {what}"  # no other test has said it
    for sender, receiver in (("acme", "bolt"), ("bolt", "acme")):
        await line.send(sender, receiver, f"{what} from {sender}")
        await line.received(receiver, [f"{what} from {sender}"])
        await line.service.pool.send(sender, group, {"text": f"{what} to all from {sender}"})
        await line.received(receiver, [f"{what} to all from {sender}"])
    return await line.retries() - retries


@shares_loop
async def test_after_the_loss_of_everything_both_decrypt_again(
    shared_pair: Line, module_database: DatabaseOptions
) -> None:
    """Neither database nor replica is left: from the backup both log in, are understood at the price of sessions set up
    anew, and go on; the next backup is as good, also for one company alone whose peer has moved on."""
    line, group = shared_pair, await grouped(shared_pair)
    await chat(line, group, "before")
    await back_up(line)
    assert await chat(line, group, "after the backup") == 0
    await line.stop()
    lose(module_database)
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


@shares_loop
async def test_with_the_service_running_its_replica_loses_nothing(
    shared_pair: Line, module_database: DatabaseOptions
) -> None:
    """The database is emptied under a running service: what it knows is replayed, sessions are open again, and nobody
    has to ask for a message a second time."""
    line, group = shared_pair, await grouped(shared_pair)
    await back_up(line)
    await chat(line, group, "after the backup")
    lose(module_database)
    report = await restored(line.settings)
    assert {(one.action, one.session, one.error) for one in report.companies} == {("replay", "open", None)}
    assert await chat(line, group, "after the restore") == 0


@shares_loop
async def test_a_chat_through_files_and_back_loses_nothing(
    shared_pair: Line, module_database: DatabaseOptions
) -> None:
    """Not a message is lost, doubled or asked for again, though the database is lost meanwhile and an empty one comes
    back; on the way back both sessions stay open and are heard."""
    line = shared_pair
    retries = await line.retries()
    chat = Chat(line, "through files")
    await chat.goes_on()
    assert (await stand_on_files(line)).ok
    await chat.goes_on()
    generations = [line.session(one).generation for one in ("acme", "bolt")]
    lose(module_database)
    report = await returned(line.settings)
    assert report.ok
    assert {one.session for one in report.companies} == {"open"}
    await chat.goes_on()
    await chat.end()
    assert [line.session(one).generation for one in ("acme", "bolt")] == generations
    assert await line.retries() == retries


@pytest.mark.chaos
@shares_loop
async def test_a_restore_killed_beside_a_running_service_is_gone_on_with(shared_pair: Line) -> None:
    """What it had stopped stays stopped until it is gone on with, and runs then; in between nothing is withheld."""
    line, group = shared_pair, await grouped(shared_pair)
    await back_up(line)
    await chat(line, group, "after the backup")
    left = await killed_at(line.settings, lambda steps: "kept" in stages(steps), "--no-replay")
    assert {step.ran for step in left.companies.values()} == {True}
    await until(lambda: not line.service.vault.held.withheld, "everything let go")
    report = await resume_unfinished(line.settings, None)
    assert report.ok
    assert {one.session for one in report.companies} == {"open"}
    assert await chat(line, group, "after the restore") <= 2
