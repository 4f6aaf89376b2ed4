"""What every kind of remote promises, held against a real folder, S3 server and SSH host."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from standfast.errors import BackupDamaged, BackupFailed, NotFound, RemoteFailed
from standfast.jobs.remotes.files import File
from standfast.jobs.remotes.opening import remote_of
from standfast.jobs.remotes.remote import Remote
from tests.integration.remote_places import Bucket, SshHost, address_of
from tests.support import Proxy

_buckets = itertools.count(1)
KINDS = ("folder", "s3", "sftp")


@dataclass
class Place:
    remote: Remote
    url: str
    bucket: Bucket | None = None
    host: SshHost | None = None
    folder: Path | None = None

    @property
    def port(self) -> int:
        served = self.bucket or self.host
        assert served is not None
        return served.port

    def through(self, port: int, options: str = "") -> Remote:
        """The same place, reached by another port."""
        if self.host is not None:
            self.host.trust(port)
        served = self.bucket or self.host
        assert served is not None
        return remote_of(address_of(served.url(options, port)))


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "s3":
        bucket = Bucket(request.getfixturevalue("s3_port"), f"bucket-{next(_buckets)}")
        yield Place(remote_of(address_of(bucket.url())), bucket.url(), bucket=bucket)
    elif request.param == "folder":
        folder = tmp_path / "mounted"
        folder.mkdir()
        yield Place(remote_of(address_of(str(folder))), str(folder), folder=folder)
    else:
        async with SshHost.running(tmp_path) as host:
            remote = remote_of(address_of(host.url()))
            yield Place(remote, host.url(), host=host, folder=host.root)
            await remote.close()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.write_bytes(os.urandom(100_000))
    return path


async def test_what_is_put_comes_back(place: Place, made: Path, tmp_path: Path) -> None:
    """A file of several parts and an empty one come back as they were, under their names, sizes and times; what is
    deleted is gone; deleting it again is nothing."""
    large, empty = tmp_path / "large", tmp_path / "empty"
    large.write_bytes(os.urandom(11_000_001))
    empty.touch()
    remote = place.remote
    seen: list[int] = []
    for name, path in (("backups/a/large", large), ("backups/a/empty", empty), ("changes/1.seg", made)):
        sent = await remote.put(name, path, on_bytes=seen.append)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (sent.sha256, sent.bytes) == (digest, path.stat().st_size)
        assert await remote.read_back(name) == sent
        back = tmp_path / "back"
        assert await remote.get(name, back) == sent
        assert back.read_bytes() == path.read_bytes()
        assert back.stat().st_mode & 0o777 == 0o600
    assert sum(seen) == 11_000_001 + 100_000
    listed = await remote.list("backups/")
    assert [(one.name, one.bytes) for one in listed] == [
        ("backups/a/empty", 0),
        ("backups/a/large", 11_000_001),
    ]
    assert all(abs(one.at - time.time()) < 60 for one in listed)
    assert [one.name for one in await remote.list()] == [
        "backups/a/empty",
        "backups/a/large",
        "changes/1.seg",
    ]
    assert await remote.list("nothing/") == []
    for _ in range(2):
        await remote.delete("backups/a/large")
    assert [one.name for one in await remote.list("backups/")] == ["backups/a/empty"]


async def test_a_name_is_replaced_whole(place: Place, made: Path, tmp_path: Path) -> None:
    """What is put under a name that exists takes its place."""
    other = tmp_path / "other"
    other.write_bytes(b"other")
    await place.remote.put("a/b", made)
    await place.remote.put("a/b", other)
    assert await place.remote.read("a/b", 1_000) == b"other"
    assert len(await place.remote.list()) == 1


async def test_absence_is_told_as_absence(place: Place, tmp_path: Path) -> None:
    """What is not there raises `NotFound`, and the file that it should have been written to stays as it was."""
    target = tmp_path / "target"
    target.write_text("before")
    for call in (
        place.remote.read_back("backups/none"),
        place.remote.get("backups/none", target),
        place.remote.read("backups/none", 100),
    ):
        with pytest.raises(NotFound):
            await call
    assert target.read_text() == "before"
    assert [name for name in os.listdir(tmp_path) if "target" in name] == ["target"]  # noqa: PTH208 - in a test's loop


async def test_a_file_that_cannot_be_read_is_not_the_remotes_fault(place: Place, tmp_path: Path) -> None:
    """A missing file of ours is `BackupDamaged`, a directory that is missing to write in `BackupFailed`; nothing of the
    first lies there."""
    with pytest.raises(BackupDamaged, match="No such file"):
        await place.remote.put("a", tmp_path / "missing")
    assert await place.remote.list() == []
    with pytest.raises(BackupFailed):
        await place.remote.get("a", tmp_path / "missing" / "a")


@pytest.mark.parametrize("name", ["../a", "a/../b", "/a", "a//b", "", "a/", ".a", "a b", "a/.part"])
async def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    """No name reaches anything outside of the remote."""
    remote = remote_of(address_of(str(tmp_path)))
    with pytest.raises(ValueError, match="no name"):
        await remote.delete(name)


@pytest.mark.parametrize("place", ["s3", "sftp"], indirect=True)
async def test_a_remote_that_hangs_or_is_down_ends_in_time(place: Place, made: Path) -> None:
    """A network that passes nothing on, and a port that nobody listens at, are `RemoteFailed` within the time that was
    set; once it works again, the same object does."""
    async with Proxy.before("127.0.0.1", place.port) as proxy:
        remote = place.through(proxy.port, "&timeout_s=0.4")
        await remote.put("a", made)
        proxy.flowing.clear()
        begun = time.monotonic()
        for call in (remote.put("b", made), remote.read_back("a"), remote.list(), remote.delete("a")):
            with pytest.raises(RemoteFailed):
                await call
        assert time.monotonic() - begun < 4
        await proxy.close()
        with pytest.raises(RemoteFailed):
            await remote.list()
        proxy.flowing.set()
        await proxy.listen()
        assert [one.name for one in await remote.list()] == ["a"]
        await remote.close()


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from standfast.jobs.remotes.files import File
from standfast.jobs.remotes.opening import remote_of
from standfast.settings.remotes import remote_addresses
remote = remote_of(remote_addresses(sys.argv[1])[0])
seen = []
def die(count):
    seen.append(count)
    if len(seen) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(remote.put("backups/a/content", Path(sys.argv[2]), on_bytes=die))
"""


