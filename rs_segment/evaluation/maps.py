"""The story: a class map, whoever made it, is compared with a reference.

The reference is another class raster, on any grid and in any CRS, or polygons, which are burnt into the pixels. Both
are read by window; what is held does not grow with the map.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..accuracy import Confusion
from ..card import ClassInfo
from ..classmap import ClassMap, Pick
from ..errors import GridError
from ..pipeline import ahead
from ..result import without_secrets
from ..types import NODATA, UNCLASSIFIED, Labels, Track, silent
from .codes import Codes
from .matching import Matching
from .overview import Overview
from .result import Evaluation
from .sides import Against, Side, is_unclassified, named_classes, open_sides

_CODES = 256
_HECTARE = 10_000.0


@dataclass(frozen=True, slots=True)
class Strip:
    """Both maps under a window."""

    window: Window
    reference: NDArray[Any]
    classmap: NDArray[Any]

    @property
    def work(self) -> int:
        """Number of pixels."""
        return int(self.classmap.size)


def evaluate_map(
    classmap: str | Path,
    reference: str | Path,
    pick: Pick | None = None,
    against: Against | None = None,
    track: Track = silent,
) -> Evaluation:
    """How well a class map agrees with a reference, pixel by pixel.

    Pixels are compared where both have a class; where the map says "unclassified" it is wrong.

    Args:
        classmap: What rasterio opens.
        reference: Likewise, or a file of polygons.
        pick: Which pixels of the map are looked at.
        against: How the reference is read and compared.
        track: Told of the progress; raises ``CancelledError`` to stop.

    Raises:
        RsSegmentError: One of them is refused, a class of the reference is none of the map's, or they do not meet.
    """
    against, started = against or Against(), time.monotonic()
    with ExitStack() as stack:
        base, mine, theirs, grid = open_sides(stack, classmap, reference, pick, against)
        matching = Matching.of((theirs.name, theirs.named), (mine.name, named_classes(mine.named)), against.pairs)
        matching = replace(matching, spell=theirs.spell)
        counter = Counter(base, mine, theirs, matching)
        windows = base.windows()

        def look(window: Window) -> Strip:
            return Strip(window, theirs.read(window), mine.read(window))

        with closing(ahead(look, windows, threads=2, depth=3)) as strips:
            for strip in track(strips, base.window.width * base.window.height, "compare"):
                counter.add(strip)
        found = counter.result(grid)
    return replace(
        found,
        subject=without_secrets(str(classmap)),
        reference=without_secrets(str(reference)),
        seconds=time.monotonic() - started,
    )


class Counter:
    """Counts pairs of classes as strips go by.

    Args:
        base: The map whose grid it is.
        mine: The map.
        theirs: The reference.
        matching: Of their classes.
    """

    def __init__(self, base: ClassMap, mine: Side, theirs: Side, matching: Matching) -> None:
        self._base, self._mine, self._theirs, self._matching = base, mine, theirs, matching
        self._said = Codes(mine.name, mine.blank)
        self._truth = Codes(theirs.name, theirs.blank, self._met)
        self._target = np.full(_CODES, NODATA, np.uint8)
        self._left_out = np.ones(_CODES, np.bool_)
        self._pixels = np.zeros((_CODES, _CODES), np.int64)
        self._square_metres = np.zeros((_CODES, _CODES))
        self._overview = Overview(base.window)

    def _met(self, value: int) -> None:
        """Find out what a class of the reference is in the map."""
        code, target = self._truth.values.index(value), self._matching.target(value)
        if target is not None and target != self._mine.blank and not is_unclassified(target, self._mine.named):
            self._target[code] = self._said.of(target)
            self._left_out[code] = False

    def add(self, strip: Strip) -> None:
        """Count a strip."""
        truth, said = self._truth.encode(strip.reference), self._said.encode(strip.classmap)
        place = truth.astype(np.intp) * _CODES + said
        counts = np.bincount(place.ravel(), minlength=_CODES**2).reshape(_CODES, _CODES)
        self._pixels += counts
        first = strip.window.row_off
        areas = self._base.scene.geobox.row_areas(range(first, first + strip.window.height))
        if areas is None:
            self._square_metres += np.nan
        elif np.all(areas == areas[0]):
            self._square_metres += counts * areas[0]
        else:
            weights = np.repeat(np.nan_to_num(areas), strip.window.width)
            sums = np.bincount(place.ravel(), weights, minlength=_CODES**2)
            self._square_metres += sums.reshape(_CODES, _CODES)
        target = self._target[truth]
        compared = ~self._left_out[truth] & (said != NODATA)
        self._overview.add(strip.window, target, said, compared, compared & (said != target))

    def result(self, grid: str) -> Evaluation:
        """What was counted; names of files and the time are still to be filled in.

        Raises:
            GridError: No pixel could be compared.
        """
        theirs, mine = self._theirs.name, self._mine.name
        known = ~self._left_out
        if not self._pixels[known, :NODATA].any():
            raise GridError(
                f"no pixel of {mine} could be compared with {theirs}: they do not overlap, or where they do one of "
                "them has no class; look at both in a GIS"
            )
        values = sorted(self._present())
        position = {value: i for i, value in enumerate(values)}
        to_position = np.full(_CODES, UNCLASSIFIED, np.uint8)
        to_position[NODATA] = NODATA
        for code, value in enumerate(self._said.values):
            to_position[code] = position.get(value, UNCLASSIFIED)
        pixels = self._folded(self._pixels, to_position, len(values))
        metres = self._folded(self._square_metres, to_position, len(values))
        classes = tuple(self._info(value) for value in values)
        confusion = Confusion(pixels[:, :-1], tuple(c.name for c in classes), pixels[:, -1])
        return Evaluation(
            subject=mine,
            reference=theirs,
            grid=grid,
            matching=self._matching.sentence(),
            classes=classes,
            confusion=confusion,
            hectares=None if np.isnan(metres).any() else metres / _HECTARE,
            views=(self._overview.view(mine, to_position, to_position),),
            notes=tuple(self._remarks(confusion)),
        )

    def _present(self) -> set[int]:
        """The map's values that are classes: those that it names, and those that were met in pixels that count."""
        seen = self._pixels[~self._left_out].sum(axis=0) > 0
        met = {value for code, value in enumerate(self._said.values) if seen[code]}
        meant = {self._said.values[t] for t in self._target if t != NODATA}
        found = met | meant | set(self._mine.named)
        return {value for value in found if not is_unclassified(value, self._mine.named)}

    def _folded(self, table: NDArray[Any], to_position: Labels, count: int) -> NDArray[Any]:
        """(class, class or unclassified) of a table of codes."""
        found = np.zeros((count, count + 1), table.dtype)
        for code in range(len(self._truth.values)):
            if self._left_out[code]:
                continue
            row = to_position[self._target[code]]
            for said in range(len(self._said.values)):
                found[row, min(int(to_position[said]), count)] += table[code, said]
        return found

    def _info(self, value: int) -> ClassInfo:
        """A class as the map has it, by the reference's name where the map gives none."""
        mine = self._mine.info(value)
        if value in self._mine.named:
            return mine
        alike = [v for v in self._truth.values if v in self._theirs.named and self._matching.target(v) == value]
        return replace(mine, name=self._theirs.info(alike[0]).name) if alike else mine

    def _remarks(self, confusion: Confusion) -> Iterator[str]:
        known = ~self._left_out
        whole = int(self._pixels.sum())
        bare = int(self._pixels[known, NODATA].sum())
        if bare:
            yield f"{bare:,} px that the reference knows are not compared: the map has no data there"
        if confusion.total < whole / 100:
            yield f"only {confusion.total / whole:.2%} of the pixels have a reference"
        if (missed := int(confusion.reference.sum() - confusion.matrix.sum())) > 0:
            yield f"{missed:,} px are unclassified in the map, and count as wrong"
        counted = zip(confusion.names, confusion.reference, confusion.predicted, strict=True)
        false = [name for name, truly, said in counted if said and not truly]
        if false:
            listed = ", ".join(false[:9])
            yield f"the reference has none of {listed}, which the map finds; the mean IoU counts such a class as 0"
