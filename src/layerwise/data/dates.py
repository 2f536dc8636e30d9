"""Dates as people write them, and numbers made of them.

How a column writes its dates has a name, which travels with the weights:

- `iso`: 2024-01-31, 2024/01/31, 20240131, with or without a time; offsets are brought to UTC.
- `day_first`: 31/01/2024, 31.01.2024, 31-01-2024, with or without a time.
- `month_first`: 01/31/2024, 1-31-2024, with or without a time.
- `month_name`: 31 Jan 2024, 31-Jan-2024, January 31, 2024.
- `seconds`, `milliseconds`: since 1970.
"""

import math
import re
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

DATE_PARTS = ("days", "year_sin", "year_cos", "week_sin", "week_cos")
TIME_PARTS = ("day_sin", "day_cos")
KINDS = ("iso", "day_first", "month_first", "month_name")  # in the order they are tried; numbers are never guessed
_EPOCH = datetime(1970, 1, 1)
_DAY_S = 86_400
_YEAR_DAYS = 365.2425
_MOST_SECONDS = 1e11  # the year 5138; a larger number counts milliseconds
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_ORDERED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?:[ T,]+(.+))?")
_NAMED = re.compile(r"(\d{1,2})[ -]([A-Za-z]{3,9})\.?[ -](\d{4})|([A-Za-z]{3,9})\.? (\d{1,2}),? (\d{4})")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?(?: ?([AaPp])\.?[Mm]\.?)?")


def to_days(cells: Sequence[str], missing: Collection[str], kind: str = "iso") -> NDArray[np.float64] | None:
    """Days since 1970 (UTC where offsets are given), NaN for missing cells; None if a cell is no such date."""
    absent = set(missing)
    days = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell in absent:
            continue
        found = _days(cell, kind)
        if found is None:
            return None
        days[i] = found
    return days


def kinds_of(cells: Sequence[str], missing: Collection[str]) -> list[str]:
    """The ways of writing, of `KINDS`, in which all cells are dates. Two (day and month first) where no day is over
    12.
    """
    present = [cell for cell in cells if cell not in missing]
    return [kind for kind in KINDS if present and to_days(present, (), kind) is not None]


def number_kind(days: NDArray[np.float64]) -> str:
    """`seconds` or `milliseconds` for a column of numbers that are said to be times since 1970."""
    return "milliseconds" if float(np.nanmax(np.abs(days))) > _MOST_SECONDS else "seconds"


def like_dates(values: NDArray[np.float64]) -> bool:
    """Whether whole numbers could be dates: all like 20240131, or all seconds or milliseconds of 2000 to 2040."""
    present = values[~np.isnan(values)]
    if not len(present) or bool((present != np.round(present)).any()):
        return False
    low, high = float(present.min()), float(present.max())
    if low >= 19000101 and high <= 21001231:
        return bool((_months(present) <= 12).all() and (_months(present) >= 1).all() and (present % 100 <= 31).all())
    return any(946_684_800 * unit <= low and high <= 2_208_988_800 * unit for unit in (1, 1000))


def _months(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values // 100 % 100


def has_times(days: NDArray[np.float64]) -> bool:
    """Whether any moment is not midnight."""
    present = days[~np.isnan(days)]
    return bool((present != np.floor(present)).any())


def date_features(days: NDArray[np.float64], times: bool = False) -> NDArray[np.float64]:
    """[N] days since 1970 -> [N, 5] `DATE_PARTS`, or [N, 7] with `TIME_PARTS`."""
    year, week = 2 * math.pi * days / _YEAR_DAYS, 2 * math.pi * (days + 3) / 7  # 1970 began on a Thursday
    parts = [days, np.sin(year), np.cos(year), np.sin(week), np.cos(week)]
    if times:
        parts += [np.sin(2 * math.pi * days), np.cos(2 * math.pi * days)]
    return np.stack(parts, axis=1)


def _days(cell: str, kind: str) -> float | None:
    if kind == "iso":
        return _iso(cell)
    if kind in ("seconds", "milliseconds"):
        try:
            found = float(cell) / (_DAY_S if kind == "seconds" else 1000 * _DAY_S)
        except ValueError:
            return None
        return found if math.isfinite(found) else None
    if kind == "month_name":
        return _named(cell)
    if (match := _ORDERED.fullmatch(cell)) is None or (kind == "month_first" and match[2] == "."):
        return None
    day, month = (int(match[1]), int(match[3])) if kind == "day_first" else (int(match[3]), int(match[1]))
    return _calendar(int(match[4]), month, day, match[5])


def _iso(cell: str) -> float | None:
    try:
        moment = datetime.fromisoformat(cell.replace("/", "-"))
    except ValueError:
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH).total_seconds() / _DAY_S


def _named(cell: str) -> float | None:
    if (match := _NAMED.fullmatch(cell)) is None:
        return None
    day, name, year = (match[1], match[2], match[3]) if match[1] else (match[5], match[4], match[6])
    month = _MONTHS.get(name.lower()[:3])
    return None if month is None else _calendar(int(year), month, int(day), None)


def _calendar(year: int, month: int, day: int, clock: str | None) -> float | None:
    try:
        whole = (date(year, month, day) - _EPOCH.date()).days
    except ValueError:
        return None
    if clock is None:
        return float(whole)
    if (match := _CLOCK.fullmatch(clock.strip())) is None:
        return None
    hour, minute, second = int(match[1]), int(match[2]), float(match[3] or 0)
    if match[4]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match[4] in "Pp" else 0)
    if hour > 23 or minute > 59 or second >= 60:
        return None
    return whole + (hour * 3600 + minute * 60 + second) / _DAY_S
