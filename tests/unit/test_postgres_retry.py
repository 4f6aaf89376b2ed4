"""Three retries, after 100, 200 and 400 ms, and only where they can help."""

from __future__ import annotations

import time

import pytest

from standfast.postgres.retry import retried


class Failing:
    def __init__(self, times: int, error: Exception) -> None:
        self.times = times
        self.error = error
        self.moments: list[float] = []

    async def __call__(self) -> str:
        self.moments.append(time.monotonic())
        if len(self.moments) <= self.times:
            raise self.error
        return "done"


async def run(call: Failing, budget_s: float = 5) -> tuple[str, int]:
    retries = 0

    def count() -> None:
        nonlocal retries
        retries += 1

    result = await retried(call, lambda error: isinstance(error, OSError), budget_s=budget_s, on_retry=count)
    return result, retries


async def test_success_is_not_repeated() -> None:
    call = Failing(0, OSError())
    assert await run(call) == ("done", 0)
    assert len(call.moments) == 1


async def test_three_retries_wait_longer_each_time() -> None:
    call = Failing(3, OSError())
    assert await run(call) == ("done", 3)
    waits = [later - earlier for earlier, later in zip(call.moments, call.moments[1:], strict=False)]
    for wait_s, least_s in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert least_s <= wait_s < least_s + 0.3


async def test_the_fourth_failure_is_the_callers() -> None:
    call = Failing(9, OSError("still down"))
    with pytest.raises(OSError, match="still down"):
        await run(call)
    assert len(call.moments) == 4


async def test_other_errors_are_not_retried() -> None:
    call = Failing(1, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await run(call)
    assert len(call.moments) == 1


async def test_a_spent_budget_ends_it() -> None:
    call = Failing(9, OSError())
    with pytest.raises(OSError):  # noqa: PT011  # the class is what the test made
        await run(call, budget_s=0.05)
    assert len(call.moments) == 2
