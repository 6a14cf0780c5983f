"""How does a large comparison look on one screen? Small pictures that fill while windows go by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..pictures import Rgb
from ..types import NODATA, Labels, Mask

SIDE = 900


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A comparison, small enough to look at; labels are positions in the list of classes.

    Args:
        name: Of what was compared.
        reference: uint8 (row, col), 255 where there is none.
        predicted: uint8 (row, col), 254 where the map says unclassified, 255 where it has no data.
        wrong: float32 (row, col), share of the compared pixels of each cell that differ; NaN where there are none.
        image: uint8 (row, col, 3), or None.
        step: Pixels along the side of a cell.
    """

    name: str
    reference: Labels
    predicted: Labels
    wrong: NDArray[np.float32]
    image: Rgb | None = None
    step: int = 1


class Overview:
    """Gathers a ``View`` of a grid from windows.

    Args:
        window: What is looked at.
        side: Neither side of the view is longer, in cells.
    """

    def __init__(self, window: Window, side: int = SIDE) -> None:
        self.step = max(1, -(-max(window.height, window.width) // side))
        self._window = window
        shape = -(-window.height // self.step), -(-window.width // self.step)
        self._labels = np.full((2, *shape), NODATA, np.uint8)
        self._image: NDArray[np.uint8] | None = None
        self._compared, self._wrong = np.zeros(shape, np.int64), np.zeros(shape, np.int64)

    def add(self, window: Window, reference: Labels, predicted: Labels, compared: Mask, wrong: Mask) -> None:
        """Take in what was found under a window; all arrays are (row, col), labels are kept as they are."""
        down = self._axis(window.row_off - self._window.row_off, window.height, self._window.height)
        across = self._axis(window.col_off - self._window.col_off, window.width, self._window.width)
        for kept, labels in zip(self._labels, (reference, predicted), strict=True):
            kept[np.ix_(down.cells, across.cells)] = labels[np.ix_(down.middles, across.middles)]
        place = slice(down.first, down.first + len(down.starts)), slice(across.first, across.first + len(across.starts))
        for counts, mask in ((self._compared, compared), (self._wrong, wrong)):
            narrow = np.add.reduceat(mask, across.starts, axis=1, dtype=np.int64)
            counts[place] += np.add.reduceat(narrow, down.starts, axis=0)

    def show(self, window: Window, image: Rgb) -> None:
        """Take in what the image (row, col, 3) under a window looks like."""
        if self._image is None:
            self._image = np.full((*self._compared.shape, 3), 255, np.uint8)
        down = self._axis(window.row_off - self._window.row_off, window.height, self._window.height)
        across = self._axis(window.col_off - self._window.col_off, window.width, self._window.width)
        self._image[np.ix_(down.cells, across.cells)] = image[np.ix_(down.middles, across.middles)]

    def view(self, name: str, reference: Labels | None = None, predicted: Labels | None = None) -> View:
        """What was gathered.

        Args:
            name: Of what was compared.
            reference: uint8 (256,), what each label of the reference becomes; None is itself.
            predicted: Likewise for the other map.
        """
        wrong = np.full(self._wrong.shape, np.nan, np.float32)
        np.divide(self._wrong, self._compared, out=wrong, where=self._compared > 0, casting="unsafe")
        theirs, mine = self._labels
        return View(
            name,
            theirs if reference is None else reference[theirs],
            mine if predicted is None else predicted[mine],
            wrong,
            self._image,
            self.step,
        )

    def _axis(self, start: int, length: int, whole: int) -> _Axis:
        first, last = start // self.step, (start + length - 1) // self.step
        cells = np.arange(first, last + 1)
        middles = np.minimum(cells * self.step + self.step // 2, whole - 1) - start
        here = (middles >= 0) & (middles < length)
        return _Axis(first, np.maximum(cells * self.step - start, 0), cells[here], middles[here])


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """Along one side of a window: the first cell, where cells start, and the cells whose middle is there, and where."""

    first: int
    starts: NDArray[np.int64]
    cells: NDArray[np.int64]
    middles: NDArray[np.int64]
