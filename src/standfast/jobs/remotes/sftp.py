"""A directory of another machine, by SSH.

Invariant: nothing is sent to a host whose key is not the one in known_hosts. The directory itself is never made.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, cast

import asyncssh

from standfast.errors import StandfastError
from standfast.jobs.remotes.files import CHUNK_BYTES
from standfast.jobs.remotes.remote import UNFINISHED, Beat, Remote, Stored
from standfast.settings.remotes import RemoteAddress

_KEEPALIVE_S = 15
_DIRECTORY = asyncssh.SFTPAttrs(permissions=0o700)
_FILE = asyncssh.SFTPAttrs(permissions=0o600)
_ABSENT = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)

asyncssh.set_log_level("WARNING")  # it would tell of every connection, with user and host


class SftpRemote(Remote):
    """One connection for all calls; one that was lost is opened anew by the next call."""

    def __init__(self, address: RemoteAddress) -> None:
        super().__init__(address)
        self._opening = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    async def close(self) -> None:
        """See `Remote`."""
        connection, self._client, self._connection = self._connection, None, None
        if connection is not None:
            connection.close()
            try:
                async with asyncio.timeout(1.0):
                    await connection.wait_closed()
            except TimeoutError:
                connection.abort()

    async def _abandon(self) -> None:
        connection, self._client, self._connection = self._connection, None, None
        if connection is not None:
            connection.abort()

    async def _store(self, name: str, chunks: AsyncIterator[bytes], size: int, beat: Beat) -> None:
        async with self._sftp() as sftp:
            path = self._path(name)
            beside = path + UNFINISHED
            await self._make_parent(sftp, path)
            async with self._opened(sftp, beside, "wb") as file:
                async for chunk in chunks:
                    await file.write(chunk)
                    beat()
                with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                    await file.fsync()
            await _renamed(sftp, beside, path)

    async def _load(self, name: str) -> AsyncGenerator[bytes]:
        async with self._sftp() as sftp, self._opened(sftp, self._path(name), "rb") as file:
            while chunk := await file.read(CHUNK_BYTES):
                yield cast(bytes, chunk)

    async def _entries(self, prefix: str, beat: Beat) -> AsyncIterator[Stored]:
        async with self._sftp() as sftp:
            await self._check_root(sftp)
            folders = [prefix]
            while folders:
                folder = folders.pop()
                beat()
                try:
                    entries = await sftp.readdir(self._path(folder))
                except _ABSENT:
                    continue  # nothing lies below this prefix, or it went meanwhile
                for one in entries:
                    name, attrs = folder + str(one.filename), one.attrs
                    if one.filename in {".", ".."} or attrs.permissions is None:
                        continue
                    if stat.S_ISDIR(attrs.permissions):
                        folders.append(f"{name}/")
                    elif stat.S_ISREG(attrs.permissions):
                        yield Stored(name, attrs.size or 0, float(attrs.mtime or 0))

    async def _remove(self, name: str) -> None:
        async with self._sftp() as sftp:
            with contextlib.suppress(*_ABSENT):
                await sftp.remove(self._path(name))
            parent = posixpath.dirname(name)
            with contextlib.suppress(asyncssh.SFTPError):  # others lie there
                while parent:
                    await sftp.rmdir(self._path(parent))
                    parent = posixpath.dirname(parent)

    def _path(self, name: str) -> str:
        return posixpath.join(self.address.path, name).rstrip("/")

    async def _check_root(self, sftp: asyncssh.SFTPClient) -> None:
        if not await sftp.isdir(self.address.path):
            raise self.failed(
                f"has no directory {self.address.path}",
                "Mount its disk there; where it is new, make the directory once.",
            )

    async def _make_parent(self, sftp: asyncssh.SFTPClient, path: str) -> None:
        parent = posixpath.dirname(path)
        if not await sftp.isdir(parent):
            await self._check_root(sftp)
            await sftp.makedirs(parent, _DIRECTORY, exist_ok=True)

    @contextlib.asynccontextmanager
    async def _sftp(self) -> AsyncIterator[asyncssh.SFTPClient]:
        async with self._opening:
            if self._client is None or self._connection is None or self._connection.is_closed():
                self._connection = await asyncssh.connect(**_options(self.address))
                self._client = await self._connection.start_sftp_client()
        client = self._client
        try:
            yield client
        except asyncio.CancelledError:
            await self._abandon()  # or what must be closed on the way out would wait for a host that is mute
            raise

    @contextlib.asynccontextmanager
    async def _opened(
        self, sftp: asyncssh.SFTPClient, path: str, mode: str
    ) -> AsyncIterator[asyncssh.SFTPClientFile]:
        file = await sftp.open(path, mode, attrs=_FILE)
        try:
            yield file
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                await self._abandon()  # closing would wait for a host that is mute
            with contextlib.suppress(asyncssh.Error, OSError):
                await file.close()
            raise
        await file.close()

    def _told(self, error: Exception, name: str) -> StandfastError | None:
        address = self.address
        port = f"-p {address.port} " if address.port else ""
        match error:
            case asyncssh.SFTPNoSuchFile() | asyncssh.SFTPNoSuchPath():
                return self.absent(name)
            case asyncssh.HostKeyNotVerifiable() | asyncssh.KeyExchangeFailed():
                return self.failed(
                    f"has a host key that is not in known_hosts, or is not the one there ({address.host})",
                    f"Look at it: ssh-keyscan {port}{address.host} | ssh-keygen -lf -; compare with what the host's "
                    f"owner says, then add it: ssh-keyscan {port}{address.host} >> "
                    f"{address.options.get('known_hosts', '~/.ssh/known_hosts')}",
                )
            case asyncssh.PermissionDenied():
                return self.failed(
                    "refused the account",
                    "Check user, password and key= of it in BACKUP_REMOTES, and its account.",
                )
            case asyncssh.KeyImportError() | asyncssh.KeyEncryptionError():
                return self.failed(
                    "has a key= that cannot be used", "Name a private key without a passphrase."
                )
            case asyncssh.SFTPPermissionDenied():
                return self.failed(
                    f"may not be written or read in ({address.path})", "Check the rights there."
                )
            case asyncssh.SFTPNoSpaceOnFilesystem() | asyncssh.SFTPQuotaExceeded():
                return self.failed(
                    "is full", "Free room there, or lower keep_daily= of it in BACKUP_REMOTES."
                )
            case asyncssh.SFTPConnectionLost() | asyncssh.DisconnectError():
                return self.failed(
                    "cut the connection", "Look at the SSH server there, and the network to it."
                )
            case asyncssh.SFTPError():
                return self.failed(
                    f"failed ({type(error).__name__.removeprefix('SFTP')})",
                    f"Check room and rights of {address.path} there.",
                )
            case OSError() | asyncssh.Error():
                return self._unreachable(error)
        return None

    def _unreachable(self, error: Exception) -> StandfastError:
        if isinstance(error, OSError) and error.filename:
            return self.failed(
                f"needs a file that cannot be read: {error.filename} ({error.strerror})",
                "Correct key= and known_hosts= of it in BACKUP_REMOTES.",
            )
        return self.failed("cannot be reached", "Check its host, port and the network to it.")


async def _renamed(sftp: asyncssh.SFTPClient, beside: str, path: str) -> None:
    try:
        await sftp.posix_rename(beside, path)
    except asyncssh.SFTPOpUnsupported:
        with contextlib.suppress(*_ABSENT):
            await sftp.remove(path)
        await sftp.rename(beside, path)


def _options(address: RemoteAddress) -> dict[str, Any]:
    found: dict[str, Any] = {
        "host": address.host,
        "port": address.port or 22,
        "config": None,
        "connect_timeout": address.timeout_s,
        "login_timeout": address.timeout_s,
        "keepalive_interval": _KEEPALIVE_S,
    }
    if address.user:
        found["username"] = address.user
    if address.password is not None:
        found |= {"password": address.password, "client_keys": None}
    if "key" in address.options:
        found |= {"client_keys": [str(Path(address.options["key"]).expanduser())], "agent_path": None}
    if "known_hosts" in address.options:
        found["known_hosts"] = str(Path(address.options["known_hosts"]).expanduser())
    return found
