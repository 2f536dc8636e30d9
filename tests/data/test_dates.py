"""Dates as people write them, against the calendar of the standard library."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from layerwise.data.dates import date_features, kinds_of, like_dates, to_days

FORMATS = {
    "iso": ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"),
    "day_first": ("%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y %H:%M", "%d/%m/%Y %I:%M %p"),
    "month_first": ("%m/%d/%Y", "%m-%d-%Y", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S"),
    "month_name": ("%d %b %Y", "%d-%b-%Y", "%B %d, %Y", "%d %B %Y"),
}


@pytest.mark.parametrize(("kind", "pattern"), [(kind, pattern) for kind, all_ in FORMATS.items() for pattern in all_])
def test_a_moment_written_and_read_is_the_same_moment(kind: str, pattern: str) -> None:
    chance = random.Random(pattern)
    for _ in range(200):
        moment = datetime(1900, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(200 * 365 * 86_400))
        text = moment.strftime(pattern)
        exact = datetime.strptime(text, pattern).replace(tzinfo=UTC)
        days = to_days([text], [], kind)
        assert days is not None, text
        assert days[0] == pytest.approx(exact.timestamp() / 86_400, abs=1e-9), text


def test_days_by_hand_and_missing_cells() -> None:
    days = to_days(["1970-01-01", "2000/03/01", "1969-12-31T12:00", "NA", "2024-02-29 06:00"], ["NA"])
    assert days is not None
    assert days[[0, 1, 2, 4]].tolist() == [0.0, 11017.0, -0.5, 19782.25]
    assert np.isnan(days[3])


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("2024-02-30", "iso"), ("31/04/2024", "day_first"), ("13/13/2024", "day_first"), ("31/01/24", "day_first"),
        ("1.31.2024", "month_first"), ("31 Foo 2024", "month_name"), ("01/01/2024 25:00", "day_first"),
        ("01/01/2024 13:00 PM", "day_first"), ("x", "seconds"), ("inf", "seconds"),
    ],
)  # fmt: skip
def test_what_is_no_date_is_none(cell: str, kind: str) -> None:
    assert to_days([cell], [], kind) is None


def test_two_orders_remain_only_where_no_day_is_over_twelve() -> None:
    assert kinds_of(["01/02/2024", "12/11/2024", "?"], ["?"]) == ["day_first", "month_first"]
    assert kinds_of(["01/02/2024", "13/02/2024"], []) == ["day_first"]
    assert kinds_of(["01/02/2024", "02/13/2024"], []) == ["month_first"]
    assert kinds_of(["13/02/2024", "02/13/2024"], []) == []
    assert kinds_of(["?"], ["?"]) == []


def test_features_turn_with_week_and_year() -> None:
    weeks = date_features(np.array([4.0, 11.0, 8.0]))  # two Mondays and a Friday
    assert weeks[0, 3:].tolist() == pytest.approx(weeks[1, 3:].tolist(), abs=1e-9)
    assert weeks[0, 3:].tolist() == pytest.approx([0.0, 1.0], abs=1e-9)
    assert weeks[2, 3] == pytest.approx(np.sin(2 * np.pi * 4 / 7), abs=1e-9)
    years = date_features(np.array([0.0, 365.2425]))
    assert years[0, 1:3].tolist() == pytest.approx(years[1, 1:3].tolist(), abs=1e-9)


def test_numbers_that_could_be_dates() -> None:
    assert like_dates(np.array([20240131.0, 19991231.0, np.nan]))
    assert like_dates(np.array([1.7e9, 1.2e9]))
    assert not like_dates(np.array([20241331.0, 20240131.0]))  # no month 13
    assert not like_dates(np.array([1.0, 2.0, 3.0]))
    assert not like_dates(np.array([1.7e9 + 0.5]))
