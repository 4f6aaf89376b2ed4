"""Backups on their way to remotes and back: what counts there, what goes, and what a remote that fails costs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from standfast.errors import BackupDamaged, Conflict, JobRunning, NotFound
from standfast.jobs.backup.room import Lock
from standfast.jobs.remotes.fetching import fetch_backup
from standfast.jobs.remotes.folder import FolderRemote
from standfast.jobs.remotes.overview import remote_states
from standfast.jobs.remotes.sending import LOCK
from tests.integration.remote_node import DAY_S, Node
from tests.integration.remote_places import Bucket, SshHost


def there(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    folder = tmp_path / "mounted"
    folder.mkdir()
    return folder


async def test_three_kinds_get_it_and_an_empty_machine_fetches_it(
    tmp_path: Path, mounted: Path, s3_port: int
) -> None:
    """A good backup goes to a folder, a bucket and an SSH host at once; with nothing but the settings, another machine
    brings it back from each, as it was."""
    bucket = Bucket(s3_port, "copies")
    async with SshHost.running(tmp_path) as host:
        remotes = f"{mounted}?name=near {bucket.url('&name=cloud')} {host.url('&name=far')}"
        node = Node(tmp_path / "a", remotes)
        backup = node.backup(0.1)
        assert [(one.sent, one.ok, one.held) for one in await node.push()] == [([backup.name], True, 1)] * 3
        states = await remote_states(node.settings)
        assert [(one.state, one.newest) for one in states] == [("up to date", backup.name)] * 3
        assert all(one.at for one in node.catalogue.get(backup.name).record.uploads.values())
        for number, remote in enumerate(("near", "cloud", "far")):
            other = Node(tmp_path / f"b{number}", remotes)
            fetched = await fetch_backup(other.settings, "latest", remote)
            came = other.catalogue.get(fetched.name)
            assert came.manifest == backup.manifest
            assert came.content.read_bytes() == backup.content.read_bytes()
            assert came.state == "unproven"
            assert (came.path.stat().st_mode & 0o777, came.content.stat().st_mode & 0o777) == (
                0o700,
                0o600,
            )
    near, cloud, far = await node.push()
    assert (near.ok, cloud.ok, far.ok) == (True, True, False)


async def test_only_good_ones_go_and_each_only_once(tmp_path: Path, mounted: Path) -> None:
    """A bad one stays here; what is there is not sent again; the manifest lies beside the content, the record not."""
    node = Node(tmp_path / "a", f"{mounted}?name=near")
    backup, bad = node.backup(1), node.backup(0.5, good=False)
    assert (await node.push())[0].sent == [backup.name]
    files = there(mounted)
    assert files == [f"backups/{backup.name}/content.dump.zst", f"backups/{backup.name}/manifest.json"]
    before = [(mounted / one).stat().st_mtime_ns for one in files]
    assert (await node.push())[0].sent == []
    assert [(mounted / one).stat().st_mtime_ns for one in files] == before
    assert not any(bad.name in one for one in files)
    assert node.heard.names("near") == ["remote_reached"] * 2


async def test_what_is_in_the_clear_stays_here(tmp_path: Path, mounted: Path) -> None:
    """Where backups are encrypted, one from before that is not sent."""
    node = Node(tmp_path / "a", str(mounted), backup_recipients="age1made-up")
    node.backup(2)
    sealed = node.backup(1, encrypted=True)
    assert [one.sent for one in await node.push()] == [[sealed.name]]


async def test_each_remote_keeps_what_it_is_told(tmp_path: Path, mounted: Path) -> None:
    """One that keeps two days has the newest two, one that keeps more has all; a second run sends none again; what lies
    there of another database stays, as does the last good one after a bad week."""
    long = tmp_path / "long"
    long.mkdir()
    node = Node(tmp_path / "a", f"{mounted}?name=short&keep_daily=2&keep_monthly=1 {long}?keep_daily=30")
    stranger = Node(tmp_path / "b", f"{mounted}?name=short")
    foreign = stranger.backup(200, identity="two")
    await stranger.push()
    first = [node.backup(days) for days in (9, 8)]
    await node.push()
    later = [node.backup(days) for days in (2, 1)]
    for removed in ([one.name for one in first], []):
        short, kept_long = await node.push()
        assert short.removed == removed
        assert (short.held, kept_long.held) == (3, 4)
    names = {name.split("/")[1] for name in there(mounted)}
    assert names == {foreign.name, *(one.name for one in later)}
    for _ in range(3):
        node.backup(0.2, good=False)
    assert (await node.push())[0].removed == []


async def test_a_remote_that_is_down_delays_and_costs_no_other(tmp_path: Path, mounted: Path) -> None:
    """A folder that is not mounted alerts with what waits, is not made, and is left alone for a minute; the other one
    has its copy, the local backup is good as before; once mounted it gets all, and the alert ends."""
    gone = tmp_path / "gone"
    node = Node(tmp_path / "a", f"{gone} {mounted}")
    backup = node.backup(1)
    down, up = await node.push(at_once=False)
    assert (up.ok, up.sent) == (True, [backup.name])
    assert down.error is not None
    assert (down.error["code"], down.waiting) == ("remote_failed", [backup.name])
    assert "Mount" in down.error["next_step"]
    assert not gone.exists()
    assert node.catalogue.get(backup.name).state == "good"
    assert node.heard.names("gone") == ["remote_failed"]
    (alert,) = [one for one in node.heard.alerts if one.name == "remote_failed"]
    assert alert.subject == "remote=gone"
    gone.mkdir()
    assert (await node.push(at_once=False))[0].next_try_at is not None
    assert node.attempts(backup, "gone") == 1
    assert (await node.push())[0].sent == [backup.name]
    assert node.heard.names("gone")[-1] == "remote_reached"


async def test_a_copy_that_comes_back_different_is_removed_and_tried_once_more(
    tmp_path: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte that flips on the way there, once, is noticed and mended; one that flips each time is a failure, and no
    copy is left."""
    flips = [True, False]
    put = FolderRemote._store

    async def flipping(self: FolderRemote, name: str, *rest: object) -> None:
        await put(self, name, *rest)  # type: ignore[arg-type]  # passed on as it came
        if name.endswith(".zst") and flips.pop(0):
            data = bytearray((mounted / name).read_bytes())
            data[20_000] ^= 1
            (mounted / name).write_bytes(data)

    monkeypatch.setattr(FolderRemote, "_store", flipping)
    node = Node(tmp_path / "a", str(mounted))
    node.backup(2)
    assert (await node.push())[0].ok
    flips[:] = [True, True]
    later = node.backup(1)
    (failed,) = await node.push()
    assert failed.error is not None
    assert "checksum" in failed.error["message"]
    assert not any(later.name in one for one in there(mounted))


