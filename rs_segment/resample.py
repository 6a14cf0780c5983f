"""How does a scene look on a coarser or finer grid over the same place?

Each pixel of the target is a weighted mean of the valid pixels of the source: along an axis that gets coarser by the
share of each that it covers, along one that gets finer by distance (bilinear). Weights are whole numbers that depend on
the place in the whole grid alone, so every way of cutting the target into windows gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from .types import Mask, Pixels

MAX_SOURCE_PIXELS = 2**22


@dataclass(frozen=True, slots=True)
class Taps:
    """What makes up some pixels along one axis.

    Args:
        index: int64 (pixel, tap), positions in the source.
        weight: float64 (pixel, tap), whole numbers; zero where a tap lies outside the source.
    """

    index: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, source: int, target: int, start: int, stop: int) -> Taps:
        """Taps of the pixels from start to stop of an axis of target pixels over one of source pixels."""
        pixel = np.arange(start, stop, dtype=np.int64)[:, None]
        if source >= target:
            # In units in which a pixel of the source is `target` long and one of the target `source`.
            index = pixel * source // target + np.arange(-(-source // target) + 1)
            begin = np.maximum(index * target, pixel * source)
            weight = np.minimum((index + 1) * target, (pixel + 1) * source) - begin
        else:
            centre = (2 * pixel + 1) * source - target
            part = centre % (2 * target)
            index = centre // (2 * target) + np.arange(2)
            weight = np.concatenate([2 * target - part, part], axis=1)
        weight = np.where((index >= 0) & (index < source), np.maximum(weight, 0), 0)
        return cls(np.clip(index, 0, source - 1), weight.astype(np.float64))

    @property
    def reach(self) -> tuple[int, int]:
        """(first, behind the last) position in the source."""
        used = self.index[self.weight > 0]
        return int(used.min()), int(used.max()) + 1


def resample(
    read: Callable[[Window], tuple[Pixels, Mask]], source: tuple[int, int], target: tuple[int, int], window: Window
) -> tuple[Pixels, Mask]:
    """The pixels (band, row, col) and their validity (row, col) under a window of the target grid.

    A pixel is valid when any valid pixel of the source adds to it. Memory is bounded: large windows are made in parts.

    Args:
        read: Pixels and validity under a window of the source.
        source: (height, width) of the source.
        target: (height, width) of the target, over the same place.
        window: Which pixels of the target, inside it.
    """
    rows = Taps.of(source[0], target[0], window.row_off, window.row_off + window.height)
    cols = Taps.of(source[1], target[1], window.col_off, window.col_off + window.width)
    (top, bottom), (left, right) = rows.reach, cols.reach
    if (bottom - top) * (right - left) > MAX_SOURCE_PIXELS and window.height * window.width > 1:
        # Rows first, as long as it helps: many scenes are stored in strips.
        by_rows = window.width == 1 or (window.height > 1 and bottom - top >= (right - left) // 8)
        return _in_halves(read, source, target, window, by_rows)
    pixels, valid = read(Window(left, top, right - left, bottom - top))
    rows, cols = Taps(rows.index - top, rows.weight), Taps(cols.index - left, cols.weight)
    rows, cols = _inside(rows, bottom - top), _inside(cols, right - left)
    weight = _weighted(valid.astype(np.float64), rows, cols)
    found = np.empty((len(pixels), *weight.shape), pixels.dtype)
    for band, values in enumerate(pixels):
        mean = _weighted(np.where(valid, values, 0).astype(np.float64), rows, cols) / np.maximum(weight, 1)
        found[band] = np.rint(mean) if pixels.dtype.kind in "iu" else mean
    return found, weight > 0


def _in_halves(
    read: Callable[[Window], tuple[Pixels, Mask]],
    source: tuple[int, int],
    target: tuple[int, int],
    window: Window,
    by_rows: bool,
) -> tuple[Pixels, Mask]:
    col, row, width, height = window.col_off, window.row_off, window.width, window.height
    if by_rows:
        half, axis = height // 2, 0
        parts = Window(col, row, width, half), Window(col, row + half, width, height - half)
    else:
        half, axis = width // 2, 1
        parts = Window(col, row, half, height), Window(col + half, row, width - half, height)
    found = [resample(read, source, target, part) for part in parts]
    pixels = np.concatenate([p for p, _ in found], axis=axis + 1)
    return pixels, np.concatenate([v for _, v in found], axis=axis)


def _inside(taps: Taps, length: int) -> Taps:
    """Taps whose positions without weight are moved to where pixels were read."""
    return Taps(np.clip(taps.index, 0, length - 1), taps.weight)


def _weighted(values: NDArray[np.float64], rows: Taps, cols: Taps) -> NDArray[np.float64]:
    """Weighted sums, (row, col) of the target; taps are added one after the other, so their order never varies."""
    down = np.zeros((len(rows.index), values.shape[1]))
    for tap in range(rows.index.shape[1]):
        down += rows.weight[:, tap, None] * values[rows.index[:, tap]]
    across = np.zeros((len(rows.index), len(cols.index)))
    for tap in range(cols.index.shape[1]):
        across += cols.weight[:, tap] * down[:, cols.index[:, tap]]
    return across
