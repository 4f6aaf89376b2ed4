"""migrate, stats, export and import on a real PostgreSQL that the settings name."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from standfast.authstate.company import company_id
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from tests.cli_support import CommandLine, own_surroundings
from tests.support import apart, made_up_creds

PASSWORD = "hush <>|}%@:/ '\\"
KEYS = {
    "pre-key": {
        "1": b'{"public":{"type":"Buffer","data":"AQ=="}}',
        "2": b'{"public":{"type":"Buffer","data":"Ag=="}}',
    },
    "session": {"79990000001.0": b'{"type":"Buffer","data":"c2Vzc2lvbg=="}'},
    "tctoken": {"100-200@lid": b'{"token":{"type":"Buffer","data":"dA=="}}'},
}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with own_surroundings(monkeypatch, tmp_path):
        yield


@pytest.fixture
def standfast(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def name_database(monkeypatch: pytest.MonkeyPatch, options: DatabaseOptions) -> None:
    """Set the variables that an operator would."""
    for name in ("host", "port", "user", "password"):
        value = getattr(options, name)
        if value is not None:
            monkeypatch.setenv(f"POSTGRES_{name.upper()}", str(value))
    monkeypatch.setenv("POSTGRES_DATABASE", str(options.dbname))


@pytest.fixture
def migrated(monkeypatch: pytest.MonkeyPatch, database_options: DatabaseOptions) -> DatabaseOptions:
    """The settings name a migrated, empty database."""
    name_database(monkeypatch, database_options)
    return database_options


@pytest.fixture
def acme(migrated: DatabaseOptions) -> DatabaseOptions:
    """… that holds the company `acme`."""

    async def fill() -> None:
        async with Database(migrated) as database:
            await PostgresAuthStore(database).install(company_id("acme"), made_up_creds(), KEYS)

    apart(fill())
    return migrated


def rows(options: DatabaseOptions, sql: str) -> list[tuple[object, ...]]:
    """What the database itself says."""
    with psycopg.connect(options.to_conninfo(), autocommit=True) as connection:
        return connection.execute(sql.encode()).fetchall()


def test_a_dry_run_shows_and_changes_nothing(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, bare_database_options: DatabaseOptions
) -> None:
    """The steps with their SQL; afterwards the database is as it was."""
    name_database(monkeypatch, bare_database_options)
    shown = standfast("migrate", "--dry-run")
    assert shown.code == 0
    assert "would migration 1" in shown.out
    assert "CREATE TABLE IF NOT EXISTS whatsapp_auth" in shown.out
    assert (
        rows(bare_database_options, "select 1 from pg_tables where tablename ~ '^(whatsapp|standfast)_'")
        == []
    )


def test_migrating_twice_is_migrating_once(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, bare_database_options: DatabaseOptions
) -> None:
    """The first call does it, the second finds nothing left."""
    name_database(monkeypatch, bare_database_options)
    assert standfast("migrate", "--json").document["steps"] != []
    assert standfast("migrate", "--json").document == {"steps": [], "notices": [], "dry_run": False}
    assert "up to date" in standfast("migrate").out


def test_an_incompatible_table_is_refused_with_its_name(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, bare_database_options: DatabaseOptions
) -> None:
    """Nothing is changed, and the exit code says that the database refused."""
    name_database(monkeypatch, bare_database_options)
    with psycopg.connect(bare_database_options.to_conninfo(), autocommit=True) as connection:
        connection.execute("create table whatsapp_auth (company_id text primary key, creds bytea)")
    ran = standfast("migrate")
    assert ran.code == 5
    assert "whatsapp_auth.creds" in ran.err


@pytest.mark.usefixtures("acme")
def test_stats_count_what_is_there(standfast: CommandLine) -> None:
    """Records, keys by type, all five ages and sizes; for one company and for all."""
    document = standfast("stats", "acme", "--json").document
    assert (document["records"], document["creds"], document["keys"]) == (5, 1, 4)
    assert document["keys_by_type"] == {"pre-key": 2, "session": 1, "tctoken": 1}
    assert document["keys_by_age"] == {"<1d": 4, "1-7d": 0, "7-14d": 0, "14-30d": 0, ">30d": 0}
    assert document["total_bytes"] >= document["value_bytes"] > 0
    assert standfast("stats", "--json").document["companies"] == 1
    text = standfast("stats").out
    assert "1 company: 5 records (1 creds, 4 keys)" in text
    assert "14-30d" in text


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("args", [("stats", "nobody"), ("export", "nobody", "out")])
def test_an_unknown_company_has_its_own_exit_code(standfast: CommandLine, args: tuple[str, ...]) -> None:
    """Confirmed absent: 6, and nothing is written."""
    ran = standfast(*args)
    assert ran.code == 6
    assert "'nobody' has no auth state" in ran.err
    assert not Path("out").exists()


def test_a_database_that_was_not_migrated_says_so(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, bare_database_options: DatabaseOptions
) -> None:
    """Missing tables are not an absence of companies."""
    name_database(monkeypatch, bare_database_options)
    ran = standfast("stats")
    assert ran.code == 5
    assert "standfast migrate" in ran.err


def test_export_and_import_lose_nothing(
    standfast: CommandLine, acme: DatabaseOptions, tmp_path: Path
) -> None:
    """Out of one company and into another: the same creds and keys, ids with awkward characters among them."""
    assert standfast("export", "acme", "folder", "--json").document["keys"] == 4
    assert (tmp_path / "folder" / "creds.json").stat().st_mode & 0o077 == 0
    assert standfast("import", "folder", "acme2", "--json").document["keys"] == 4
    for table, columns in (("whatsapp_auth", "creds"), ("whatsapp_keys", "key_type, key_id, value")):
        first, second = (
            rows(acme, f"select {columns} from {table} where company_id = '{company}' order by {columns}")
            for company in ("acme", "acme2")
        )
        assert first == second != []


def test_import_never_replaces_unasked(standfast: CommandLine, acme: DatabaseOptions, tmp_path: Path) -> None:
    """A company that has auth state is refused; with --replace what it had is archived first."""
    assert standfast("export", "acme", "folder").code == 0
    (tmp_path / "folder" / "pre-key-1.json").unlink()
    refused = standfast("import", "folder", "acme")
    assert refused.code == 7
    assert "--replace" in refused.err
    assert rows(acme, "select count(*) from whatsapp_keys") == [(4,)]
    done = standfast("import", "folder", "acme", "--replace", "--json").document
    assert (done["keys"], done["deleted"]) == (3, 1)
    assert rows(acme, "select count(*) from whatsapp_keys") == [(3,)]
    assert (Path(done["archive"]) / "pre-key-1.json").exists()
    assert str(done["archive"]).startswith(str(tmp_path / "state"))


def test_torn_creds_are_refused_and_nothing_is_stored(
    standfast: CommandLine, acme: DatabaseOptions, tmp_path: Path
) -> None:
    """Exit code 13 names the file; the company stays absent."""
    assert standfast("export", "acme", "folder").code == 0
    creds = tmp_path / "folder" / "creds.json"
    creds.write_bytes(creds.read_bytes()[:40])
    ran = standfast("import", "folder", "torn", "--json")
    assert ran.code == 13
    assert "creds.json" in ran.document["error"]["message"]
    assert rows(acme, "select count(*) from whatsapp_keys where company_id = 'torn'") == [(0,)]


@pytest.mark.usefixtures("acme")
def test_a_folder_with_other_things_in_it_is_left_alone(standfast: CommandLine, tmp_path: Path) -> None:
    """Export writes into an empty or new folder only."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    assert standfast("export", "acme", "mine").code == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["diary.txt"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_unreachable_server_has_its_own_exit_code(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4, with where it was looked for and nothing secret."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://bot:hush@127.0.0.1:{free_port()}/wa")
    ran = standfast("stats", "--json")
    assert ran.code == 4
    assert ran.document["error"]["retryable"] is True
    assert "127.0.0.1" in ran.out
    assert "hush" not in ran.out + ran.err


