"""What two nodes tell each other while a session goes from one to the other."""

from __future__ import annotations

from standfast.postgres.handovers import Handovers
from standfast.postgres.leases import Leases
from standfast.postgres.pool import Database, Statement
from tests.integration.services import ACME

ONE, TWO, THREE = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "123")


async def alive(database: Database, *nodes: str) -> None:
    for node in nodes:
        await Leases(database, node).heartbeat(node, f"node {node[0]}", 60.0)


async def test_a_session_that_is_free_goes_to_one_of_the_two(database: Database) -> None:
    """Nobody takes it before it is free; then either the other node takes it, or it is taken back."""
    await alive(database, ONE, TWO)
    giver, taker = Handovers(database, ONE), Handovers(database, TWO)
    assert [one.name for one in await giver.living()] == ["node 2"]
    for is_withdrawn in (False, True):
        assert await giver.offer(ACME, TWO)
        assert not await giver.free(ACME)  # nobody awaits it yet
        assert await taker.offered() == {ACME: "offered"}
        await taker.expect([ACME])
        assert (await giver.step(ACME), await taker.take(ACME)) == ("awaited", False)
        assert await giver.free(ACME)
        assert await taker.offered() == {ACME: "free"}
        if is_withdrawn:
            assert await giver.withdraw(ACME)
        assert await taker.take(ACME) is not is_withdrawn
        assert (await giver.step(ACME), await giver.withdraw(ACME)) == (None, False)


async def test_what_is_awaited_goes_on_where_its_giver_died(database: Database) -> None:
    """A node that is killed between closing a session and saying so leaves it to the one that awaits it."""
    await alive(database, ONE, TWO)
    giver, taker = Handovers(database, ONE), Handovers(database, TWO)
    await giver.offer(ACME, TWO)
    await taker.expect([ACME])
    assert await taker.offered() == {ACME: "awaited"}
    await Leases(database, ONE).leave(ONE)
    assert await taker.offered() == {ACME: "free"}
    assert await taker.take(ACME)


async def test_an_offer_of_long_ago_means_nothing(database: Database) -> None:
    """What two nodes left there when both died is neither taken nor in the way of a third."""
    await alive(database, TWO, THREE)
    await Handovers(database, ONE).offer(ACME, TWO)
    assert not await Handovers(database, THREE).offer(ACME, TWO)  # it is just being given away
    past = "update standfast_handovers set at = now() - interval '2 minutes' where company_id = $1"
    await database.fetch(Statement("test.age", past), [ACME])
    assert await Handovers(database, TWO).offered() == {}
    assert await Handovers(database, THREE).offer(ACME, TWO)