async def test_what_an_upload_left_does_not_count_and_goes(tmp_path: Path, mounted: Path) -> None:
    """Half a content file and a whole one without its manifest are no backups; what is still here is sent whole, and
    what an old upload left of a backup that is gone is removed after a day."""
    node = Node(tmp_path / "a", str(mounted))
    half, whole = node.backup(2), node.backup(1)
    for backup, count, ending in ((half, 100, ".part"), (whole, 50_000, "")):
        folder = mounted / "backups" / backup.name
        folder.mkdir(parents=True)
        (folder / f"content.dump.zst{ending}").write_bytes(backup.content.read_bytes()[:count])
    old = mounted / "backups" / "20200101T030000Z"
    old.mkdir()
    for name in ("content.dump.zst", "other.part"):
        (old / name).write_bytes(b"x")
        os.utime(old / name, (time.time() - 2 * DAY_S,) * 2)
    (state,) = await remote_states(node.settings)
    assert (state.state, state.backups, len(state.waiting)) == ("behind", 0, 2)
    inode = (mounted / "backups" / whole.name / "content.dump.zst").stat().st_ino
    assert sorted((await node.push())[0].sent) == [half.name, whole.name]
    assert (mounted / "backups" / whole.name / "content.dump.zst").stat().st_ino == inode  # not sent again
    assert not old.exists()
    assert len(there(mounted)) == 4


