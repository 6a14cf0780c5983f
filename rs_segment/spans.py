"""Which pixels have their centres in which polygons?

Polygons become spans of pixels in rows: edges are crossed with the lines through the centres of rows, and between the
first and the second crossing, the third and the fourth, lies the polygon. A centre on an edge belongs to one side
alone, whatever the edge's direction: polygons that share edges share no pixel, and leave none out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Pixels side by side, n times.

    Args:
        owner: int64 (n,), the polygon that holds them, ascending.
        row: int64 (n,), of the grid.
        start: int64 (n,), first column of the grid.
        stop: int64 (n,), the column after the last.
    """

    owner: NDArray[np.int64]
    row: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def pixels(self) -> NDArray[np.int64]:
        """int64 (n,), pixels of each span."""
        return self.stop - self.start

    def chunks(self, pixels: int) -> Iterator[Spans]:
        """The same in parts of about so many pixels, in their order."""
        total = np.cumsum(self.pixels)
        cuts = np.searchsorted(total, np.arange(pixels, total[-1] if len(total) else 0, pixels), side="right")
        for part in np.split(np.arange(len(self)), np.unique(cuts)):
            if len(part):
                yield Spans(self.owner[part], self.row[part], self.start[part], self.stop[part])

    def places(self, window: Window) -> NDArray[np.int64]:
        """Of each pixel of all spans, its index in the raveled array of a window that holds them."""
        lengths = self.pixels
        first = (self.row - window.row_off) * window.width + self.start - window.col_off
        before = np.cumsum(lengths) - lengths
        return np.repeat(first - before, lengths) + np.arange(int(lengths.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """The edges of polygons on a grid, but for those that lie between two lines through centres.

    Args:
        owner: int64 (n,), the polygon.
        upper: float64 (n, 2), the end with the smaller row: x = column, y = row.
        lower: float64 (n, 2), the other end.
    """

    owner: NDArray[np.int64]
    upper: NDArray[np.float64]
    lower: NDArray[np.float64]

    @classmethod
    def of(cls, shapes: NDArray[np.object_]) -> Edges:
        """The edges of valid (multi)polygons; owners are their indexes."""
        parts, whole = shapely.get_parts(shapes, return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        joined = np.flatnonzero(ring[1:] == ring[:-1])
        begin, end = points[joined], points[joined + 1]
        # Neighbours have an edge in both directions, and must find the same crossings.
        down = (begin[:, 1] < end[:, 1])[:, None]
        upper, lower = np.where(down, begin, end), np.where(down, end, begin)
        crosses = _line(upper[:, 1]) < _line(lower[:, 1])
        return cls(whole[part[ring[joined]]][crosses], upper[crosses], lower[crosses])

    def touches(self, window: Window) -> bool:
        """Whether any edge crosses a row of a window."""
        return bool(self._crossings(window)[1].any())

    def spans(self, window: Window) -> Spans:
        """The pixels of a window in each polygon."""
        first, count = self._crossings(window)
        edge = np.repeat(np.arange(len(count)), count)
        row = (first - (np.cumsum(count) - count))[edge] + np.arange(len(edge))
        (x, y), (to_x, to_y) = self.upper[edge].T, self.lower[edge].T
        met = (row + 0.5 - y) * (to_x - x) / (to_y - y) + x
        left, right = window.col_off, window.col_off + window.width
        col = np.clip(_line(met), left, right).astype(np.int64)
        # One number for owner, row and column is sorted several times as fast as three.
        wide, tall = window.width + 1, window.height
        key = np.sort((self.owner[edge] * tall + row - window.row_off) * wide + col - left)
        start, stop = key[0::2], key[1::2]
        start, stop = start[start < stop], stop[start < stop]
        line = start // wide
        return Spans(line // tall, line % tall + window.row_off, start % wide + left, stop % wide + left)

    def _crossings(self, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(first row of a window that each edge crosses, how many it crosses)."""
        top, bottom = window.row_off, window.row_off + window.height
        first = np.clip(_line(self.upper[:, 1]), top, bottom).astype(np.int64)
        return first, np.clip(_line(self.lower[:, 1]), top, bottom).astype(np.int64) - first


def _line(where: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first row or column whose centre is not before a place."""
    return np.ceil(where - 0.5)
