"""BACKUP_REMOTES: what it means, and that nothing of it is told that is a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from standfast.errors import SettingsError
from standfast.settings import Settings
from standfast.settings.remotes import masked_remotes, remote_addresses

SECRET = "made+up/SeCrEt"
S3 = f"s3://bucket/a/b?region=eu-1&endpoint=https://s3.example.org&access_key=ID7&secret_key={SECRET}&keep_daily=30"
SFTP = "sftp://bot:pa%40ss@backup.example.org:2222/srv/copies/?name=far&known_hosts=/etc/known&timeout_s=5"
FOLDER = "file:///mnt/two%20words?keep_monthly=12"


def test_each_kind_is_taken_apart() -> None:
    """Three kinds in one setting, each with its options; a '+' of a secret key stays one."""
    s3, sftp, folder = remote_addresses(f"{S3}\n{SFTP}  {FOLDER}")
    assert (s3.name, s3.kind, s3.host, s3.path, s3.keep_daily) == ("bucket", "s3", "bucket", "a/b", 30)
    assert s3.options["secret_key"] == SECRET
    assert (sftp.name, sftp.host, sftp.port, sftp.user) == ("far", "backup.example.org", 2222, "bot")
    assert (sftp.password, sftp.path, sftp.timeout_s) == ("pa@ss", "/srv/copies", 5.0)
    assert (folder.name, folder.kind, folder.path) == ("two-words", "folder", "/mnt/two words")
    assert (folder.keep_daily, folder.keep_monthly, folder.timeout_s) == (None, 12, 60.0)
    assert remote_addresses("/mnt/x")[0].kind == "folder"
    assert remote_addresses(None) == []


def test_secrets_are_masked() -> None:
    """Neither `standfast config` nor the repr of an address shows a password or a key; the rest is shown."""
    shown = masked_remotes(f"{S3} {SFTP} ftp://{SECRET}")
    for secret in (SECRET, "ID7", "pa%40ss", "pa@ss"):
        assert secret not in shown
        assert secret not in repr(remote_addresses(f"{S3} {SFTP}"))
    assert "s3://bucket/a/b" in shown
    assert "sftp://bot:********@backup.example.org:2222/srv/copies" in shown
    settings = Settings(backup_remotes=SecretStr(f"{S3} {SFTP}"), backup_recipients="none")
    (view,) = [one for one in settings.views() if one.name == "BACKUP_REMOTES"]
    assert view.value == masked_remotes(f"{S3} {SFTP}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("ftp://host/x", "kind"),
        ("mnt/backups", "absolute"),
        ("file://mnt/backups", "absolute"),
        ("/mnt/../etc", "elsewhere"),
        ("/mnt/x?keep_daily=0", "keep_daily"),
        ("/mnt/x?timeout_s=never", "timeout_s"),
        ("/mnt/x?region=eu", "option"),
        ("/mnt/x?name=../x", "name"),
        ("/mnt/x#y", "%23"),
        ("s3:///prefix", "bucket"),
        ("s3://key:secret@bucket/x", "access_key"),
        ("s3://bucket?access_key=x", "only one"),
        ("s3://bucket?endpoint=host", "endpoint"),
        ("s3://bucket?style=odd", "style"),
        ("sftp://host", "directory"),
        ("sftp:///x", "host"),
        ("sftp://host:port/x", "URL"),
        ("sftp://host/x?key=id", "absolute"),
        ("sftp://host/x?key=", "empty"),
        ("/mnt/x /srv/x", "called 'x'"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, fault: str) -> None:
    """The error says which address and what is wrong, and repeats nothing of it but names."""
    with pytest.raises(SettingsError, match=fault) as refused:
        Settings(backup_remotes=SecretStr(text), backup_recipients="none")
    assert "secret@" not in refused.value.message


def test_a_folder_apart_from_the_backups_is_needed(tmp_path: Path) -> None:
    """The backups' own directory, one within it and one round it are no copies elsewhere."""
    for folder in (tmp_path / "own", tmp_path / "own" / "x", tmp_path):
        with pytest.raises(SettingsError, match="themselves"):
            Settings(
                backup_root=tmp_path / "own", backup_remotes=SecretStr(str(folder)), backup_recipients="none"
            )
