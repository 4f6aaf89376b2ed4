"""The embedded server's data directory: made whole or not at all, and configured anew at each start.

Invariant: a directory under the cluster's name has come through initdb to its end.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from standfast.errors import DatabaseUnavailable, SettingsError, StateDirectoryError
from standfast.postgres.binaries import EMBEDDED_MAJOR
from standfast.postgres.launcher import NAMESPACE_REFUSED
from standfast.postgres.processes import exited, spawn
from standfast.postgres.server_binaries import ServerBinaries

SUPERUSER = "standfast"
_INITDB_TIMEOUT_S = 120.0
_INITDB_ARGS = (
    f"--username={SUPERUSER}",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--no-instructions",
)
_BUILTIN_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
_FIRST_WITH_BUILTIN_LOCALE = 17
_CONFIGURATION = """\
# Written by Standfast at each start. Your own settings belong into postgresql.auto.conf (ALTER SYSTEM).
listen_addresses = '{listen}'
port = {port}
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
cluster_name = 'standfast'
max_connections = 50
shared_buffers = 64MB
max_wal_size = 256MB
min_wal_size = 64MB
wal_level = replica
fsync = {durable}
synchronous_commit = {durable}
full_page_writes = {durable}
max_worker_processes = 2
max_parallel_workers_per_gather = 0
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
password_encryption = scram-sha-256
# What is logged must not hold key material: no statements, no row contents.
log_min_messages = warning
log_min_error_statement = panic
log_error_verbosity = terse
log_checkpoints = off
log_line_prefix = '%m [%p] '
"""
# What older servers do not know and refuse to start with.
_SINCE = {18: {"io_method": "sync"}}
_HBA = "local all all trust\n"
_HBA_TCP = "host all all 127.0.0.1/32 scram-sha-256\n"


def check(data_dir: Path) -> None:
    """Raises `StateDirectoryError` where `data_dir` is another version's, or no cluster."""
    try:
        version = (data_dir / "PG_VERSION").read_text("ascii").strip()
    except FileNotFoundError:
        raise StateDirectoryError(
            f"{data_dir} holds something that is not a PostgreSQL data directory",
            next_step="Move it away, or choose another state directory with STANDFAST_STATE_DIR.",
        ) from None
    if version != str(EMBEDDED_MAJOR):
        raise StateDirectoryError(
            f"{data_dir} was made by PostgreSQL {version[:10]}; the embedded server is {EMBEDDED_MAJOR}",
            next_step=f"Dump it with PostgreSQL {version[:10]}, move it away, start again and load the dump.",
        )


async def create(data_dir: Path, binaries: ServerBinaries, *, durable: bool = True) -> None:
    """initdb beside, then rename: a start that is killed leaves nothing that looks like a database."""
    for left_over in data_dir.parent.glob(f"{data_dir.name}.new-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{data_dir.name}.new-", dir=data_dir.parent))
    try:
        await _initdb(fresh, binaries, durable)
        _put_in_place(fresh, data_dir)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _put_in_place(fresh: Path, data_dir: Path) -> None:
    fresh.rename(data_dir)
    sync_directory(data_dir.parent)


def configure(
    data_dir: Path,
    *,
    socket_dir: Path,
    port: int,
    tcp: bool,
    durable: bool,
    major: int = EMBEDDED_MAJOR,
    tuning: Mapping[str, str] | None = None,
) -> None:
    """`tuning` wins over what stands here."""
    text = _CONFIGURATION.format(
        listen="127.0.0.1" if tcp else "",
        port=port,
        socket_dir=socket_dir,
        durable="on" if durable else "off",
    )
    more = [known for since, known in _SINCE.items() if since <= major] + [tuning or {}]
    text += "".join(f"{name} = {value}\n" for settings in more for name, value in settings.items())
    replace_file(data_dir / "postgresql.conf", text)
    replace_file(data_dir / "pg_hba.conf", _HBA + (_HBA_TCP if tcp else ""))


def replace_file(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  # pathlib cannot open a descriptor
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def namespace_refused() -> SettingsError:
    return SettingsError(
        "PostgreSQL does not run as root, and this kernel or container forbids the user namespace that would help",
        next_step="Run Standfast as another user than root, allow user namespaces, or set DATABASE_URL to a server.",
    )


async def _initdb(data_dir: Path, binaries: ServerBinaries, durable: bool) -> None:
    arguments = _INITDB_ARGS + (_BUILTIN_LOCALE if binaries.major >= _FIRST_WITH_BUILTIN_LOCALE else ())
    arguments += () if durable else ("--no-sync",)
    with tempfile.TemporaryFile() as output:
        process = spawn(
            binaries.directory / "initdb", "-D", str(data_dir), *arguments, output=output.fileno()
        )
        try:
            if not await exited(process, _INITDB_TIMEOUT_S):
                raise DatabaseUnavailable(
                    f"initdb did not end within {_INITDB_TIMEOUT_S:g} s",
                    next_step="Check the disk of the state directory.",
                )
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode == NAMESPACE_REFUSED:
            raise namespace_refused()
        if process.returncode != 0:
            output.seek(0)
            raise _failed(output.read().decode("utf-8", "replace"))


def _failed(output: str) -> DatabaseUnavailable:
    complaint = re.search(r"(?:initdb: error|FATAL|PANIC|ERROR): *(.{1,200})", output)
    return DatabaseUnavailable(
        f"initdb failed: {complaint.group(1) if complaint else 'see the state directory'}",
        next_step="Check free space and rights of the state directory, or set DATABASE_URL to a server of yours.",
    )
