"""The doctor on files: each fault made for real, found, and gone once its mend was done."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from standfast.api.token_file import TokenFile
from standfast.errors import StateDirectoryError
from standfast.service.doctor import configuration, disk, leftovers, state, vault
from standfast.settings.survey import survey_settings
from standfast.state_dir import StateDirectory
from standfast.vault.storage.files import VaultFile
from tests.cli_support import own_surroundings
from tests.doctoring import found, outcome, patient

DAY_S = 86_400


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings but the test's own."""
    with own_surroundings(monkeypatch, tmp_path):
        yield


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory as a service leaves it."""
    made = StateDirectory(tmp_path / "state")
    made.acquire()
    made.release()
    return made.path


def aged(path: Path, days: float) -> Path:
    """`path`, last changed so long ago."""
    at = time.time() - days * DAY_S
    os.utime(path, (at, at))
    return path


def test_a_directory_that_others_can_enter_is_wrong_until_its_mend_is_done(directory: Path) -> None:
    """The service refuses one that others can write in; one that they can list is a warning."""
    who = patient(state_dir=directory)
    directory.chmod(0o770)
    bad = found(state.directory, who)["state.directory"]
    assert (bad.outcome, bad.mend) == ("wrong", f"chmod 700 {directory}")
    with pytest.raises(StateDirectoryError):
        StateDirectory(directory).prepare()
    directory.chmod(0o755)
    assert outcome(state.directory, who) == "warning"
    directory.chmod(0o700)
    assert outcome(state.directory, who) == "ok"


def test_a_directory_that_is_not_there_is_made_at_the_first_start(tmp_path: Path) -> None:
    """A bare machine is not a broken one."""
    assert outcome(state.directory, patient(state_dir=tmp_path / "a" / "b")) == "ok"


def test_a_file_in_the_way_is_wrong(tmp_path: Path) -> None:
    """A state directory that is a file is told."""
    (tmp_path / "file").write_text("")
    assert outcome(state.directory, patient(state_dir=tmp_path / "file")) == "wrong"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_account_is_wrong(directory: Path) -> None:
    """Both ways round: root in another's directory, and root's files in it."""
    who = patient(state_dir=directory)
    (directory / "vault").mkdir(mode=0o700)
    os.chown(directory / "vault", 4321, 4321)
    bad = found(state.files, who)["state.files"]
    assert bad.outcome == "wrong"
    assert f"{directory / 'vault'}" in bad.message
    os.chown(directory / "vault", os.geteuid(), -1)
    assert outcome(state.files, who) == "ok"
    os.chown(directory, 4321, 4321)
    assert found(state.files, who)["state.files"].mend == f"chown -R 4321 {directory}"
    bad = found(state.directory, who)["state.directory"]
    assert bad.outcome == "wrong"
    assert bad.mend is not None
    assert "#4321" in bad.mend


def test_open_files_and_files_of_the_future_are_told(directory: Path) -> None:
    """Modes of what lies inside, and times that a wrong clock wrote."""
    who = patient(state_dir=directory)
    file = directory / "tokens.json"
    file.write_text("{}")
    file.chmod(0o644)
    assert outcome(state.files, who) == "warning"
    file.chmod(0o600)
    assert outcome(state.files, who) == "ok"
    aged(file, days=-1)
    assert "in the future" in found(state.files, who)["state.files"].message


def test_a_directory_in_memory_is_a_warning(directory: Path) -> None:
    """/dev/shm is gone at a reboot; a disk is not."""
    kind = disk._mounted(Path("/dev/shm"))[0]
    if kind != "tmpfs":
        pytest.skip("no tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as in_memory:
        result = found(disk.filesystem, patient(state_dir=Path(in_memory)))["state.filesystem"]
    assert result.outcome == "warning"
    assert "reboot" in result.message


def test_a_path_too_long_for_a_socket_is_wrong(tmp_path: Path) -> None:
    """The service could not listen there."""
    assert outcome(state.socket_path, patient(state_dir=tmp_path / ("x" * 100))) == "wrong"
    assert outcome(state.socket_path, patient(state_dir=Path("/var/lib/standfast"))) == "ok"


def test_a_look_at_the_disk_leaves_nothing_behind(directory: Path) -> None:
    """The one temporary file is gone."""
    before = sorted(directory.iterdir())
    assert outcome(disk.sync, patient(state_dir=directory)) in {"ok", "warning"}
    assert sorted(directory.iterdir()) == before


def test_a_disk_that_takes_no_writes_is_wrong(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only or full disk is told with the system's reason."""
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", _full)
    result = found(disk.sync, patient(state_dir=directory))["state.sync"]
    assert result.outcome == "wrong"
    assert "No space left" in result.message


def _full(**_arguments: object) -> None:
    raise OSError(28, "No space left on device")