async def test_an_upload_that_is_killed_leaves_no_file_under_its_name(place: Place, tmp_path: Path) -> None:
    """SIGKILL in the middle of a file: nothing lies under the name; the next upload of it leaves it whole, and nothing
    unfinished."""
    large = tmp_path / "large"
    large.write_bytes(os.urandom(12_000_000))
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, place.url, str(large))
    async with asyncio.timeout(20):
        assert await killed.wait() == -signal.SIGKILL
    assert await place.remote.list() == []
    if place.folder is not None:
        assert [one.name for one in await place.remote.list(unfinished=True)] == ["backups/a/content.part"]
    sent = await place.remote.put("backups/a/content", large)
    assert await place.remote.read_back("backups/a/content") == sent
    assert await place.remote.list(unfinished=True) == []


@pytest.mark.parametrize(
    ("user", "options", "fault", "next_step"),
    [
        ("bot:wrong", "", "account", "password"),
        ("bot", "&key=/nowhere/id", "/nowhere/id", "key="),
        ("bot", "&known_hosts=/dev/null", "known_hosts", "ssh-keyscan -p"),
        ("bot", "&known_hosts=/nowhere/known", "/nowhere/known", "known_hosts="),
    ],
)
async def test_a_host_that_is_not_known_or_knows_us_not(
    user: str, options: str, fault: str, next_step: str, tmp_path: Path
) -> None:
    """A wrong password, a key that is not there, a host key that is not known: each is told with its own next step;
    without the host's key nobody logs in, and a password never shows."""
    async with SshHost.running(tmp_path) as host:
        remote = remote_of(address_of(host.url(options, user=user)))
        with pytest.raises(RemoteFailed, match=fault) as failed:
            await remote.list()
        assert next_step in failed.value.next_step
        assert "wrong" not in failed.value.message + failed.value.next_step
        if "known_hosts" in options:
            assert host.logins == 0
        right = remote_of(address_of(host.url(user="bot:right")))
        assert await right.list() == []
        await right.close()


async def test_a_host_whose_key_has_changed_is_not_logged_in_to(tmp_path: Path) -> None:
    """Another host that answers at the same address gets neither password nor data."""
    async with SshHost.running(tmp_path) as host:
        await host.stop()
        await host.start(trusted=False)
        host.logins = 0
        with pytest.raises(RemoteFailed, match="host key"):
            await remote_of(address_of(host.url(user="bot:right"))).list()
        assert host.logins == 0


async def test_a_bucket_that_is_missing_is_told(s3_port: int, made: Path) -> None:
    """Not as an empty one."""
    url = Bucket(s3_port, "there").url().replace("//there", "//missing")
    remote = remote_of(address_of(url))
    for call in (remote.list(), remote.put("a", made)):
        with pytest.raises(RemoteFailed, match="no bucket missing"):
            await call


async def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, made: Path) -> None:
    """What does not fit is a failure with the disk's own word, and no file."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    remote = remote_of(address_of(str(folder)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(RemoteFailed, match="File too large"):
            await remote.put("a/b", made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await remote.list(unfinished=True) == await remote.list() == []


async def test_connections_are_used_again(place: Place, tmp_path: Path) -> None:
    """Many small files in a row cost one login."""
    small = tmp_path / "small"
    small.write_bytes(b"x" * 1_000)
    for number in range(20):
        await place.remote.put(f"changes/{number}", small)
    assert len(await place.remote.list("changes/")) == 20
    if place.host is not None:
        assert place.host.logins == 1


async def test_what_is_slow_and_moves_has_all_the_time_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that was set is without any progress, not for the whole file."""
    large, folder = tmp_path / "large", tmp_path / "mounted"
    large.write_bytes(bytes(6 << 20))
    folder.mkdir()
    write = File.write

    async def slowly(self: File, data: bytes) -> None:
        await asyncio.sleep(0.1)
        await write(self, data)

    monkeypatch.setattr(File, "write", slowly)
    remote = remote_of(address_of(f"{folder}?timeout_s=0.4"))
    assert (await remote.put("a", large)).bytes == 6 << 20


@pytest.mark.parametrize("place", ["s3", "sftp"], indirect=True)
async def test_a_network_that_dies_in_the_middle_of_a_file_ends_in_time(place: Place, tmp_path: Path) -> None:
    """Nothing waits for a connection that will not answer, not even to close it; no file is left by that name."""
    large = tmp_path / "large"
    large.write_bytes(os.urandom(12 << 20))
    async with Proxy.before("127.0.0.1", place.port) as proxy:
        remote, sent = place.through(proxy.port, "&timeout_s=0.5"), 0

        def dies(count: int) -> None:
            nonlocal sent
            sent += count
            if sent > 4 << 20:
                proxy.flowing.clear()

        begun = time.monotonic()
        with pytest.raises(RemoteFailed):
            await remote.put("a", large, on_bytes=dies)
        assert time.monotonic() - begun < 5
        await remote.close()
    assert await place.remote.list() == []
