"""Which polygons does a class raster hold?

``Polygonizer`` reads a raster of labels from top to bottom and hands out each polygon as soon as its last row is known.
A polygon is one 4-connected component of one class; the result is that of a single pass over the whole raster.

It works on strips of rows. ``trace`` finds the borders in a strip and what lies on each side of them, this module joins
components across strips, ``pieces`` keeps the borders of those that go on and makes rings of those that have ended.
Each border is traced once for both its sides, and where three classes meet all polygons get the vertex, also the one
that passes straight: together they are a valid coverage. What ``generalise`` does to a border it does for both sides.

Memory is that of a strip and, for components that reach the last row read, some 100 bytes for each border in a strip
and 16 for each vertex: it grows with the outline of the largest polygons, not with the raster.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GridError, PixelTypeError
from ..geobox import GeoBox
from ..types import NODATA, PROBABILITY_STEPS, Labels, Mask
from .arcs import Arcs
from .chains import Ints
from .generalise import simplify, smooth
from .pieces import Pieces, Points, Shelf, polygons
from .ruler import Ruler
from .trace import CODES, EAST_EDGE, NORTH, UP, WEST_EDGE, Strip
from .unionfind import components

Floats = NDArray[np.float64]

_BLOCK_PIXELS = 1 << 23
_STRIP_PIXELS = 1 << 21
_MANY_BORDERS = 1 << 17
_SAMPLE = 8
_THREADS = 2
_FAR = 1 << 60
_WIDER = {1: np.int16, 2: np.int32, 4: np.int64, 8: np.int64}


@dataclass(frozen=True, slots=True, eq=False)
class PolygonBatch:
    """Some polygons of a class raster, as columns of equal length.

    Args:
        class_id: int64 (n,), the label.
        geometry: object (n,), shapely polygons in CRS coordinates; exteriors run counter-clockwise in the plane of
            x and y whatever the orientation of the raster, holes clockwise.
        pixels: int64 (n,), number of pixels of the raster, also where borders are generalised.
        area_m2: float64 (n,), area on the ground of what is drawn, by ``GeoBox.row_areas``; NaN without a CRS.
        perimeter_m: float64 (n,), length of all rings on the ground; NaN without a CRS.
        confidence: float64 (n,), mean over those pixels that have one, 0 to 1; NaN where none has.
        confidence_min: float64 (n,), the least of them.
    """

    class_id: Ints
    geometry: NDArray[np.object_]
    pixels: Ints
    area_m2: Floats
    perimeter_m: Floats
    confidence: Floats
    confidence_min: Floats

    def __len__(self) -> int:
        return len(self.class_id)

    @classmethod
    def join(cls, batches: Iterable[PolygonBatch]) -> PolygonBatch:
        """All polygons of the batches in one, in their order."""
        parts = list(batches) or [_no_polygons()]
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))

    def take(self, which: Mask | Ints) -> PolygonBatch:
        """Some of the polygons."""
        return PolygonBatch(*(getattr(self, column.name)[which] for column in fields(self)))


class Polygonizer:
    """Turns the rows of a class raster into polygons while they arrive.

    Polygons come in the order of their last row, and among those of one last row in the order of their first pixel; the
    order, like the polygons, does not depend on the heights of the bands that are fed.

    Args:
        geobox: The grid of the whole raster.
        skip: Labels that give no polygons.
        split: Pixels; polygons are cut where a column or a row is a multiple of this, so that a class which spans the
            scene does not become one polygon that is held until the last row. None cuts nothing.
        simplify: Pixels, see ``generalise.simplify``; 0 keeps every corner.
        smooth: Pixels, see ``generalise.smooth``; 0 keeps the steps of pixels.
        block: Pixels that are worked on at a time, in strips; more take more memory. Exact polygons do not depend on
            it; borders that are generalised keep a vertex where they cross from one strip to the next.
    """

    def __init__(
        self,
        geobox: GeoBox,
        skip: Collection[int] = frozenset({NODATA}),
        *,
        split: int | None = None,
        simplify: float = 0.0,
        smooth: float = 0.0,
        block: int = _BLOCK_PIXELS,
    ) -> None:
        self._geobox, self._ruler = geobox, Ruler(geobox)
        self._skip, self._split = frozenset(skip), split
        self._simplify, self._smooth = simplify, smooth
        height, width = geobox.shape
        self._rows = max(1, min(block // max(width, 1), height))
        self._filled = self._top = 0
        self._labels: NDArray[Any] = np.empty((0, 0), np.uint8)
        self._dtype: np.dtype[Any] | None = None
        self._outside = NODATA
        self._confidence: Labels | None = None
        self._open = _Components.of_size(0)
        self._above = np.empty(0, np.int64)
        self._shelf = Shelf()

    def feed(self, labels: NDArray[Any], confidence: Labels | None = None, valid: Mask | None = None) -> PolygonBatch:
        """The polygons that are known to be complete after some more rows.

        Args:
            labels: (row, col), the next rows of the raster, any number of them; any integer type, always the same.
            confidence: uint8 (row, col), 0 to 254 in steps of 1/254; 255 where there is none.
            valid: bool (row, col), False where there is no polygon whatever the label; None is True everywhere.

        Raises:
            GridError: The rows are not as wide as the raster, or more than it has.
            PixelTypeError: The labels are no integers, of another type than before or farther from 0 than 2**60; or the
                confidence is not uint8.
        """
        self._check(labels, confidence, valid)
        batches, start = [], 0
        while start < len(labels):
            count = min(self._rows - self._filled, len(labels) - start)
            part = slice(start, start + count)
            self._take(
                labels[part],
                None if confidence is None else confidence[part],
                None if valid is None else valid[part],
            )
            start += count
            if self._filled == self._rows:
                batches.append(self._work(self._filled))
        return PolygonBatch.join(batches)

    def finish(self) -> PolygonBatch:
        """The polygons that are left once all rows are fed.

        Raises:
            GridError: Rows are missing.
        """
        height = self._geobox.shape[0]
        if self._top + self._filled != height:
            raise GridError(f"only {self._top + self._filled} of {height} rows were fed; the polygons are not complete")
        if not self._labels.size:
            return _no_polygons()
        # One more row, outside, closes everything.
        self._labels[self._filled + 1] = self._outside
        if self._confidence is not None:
            self._confidence[self._filled + 1] = NODATA
        return self._work(self._filled + 1)

    def _check(self, labels: NDArray[Any], confidence: Labels | None, valid: Mask | None) -> None:
        height, width = self._geobox.shape
        if labels.dtype.kind not in "iu":
            raise PixelTypeError(f"labels are {labels.dtype}, but polygons are made of integers; convert them first")
        if labels.dtype.itemsize == 8 and labels.size and max(abs(int(labels.min())), abs(int(labels.max()))) > _FAR:
            raise PixelTypeError(
                f"labels are between {labels.min()} and {labels.max()}, but no farther than {_FAR} from 0 is possible"
            )
        if self._dtype is not None and labels.dtype != self._dtype:
            raise PixelTypeError(f"labels are {labels.dtype}, but those above were {self._dtype}")
        if confidence is not None and confidence.dtype != np.uint8:
            raise PixelTypeError(f"confidence is {confidence.dtype}, but has to be uint8")
        if valid is not None and valid.dtype != np.bool_:
            raise PixelTypeError(f"valid is {valid.dtype}, but has to be bool")
        if labels.ndim != 2 or labels.shape[1] != width or self._top + self._filled + len(labels) > height:
            raise GridError(
                f"labels of shape {labels.shape} do not fit under row {self._top + self._filled} of a raster of "
                f"{height} rows and {width} columns"
            )
        for name, rows in (("confidence", confidence), ("valid", valid)):
            if rows is not None and rows.shape != labels.shape:
                raise GridError(f"{name} of shape {rows.shape} does not fit labels of shape {labels.shape}")

    def _prepare(self, dtype: np.dtype[Any]) -> None:
        """Make room for a strip, in a type that has a value to spare for what is outside."""
        self._dtype = dtype
        kind: Any = np.uint8
        if dtype != np.uint8 or NODATA not in self._skip or self._split:
            kind = np.int64 if self._split else _WIDER[dtype.itemsize]
            self._outside = int(np.iinfo(kind).min)
        # One row above holds what the previous strip ended with, one below what closes the raster; a column on each
        # side spares every look at a neighbour the question whether it leaves the raster.
        self._labels = np.full((self._rows + 2, self._geobox.shape[1] + 2), self._outside, kind)

    def _take(self, labels: Any, confidence: Labels | None, valid: Mask | None) -> None:
        """Put rows into the strip."""
        if self._dtype is None:
            self._prepare(labels.dtype)
        rows = slice(self._filled + 1, self._filled + 1 + len(labels))
        room = self._labels[rows, 1:-1]
        room[:] = labels
        if self._split:
            first = self._top + self._filled
            row = np.arange(first, first + len(labels)) // self._split % 2
            col = np.arange(labels.shape[1]) // self._split % 2
            room *= 4
            room += 2 * row[:, None] + col
        info = np.iinfo(labels.dtype)
        skip = [value for value in self._skip if info.min <= value <= info.max and value != self._outside]
        if skip:
            room[np.isin(labels, skip)] = self._outside
        if valid is not None:
            room[~valid] = self._outside
        if confidence is not None and self._confidence is None:
            self._confidence = np.full(self._labels.shape, NODATA, np.uint8)
        if self._confidence is not None:
            self._confidence[rows, 1:-1] = NODATA if confidence is None else confidence
        self._filled += len(labels)

    def _work(self, rows: int) -> PolygonBatch:
        """The polygons that end above the last of the rows that wait.

        Only what joins components across strips has to be done in order; strips are traced before, and polygons made
        after it, by threads of their own.
        """
        cuts = self._cuts(rows)
        with ThreadPoolExecutor(_THREADS) as pool:
            made = [pool.submit(self._finished, *self._join(*found)) for found in self._traced(pool, cuts)]
            batches = [future.result() for future in made]
        self._labels[0] = self._labels[rows]
        self._filled = 0
        return PolygonBatch.join(batches)

    def _cuts(self, rows: int) -> list[slice]:
        """The rows that wait in strips that are neither too large nor too full of borders."""
        some = self._labels[1 : rows + 1 : _SAMPLE]
        borders = np.count_nonzero(some[:, 1:] != some[:, :-1]) * rows / len(some)
        count = max(1, min(rows, math.ceil(max(borders / _MANY_BORDERS, rows * some.shape[1] / _STRIP_PIXELS))))
        return [slice(*cut) for cut in pairwise(rows * part // count for part in range(count + 1))]

    def _traced(self, pool: ThreadPoolExecutor, cuts: list[slice]) -> Iterator[tuple[slice, Strip, Ints, Points]]:
        """Rows, their strip, and its borders as they are drawn; no more is done ahead than there are threads."""
        waiting: deque[Future[tuple[slice, Strip, Ints, Points]]] = deque()
        top = self._top
        for number in range(len(cuts)):
            for rows in cuts[number + len(waiting) : number + _THREADS]:
                waiting.append(pool.submit(self._trace, rows, top))
            yield waiting.popleft().result()

    def _trace(self, rows: slice, top: int) -> tuple[slice, Strip, Ints, Points]:
        strip = Strip(self._labels[rows.start : rows.stop + 1], self._outside)
        return rows, strip, *self._drawn(strip, top + rows.start)

    def _join(self, rows: slice, strip: Strip, start: Ints, xy: Points) -> tuple[_Components, Mask, Pieces]:
        """(components, which of them end above the last row of a strip, the pieces of these); others are kept."""
        before = len(self._open)
        rises = strip.sides.leaves == UP
        slot = self._above[np.searchsorted(strip.crossing, strip.sides.node[rises])]
        joint, count = components(before + strip.count, slot, before + strip.component[rises])
        old, self._joint = joint[:before], joint[before:]
        owner = self._joint[strip.component]
        found = self._measure(strip, old, owner, count, start, xy)
        if self._confidence is not None:
            # The first row is above the strip, where it was counted.
            scores = self._confidence[rows.start : rows.stop + 1].copy()
            scores[0] = NODATA
            self._score(strip, found, scores.ravel(), old)

        leaving = (strip.sides.node >= strip.lower) & (strip.sides.leaves == NORTH)
        ended = np.ones(count, bool)
        ended[owner[leaving]] = False
        number = np.cumsum(~ended) - 1
        pieces = self._pieces(strip, owner, start, xy)
        over = ended[owner]
        done = Pieces.join([pieces.take(over), *self._shelf.sort_out(old, ended, number)])
        self._shelf.put(pieces.take(~over), number)

        self._above = np.full(len(strip.place) - strip.lower, -1, np.int64)
        self._above[strip.sides.node[leaving] - strip.lower] = number[owner[leaving]]
        self._open = found.take(~ended)
        self._top += strip.height
        return found, ended, done

    def _drawn(self, strip: Strip, top: int) -> tuple[Ints, Points]:
        """(where each arc begins, its vertices as they are drawn: col + row j)."""
        points = strip.col + (strip.line + float(top)) * 1j
        arcs = points[strip.path]
        if not (self._simplify or self._smooth):
            return strip.start, arcs
        drawn = Arcs(arcs.view(np.float64).reshape(-1, 2), strip.start, strip.loop)
        if self._simplify:
            drawn = simplify(drawn, self._simplify)
        if self._smooth:
            drawn = smooth(drawn, self._smooth)
        return drawn.start, np.ascontiguousarray(drawn.xy).view(np.complex128).ravel()

    def _measure(self, strip: Strip, old: Ints, owner: Ints, count: int, start: Ints, xy: Points) -> _Components:
        """What is known of each component: what was known before, and what the strip adds.

        Args:
            strip: The strip.
            old: The component of each one that was open before.
            owner: The component of each side.
            count: How many components there are now.
            start, xy: As ``_drawn`` gives them.
        """
        sides, known = strip.sides, self._open
        traced = np.flatnonzero(sides.arc >= 0)
        arc, own = sides.arc[traced], owner[traced]
        found = _Components.of_size(count)
        found.class_id[owner] = strip.side_label // 4 if self._split else strip.side_label
        found.pixels[:] = _sums(owner, strip.side_area, count)
        along = np.where(sides.forward[traced], 1, -1)
        if self._ruler.cell is not None and start is strip.start:
            areas = self._ruler.cell * strip.area
        else:
            areas = _by_arc(self._ruler.under(xy.real, xy.imag, self._top), start)
        found.area[:] = _sums(own, along * areas[arc], count)
        found.perimeter[:] = _sums(own, _by_arc(self._ruler.steps(xy.real, xy.imag), start)[arc], count)
        falls = np.flatnonzero(sides.end >= strip.lower)
        bottom = np.full(2, float(self._top + strip.height))
        under = self._ruler.under(np.arange(2.0), bottom, self._top)[0] if len(falls) else 0.0
        wide = strip.col[sides.end[falls] + 1] - strip.col[sides.end[falls]]
        found.area[:] += _sums(owner[falls], wide * under, count)

        begin = np.flatnonzero(strip.first_node < len(strip.place))
        node = strip.first_node[begin]
        width = self._geobox.shape[1]
        np.minimum.at(found.first, self._joint[begin], (self._top + strip.line[node]) * width + strip.col[node])
        np.minimum.at(found.first, old, known.first)
        np.maximum.at(found.last, own, self._top + strip.line[strip.greatest[arc]] - 1)
        for name in ("pixels", "area", "perimeter"):
            np.add.at(getattr(found, name), old, getattr(known, name))
        return found

    def _score(self, strip: Strip, found: _Components, values: Labels, old: Ints) -> None:
        """Add the confidence of the strip's pixels, and what was known before."""
        begin, part = strip.runs()
        inside = part >= 0
        own = self._joint[part[inside]]
        some = values != NODATA
        for column, rows in ((found.score, np.where(some, values, 0)), (found.scored, some)):
            column += _sums(own, np.add.reduceat(rows, begin, dtype=np.int64)[inside], len(column))
        np.minimum.at(found.worst, own, np.minimum.reduceat(values, begin)[inside])
        for name in ("score", "scored"):
            np.add.at(getattr(found, name), old, getattr(self._open, name))
        np.minimum.at(found.worst, old, self._open.worst)

    def _pieces(self, strip: Strip, owner: Ints, start: Ints, xy: Points) -> Pieces:
        """The sides of the strip's borders, each with its component."""
        sides, width = strip.sides, self._geobox.shape[1] + 1
        cut = strip.crossing
        vertex = (self._top + strip.line) * width + strip.col
        straight = (strip.edges[cut] & (EAST_EDGE | WEST_EDGE)) == 0
        if self._simplify or self._smooth:
            straight[:] = False
        passed = np.zeros(len(strip.place), bool)
        passed[cut[straight]] = True
        passed[strip.lower :] = True

        arc, size = sides.arc, np.diff(start)
        rows = xy.imag * width + xy.real
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
        points = np.concatenate([xy, strip.col[cut] + (strip.line[cut] + float(self._top)) * 1j])
        names = CODES * vertex[sides.node] + sides.leaves
        follow = CODES * vertex[sides.end] + strip.ways
        return Pieces(owner, names, follow, meeting, begin, count, step, low, at, points)

    def _finished(self, found: _Components, ended: Mask, pieces: Pieces) -> PolygonBatch:
        """The polygons of the components that have ended, in their order."""
        some = np.flatnonzero(ended)
        if not len(some):
            return _no_polygons()
        some = some[np.lexsort((found.first[some], found.last[some]))]
        number = np.full(len(ended), -1)
        number[some] = np.arange(len(some))
        geometry = polygons(replace(pieces, owner=number[pieces.owner]), self._geobox.transform)
        c = found.take(some)
        with np.errstate(invalid="ignore"):
            confidence = c.score / c.scored / PROBABILITY_STEPS
        worst = np.where(c.scored > 0, c.worst / PROBABILITY_STEPS, np.nan)
        return PolygonBatch(c.class_id, geometry, c.pixels, c.area, c.perimeter, confidence, worst)


