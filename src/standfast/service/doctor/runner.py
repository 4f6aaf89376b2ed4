"""Running the checks side by side, each against its own deadline.

Invariant: the report is there by the last deadline, whatever a check does: what hangs or fails is a line of it.
Checks run in threads that nobody waits for at exit: a look at a dead file server or name server cannot be ended.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from standfast.errors import StandfastError
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Report, Result, in_order, skipped, unknown

DEADLINE_S = 6.0
Look = Callable[[Patient], Iterable[Result]]


@dataclass(frozen=True, slots=True)
class Check:
    """`look` yields its results as it finds them. `name` and `subject` are those of the line that tells that it failed
    or hangs, `hint` is what to do where it hangs. `inside`: it looks at what lies in the state directory."""

    name: str
    subject: str
    look: Look
    hint: str | None = None
    deadline_s: float = DEADLINE_S
    inside: bool = False


def run(checks: Sequence[Check], patient: Patient) -> Report:
    """All of them at once."""
    began = time.monotonic()
    running = [_Running(check, patient) for check in checks]
    found: list[Result] = []
    for one in running:
        found += one.results(began + one.check.deadline_s)
    shown = (
        replace(one, message=patient.hide(one.message), mend=_hidden(patient, one.mend)) for one in found
    )
    return Report(in_order(shown), time.monotonic() - began)


class _Running:
    def __init__(self, check: Check, patient: Patient) -> None:
        self.check = check
        self._patient = patient
        self._found: list[Result] = []
        self._thread = threading.Thread(target=self._run, name=f"doctor-{check.name}", daemon=True)
        self._thread.start()

    def results(self, deadline: float) -> list[Result]:
        """What was found by `deadline` on the monotonic clock."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        found = list(self._found)
        if self._thread.is_alive():
            check = self.check
            late = unknown(
                check.name, check.subject, f"it gave no answer within {check.deadline_s:g} s", check.hint
            )
            found.append(replace(late, took_ms=check.deadline_s * 1000))
        return found

    def _look(self) -> Iterable[Result]:
        check = self.check
        if check.inside and self._patient.is_shut_out():
            return [skipped(check.name, check.subject, "this account cannot look into the state directory")]
        return check.look(self._patient)

    def _run(self) -> None:
        began = time.monotonic()
        try:
            for result in self._look():
                now = time.monotonic()
                self._found.append(replace(result, took_ms=round((now - began) * 1000, 1)))
                began = now
        except BaseException as error:  # noqa: BLE001 - a check that fails is a line of the report
            self._found.append(failed(self.check.name, self.check.subject, error))


def failed(name: str, subject: str, error: BaseException) -> Result:
    """The line of a check that failed. Of an error that is not ours only the kind is told: its text may hold
    anything."""
    if isinstance(error, StandfastError):
        return unknown(name, subject, error.message, error.next_step)
    if isinstance(error, subprocess.TimeoutExpired):
        program = Path(error.cmd[0] if isinstance(error.cmd, list | tuple) else error.cmd).name
        return unknown(name, subject, f"{program} gave no answer within {error.timeout:g} s", _HINT)
    reason = error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
    if isinstance(error, OSError) and isinstance(error.filename, str):
        reason = f"{error.filename}: {reason}"
    return unknown(name, subject, reason, _HINT)


_HINT = (
    "Run it as the account that runs the service; if it stays so, report it with 'standfast doctor --json'."
)


def _hidden(patient: Patient, text: str | None) -> str | None:
    return None if text is None else patient.hide(text)
