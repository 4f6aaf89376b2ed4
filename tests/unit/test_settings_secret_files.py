"""Secrets that come in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from standfast.errors import SettingsError
from standfast.settings import Settings, load_settings
from standfast.settings.model import name_of
from standfast.settings.secret_files import BY_FILE, LIMIT_BYTES


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's variables nor a developer's .env reach a test."""
    for name in tuple(os.environ):
        if name.startswith(("PG", "POSTGRES_", "STANDFAST_")) or name in map(name_of, Settings.model_fields):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_a_file_holds_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As it stands, but for the line's end; it counts as the environment's, and names no unknown setting."""
    (tmp_path / "password").write_text(" made up, with spaces \n")
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(tmp_path / "password"))
    settings = load_settings()
    assert settings.postgres_password is not None
    assert settings.postgres_password.get_secret_value() == " made up, with spaces "
    assert settings.sources["POSTGRES_PASSWORD"] == "environment"
    assert settings.ignored == ()


def test_all_secrets_may_come_so_and_nothing_else() -> None:
    """Whether a setting is secret is said in one place."""
    assert {"DATABASE_URL_FILE", "TELEGRAM_BOT_TOKEN_FILE", "BACKUP_REMOTES_FILE"} <= BY_FILE.keys()
    assert "STANDFAST_HTTP_HOST_FILE" not in BY_FILE


@pytest.mark.parametrize(
    ("content", "more", "fault"),
    [
        (None, {}, "cannot be read"),
        (b"\n", {}, "empty"),
        (b"x" * (LIMIT_BYTES + 1), {}, "too large"),
        (b"\xff\xfe", {}, "not text"),
        (b"one", {"POSTGRES_PASSWORD": "other"}, "both set"),
    ],
)
def test_a_file_that_holds_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, more: dict[str, str], fault: str
) -> None:
    """An error that names the variable, never a start without the secret."""
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    for name, value in {"POSTGRES_PASSWORD_FILE": str(tmp_path / "password"), **more}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=fault) as caught:
        load_settings()
    assert "POSTGRES_PASSWORD_FILE" in caught.value.message
