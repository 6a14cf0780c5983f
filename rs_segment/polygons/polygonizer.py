"""Which polygons does a class raster hold?

``Polygonizer`` reads a raster of labels from top to bottom and hands out each polygon as soon as its last row is known.
A polygon is one 4-connected component of one class; the result is that of a single pass over the whole raster.

It works on strips of rows. ``outline`` finds the borders in a strip and what lies on each side of them, this module
joins components across strips, ``pieces`` keeps the borders of those that go on and makes rings of those that end.
Each border is traced once for both its sides, and where three classes meet all polygons get the vertex, also the one
that passes straight: together they are a valid coverage. What ``generalise`` does to a border it does for both sides.

Memory is that of a strip and, for components that reach the last row read, some 100 bytes for each border in a strip
and 16 for each vertex: it grows with the outline of the largest polygons, not with the raster.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import GridError, PixelTypeError
from ..geobox import GeoBox
from ..types import NODATA, PROBABILITY_STEPS, Labels, Mask
from .chains import Ints
from .outline import Components, Floats, Outline, Outliner
from .pieces import Pieces, Shelf, polygons
from .ruler import Ruler
from .tasks import Task
from .unionfind import components

T = TypeVar("T")

_STRIP_PIXELS = 1 << 21
_FEW_PIXELS = 1 << 19
_MANY_BORDERS = 1 << 17
_SAMPLE = 8
_AHEAD = 2
_LARGEST_BLOCK = (1 << 25) - (1 << 13)
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
        block: Pixels of a strip; more take more memory. Exact polygons do not depend on it; borders that are
            generalised keep a vertex where they cross from one strip to the next.
    """

    def __init__(
        self,
        geobox: GeoBox,
        skip: Collection[int] = frozenset({NODATA}),
        *,
        split: int | None = None,
        simplify: float = 0.0,
        smooth: float = 0.0,
        block: int = _STRIP_PIXELS,
    ) -> None:
        height, width = geobox.shape
        self._geobox = geobox
        self._skip, self._split = frozenset(skip), split
        self._outliner = Outliner(Ruler(geobox), geobox.shape, split is not None, simplify, smooth)
        self._rows = max(1, min(block // max(width, 1), height))
        self._filled = self._top = 0
        self._dtype: np.dtype[Any] | None = None
        self._outside = NODATA
        self._labels: NDArray[Any] = np.empty((0, 0), np.uint8)
        self._scores: Labels | None = None
        self._open = Components.of_size(0)
        self._above = np.empty(0, np.int64)
        self._shelf = Shelf()
        # A strip as small as this is done before a thread has begun.
        self._ahead = _AHEAD if self._rows * width > _FEW_PIXELS else 0
        self._pool: ThreadPoolExecutor | None = None
        self._outlines: deque[Task[Outline]] = deque()
        self._made: deque[Task[PolygonBatch]] = deque()

    def feed(self, labels: NDArray[Any], confidence: Labels | None = None, valid: Mask | None = None) -> PolygonBatch:
        """Polygons that are known to be complete after some more rows; on a large raster, of all but the latest.

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
        batches: list[PolygonBatch] = []
        start = 0
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
                batches += self._work(self._filled, self._ahead)
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
        if self._scores is not None:
            self._scores[self._filled + 1] = NODATA
        batches = self._work(self._filled + 1, 0)
        if self._pool is not None:
            self._pool.shutdown()
        return PolygonBatch.join(batches)

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

    def _choose(self, dtype: np.dtype[Any]) -> None:
        """Find a type that has a value to spare for what is outside."""
        self._dtype = dtype
        kind: Any = np.uint8
        if dtype != np.uint8 or NODATA not in self._skip or self._split:
            kind = np.int64 if self._split else _WIDER[dtype.itemsize]
            self._outside = int(np.iinfo(kind).min)
        self._prepare(np.full(self._geobox.shape[1] + 2, self._outside, kind))

    def _prepare(self, above: NDArray[Any]) -> None:
        """Make room for a strip, below the last row of the one before.

        One row above holds what that ended with, one below what closes the raster; a column on each side spares every
        look at a neighbour the question whether it leaves the raster.
        """
        self._labels = np.empty((self._rows + 2, len(above)), above.dtype)
        self._labels[0] = above
        self._labels[:, [0, -1]] = self._outside
        self._scores, self._filled = None, 0

    def _take(self, labels: Any, confidence: Labels | None, valid: Mask | None) -> None:
        """Put rows into the strip."""
        if self._dtype is None:
            self._choose(labels.dtype)
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
        if confidence is not None and self._scores is None:
            self._scores = np.full(self._labels.shape, NODATA, np.uint8)
        if self._scores is not None:
            self._scores[rows, 1:-1] = NODATA if confidence is None else confidence
        self._filled += len(labels)

    def _work(self, rows: int, left: int) -> list[PolygonBatch]:
        """The polygons that end above the last of the rows that wait, but for those of the last ``left`` strips.

        Only what joins components across strips has to be done in order; strips are outlined before, and polygons made
        after it, by threads of their own. How far they are ahead never depends on time, nor does what comes back.
        """
        labels, scores, top = self._labels, self._scores, self._top
        batches: list[PolygonBatch] = []
        for cut in self._cuts(rows):
            part = slice(cut.start, cut.stop + 1)
            confidence = None if scores is None else scores[part]
            self._outlines.append(
                self._start(self._outliner.outline, labels[part], self._outside, confidence, top + cut.start)
            )
            batches += self._settle(self._ahead)
        self._top += rows
        self._prepare(labels[rows])
        return batches + self._settle(left)

    def _settle(self, left: int) -> list[PolygonBatch]:
        """Join what is outlined, and take the polygons that are made, until no more than ``left`` of each wait."""
        batches = []
        while len(self._outlines) > left:
            outline = self._outlines.popleft().result([*self._made, *self._outlines])
            self._made.append(self._start(self._finished, *self._join(outline)))
            while len(self._made) > max(left, 1):
                batches.append(self._made.popleft().result([*self._outlines, *self._made]))
        while len(self._made) > left:
            batches.append(self._made.popleft().result(self._made))
        return batches

    def _start(self, work: Callable[..., T], *given: Any) -> Task[T]:
        """Begin some work, or do it at once where it is too little for a thread."""
        if self._ahead and self._pool is None:
            self._pool = ThreadPoolExecutor(1)
            _keep_memory()
        return Task(self._pool, work, *given)

    def _cuts(self, rows: int) -> list[slice]:
        """The rows that wait in strips that are not too full of borders."""
        some = self._labels[1 : rows + 1 : _SAMPLE]
        borders = np.count_nonzero(some[:, 1:] != some[:, :-1]) * rows / len(some)
        count = max(1, min(rows, math.ceil(borders / _MANY_BORDERS)))
        return [slice(*cut) for cut in pairwise(rows * part // count for part in range(count + 1))]

    def _join(self, strip: Outline) -> tuple[Components, Mask, Pieces]:
        """(components, which of them end above the last row of a strip, the pieces of these); others are kept."""
        before, here = len(self._open), len(strip.found)
        slots, parts = strip.rises
        joint, count = components(before + here, self._above[slots], before + parts)
        old, own = joint[:before], joint[before:]
        found = Components.merged([(self._open, old), (strip.found, own)], count)

        slots, parts = strip.leaves
        ended = np.ones(count, bool)
        ended[own[parts]] = False
        number = np.cumsum(~ended) - 1
        pieces = replace(strip.pieces, owner=own[strip.pieces.owner])
        over = ended[pieces.owner]
        done = Pieces.join([pieces.take(over), *self._shelf.sort_out(old, ended, number)])
        self._shelf.put(pieces.take(~over), number)

        self._above = np.full(strip.under, -1, np.int64)
        self._above[slots] = number[own[parts]]
        self._open = found.take(~ended)
        return found, ended, done

    def _finished(self, found: Components, ended: Mask, pieces: Pieces) -> PolygonBatch:
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


def _keep_memory() -> None:
    """Let glibc keep what a strip used for the next one.

    It gives memory back, to take it anew page by page, in amounts that grow with the largest block that it was given
    back (mallopt(3), M_MMAP_THRESHOLD). This one is never touched.
    """
    np.empty(_LARGEST_BLOCK, np.uint8)


def _no_polygons() -> PolygonBatch:
    whole, nothing = np.empty(0, np.int64), np.empty(0)
    return PolygonBatch(whole, nothing.astype(object), whole, nothing, nothing, nothing, nothing)
