"""How do rows of labels become polygons of the wanted shape?

``Drawing`` is fed the rows of a class raster and gives polygons as ``Shapes`` asks for them: it sieves, traces, leaves
out and counts. What it gives does not depend on the heights of the bands that it is fed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from .geobox import GeoBox
from .polygons import PolygonBatch, Polygonizer
from .polygons.sieve import Sieve
from .shaping import Shapes
from .types import NODATA, Labels

_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Count:
    """What became of a class.

    Args:
        polygons: Number of its polygons.
        pixels: Number of pixels that they were made of.
        area_m2: Area of these on the ground; NaN where it is unknown.
        drawn: Area that the polygons cover, in pixels.
    """

    polygons: int
    pixels: int
    area_m2: float
    drawn: float


class Drawing:
    """Turns the rows of a class raster into polygons of the wanted shape while they arrive.

    Args:
        geobox: The grid of all rows.
        shapes: How polygons are drawn; its own ``skip`` is not looked at.
        blank: Label of pixels that are no class, and nobody's neighbour.
        only: The classes that give polygons; None is all.
        skip: Classes that give none, by value.

    Raises:
        GridError: A length or an area is in metres, and the grid knows nothing of metres.
    """

    def __init__(
        self,
        geobox: GeoBox,
        shapes: Shapes | None = None,
        blank: int = NODATA,
        only: Collection[int] | None = None,
        skip: Collection[int] = (),
    ) -> None:
        self._geobox, self._shapes = geobox, shapes or Shapes()
        self._blank, self._only = blank, None if only is None else list(only)
        self._skip = frozenset({blank, *skip})
        self._sieves = list(self._open_sieves())
        self._scores: list[Labels] = []
        simplify, smooth = self._shapes.simplify, self._shapes.smooth
        self._polygonizer = Polygonizer(
            geobox,
            self._skip,
            split=self._shapes.split,
            simplify=0.0 if simplify is None else simplify.in_pixels(geobox),
            smooth=0.0 if smooth is None else smooth.in_pixels(geobox, at_most=True),
        )
        self._held: list[PolygonBatch] = []
        self._classes, self._sums = np.empty(0, np.int64), np.empty((4, 0))
        self.small = 0

    @property
    def counts(self) -> dict[int, Count]:
        """What became of each class that has polygons, by ascending value."""
        rows = zip(self._classes.tolist(), self._sums.T.tolist(), strict=True)
        return {
            value: Count(int(polygons), int(pixels), area, drawn) for value, (polygons, pixels, area, drawn) in rows
        }

    def _open_sieves(self) -> Iterator[Sieve]:
        shape, smallest = self._geobox.shape, self._shapes.min_area
        if self._shapes.sieve:
            yield Sieve(shape, self._shapes.sieve, nodata=self._blank)
        if smallest is not None and self._shapes.small == "merge":
            yield Sieve(shape, smallest.value, smallest.row_weights(self._geobox), nodata=self._blank)

    def feed(self, labels: NDArray[Any], confidence: Labels | None = None) -> PolygonBatch:
        """The polygons that are known to be complete after some more rows.

        Args:
            labels: (row, col) of any integer type, the next rows of the raster.
            confidence: uint8 (row, col), 0 to 254 in steps of 1/254, 255 where there is none; for all rows or for none.
        """
        if self._sieves and confidence is not None:
            self._scores.append(confidence)
            confidence = None
        for sieve in self._sieves:
            labels = sieve.feed(labels)
        return self._draw(labels, confidence)

    def finish(self) -> PolygonBatch:
        """The polygons that are left once all rows are fed."""
        rest: NDArray[Any] | None = None
        for sieve in self._sieves:
            early = [] if rest is None else [sieve.feed(rest)]
            rest = np.concatenate([*early, sieve.finish()])
        last = [] if rest is None else [self._draw(rest, None)]
        batch = PolygonBatch.join([*last, self._settle(self._polygonizer.finish())])
        return dissolve(PolygonBatch.join([*self._held, batch])) if self._shapes.dissolve else batch

    def _draw(self, labels: NDArray[Any], confidence: Labels | None) -> PolygonBatch:
        """The polygons of rows that are sieved."""
        if self._scores:
            confidence = self._take_scores(len(labels))
        valid = None if self._only is None else np.isin(labels, self._only)
        batch = self._settle(self._polygonizer.feed(labels, confidence, valid))
        if self._shapes.dissolve:
            self._held.append(batch)
            return PolygonBatch.join([])
        return batch

    def _take_scores(self, count: int) -> Labels:
        """The confidence of the next rows that leave the sieves."""
        waiting = np.concatenate(self._scores)
        self._scores = [waiting[count:]]
        return waiting[:count]

    def _settle(self, batch: PolygonBatch) -> PolygonBatch:
        """The polygons that stay, counted."""
        drawn = shapely.area(batch.geometry) / abs(self._geobox.transform.determinant)
        smallest = self._shapes.min_area
        if smallest is not None:
            # What is small depends on the pixels, not on how they are drawn.
            size = batch.pixels if smallest.unit == "px" else batch.area_m2 / drawn * batch.pixels
            small = size < smallest.value * (1 - _SLACK)
            self.small += int(np.count_nonzero(small))
            if self._shapes.small == "drop":
                batch, drawn = batch.take(~small), drawn[~small]
        self._add(batch.class_id, np.stack([np.ones(len(batch)), batch.pixels, batch.area_m2, drawn]))
        return batch

    def _add(self, classes: NDArray[Any], columns: NDArray[np.float64]) -> None:
        """Add to what is counted: columns (quantity, n) of n classes, which may repeat."""
        classes, columns = np.append(self._classes, classes), np.concatenate([self._sums, columns], axis=1)
        self._classes, at = np.unique(classes, return_inverse=True)
        self._sums = np.stack([np.bincount(at, column, len(self._classes)) for column in columns])


def dissolve(batch: PolygonBatch) -> PolygonBatch:
    """One multipolygon a class, by ascending value.

    Areas and perimeters are added up; the mean confidence is weighed by pixels.
    """
    if not len(batch):
        return batch
    batch = batch.take(np.argsort(batch.class_id, kind="stable"))
    values, start, member = np.unique(batch.class_id, return_index=True, return_inverse=True)
    known = np.where(np.isnan(batch.confidence), 0, batch.pixels)
    weight = np.add.reduceat(known, start)
    score = np.add.reduceat(np.nan_to_num(batch.confidence) * known, start)
    with np.errstate(invalid="ignore"):
        mean = score / weight
    return PolygonBatch(
        class_id=values,
        geometry=shapely.multipolygons(batch.geometry, indices=member),
        pixels=np.add.reduceat(batch.pixels, start),
        area_m2=np.add.reduceat(batch.area_m2, start),
        perimeter_m=np.add.reduceat(batch.perimeter_m, start),
        confidence=mean,
        confidence_min=np.fmin.reduceat(batch.confidence_min, start),
    )