def test_little_space_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 1 GB a warning, below 200 MB wrong."""
    who = patient(state_dir=directory)
    total = 10_000_000_000
    outcomes = []
    for free in (5_000_000_000, 900_000_000, 100_000_000):
        usage = SimpleNamespace(total=total, free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, usage=usage: usage)
        outcomes.append(outcome(disk.space, who))
    assert outcomes == ["ok", "warning", "wrong"]


def test_a_service_that_holds_the_directory_and_does_not_answer_is_wrong(directory: Path) -> None:
    """A lock alone is no life."""
    held = StateDirectory(directory)
    held.acquire()
    try:
        bad = found(state.holder, patient(state_dir=directory))["state.service"]
    finally:
        held.release()
    assert bad.outcome == "wrong"
    assert str(os.getpid()) in bad.message
    assert "does not run" in found(state.holder, patient(state_dir=directory))["state.service"].message


def make_vault(directory: Path) -> VaultFile:
    """A vault's file, open, as `Replica` has it."""
    file = VaultFile(directory / "vault")
    file.open()
    file.begin_log("node")
    return file


def listing(directory: Path) -> list[tuple[str, int, int]]:
    """What would show that something was touched."""
    return sorted((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in directory.iterdir())


def test_the_vault_is_read_without_touching_it(directory: Path) -> None:
    """While a service has it open, after it was killed, and after it was closed: the key opens it, nothing changes."""
    who = patient(state_dir=directory)
    file = make_vault(directory)
    file.connection.execute(
        "insert into journal (number, first, last, at, size, change) values (1, 1, 3, 0, 77, x'00')"
    )
    before = listing(directory / "vault")
    results = found(vault.vault, who)
    assert {one.outcome for one in results.values()} == {"ok"}
    assert "1 batches (77 bytes)" in results["state.journal"].message
    assert listing(directory / "vault") == before

    killed = StateDirectory(directory.parent / "killed")
    killed.prepare()
    shutil.copytree(directory / "vault", killed.path / "vault")
    before = listing(killed.path / "vault")
    assert "1 batches" in found(vault.vault, patient(state_dir=killed.path))["state.journal"].message
    assert listing(killed.path / "vault") == before

    file.end("node")
    before = listing(directory / "vault")
    assert "1 batches" in found(vault.vault, who)["state.journal"].message
    assert listing(directory / "vault") == before


def test_a_key_that_does_not_open_the_vault_is_wrong(directory: Path) -> None:
    """Another key, one of the wrong length, and none: each is told apart, none is made or moved."""
    who = patient(state_dir=directory)
    make_vault(directory).end("node")
    key = directory / "vault" / "vault.key"
    right = key.read_bytes()
    key.write_bytes(b"\x01" * 32)
    assert "another key's" in found(vault.vault, who)["state.vault"].message
    key.write_bytes(b"short")
    assert found(vault.vault, who)["state.vault_key"].outcome == "wrong"
    key.unlink()
    assert "cannot be read" in found(vault.vault, who)["state.vault_key"].message
    assert not key.exists()
    key.write_bytes(right)
    key.chmod(0o640)
    assert found(vault.vault, who)["state.vault_key"].mend == f"chmod 600 {key}"
    key.chmod(0o600)
    assert {one.outcome for one in vault.vault(who)} == {"ok"}


def test_a_damaged_vault_is_wrong_and_stays_where_it_is(directory: Path) -> None:
    """The service mends it; the doctor only says so."""
    make_vault(directory).end("node")
    file = directory / "vault" / "vault.db"
    file.write_bytes(b"not a database, but long enough to look at" * 50)
    result = found(vault.vault, patient(state_dir=directory))["state.vault"]
    assert result.outcome == "wrong"
    assert "damaged" in result.message
    assert file.exists()


def test_quarantined_journals_are_a_warning(directory: Path) -> None:
    """With the command that shows them."""
    file = make_vault(directory)
    file.connection.execute(
        "insert into quarantine (company, epoch, fenced_by, at, reason) values ('acme', 1, 2, 0, 'taken')"
    )
    file.connection.execute("insert into quarantined values (1, 1, 2, 0, 10, x'00')")
    result = found(vault.vault, patient(state_dir=directory))["state.quarantine"]
    file.end("node")
    assert (result.outcome, result.mend) == ("warning", "standfast quarantine list")
    assert "acme" in result.message


def test_leftovers_have_the_command_that_removes_them(directory: Path) -> None:
    """Damaged copies, old archives, unfinished and unswept files; the doctor removes none."""
    who = patient(state_dir=directory)
    looks = (leftovers.set_aside, leftovers.archives, leftovers.unfinished, leftovers.spool)
    assert [outcome(look, who) for look in looks] == ["ok"] * 4
    made = [
        directory / "vault" / "damaged-20260101T000000Z",
        directory / "archive" / "acme-20260101T000000Z",
        directory / "postgres.new-abc",
        directory / "messages" / "spool" / "0123",
    ]
    for path in made:
        path.mkdir(parents=True)
        aged(path, days=100)
    results = [next(iter(look(who))) for look in looks]
    assert [one.outcome for one in results] == ["warning"] * 4
    assert [str(path) in f"{one.message} {one.mend}" for path, one in zip(made, results, strict=True)] == [
        True
    ] * 4
    assert all(path.exists() for path in made)


def test_a_stale_socket_is_no_trouble(directory: Path) -> None:
    """The next start removes it; the line says so."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(directory / "gateway.sock"))
    assert outcome(leftovers.sockets, patient(state_dir=directory)) == "ok"


def test_an_env_file_with_secrets_is_its_owners_alone(tmp_path: Path) -> None:
    """Without secrets anybody may read it; the secret's value is never told."""
    file = tmp_path / ".env"
    file.write_text("STANDFAST_LOG=info\nPOSTGRES_PASSWORD=\n")
    file.chmod(0o644)
    assert outcome(configuration.dotenv, patient()) == "ok"
    file.write_text("export POSTGRES_PASSWORD='hunter2-marker'\n")
    bad = found(configuration.dotenv, patient())["credentials.dotenv"]
    assert (bad.outcome, bad.mend) == ("wrong", f"chmod 600 {file}")
    assert "POSTGRES_PASSWORD" in bad.message
    assert "hunter2" not in bad.message
    file.chmod(0o600)
    assert outcome(configuration.dotenv, patient()) == "ok"


def test_a_password_file_that_libpq_passes_over_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq only warns on stderr, then asks without a password."""
    file = tmp_path / "pass"
    file.write_text("*:*:*:*:hunter2-marker\n")
    file.chmod(0o644)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert outcome(configuration.passfile, patient()) == "wrong"
    file.chmod(stat.S_IRUSR)
    assert outcome(configuration.passfile, patient()) == "ok"


def test_a_key_file_is_read_as_the_service_does(tmp_path: Path) -> None:
    """Missing, too short, readable by others, and right."""
    file = tmp_path / "key"
    who = patient(vault_key_file=file)
    outcomes = [outcome(configuration.key_file, who)]
    for content, mode in ((b"short", 0o600), (b"k" * 32, 0o644), (b"k" * 32, 0o600)):
        file.write_bytes(content)
        file.chmod(mode)
        outcomes.append(outcome(configuration.key_file, who))
    assert outcomes == ["wrong", "wrong", "wrong", "ok"]


def test_an_open_address_without_tokens_is_wrong(directory: Path) -> None:
    """As the service's own start says it; a token file that cannot be read is no absence of tokens."""
    open_to_all = patient(state_dir=directory, http_host="0.0.0.0")
    bad = found(configuration.tokens, open_to_all)["credentials.tokens"]
    assert bad.outcome == "wrong"
    assert "tokens create" in (bad.mend or "")
    assert outcome(configuration.tokens, patient(state_dir=directory)) == "ok"
    (directory / "tokens.json").write_text("broken")
    assert outcome(configuration.tokens, patient(state_dir=directory)) == "wrong"


def test_tokens_that_have_expired_are_told_with_their_names(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are valid are counted; the text of none is told."""
    tokens = TokenFile(directory)
    text, _ = tokens.create("bot", ["read"])
    tokens.create("old", ["read"], lifetime_s=60)
    who = patient(state_dir=directory)
    assert "2 valid" in found(configuration.tokens, who)["credentials.tokens"].message
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    result = found(configuration.tokens, who)["credentials.tokens"]
    assert (result.outcome, result.message) == ("warning", "expired: old")
    assert (result.mend or "").endswith("standfast tokens revoke old")
    assert text not in str(result)


def test_broken_settings_are_listed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bad value and each misspelt name is a line; what is left of the settings is used."""
    monkeypatch.setenv("POSTGRES_PORT", "many")
    monkeypatch.setenv("STANDFAST_HTTP_PORT", "99999999")
    monkeypatch.setenv("STANDFAST_NODENAME", "x")
    monkeypatch.setenv("NODE_BINARY", "some-node")
    survey = survey_settings()
    results = list(configuration.values(type(patient())(survey)))
    told = " ".join(one.message for one in results)
    assert [one.outcome for one in results] == ["wrong", "wrong", "warning"]
    assert all(name in told for name in ("POSTGRES_PORT", "STANDFAST_HTTP_PORT", "STANDFAST_NODE_NAME"))
    assert survey.settings.node_binary == "some-node"
    assert survey.passed_over == {"POSTGRES_PORT", "STANDFAST_HTTP_PORT"}


def test_settings_that_contradict_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that are not concerned keep their values."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://bot:hunter2-marker@db-a/x")
    monkeypatch.setenv("POSTGRES_HOST", "db-b")
    monkeypatch.setenv("POSTGRES_CHECKOUT_TIMEOUT_MS", "1000")
    monkeypatch.setenv("STANDFAST_LOG", "error")
    survey = survey_settings()
    assert len(survey.faults) == 2
    assert "hunter2" not in str(survey.faults)
    assert survey.settings.log_level == "error"
    assert "DATABASE_URL" in survey.passed_over


def test_an_env_file_that_cannot_be_read_is_a_line(tmp_path: Path) -> None:
    """The rest goes on, and nobody takes the server that it may name for the embedded one."""
    (tmp_path / ".env").write_text("this is no setting\n")
    survey = survey_settings()
    assert survey.unread
    assert "line 1" in survey.faults[0].message


def test_sqlite_here_reads_a_log_without_touching_it() -> None:
    """What the look at the vault rests on: SQLite 3.22 brought it."""
    assert sqlite3.sqlite_version_info >= (3, 22)