@pytest.mark.parametrize("wrong", [{"POSTGRES_PASSWORD": PASSWORD}, {"POSTGRES_DATABASE": "nowhere"}])
def test_what_the_server_refuses_has_its_own_exit_code(
    standfast: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    postgres_server: EmbeddedServer,
    wrong: dict[str, str],
) -> None:
    """A wrong password or database: 5, at once and without repeating the password."""
    name_database(monkeypatch, postgres_server.tcp_options)
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    ran = standfast("stats")
    assert ran.code == 5
    assert "hush" not in ran.out + ran.err


def test_a_password_with_any_character_is_accepted(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, postgres_server: EmbeddedServer
) -> None:
    """Given apart, it needs no encoding, not even in .env."""
    options = postgres_server.tcp_options
    with psycopg.connect(postgres_server.options.to_conninfo(), autocommit=True) as connection:
        connection.execute("drop role if exists awkward")
        quoted = PASSWORD.replace("'", "''")
        connection.execute(f"create role awkward login password '{quoted}'".encode())
    escaped = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    Path(".env").write_text(f"POSTGRES_PASSWORD='{escaped}'\nPOSTGRES_USER=awkward\n")
    monkeypatch.setenv("DATABASE_URL", f"postgresql://127.0.0.1:{options.port}/postgres")
    ran = standfast("migrate", "--dry-run", "--json")
    assert ran.code == 0, ran.out
    assert json.loads(ran.out)["steps"]
