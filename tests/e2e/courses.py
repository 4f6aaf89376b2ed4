"""What befalls an installation before the blocks of a document: one function for each `<!-- setup: NAME -->`.

Invariant: a state is brought about as it comes about: a server is stopped, rows are deleted by SQL, a disk is emptied.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from tests.e2e.conftest import until
from tests.e2e.installation import COMPANIES, Installation

MOMENT = "2026-11-22T10:15:30Z"
_LOG_REACHES_S = 1.5
_NOT_STARTED = "session not started"
_SPOIL = """
insert into whatsapp_keys (company_id, key_type, key_id, value) values ('bolt', 'session', '79990000009.0', '"spoilt"')
"""
_DELETE = (
    "delete from whatsapp_keys where company_id = 'acme'",
    "delete from whatsapp_auth where company_id = 'acme'",
)


async def standing(place: Installation) -> None:
    """Everything runs."""
    if not place.runs:
        await place.start()
    await place.open(*COMPANIES)


async def ready(place: Installation) -> None:
    """Everything runs, a contact is known, and there is a good backup of it, here and far away."""
    await standing(place)
    await place.does("standfast send acme +79990000001 hello")
    await place.does("standfast backup run && standfast backup push")


async def service_up(place: Installation) -> None:
    """The service was started; which sessions are open is another matter."""
    await place.start()


async def outage(place: Installation) -> None:
    """PostgreSQL does not answer, and the service has found that."""
    await place.server.stop()
    await place.vault_is("outage")


async def mended(place: Installation) -> None:
    """PostgreSQL is up again, and the service has carried over what it had."""
    if not place.server.running:
        await place.server.start()
    await place.vault_is("online")
    await place.carried()


async def answers(place: Installation) -> None:
    """PostgreSQL is up again under a node that stands on files."""
    await place.server.start()
    await place.answered()


async def restarted(place: Installation) -> None:
    """The service was stopped and started, in order."""
    await place.stop()
    await place.start()
    await place.open(*COMPANIES)


async def damaged(place: Installation) -> None:
    """Somebody's SQL has spoilt creds in PostgreSQL."""
    place.execute("update whatsapp_auth set creds = '{\"noiseKey\": 5}' where company_id = 'acme'")


async def damaged_everywhere(place: Installation) -> None:
    """Neither PostgreSQL nor this machine has whole creds of acme, and bolt's session with somebody is spoilt."""
    await _note_moment(place)
    await place.does("standfast send acme +79990000001 later")
    await place.carried()
    await place.stop()
    await damaged(place)
    place.execute(_SPOIL)
    file = place.home.state.path / "vault" / "vault.db"
    file.write_bytes(b"\xff" * file.stat().st_size)
    await place.start()
    await place.says(_NOT_STARTED)


async def deleted(place: Installation) -> None:
    """Somebody's SQL has deleted a company."""
    place.execute(*_DELETE)


async def deleted_and_restarted(place: Installation) -> None:
    """The same, and the service was restarted on it."""
    await _note_moment(place)
    await deleted(place)
    await place.stop()
    await place.start()
    await place.says(_NOT_STARTED)
    await place.open("bolt")


async def cleaned(place: Installation) -> None:
    """A cleanup has removed sessions that were old."""
    await place.open(*COMPANIES)
    await place.does("standfast send acme +79990000001 again")
    await place.carried()
    place.execute(
        "update whatsapp_keys set updated_at = now() - interval '40 days' where key_type = 'session'"
    )
    await place.does("standfast cleanup")


async def lost(place: Installation) -> None:
    """The server is gone with its disk; an empty one stands in its place."""
    await place.empty_server()
    await place.outage_says("lacks a table", "another database")


async def lost_and_stopped(place: Installation) -> None:
    """The server is gone with its disk; the service was stopped, and an empty server stands in its place."""
    await place.stop()
    await place.empty_server()


async def lost_all(place: Installation) -> None:
    """Server, state directory and local backups are gone; there is what lies far away."""
    if place.runs:
        await place.stop()
    await place.empty_server()
    shutil.rmtree(place.home.state.path)
    shutil.rmtree(place.backups)


SETUPS: dict[str, Callable[[Installation], Awaitable[None]]] = {
    "standing": standing,
    "service-up": service_up,
    "outage": outage,
    "answers": answers,
    "restarted": restarted,
    "mended": mended,
    "damaged": damaged,
    "damaged-everywhere": damaged_everywhere,
    "restored": standing,
    "deleted": deleted,
    "deleted-and-restarted": deleted_and_restarted,
    "cleaned": cleaned,
    "lost": lost,
    "lost-and-stopped": lost_and_stopped,
    "lost-all": lost_all,
}


async def _note_moment(place: Installation) -> None:
    """What the document calls `MOMENT` is now; the change log has been written since."""
    now = int(time.time()) + 1
    place.bound.actual[MOMENT] = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    await until(lambda: time.time() > now + _LOG_REACHES_S, "the change log has that moment")
