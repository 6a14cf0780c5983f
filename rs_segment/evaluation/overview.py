"""How does a large comparison look on one screen? Small pictures that fill while windows go by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..pictures import Rgb, as_rgb
from ..types import NODATA, Labels, Mask, Pixels

SIDE = 900


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A comparison, small enough to look at; labels are positions in the list of classes.

    Args:
        name: Of what was compared.
        reference: uint8 (row, col), 255 where there is none.
        predicted: uint8 (row, col), 254 where the map says unclassified, 255 where it has no data.
        wrong: float32 (row, col), share of the compared pixels of each cell that differ; NaN where there are none.
        step: Pixels along the side of a cell.
    """

    name: str
    reference: Labels
    predicted: Labels
    wrong: NDArray[np.float32]
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
        self._compared, self._wrong = np.zeros(shape, np.int64), np.zeros(shape, np.int64)

    def add(self, window: Window, reference: Labels, predicted: Labels, compared: Mask, wrong: Mask) -> None:
        """Take in what was found under a window; all arrays are (row, col), labels are kept as they are."""
        down = _Axis.of(window.row_off - self._window.row_off, window.height, self._window.height, self.step)
        across = _Axis.of(window.col_off - self._window.col_off, window.width, self._window.width, self.step)
        for kept, labels in zip(self._labels, (reference, predicted), strict=True):
            kept[np.ix_(down.cells, across.cells)] = labels[np.ix_(down.middles, across.middles)]
        place = slice(down.first, down.first + len(down.starts)), slice(across.first, across.first + len(across.starts))
        for counts, mask in ((self._compared, compared), (self._wrong, wrong)):
            narrow = np.add.reduceat(mask, across.starts, axis=1, dtype=np.int64)
            counts[place] += np.add.reduceat(narrow, down.starts, axis=0)

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
            self.step,
        )


class Thumbnail:
    """Gathers a small picture of an image from windows; any thread may add to it.

    Args:
        shape: (height, width) of the image.
        count: Number of its bands.
        dtype: Its pixel type.
        side: Neither side of the picture is longer.
    """

    def __init__(self, shape: tuple[int, int], count: int, dtype: np.dtype[Any], side: int) -> None:
        self._shape, self._step = shape, max(1, -(-max(shape) // side))
        small = -(-shape[0] // self._step), -(-shape[1] // self._step)
        self._bands = [0, 1, 2] if count >= 3 else [0]
        self._pixels = np.zeros((len(self._bands), *small), dtype)
        self._valid = np.zeros(small, np.bool_)

    def add(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Take in pixels (band, row, col) and their validity (row, col) under a window that lies inside."""
        down = _Axis.of(window.row_off, window.height, self._shape[0], self._step)
        across = _Axis.of(window.col_off, window.width, self._shape[1], self._step)
        here, there = np.ix_(down.cells, across.cells), np.ix_(down.middles, across.middles)
        for kept, band in zip(self._pixels, self._bands, strict=True):
            kept[here] = pixels[band][there]
        self._valid[here] = valid[there]

    def picture(self, shape: tuple[int, int]) -> Rgb:
        """uint8 (row, col, 3), the image in (height, width) pixels."""
        image = as_rgb(self._pixels, self._valid)
        rows, cols = (np.arange(n) * m // n for n, m in zip(shape, image.shape, strict=False))
        return image[np.ix_(rows, cols)]


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """Along one side of a window: the first cell, where cells start, and the cells whose middle is there, and where."""

    first: int
    starts: NDArray[np.int64]
    cells: NDArray[np.int64]
    middles: NDArray[np.int64]

    @classmethod
    def of(cls, start: int, length: int, whole: int, step: int) -> _Axis:
        first, last = start // step, (start + length - 1) // step
        cells = np.arange(first, last + 1)
        middles = np.minimum(cells * step + step // 2, whole - 1) - start
        here = (middles >= 0) & (middles < length)
        return cls(first, np.maximum(cells * step - start, 0), cells[here], middles[here])
