"""The way back where nothing is left but folders: node and database are lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from standfast.alert import LoggedAlerts
from standfast.authstate.company import Company
from standfast.authstate.multifile import export_folder
from standfast.errors import EmergencyRefused
from standfast.jobs.emergency.comparison import Wish
from standfast.jobs.emergency.from_folders import FromFolders
from standfast.jobs.emergency.return_report import ReturnReport
from standfast.jobs.progress import Silent
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from standfast.service.returning import folders_context
from standfast.settings import Settings
from tests.integration.restoring import BOLT, KEYS, ME, lose, meant, values
from tests.integration.services import ACME, running, settings_of
from tests.support import made_up_creds
from tests.unit.test_key_pairs import document

CREDS, THEIRS = made_up_creds(**document(), me=ME), made_up_creds(**document(1))
TAKEN = {kind: ids for kind, ids in KEYS.items() if kind not in ("sender-key-memory", "standfast-taken")}


@pytest.fixture
def settings(state: Path, database_options: DatabaseOptions) -> Settings:
    return settings_of(state, database_options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folders of two companies, a directory that is none, and what is kept aside."""
    place = tmp_path / "folders"
    for name in ("kept", ".staging-1"):
        (place / name / "20260101" / "acme").mkdir(parents=True)
    export_folder(place / ACME, CREDS, KEYS)
    export_folder(place / BOLT, THEIRS, {"session": {"b": b"1"}})
    return place


async def brought_in(
    settings: Settings, root: Path, wish: Wish | None = None, **options: Any
) -> ReturnReport:
    async with folders_context(settings, Silent(), LoggedAlerts()) as context:
        job = FromFolders(context, root, wish or Wish(), **options)
        return await job.run(await job.look())


async def test_a_lost_database_is_filled_from_folders_alone(
    settings: Settings, root: Path, database_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """Tables are made, every key is there but who has our sender keys; a service opens it, nothing is done twice."""
    lose(database_options)
    report = await brought_in(settings, root)
    assert report.ok
    assert {one.company: one.keys for one in report.companies} == {"acme": 8, "bolt": 1}
    assert values(await store.snapshot(ACME)) == meant(TAKEN)
    async with running(settings.state_dir, database_options, schedule="off") as now:
        await now.in_state("online")
        assert await now.service.vault.open(ACME)
    again = await brought_in(settings, root)
    assert [one.action for one in again.companies] == ["none", "none"]


async def test_damaged_files_are_named_and_left_out_only_when_asked(
    settings: Settings, root: Path, database_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """Damaged creds are never taken; of a mapping that lost one half the other goes too."""
    for name in ("session-79990000002.0.json", "lid-mapping-444_reverse.json"):
        (root / ACME / name).write_bytes(b'{"type":"Buf')
    (root / BOLT / "creds.json").write_bytes(b"")
    report = await brought_in(settings, root)
    assert not report.ok
    assert report.undecided == ["acme"]
    assert await store.snapshot(ACME) is None
    report = await brought_in(settings, root, accept_damage=True)
    acme, bolt = report.companies
    assert (acme.error, acme.keys) == (None, 5)
    assert bolt.error is not None
    assert "creds.json" in bolt.error
    assert await store.snapshot(BOLT) is None
    found = values(await store.snapshot(ACME))
    assert "lid-mapping" not in found
    assert list(found["session"]) == ["tab\\t"]


async def test_what_the_database_has_is_never_taken_for_older(
    settings: Settings, root: Path, store: PostgresAuthStore
) -> None:
    """A folder tells no epoch: another content is a conflict, and what loses is kept."""
    await store.install(ACME, CREDS, {"session": {"newer": b"1"}})
    await store.install(BOLT, THEIRS, {"session": {"b": b"1"}})
    report = await brought_in(settings, root)
    assert report.undecided == ["acme"]
    assert values(await store.snapshot(ACME)) == {"session": {"newer": 1}}
    with pytest.raises(EmergencyRefused, match="no folder of 'acmee'"):
        await brought_in(settings, root, Wish("files", {Company("acmee")}))
    report = await brought_in(settings, root, Wish("files", {ACME}))
    assert report.ok
    kept = report.companies[0].kept
    assert kept is not None
    assert (Path(kept) / "session-newer.json").exists()
    assert values(await store.snapshot(ACME)) == meant(TAKEN)


async def test_creds_whose_pairs_do_not_match_are_damaged(
    settings: Settings, root: Path, store: PostgresAuthStore
) -> None:
    """They are named, and never taken: no session could come of them."""
    wrong = document(1) | {
        "noiseKey": document()["noiseKey"] | {"private": document(1)["noiseKey"]["private"]}
    }
    (root / BOLT / "creds.json").write_bytes(made_up_creds(**wrong))
    report = await brought_in(settings, root, accept_damage=True)
    assert [one.error is None for one in report.companies] == [True, False]
    assert await store.snapshot(BOLT) is None