async def test_a_local_backup_that_rots_is_not_the_remotes_fault(tmp_path: Path, mounted: Path) -> None:
    """What is not what its manifest names is not sent; the others are, and the remote is well."""
    node = Node(tmp_path / "a", str(mounted))
    fine, rotten = node.backup(2), node.backup(1)
    rotten.content.write_bytes(b"\0" * 50_000)
    (report,) = await node.push()
    assert (report.sent, report.error, len(report.problems)) == ([fine.name], None, 1)
    assert not any(rotten.name in one for one in there(mounted))


async def test_two_databases_of_one_moment_in_one_place_are_told_apart(tmp_path: Path, mounted: Path) -> None:
    """A name that another database's backup has is a failure that says so, and that one stays."""
    one, two = Node(tmp_path / "a", str(mounted)), Node(tmp_path / "b", str(mounted))
    backup = one.backup(1)
    await one.push()
    two.backup(1, identity="two").path.rename(two.catalogue.root / "x")
    (two.catalogue.root / "x").rename(two.catalogue.root / backup.name)
    before = (mounted / "backups" / backup.name / "manifest.json").read_bytes()
    (report,) = await two.push()
    assert report.error is not None
    assert "another database" in report.error["message"]
    assert (mounted / "backups" / backup.name / "manifest.json").read_bytes() == before


async def test_fetching_refuses_what_is_not_as_it_was_sent(tmp_path: Path, mounted: Path) -> None:
    """A byte that flipped there, a manifest that leads elsewhere, a name that is not there or is here already: each is
    refused, and nothing is left here."""
    node = Node(tmp_path / "a", f"{mounted}?name=near")
    backup = node.backup(1)
    await node.push()
    with pytest.raises(Conflict):
        await fetch_backup(node.settings, backup.name, "near")
    other = Node(tmp_path / "b", f"{mounted}?name=near")
    for name, remote in (("20200101T030000Z", "near"), ("latest", "elsewhere"), ("../x", "near")):
        with pytest.raises(NotFound):
            await fetch_backup(other.settings, name, remote)
    copy = mounted / "backups" / backup.name
    content = (copy / "content.dump.zst").read_bytes()
    (copy / "content.dump.zst").write_bytes(b"\0" + content[1:])
    with pytest.raises(BackupDamaged):
        await fetch_backup(other.settings, backup.name, "near")
    (copy / "manifest.json").write_bytes(
        (copy / "manifest.json").read_bytes().replace(b'"content.dump.zst"', b'"../content.dump.zst"')
    )
    with pytest.raises(BackupDamaged):
        await fetch_backup(other.settings, backup.name, "near")
    assert [path for path in other.catalogue.root.rglob("*") if path.name != ".lock"] == []


async def test_two_runs_at_once_are_one(tmp_path: Path, mounted: Path) -> None:
    """While another process sends from this directory, a second run is refused."""
    node = Node(tmp_path / "a", str(mounted))
    node.backup(1)
    lock = Lock(node.catalogue.root, LOCK)
    with pytest.raises(JobRunning, match="sends"):
        await node.push()
    lock.release()
    assert (await node.push())[0].ok


async def test_a_copy_that_was_cut_off_there_does_not_count_and_is_sent_again(
    tmp_path: Path, mounted: Path
) -> None:
    """A content file of another size than its manifest names is told, and replaced."""
    node = Node(tmp_path / "a", str(mounted))
    backup = node.backup(1)
    await node.push()
    copy = mounted / "backups" / backup.name / "content.dump.zst"
    copy.write_bytes(copy.read_bytes()[:1_000])
    (state,) = await remote_states(node.settings)
    assert (state.state, state.backups, len(state.unusable)) == ("behind", 0, 1)
    assert (await node.push())[0].sent == [backup.name]
    assert copy.read_bytes() == backup.content.read_bytes()
