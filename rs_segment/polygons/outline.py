"""What does one strip of rows add to the polygons of a raster?

Everything that can be told without knowing the strips beside it: strips are outlined at the same time, and joined in
their order by ``polygonizer``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import NODATA, Labels, Mask
from .arcs import Arcs
from .chains import Ints
from .generalise import simplify, smooth
from .pieces import Pieces, Points
from .ruler import Ruler
from .trace import CODES, EAST_EDGE, NORTH, UP, WEST_EDGE, Strip

Floats = NDArray[np.float64]

# Up to here float32 has every whole number.
_WIDEST = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """What is known of some components, as columns.

    Args:
        class_id: int64 (n,), the label.
        first: int64 (n,), index of the first pixel among those of the raster.
        last: int64 (n,), the last row.
        pixels: int64 (n,), how many.
        area, perimeter: float64 (n,), of what is drawn, in m2 and m.
        score: int64 (n,), sum of the confidence of those pixels that have one.
        scored: int64 (n,), how many have one.
        worst: int64 (n,), the least of them; 255 where none has.
    """

    class_id: Ints
    first: Ints
    last: Ints
    pixels: Ints
    area: Floats
    perimeter: Floats
    score: Ints
    scored: Ints
    worst: Ints

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of_size(cls, count: int) -> Components:
        """Components of which nothing is known."""
        class_id, pixels, score, scored = (np.zeros(count, np.int64) for _ in range(4))
        area, perimeter = np.zeros(count), np.zeros(count)
        first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
        return cls(class_id, first, last, pixels, area, perimeter, score, scored, np.full(count, int(NODATA)))

    @classmethod
    def merged(cls, parts: Iterable[tuple[Components, Ints]], count: int) -> Components:
        """What is known of ``count`` components from their parts, each with the component that it is part of."""
        found = cls.of_size(count)
        for part, to in parts:
            found.class_id[to] = part.class_id
            np.minimum.at(found.first, to, part.first)
            np.maximum.at(found.last, to, part.last)
            np.minimum.at(found.worst, to, part.worst)
            for name in ("pixels", "area", "perimeter", "score", "scored"):
                np.add.at(getattr(found, name), to, getattr(part, name))
        return found

    def take(self, which: Mask | Ints) -> Components:
        """Some of the components."""
        return Components(*(getattr(self, column.name)[which] for column in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """What a strip adds.

    Args:
        found: Its components.
        pieces: The sides of their borders; ``owner`` is the component.
        rises: int64 (2, n), places among what crosses the strip's upper line, and the components that have a side
            which goes on there.
        leaves: int64 (2, m), the same of the lower line.
        under: How much crosses the lower line.
    """

    found: Components
    pieces: Pieces
    rises: Ints
    leaves: Ints
    under: int


class Outliner:
    """Outlines strips of a raster.

    Args:
        ruler: Knows the grid of the whole raster.
        width: Columns of the raster.
        split: Whether labels tell, in their last two bits, on which side of a cut a pixel lies.
        tolerance: Pixels, see ``generalise.simplify``; 0 keeps every corner.
        reach: Pixels, see ``generalise.smooth``; 0 keeps the steps of pixels.
    """

    def __init__(self, ruler: Ruler, shape: tuple[int, int], split: bool, tolerance: float, reach: float) -> None:
        self._ruler, self._width, self._split = ruler, shape[1], split
        self._simplify, self._smooth = tolerance, reach
        self._exact = not (tolerance or reach)
        self._points: Any = np.complex64 if self._exact and max(shape) < _WIDEST else np.complex128

    def outline(self, labels: NDArray[Any], outside: int, confidence: Labels | None, top: int) -> Outline:
        """What some rows add.

        Args:
            labels, outside: As ``Strip`` takes them.
            confidence: uint8, as large as the labels.
            top: Row of the raster that the second row of the labels is.
        """
        strip = Strip(labels, outside)
        start, points = self._drawn(strip, top)
        found = self._measured(strip, top, start, points)
        if confidence is not None:
            # The first row is above the strip, where it was counted.
            values = confidence.copy()
            values[0] = NODATA
            _score(strip, found, values.ravel())
        sides = strip.sides
        rises = np.flatnonzero(sides.leaves == UP)
        leaves = np.flatnonzero((sides.node >= strip.lower) & (sides.leaves == NORTH))
        return Outline(
            found,
            self._pieces(strip, top, start, points),
            np.stack([np.searchsorted(strip.crossing, sides.node[rises]), strip.component[rises]]),
            np.stack([sides.node[leaves] - strip.lower, strip.component[leaves]]),
            len(strip.place) - strip.lower,
        )

    def _drawn(self, strip: Strip, top: int) -> tuple[Ints, Points]:
        """(where each arc begins, its vertices as they are drawn: col + row j)."""
        arcs = _points(strip.col, top + strip.line, self._points)[strip.path]
        if self._exact:
            return strip.start, arcs
        drawn = Arcs(arcs.view(np.float64).reshape(-1, 2), strip.start, strip.loop)
        if self._simplify:
            drawn = simplify(drawn, self._simplify)
        if self._smooth:
            drawn = smooth(drawn, self._smooth)
        return drawn.start, np.ascontiguousarray(drawn.xy).view(np.complex128).ravel()

    def _measured(self, strip: Strip, top: int, start: Ints, points: Points) -> Components:
        """The strip's components; ``start`` and ``points`` are as ``_drawn`` gives them."""
        sides, count, component = strip.sides, strip.count, strip.component
        traced = np.flatnonzero(sides.arc >= 0)
        arc, own = sides.arc[traced], component[traced]
        x, y = points.real.astype(np.float64), points.imag.astype(np.float64)
        found = Components.of_size(count)
        found.class_id[component] = strip.side_label // 4 if self._split else strip.side_label
        found.pixels[:] = _sums(component, strip.side_area, count)
        along = np.where(sides.forward[traced], 1, -1)
        if self._ruler.cell is not None and self._exact:
            areas = self._ruler.cell * strip.area
        else:
            areas = _by_arc(self._ruler.under(x, y, top), start)
        found.area[:] = _sums(own, along * areas[arc], count)
        found.perimeter[:] = _sums(own, _by_arc(self._ruler.steps(x, y), start)[arc], count)
        falls = np.flatnonzero(sides.end >= strip.lower)
        bottom = np.full(2, float(top + strip.height))
        under = self._ruler.under(np.arange(2.0), bottom, top)[0] if len(falls) else 0.0
        wide = strip.col[sides.end[falls] + 1] - strip.col[sides.end[falls]]
        found.area[:] += _sums(component[falls], wide * under, count)

        begin = np.flatnonzero(strip.first_node < len(strip.place))
        node = strip.first_node[begin]
        found.first[begin] = (top + strip.line[node]) * self._width + strip.col[node]
        np.maximum.at(found.last, own, top + strip.line[strip.greatest[arc]] - 1)
        return found

    def _pieces(self, strip: Strip, top: int, start: Ints, xy: Points) -> Pieces:
        """The sides of the strip's borders."""
        sides, width = strip.sides, self._width + 1
        cut = strip.crossing
        vertex = (top + strip.line) * width + strip.col
        straight = (strip.edges[cut] & (EAST_EDGE | WEST_EDGE)) == 0
        if not self._exact:
            straight[:] = False
        passed = np.zeros(len(strip.place), bool)
        passed[cut[straight]] = True
        passed[strip.lower :] = True

        arc, size = sides.arc, np.diff(start)
        rows = xy.imag * np.float64(width) + xy.real
        lowest = np.minimum.reduceat(rows, start[:-1])
        hits = np.flatnonzero(rows == np.repeat(lowest, size))[::-1]
        at_arc = np.searchsorted(start, hits, side="right") - 1
        place = np.empty(len(size), np.int64)
        place[at_arc] = hits - start[at_arc]

        step = np.where(sides.forward, 1, -1)
        count = size[arc] - 1
        begin = np.where(sides.forward, start[arc], start[arc] + count)
        closed = (sides.node == sides.end) & ~sides.forward
        at = np.where(sides.forward, place[arc], count - place[arc])
        at[closed] %= count[closed]
        low = lowest[arc]
        skips = passed[sides.node]
        begin, count, at = begin + skips * step, count - skips, at - skips

        stubs = np.flatnonzero(arc < 0)
        rises = sides.leaves[stubs] == UP
        node = sides.node[stubs]
        begin[stubs] = len(xy) + np.searchsorted(cut, node)
        count[stubs], step[stubs], at[stubs] = rises & ~passed[node], 1, 0
        low[stubs] = vertex[node]
        meeting = np.where(strip.meets(), vertex[sides.end], -1)
        points = np.concatenate([xy, _points(strip.col[cut], top + strip.line[cut], self._points)])
        names = CODES * vertex[sides.node] + sides.leaves
        follow = CODES * vertex[sides.end] + strip.ways
        return Pieces(strip.component, names, follow, meeting, begin, count, step, low, at, points)


