"""When was it? Times and intervals of RFC 3339, as STAC has them."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time with both its ends; None is open."""

    start: datetime | None
    end: datetime | None

    @classmethod
    def parse(cls, text: str) -> Period:
        """The period that a text means.

        A date means all of its day, a month or a year all of it; "a/b" is from the beginning of a to the end of b, and
        ``..`` or nothing leaves an end open. A time without a zone is UTC.

        Raises:
            ValueError: It is none of these, ends before it starts, or is open at both ends.
        """
        parts = text.strip().split("/")
        if len(parts) > 2:
            raise ValueError(f"{text!r:.60} has more than two ends")
        try:
            ends = [None if part.strip() in ("", "..") else _span(part.strip()) for part in (parts[0], parts[-1])]
        except OverflowError:
            raise ValueError(f"{text!r:.60} lies outside the years 1 to 9999") from None
        start, end = ends[0] and ends[0][0], ends[1] and ends[1][1]
        if start is None and end is None:
            raise ValueError(f"{text!r:.60} is open at both ends")
        if start is not None and end is not None and start > end:
            raise ValueError(f"{text!r:.60} ends before it starts")
        return cls(start, end)

    def meets(self, other: Period) -> bool:
        """Whether there is a moment in both."""
        after = self.end is not None and other.start is not None and self.end < other.start
        before = self.start is not None and other.end is not None and other.end < self.start
        return not (after or before)

    def __str__(self) -> str:
        if self.start == self.end:
            return _told(self.start)
        return f"{_told(self.start)}/{_told(self.end)}"


def _span(text: str) -> tuple[datetime, datetime]:
    """(first, last) moment of a year, month, day, or the moment twice."""
    if _TIME.fullmatch(text):
        moment = datetime.fromisoformat(text.upper())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return moment, moment
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text!r:.60} is no time of RFC 3339, such as 2020-05-01 or 2020-05-01T10:30:00Z")
    year, month, day = (*map(int, text.split("-")), 0, 0)[:3]
    last_month = month or 12
    last_day = day or calendar.monthrange(year, last_month)[1]
    last = datetime(year, last_month, last_day, 23, 59, 59, 999_999, tzinfo=UTC)
    return datetime(year, month or 1, day or 1, tzinfo=UTC), last


def _told(moment: datetime | None) -> str:
    if moment is None:
        return ".."
    return moment.replace(tzinfo=None).isoformat() + "Z"
