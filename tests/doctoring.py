"""What tests of the doctor share: a patient with settings of the test's own, and what one look finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result
from standfast.settings import Settings
from standfast.settings.survey import Survey

Look = Callable[[Patient], Iterable[Result]]


def patient(*, offline: bool = False, whatsapp: tuple[str, int] | None = None, **settings: Any) -> Patient:
    """One with these settings, the others at their defaults."""
    survey = Survey(Settings(**settings))
    return Patient(survey, offline) if whatsapp is None else Patient(survey, offline, whatsapp)


def found(look: Look, who: Patient) -> dict[str, Result]:
    """The last result of each check that `look` made."""
    return {result.check: result for result in look(who)}


def outcome(look: Look, who: Patient) -> str:
    """That of a look with a single result."""
    (result,) = look(who)
    return result.outcome
