"""When a job is due: five fields, as crontab(5) has them, in a time zone.

Invariant: weekdays count from Sunday and both day fields together mean either, as crontab(5) says; an hour that a
clock passes twice in autumn is due once, unless every hour is.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

OFF = "off"
_FIELDS = ("minute", "hour", "day", "month", "day_of_week")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY = 86_400.0
_LOOK_BACK_S = (7_200.0, 2 * _DAY, 40 * _DAY, 370 * _DAY, 5 * 366 * _DAY)


class Cron:
    """`Cron("0 3 * * *", zone)`; raises `ValueError` with what is wrong with the fields."""

    def __init__(self, fields: str, zone: ZoneInfo) -> None:
        values = fields.split()
        if len(values) != len(_FIELDS):
            raise ValueError(f"five fields are expected (minute hour day month weekday), {len(values)} given")
        given = dict(zip(_FIELDS, values, strict=True))
        given["month"] = _named(given["month"], _MONTHS, first=1)
        given["day_of_week"] = _weekdays(given["day_of_week"])
        self._every_hour = given["hour"].startswith("*")
        self.trigger = _trigger(given, zone)
        if self.next(datetime.now(UTC).timestamp()) is None:
            raise ValueError("there is no such day")

    def next(self, after: float) -> float | None:
        """The first time it is due after that moment; both in seconds since 1970."""
        found = self._fires(after)
        while found is not None and not self._every_hour and _is_second(found):
            found = self._fires(found.timestamp())
        return None if found is None else found.timestamp()

    def _fires(self, after: float) -> datetime | None:
        found: datetime | None = self.trigger.get_next_fire_time(
            None, _moment(after) + timedelta(microseconds=1)
        )
        return found

    def last(self, until: float) -> float | None:
        """The last time it was due, not after that moment; None: not within five years."""
        for span_s in _LOOK_BACK_S:
            found = self.next(until - span_s)
            if found is None or found > until:
                continue
            while (later := self.next(found)) is not None and later <= until:
                found = later
            return found
        return None


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name. `ValueError` where there is none, or no data of time zones."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name[:40]!r}") from None


def _trigger(given: dict[str, str], zone: ZoneInfo) -> BaseTrigger:
    if given["day"].startswith("*") or given["day_of_week"].startswith("*"):
        return CronTrigger(**given, timezone=zone)
    either = (CronTrigger(**{**given, free: "*"}, timezone=zone) for free in ("day", "day_of_week"))
    return OrTrigger(list(either))


def _weekdays(field: str) -> str:
    """APScheduler counts weekdays from Monday; their names mean the same everywhere. Ranges and steps over the week's
    end become lists."""
    days: list[int] = []
    if field == "*":
        return field
    for part in _named(field, _WEEKDAYS[:7], first=0, to_numbers=True).split(","):
        found = re.fullmatch(r"(?:\*|([0-7])(?:-([0-7]))?)(?:/([1-7]))?", part)
        if found is None:
            raise ValueError(f"{part[:20]!r} is no weekday (0-7, sun-sat)")
        first, last, step = found.groups()
        low = int(first or 0)
        high = int(last) if last else (6 if first is None or step else low)
        if high < low:
            raise ValueError(f"{part[:20]!r} ends before it begins")
        days += range(low, high + 1, int(step or 1))
    return ",".join(_WEEKDAYS[day] for day in dict.fromkeys(day % 7 for day in days))


def _named(field: str, names: tuple[str, ...], *, first: int, to_numbers: bool = False) -> str:
    """Names in lower case; as numbers where asked for."""

    def word(found: re.Match[str]) -> str:
        name = found.group().lower()
        if name not in names:
            raise ValueError(f"{name[:20]!r} is unknown")
        return str(names.index(name) + first) if to_numbers else name

    return re.sub(r"[A-Za-z]+", word, field)


def _is_second(at: datetime) -> bool:
    """Whether the clock showed this before, an hour of real time ago."""
    return bool(at.fold) and at.utcoffset() != at.replace(fold=0).utcoffset()


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
