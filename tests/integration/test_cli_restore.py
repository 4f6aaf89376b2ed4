"""`standfast backup restore`, as a person or a program calls it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.errors import NotFound, RestoreRefused, UsageError
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from tests.cli_support import CommandLine, own_surroundings
from tests.integration.restoring import ACME, BOLT, backed_up, fill, said
from tests.integration.services import settings_of
from tests.support import apart, made_up_creds


@pytest.fixture
def standfast(
    state: Path,
    tmp_path: Path,
    database_options: DatabaseOptions,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[CommandLine]:
    """Beside a backup of acme and bolt; acme was written since."""

    async def prepare() -> None:
        async with Database(database_options) as database:
            store = PostgresAuthStore(database)
            await fill(store)
            await fill(store, BOLT)
            await backed_up(settings_of(state, database_options), database)
            await store.set_keys(ACME, {"session": {"later": b'"s2"'}})

    apart(prepare())
    with own_surroundings(monkeypatch, tmp_path):
        monkeypatch.setenv("STANDFAST_STATE_DIR", str(state))
        monkeypatch.setenv("DATABASE_URL", database_options.to_conninfo())
        yield CommandLine(capsys)


def test_the_plan_is_shown_and_agreed_to(standfast: CommandLine, database_options: DatabaseOptions) -> None:
    """For people and as JSON; without a yes nothing is done, with one what the plan says."""
    shown = standfast("backup", "restore", "latest", "--dry-run")
    assert shown.code == 0
    assert "rolled back" in shown.out
    assert "what came later is lost" in shown.out
    plan = standfast("backup", "restore", "latest", "--dry-run", "--json").document["plan"]
    assert {one["company"]: one["action"] for one in plan["companies"]} == {
        "acme": "rolled back",
        "bolt": "same",
    }
    assert standfast("backup", "restore", "latest").code == UsageError.exit_code
    assert said(database_options, "select count(*) from whatsapp_keys where company_id = 'acme'") == [(11,)]
    done = standfast("backup", "restore", "latest", "--yes", "--json")
    assert done.code == 0
    assert done.document["ok"]
    (acme, bolt) = done.document["companies"]
    assert (acme["action"], acme["keys"], bolt["action"]) == ("rolled back", 6, "same")
    assert Path(acme["kept"]).is_dir()


def test_what_cannot_be_has_its_exit_code(standfast: CommandLine, database_options: DatabaseOptions) -> None:
    """A company that is refused, a name that there is not, nothing to resume, a wish that is none."""
    newer = made_up_creds(b"\x09" * 32).decode()
    said(
        database_options, f"update whatsapp_auth set creds = '{newer}' where company_id = 'acme' returning 1"
    )
    refused = standfast("backup", "restore", "latest", "--company", "acme", "--yes")
    assert refused.code == RestoreRefused.exit_code
    assert "paired anew" in refused.err
    assert standfast("backup", "restore", "19990101T000000Z", "--yes").code == NotFound.exit_code
    assert standfast("backup", "restore", "--resume").code == RestoreRefused.exit_code
    assert standfast("backup", "restore").code == UsageError.exit_code
    assert standfast("backup", "restore", "latest", "--resume").code == UsageError.exit_code
