"""Periods are those of RFC 3339 and STAC: a day is all of it, both ends belong to it, an end may be open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.archive.period import Period

MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@settings(deadline=None, max_examples=50)
@given(MOMENTS, MOMENTS)
def test_a_period_survives_its_text(a: datetime, b: datetime) -> None:
    for period in (Period(a, a), Period(min(a, b), max(a, b)), Period(None, a), Period(b, None)):
        assert Period.parse(str(period)) == period


@settings(deadline=None, max_examples=50)
@given(MOMENTS, MOMENTS, MOMENTS, MOMENTS)
def test_two_periods_meet_where_there_is_a_moment_in_both(a: datetime, b: datetime, c: datetime, d: datetime) -> None:
    one, other = Period(min(a, b), max(a, b)), Period(min(c, d), max(c, d))
    shared = max(one.start, other.start) <= min(one.end, other.end)  # type: ignore[type-var]
    assert one.meets(other) == other.meets(one) == shared
    assert one.meets(Period(None, one.start))
    assert not one.meets(Period(None, one.start - timedelta(microseconds=1)))  # type: ignore[operator]
    assert one.meets(Period(one.end, None))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2020", "2020-01-01T00:00:00Z/2020-12-31T23:59:59.999999Z"),
        ("2020-02", "2020-02-01T00:00:00Z/2020-02-29T23:59:59.999999Z"),
        ("2021-12", "2021-12-01T00:00:00Z/2021-12-31T23:59:59.999999Z"),
        ("2020-02-29", "2020-02-29T00:00:00Z/2020-02-29T23:59:59.999999Z"),
        ("2020-05-01T10:30:00+02:00", "2020-05-01T08:30:00Z"),
        ("2020-05-01t10:30:00.123456789z", "2020-05-01T10:30:00.123456Z"),
        ("2020-05-01 10:30", "2020-05-01T10:30:00Z"),
        ("2020-05/2020-06-02", "2020-05-01T00:00:00Z/2020-06-02T23:59:59.999999Z"),
        ("../2020", "../2020-12-31T23:59:59.999999Z"),
        ("2020/..", "2020-01-01T00:00:00Z/.."),
        ("/2020-01-01T00:00:00Z", "../2020-01-01T00:00:00Z"),
        ("9999", "9999-01-01T00:00:00Z/9999-12-31T23:59:59.999999Z"),
    ],
)
def test_texts_mean_what_people_mean(text: str, told: str) -> None:
    assert str(Period.parse(text)) == told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "../..",
        "/",
        "yesterday",
        "2020-13",
        "2020-02-30",
        "2021/2020",
        "2020/2021/2022",
        "20200101",
        "2020-1-1",
    ]
    + ["2020-01-01T25:00:00Z", "2020-W01", "0000", "2020-01-01T00:00:60Z", "9999-12-31T23:59:59-10:00", "２０２０"],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Period.parse(text)