def polygonize(
    labels: NDArray[Any], geobox: GeoBox, confidence: Labels | None = None, skip: Collection[int] = frozenset({NODATA})
) -> PolygonBatch:
    """All polygons of a class raster that is in memory.

    Args:
        labels: (row, col), any integer type.
        geobox: Its grid.
        confidence: uint8 (row, col), 0 to 254 in steps of 1/254; 255 where there is none.
        skip: Labels that give no polygons.

    Raises:
        GridError: The shapes do not agree.
        PixelTypeError: The labels are no integers, or the confidence is not uint8.
    """
    polygonizer = Polygonizer(geobox, skip)
    return PolygonBatch.join([polygonizer.feed(labels, confidence), polygonizer.finish()])


@dataclass(frozen=True, slots=True, eq=False)
class _Components:
    """What is known of some components, as columns; ``first`` is a pixel's index, ``score`` a sum of confidences."""

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
    def of_size(cls, count: int) -> _Components:
        """Components of which nothing is known."""
        class_id, pixels, score, scored = (np.zeros(count, np.int64) for _ in range(4))
        area, perimeter = np.zeros(count), np.zeros(count)
        first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
        return cls(class_id, first, last, pixels, area, perimeter, score, scored, np.full(count, int(NODATA)))

    def take(self, which: Mask | Ints) -> _Components:
        """Some of the components."""
        return _Components(*(getattr(self, column.name)[which] for column in fields(self)))


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


def _no_polygons() -> PolygonBatch:
    whole, nothing = np.empty(0, np.int64), np.empty(0)
    return PolygonBatch(whole, nothing.astype(object), whole, nothing, nothing, nothing, nothing)
