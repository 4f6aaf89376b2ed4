"""Real places for copies: a folder, a bucket of an S3 server in a process of its own, a directory behind SSH."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncssh

from standfast.settings.remotes import RemoteAddress, remote_addresses

_ACCOUNT = "access_key=made-up&secret_key=made+up/secret"


class Bucket:
    """Of an S3 server on 127.0.0.1."""

    def __init__(self, port: int, name: str) -> None:
        self.port = port
        self._name = name
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()

    def url(self, options: str = "", port: int | None = None) -> str:
        endpoint = f"endpoint=http://127.0.0.1:{port or self.port}"
        return f"s3://{self._name}/standfast?{endpoint}&{_ACCOUNT}{options}"

    def overwrite(self, name: str, data: bytes) -> None:
        url = f"http://127.0.0.1:{self.port}/{self._name}/standfast/{name}"
        request = urllib.request.Request(url, data=data, method="PUT")
        urllib.request.urlopen(request, timeout=10).close()


@contextlib.contextmanager
def s3_server() -> Iterator[int]:
    """Its port."""
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    yield int(found[1])
                    break
            else:
                raise AssertionError("the S3 server did not start")
        finally:
            process.kill()


class SshHost:
    """An SFTP server on 127.0.0.1 whose directory is `root`."""

    def __init__(self, root: Path, keys: Path) -> None:
        self.root = root
        self._keys = keys
        self._server: asyncssh.SSHAcceptor | None = None
        self.port = 0
        self.logins = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator[SshHost]:
        host = cls(folder / "ssh-root", folder / "ssh-keys")
        for made in (host.root, host._keys):
            made.mkdir()
        await host.start()
        try:
            yield host
        finally:
            await host.stop()

    async def start(self, *, trusted: bool = True) -> None:
        """With a new key of its own, which those who trust it know."""
        own, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        client.write_private_key(str(self._keys / "client"))
        client.write_public_key(str(self._keys / "authorized"))
        host = self

        class Server(asyncssh.SSHServer):
            def begin_auth(self, username: str) -> bool:
                host.logins += 1
                return True

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return password == "right"

        self._server = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=Server,
            server_host_keys=[own],
            authorized_client_keys=str(self._keys / "authorized"),
            sftp_factory=True,
        )
        self.port = self._server.get_port()
        if trusted:
            self.trust(self.port, own.export_public_key().decode())

    def trust(self, port: int, key: str | None = None) -> None:
        """Whoever reaches it by that port knows it."""
        known = self._keys / "known_hosts"
        key = key or known.read_text().splitlines()[-1].split(" ", 1)[1]
        with known.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {key.strip()}\n")

    def url(self, options: str = "", port: int | None = None, user: str = "bot") -> str:
        known = f"&known_hosts={self._keys / 'known_hosts'}" if "known_hosts=" not in options else ""
        key = f"&key={self._keys / 'client'}" if ":" not in user and "key=" not in options else ""
        return f"sftp://{user}@127.0.0.1:{port or self.port}{self.root}?{known}{key}{options}".replace(
            "?&", "?"
        )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            async with asyncio.timeout(5):
                await self._server.wait_closed()
            self._server = None


def address_of(url: str) -> RemoteAddress:
    return remote_addresses(url)[0]
