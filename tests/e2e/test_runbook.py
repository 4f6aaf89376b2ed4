"""The runbook and the disaster-recovery checklist, run as they stand against one installation of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.documents import load, run_step
from tests.e2e.conftest import shares_loop
from tests.e2e.courses import SETUPS, ready
from tests.e2e.installation import Installation, installed

DOCS = Path(__file__).parents[2] / "docs"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Installation]:
    """One installation for both documents; each leaves it standing."""
    async with installed() as made:
        yield made


async def run_document(place: Installation, name: str) -> None:
    """Every block in its order, in the state that it asks for; told is all that differs, not the first of it."""
    await ready(place)
    state, wrong = "", list[str]()
    for block in load(DOCS / name):
        if block.setup != state:
            try:
                await SETUPS[block.setup](place)
            except BaseException:
                print("\n\n".join(wrong))  # noqa: T201 - what went before tells why
                raise
            state = block.setup
        for step in block.steps:
            try:
                await run_step(step, place.bound, place.shell, name)
            except AssertionError as error:
                wrong.append(str(error))
    assert not wrong, "\n\n".join(wrong)


@shares_loop
@pytest.mark.timeout(240)
async def test_every_command_of_the_runbook_prints_what_it_says(place: Installation) -> None:
    """All four scenarios happen, and each command ends and prints as the page says."""
    await run_document(place, "runbook.md")


@shares_loop
@pytest.mark.timeout(240)
async def test_every_command_of_the_disaster_recovery_checklist_prints_what_it_says(
    place: Installation,
) -> None:
    """What is to be in place is shown to be, and each disaster is recovered from as the checklist says."""
    await run_document(place, "disaster-recovery.md")
