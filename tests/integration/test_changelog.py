"""The change log: past states are those that the store held, and a gap is never silent."""

from __future__ import annotations

from pathlib import Path

from standfast.authstate.company import Company
from standfast.jobs.changelog.state import state_at
from standfast.postgres.options import DatabaseOptions
from tests.integration.changelogs import State, log_settings, logged, next_second, state_of
from tests.support import made_up_creds

ACME, BETA = Company("acme"), Company("beta")


async def test_each_second_of_a_history_can_be_had_back(
    database_options: DatabaseOptions, tmp_path: Path
) -> None:
    """The state at each second is what the store held when that second began, for each company, over a restart."""
    settings = log_settings(tmp_path / "one", tmp_path / "backups")
    held: list[tuple[float, dict[Company, State]]] = []
    for run in range(2):
        async with logged(settings, database_options, ticking=True) as one:
            for company in (ACME, BETA):
                if await one.vault.open(company, pair=True) is None:
                    await one.vault.create_creds(company, made_up_creds())
            for step in range(2):
                values = {f"{run}": b'"%d"' % step, "shared": b'"%d-%d"' % (run, step)}
                await one.vault.set_keys(ACME, {"session": values})
                await one.vault.set_keys(BETA, {"session": {"shared": b'"b%d"' % step, f"{run}": None}})
                await one.vault.save_creds(BETA, made_up_creds(nextPreKeyId=100 * run + step))
                held.append((await next_second(), {c: one.state(c) for c in (ACME, BETA)}))
    for at, states in held:
        for company, expected in states.items():
            found = await state_at(settings, company, at)
            assert state_of(found) == expected, (at, company)
            assert found is not None
            assert found.gap is None
            assert found.is_latest == (at == held[-1][0]), (at, company)
    assert await state_at(settings, ACME, held[0][0] - 60) is None
