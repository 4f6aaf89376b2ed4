"""Work that blocks, done beside the event loop.

Invariant: a disk that hangs keeps neither the loop, nor other threads' work, nor the end of the process waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from standfast.errors import BackupFailed

T = TypeVar("T")
DISK_TIMEOUT_S = 60.0


def begun(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """`work` in a thread of its own, whose outcome the future has."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(outcome: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(outcome)  # type: ignore[arg-type]  # without an error it is what `work` gave

    def run() -> None:
        outcome, failure = None, None
        try:
            outcome = work()
        except BaseException as error:  # noqa: BLE001 - it is told to who waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, outcome, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


async def on_disk(
    work: Callable[[], T], *, timeout_s: float = DISK_TIMEOUT_S, undo: Callable[[T], None] | None = None
) -> T:
    """What `work` gives. `BackupFailed` where the disk does not answer in time; `OSError` becomes it too. What comes
    after nobody waits for it any more, `undo` gives back."""
    future = begun(work, "backup-disk")
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(future)
    except TimeoutError:
        raise BackupFailed(
            f"the disk of the backups did not answer within {timeout_s:g} s",
            next_step="Look at the disk or the network file system that BACKUP_ROOT lies on.",
        ) from None
    except OSError as error:
        raise disk_failed(error) from error
    finally:
        if not future.done():
            future.add_done_callback(lambda late: _late(late, undo))


def _late(future: asyncio.Future[T], undo: Callable[[T], None] | None) -> None:
    if not future.cancelled() and future.exception() is None and undo is not None:
        given = future.result()
        begun(lambda: undo(given), "backup-disk")


def disk_failed(error: OSError) -> BackupFailed:
    """In our words."""
    where = f" ({error.filename})" if error.filename else ""
    return BackupFailed(
        f"the backup cannot be written: {error.strerror or type(error).__name__}{where}",
        next_step="Free or mend the disk that BACKUP_ROOT lies on, then: standfast backup run",
    )
