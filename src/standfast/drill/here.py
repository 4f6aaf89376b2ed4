"""The drill on the running installation: an outage rehearsed for one test company, through its running service.

Invariant: whatever happens, the rehearsed outage is ended before this returns; no second holder of a session is logged
in, and the installation is not switched to files.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from standfast.alert import LoggedAlerts
from standfast.authstate.key_pairs import check_creds
from standfast.authstate.multifile import import_folder
from standfast.drill.here_plan import HerePlan
from standfast.drill.ledger import Ledger
from standfast.drill.record import DrillRecord
from standfast.errors import Conflict, StandfastError
from standfast.jobs.emergency.folders import new_switch
from standfast.jobs.emergency.to_files import ToFiles, Wanted
from standfast.jobs.progress import Progress, Silent
from standfast.service.client import Client
from standfast.service.to_files import files_node
from standfast.settings import Settings

SPARE_S = 120.0
SEND_WAIT_S = 30.0
RECONNECT_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 60.0
_SAMPLE_S = 0.25
_PARTS = (0.0, 2 / 3, 1.0)
_APART = "every company would feel it; 'standfast drill' tries it on parts of its own"


async def drill_here(client: Client, plan: HerePlan, settings: Settings, progress: Progress) -> DrillRecord:
    """Rehearse; the record also where a phase failed. Raises what kept the rehearsal from beginning."""
    return await _Here(client, plan, settings, progress).run()


class _Here:
    def __init__(self, client: Client, plan: HerePlan, settings: Settings, progress: Progress) -> None:
        self._client = client
        self._plan = plan
        self._settings = settings
        self._progress = progress
        self._ledger = Ledger("here")
        self._acknowledged = 0
        self._open_samples = self._samples = 0
        self._reconnecting = False
        self._state = ""

    async def run(self) -> DrillRecord:
        with self._phase(0, "Preconditions"):
            await self._whole(0, "PostgreSQL and replica are equal before")
        self._ledger.skip_phase(1, "Cache population", "the replica of a company that runs is not emptied")
        self._ledger.skip("performance", 1, "cache population", "the replica is not emptied", target="< 1 s")
        await self._ask("begin", for_s=self._plan.outage_s + SPARE_S)
        with contextlib.suppress(StandfastError):  # the phase has it, and the record says so
            await self._rehearsed()
            await self._after()
        return self._ledger.record(
            kind="full", here=True, node_name=self._plan.node_name, outage_kinds=["withheld"]
        )

    async def _rehearsed(self) -> None:
        sampling, began = asyncio.create_task(self._sample()), self._ledger.now()
        try:
            with self._phase(2, "Outage"):
                await self._outage(began)
            with self._phase(3, "Restoration"):
                await self._restored(began)
        finally:
            sampling.cancel()
            await asyncio.wait({sampling})
            # Over by now, unless something failed or was interrupted.
            with contextlib.suppress(StandfastError):
                await asyncio.shield(self._ask("end"))

    async def _outage(self, began: float) -> None:
        ledger, plan = self._ledger, self._plan
        before = (await self._ask("standing"))["applied"]
        for number, part in enumerate(_PARTS, start=1):
            if number == len(_PARTS):
                await self._until(began + plan.outage_s * (_PARTS[0] + _PARTS[1]) / 2)
                await self._reconnect()
            await self._until(began + plan.outage_s * part)
            took_s = await self._message(number)
            if number == 1:
                ledger.measure(2, "fallback: first message acknowledged", took_s, 5.0)
        standing = await self._ask("standing")
        target = f"{plan.outage_s:g} s"
        ledger.judge(
            2,
            "The outage is rehearsed to its end",
            target,
            f"{ledger.now() - began:.1f} s",
            holds=bool(standing["rehearsed"]),
            why=str(standing["ended"]),
        )
        got = standing["applied"] - before
        ledger.judge(
            2,
            "Saves are kept in the journal",
            "PostgreSQL gets none",
            f"{standing['batches']} batches held back, {got} not",
            holds=standing["batches"] > 0 and got == 0,
        )
        acknowledged = f"{self._acknowledged} of {len(_PARTS)}"
        ledger.judge(
            2,
            "Messages are acknowledged by WhatsApp",
            f"{len(_PARTS)} of {len(_PARTS)}",
            acknowledged,
            holds=self._acknowledged == len(_PARTS),
        )
        share = 100.0 * self._open_samples / self._samples if self._samples else 0.0
        ledger.judge(
            2, "The session stays open, but for the restart", "100 %", f"{share:.1f} %", holds=share == 100.0
        )
        ledger.measure(2, "messages lost", float(ledger.lost), 0.0, "count")

    async def _message(self, number: int) -> float | None:
        """Seconds until WhatsApp had it; None: it did not take it in time."""
        ledger, plan = self._ledger, self._plan
        self._progress.step(f"message {number} of {len(_PARTS)} in the rehearsed outage")
        began, text = (
            ledger.now(),
            f"Standfast drill {ledger.id}: message {number} of {len(_PARTS)}. Nothing is to be done.",
        )
        ledger.sent += 1
        ledger.moment("sent", f"message {number}", plan.company)
        try:
            sent = await self._client.send(plan.company, plan.contact, text, wait_s=SEND_WAIT_S)
        except StandfastError as error:
            ledger.lost += 1
            ledger.moment("lost", f"message {number}: {error.message}", plan.company)
            return None
        if not sent.is_confirmed:
            ledger.lost += 1
            ledger.moment("lost", f"message {number} was not acknowledged", plan.company)
            return None
        took_s = ledger.now() - began
        self._acknowledged += 1
        ledger.moment("received", f"message {number}, by WhatsApp", "contact")
        return took_s

    async def _reconnect(self) -> None:
        """The session is ended and opened again: from the replica, for PostgreSQL counts as away."""
        ledger, company = self._ledger, self._plan.company
        self._progress.step("the session is restarted amid the rehearsed outage")
        self._reconnecting, began = True, ledger.now()
        generation = (await self._client.session(company)).generation
        try:
            await self._client.restart(company)
            async with asyncio.timeout(RECONNECT_TIMEOUT_S):
                await self._opened_since(generation)
            ledger.rto_s = ledger.now() - began
        except TimeoutError:
            ledger.rto_s = None
        finally:
            self._reconnecting = False
        ledger.moment("restart", "the session is ended and opened again", since_s=began)
        ledger.measure(2, "restart of the session to connected", ledger.rto_s, 10.0, legacy="40 s")

    async def _opened_since(self, generation: int) -> None:
        session = await self._client.session(self._plan.company)
        while not session.is_open or session.generation == generation:
            await asyncio.sleep(_SAMPLE_S / 5)
            session = await self._client.session(self._plan.company)

    async def _restored(self, began: float) -> None:
        ledger = self._ledger
        self._progress.step("PostgreSQL counts as back")
        ended = ledger.now()
        carried = await self._ask("end")
        ledger.moment(
            "outage", f"PostgreSQL counted as away for {self._plan.company}", "withheld", since_s=began
        )
        ledger.moment("restored", "PostgreSQL counts as back")
        ledger.moment("saved", f"{carried['batches']} batches are in PostgreSQL")
        ledger.measure(3, "saves resume: the journal is carried over", ledger.now() - ended, 10.0)
        await self._whole(3, "PostgreSQL and replica are equal after")

    async def _whole(self, phase: int, name: str) -> None:
        compared = await self._ask("compare")
        keys, different = compared["keys"], compared["different"]
        told = f"{keys:,} keys, {different:,} different" if different else f"{keys:,} keys, all equal"
        self._ledger.judge(phase, name, "no key differs", told, holds=different == 0)

    async def _after(self) -> None:
        ledger = self._ledger
        ledger.skip_phase(4, "Expiry", "no session is kept closed for as long as the grace period")
        ledger.skip("performance", 4, "expiry", _APART, target="5 min ± 10 s")
        with self._phase(5, "Alerts"):
            await self._alerts()
        with self._phase(6, "Emergency folder"):
            await self._look()
            await self._folder()
        for name in ("to files", "back to PostgreSQL"):
            ledger.skip("performance", 6, name, _APART, target="< 12 s")

    async def _alerts(self) -> None:
        ledger = self._ledger
        since_s = ledger.now() + 1.0
        history = await self._client.alerts(since_s, companies=[self._plan.company])
        told = [
            one
            for one in history.alerts
            if one.name == "cached_credentials" and one.last_at >= ledger.started_at
        ]
        for one in told:
            ledger.moment("alert", one.name, one.level)
        ledger.judge(
            5,
            "The opening from the replica is alerted",
            "cached_credentials",
            "told" if told else "not told",
            holds=bool(told),
        )
        ledger.skip("acceptance", 5, "Alerts of an outage reach the channels", _APART)

    async def _look(self) -> None:
        """What 'emergency to-files --dry-run' says of this company."""
        wanted = Wanted(str(self._settings.emergency_directory), [self._plan.company])
        async with files_node(self._settings, LoggedAlerts()) as (node, is_service):
            job = ToFiles(node, wanted, Silent(), new_switch, is_service=is_service)
            plan = await job.look()
        one = plan.companies[0]
        self._ledger.judge(
            6,
            "'emergency to-files' would take it from the replica",
            "replica",
            f"{one.source or 'nothing'}, {one.keys:,} keys",
            holds=one.source == "replica",
            why=one.why or "",
        )

    async def _folder(self) -> None:
        """What 'emergency to-files' would give this company, written, read back and removed."""
        ledger, company = self._ledger, self._plan.company
        root = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="drill-", dir=self._settings.state_dir))
        try:
            began = ledger.now()
            exported = await self._client.export(company, root / company)
            ledger.moment("command", f"standfast export {company}", since_s=began)
            ledger.measure(6, "a folder for a plain Baileys bot", ledger.now() - began, 12.0, legacy="12 s")
            keys = await asyncio.to_thread(_checked, root / company)
            ledger.judge(
                6,
                "The folder can be read back, and its key pairs match",
                f"{exported.keys:,} keys",
                f"{keys:,} keys",
                holds=keys == exported.keys,
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, root, ignore_errors=True)

    async def _sample(self) -> None:
        """Watch the session; what is not known for a moment counts as not open."""
        company = self._plan.company
        while True:
            try:
                state = (await self._client.session(company)).state
            except StandfastError as error:
                state = error.code
            if state != self._state:
                self._state = state
                self._ledger.moment("state", state, company)
            if not self._reconnecting:
                self._samples += 1
                self._open_samples += state == "open"
            await asyncio.sleep(_SAMPLE_S)

    async def _until(self, at_s: float) -> None:
        """Wait until that second of the drill. `Conflict` as soon as the rehearsal is over."""
        while (left_s := at_s - self._ledger.now()) > 0:
            standing = await self._ask("standing")
            if not standing["rehearsed"]:
                raise Conflict(f"the rehearsed outage ended before its time: {standing['ended']}")
            await asyncio.sleep(min(left_s, 1.0))

    def _phase(self, number: int, name: str) -> contextlib.AbstractContextManager[None]:
        self._progress.step(f"phase {number}: {name.lower()}")
        return self._ledger.phase(number, name)

    async def _ask(self, verb: str, **params: Any) -> Any:
        return await self._client.job(
            f"drill.{verb}", {"company": self._plan.company, **params}, CALL_TIMEOUT_S
        )


def _checked(folder: Path) -> int:
    """How many keys it has. `AuthStateCorrupt` names what is wrong with it."""
    found = import_folder(folder)
    check_creds(found.creds)
    return found.key_count