def _points(col: Ints, row: Ints, kind: Any) -> Points:
    """col + row j."""
    points = np.empty(len(col), kind)
    points.real, points.imag = col, row
    return points


def _score(strip: Strip, found: Components, values: Labels) -> None:
    """Add the confidence of the strip's pixels."""
    begin, part = strip.runs()
    inside = part >= 0
    own = part[inside]
    some = values != NODATA
    for column, rows in ((found.score, np.where(some, values, 0)), (found.scored, some)):
        column += _sums(own, np.add.reduceat(rows, begin, dtype=np.int64)[inside], len(column))
    np.minimum.at(found.worst, own, np.minimum.reduceat(values, begin)[inside])


def _sums(group: Ints, values: NDArray[Any], count: int) -> NDArray[Any]:
    """The sum of the values of each of ``count`` groups; sums of integers are exact below 2**53."""
    return np.bincount(group, values, minlength=count).astype(values.dtype, copy=False)


def _by_arc(steps: Floats, start: Ints) -> Floats:
    """The sum over each arc of something that is known from vertex to vertex."""
    if len(start) < 2:
        return np.zeros(0)
    # A step from the last vertex of an arc to the first of the next one is none.
    steps = np.append(steps, 0.0)
    steps[start[1:] - 1] = 0
    return np.asarray(np.add.reduceat(steps, start[:-1]))
