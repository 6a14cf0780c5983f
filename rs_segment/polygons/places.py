"""How many corners of pixels of a set lie in a triangle?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ragged import ragged

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_AT_ONCE = 1 << 20
# Where a side meets a line of corners is a quotient of whole numbers, or some way along an edge: either it is a whole
# number but for rounding, or it is much farther from one than this.
_SLACK = 1e-9
_ONES = np.array([bits.bit_count() for bits in range(1 << 16)], np.uint8)


class Places:
    """A set of corners of pixels.

    Memory is about two bytes for each pixel of the box around them, and less than one once it is made.

    Args:
        x: int64 (n,), columns, at least one; the same corner may come more than once.
        y: int64 (n,), rows.
    """

    def __init__(self, x: Ints, y: Ints) -> None:
        self._left, self._top = int(x.min()), int(y.min())
        x, y = x - self._left, y - self._top
        self._width, self._height = int(x.max()) + 1, int(y.max()) + 1
        size = self._width * self._height
        # The box is kept row by row, and then column by column.
        there = np.zeros((2 * size // 16 + 1) * 16, bool)
        there[y * self._width + x] = True
        there[size + x * self._height + y] = True
        self._words = np.packbits(there, bitorder="little").view("<u2")
        ones = _ONES[self._words]
        self._before = np.cumsum(ones, dtype=np.int32) - ones

    def count(self, x: NDArray[Any], y: NDArray[Any]) -> Ints:
        """int64 (n,), how many lie in each triangle or on its border.

        Args:
            x: int64 or float64 (3, n), columns of the corners of triangles, within the box around the set; the three do
                not lie on one line.
            y: (3, n), rows.
        """
        x, y = x - self._left, y - self._top
        # Triangles are cut into lines of corners in the direction in which these are fewer.
        turned = np.ptp(y, axis=0) > np.ptp(x, axis=0)
        x, y = np.where(turned, y, x), np.where(turned, x, y)
        order = np.argsort(y, axis=0)
        x, y = np.take_along_axis(x, order, axis=0), np.take_along_axis(y, order, axis=0)
        first = np.ceil(y[0] - _SLACK).astype(np.int64)
        lines = np.floor(y[2] + _SLACK).astype(np.int64) + 1 - first
        step = np.where(turned, self._height, self._width)
        origin = np.where(turned, self._width * self._height, 0) + first * step
        found = np.zeros(len(lines), np.int64)
        for part in portions(lines):
            each = np.repeat(np.arange(part.start, part.stop), lines[part])
            left, right = _span(x[:, each], y[:, each], ragged(first[part], lines[part]))
            start = ragged(origin[part], lines[part], step[part])
            inside = self._rank(start + right + 1) - self._rank(start + left)
            # Between two corners of pixels there may be nothing of a narrow triangle.
            inside[right < left] = 0
            found[part] = np.bincount(each - part.start, inside, part.stop - part.start)
        return found

    def _rank(self, index: Ints) -> Ints:
        """How many lie before each place of the box."""
        word = index >> 4
        ones: Ints = self._before[word] + _ONES[self._words[word] & ((1 << (index & 15)) - 1)]
        return ones


def _span(x: Floats, y: Floats, line: Ints) -> tuple[Ints, Ints]:
    """(first, last) whole number along a line in each triangle, whose corners (3, n) come in the order of lines."""
    at = np.clip(line, y[0], y[2])
    low = (at >= y[1]) & (y[2] > y[1])
    x0, y0 = np.where(low, x[1], x[0]), np.where(low, y[1], y[0])
    x1, y1 = np.where(low, x[2], x[1]), np.where(low, y[2], y[1])
    long = x[0] + (x[2] - x[0]) * (at - y[0]) / (y[2] - y[0])
    short = x0 + (x1 - x0) * (at - y0) / np.where(y1 > y0, y1 - y0, 1)
    left = np.ceil(np.minimum(long, short) - _SLACK).astype(np.int64)
    right = np.floor(np.maximum(long, short) + _SLACK).astype(np.int64)
    return left, right


def portions(counts: Ints) -> Iterator[slice]:
    """Slices of owners that have so many things each; about a million things fall into a slice."""
    total = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = total[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + _AT_ONCE, "right")))
        yield slice(begin, end)
        begin = end
