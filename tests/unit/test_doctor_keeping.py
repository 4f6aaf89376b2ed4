"""The doctor on what keeps copies: each fault is found and told with its mend, and what is well is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyrage
import pytest

from standfast.service.doctor import keeping
from tests.doctoring import found, outcome, patient

OWN = pyrage.x25519.Identity.generate()
RECIPIENT = str(OWN.to_public())
MEMORY = Path("/dev/shm")


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    file = tmp_path / "identity"
    file.write_text(f"# made up\n{OWN}\n")
    file.chmod(0o600)
    return file


def test_backups_go_where_they_can_be_written_and_to_another_disk(tmp_path: Path) -> None:
    """The same file system is a warning, also where no setting says where; not where copies go elsewhere."""
    state = tmp_path / "state"
    remotes: dict[str, Any] = {"backup_remotes": str(tmp_path / "copies"), "backup_recipients": RECIPIENT}
    assert outcome(keeping.place, patient(state_dir=state)) == "warning"
    assert outcome(keeping.place, patient(state_dir=state, backup_root=tmp_path / "backups")) == "warning"
    assert outcome(keeping.place, patient(state_dir=state, **remotes)) == "ok"
    assert outcome(keeping.place, patient(state_dir=state, backup_root=Path("/proc/1/backups"))) == "wrong"
    if MEMORY.is_dir() and MEMORY.stat().st_dev != tmp_path.stat().st_dev:
        assert outcome(keeping.place, patient(state_dir=state, backup_root=MEMORY / "backups")) == "ok"


def test_recipients_and_identity_can_be_used_and_belong_together(tmp_path: Path, identity: Path) -> None:
    """An identity of somebody else's, one that others can read, and what is none at all are told."""
    look, other = keeping.encryption, str(pyrage.x25519.Identity.generate().to_public())
    assert list(look(patient())) == []
    assert outcome(look, patient(backup_recipients=RECIPIENT)) == "ok"
    assert (
        outcome(look, patient(backup_recipients=f"{other} {RECIPIENT}", backup_identity_file=identity))
        == "ok"
    )
    assert outcome(look, patient(backup_recipients=other, backup_identity_file=identity)) == "warning"
    mistaken = found(look, patient(backup_recipients=str(OWN)))["backups.encryption"]
    assert mistaken.outcome == "wrong"
    assert str(OWN) not in f"{mistaken.message}{mistaken.mend}"
    assert outcome(look, patient(backup_identity_file=tmp_path / "missing")) == "wrong"
    identity.chmod(0o644)
    assert outcome(look, patient(backup_recipients=RECIPIENT, backup_identity_file=identity)) == "wrong"


def test_each_remote_is_asked(tmp_path: Path) -> None:
    """One that is not mounted is told by its name beside one that is; with --offline none is asked."""
    (tmp_path / "here").mkdir()
    remotes = f"{tmp_path}/here?name=near {tmp_path}/gone?name=far"
    settings: dict[str, Any] = {"backup_remotes": remotes, "backup_recipients": RECIPIENT}
    told = {one.subject: one.outcome for one in keeping.remotes(patient(**settings))}
    assert told == {"remote near": "ok", "remote far": "wrong"}
    assert outcome(keeping.remotes, patient(offline=True, **settings)) == "skipped"
    assert list((tmp_path / "here").iterdir()) == []


def test_the_schedule_is_told_in_its_time_zone() -> None:
    """And that nothing makes backups, where that is so."""
    told = found(keeping.schedule, patient(time_zone="Asia/Tokyo", cleanup_cron="off"))["backups.schedule"]
    assert told.outcome == "ok"
    assert "cleanup off" in told.message
    assert "03:00; times are Asia/Tokyo's" in told.message
    assert outcome(keeping.schedule, patient(backup_cron="off")) == "warning"
    assert outcome(keeping.schedule, patient(schedule="off")) == "skipped"
