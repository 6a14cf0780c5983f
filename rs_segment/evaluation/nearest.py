"""Which label does a raster have at the middle of each pixel of another grid?

No class lies between two others, so labels are not interpolated: a pixel takes the label that its centre falls on. What
it takes depends on its place in the whole grid alone, so every way of cutting the grid into windows gives the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from ..classmap import ClassMap
from ..errors import GridError
from ..geobox import GeoBox

STEP = 16
"""Pixels between places whose coordinates are computed where two CRS differ; between them it goes straight."""
MAX_PIXELS, MAX_PLACES = 1 << 22, 1 << 19
"""Of the map and of the grid, that are held at once."""
_TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Labelled:
    """A raster of labels.

    Args:
        name: For people.
        geobox: Its grid.
        dtype: Integer type of its labels.
        blank: The label that is no class.
        read: Labels (row, col) under a window of its grid; may be called from any thread.
    """

    name: str
    geobox: GeoBox
    dtype: np.dtype[Any]
    blank: int
    read: Callable[[Window], NDArray[Any]]

    @classmethod
    def of(cls, classmap: ClassMap) -> Labelled:
        """The labels of a class map."""
        scene = classmap.scene
        return cls(
            scene.name, scene.geobox, classmap.dtype, classmap.blank, lambda window: classmap.read(window).labels
        )


@dataclass(frozen=True, slots=True)
class Nearest:
    """A raster of labels, looked at through the pixels of a grid.

    Args:
        source: What is looked at.
        grid: The pixels.
        aligned: Whether these are the raster's own.
    """

    source: Labelled
    grid: GeoBox
    aligned: bool
    _local: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    @classmethod
    def of(cls, source: Labelled, grid: GeoBox) -> Nearest:
        """The raster through a grid.

        Raises:
            GridError: One of them has no CRS, and they are not pixel for pixel the same.
        """
        mine = source.geobox
        aligned = same_pixels(mine, grid)
        if not aligned and (mine.crs is None) != (grid.crs is None):
            raise GridError(
                f"{source.name} {_crs(mine)}, the other grid {_crs(grid)}, and they are not of one size "
                f"({mine.shape[1]} x {mine.shape[0]} px, {grid.shape[1]} x {grid.shape[0]} px); give the one its CRS "
                "first, for example: rio edit-info --crs EPSG:32640"
            )
        return cls(source, grid, aligned)

    def read(self, window: Window) -> NDArray[Any]:
        """(row, col) labels under a window of the grid; ``Labelled.blank`` where the raster has none or does not reach.

        Raises:
            SceneError, PixelTypeError: As ``ClassMap.read``.
        """
        if self.aligned:
            return self.source.read(window)
        if window.width * window.height > MAX_PLACES:
            return self._in_halves(window)
        rows, cols, inside = self._places(window)
        labels = np.full(inside.shape, self.source.blank, self.source.dtype)
        if not inside.any():
            return labels
        (top, bottom), (left, right) = (_ends(v[inside]) for v in (rows, cols))
        if (bottom - top) * (right - left) > MAX_PIXELS and inside.size > 1:
            return self._in_halves(window)
        found = self.source.read(Window(left, top, right - left, bottom - top))
        labels[inside] = found[rows[inside] - top, cols[inside] - left]
        return labels

    def _in_halves(self, window: Window) -> NDArray[Any]:
        col, row, width, height = window.col_off, window.row_off, window.width, window.height
        if width > height:
            half = width // 2
            parts = self.read(Window(col, row, half, height)), self.read(Window(col + half, row, width - half, height))
            return np.concatenate(parts, axis=1)
        half = height // 2
        parts = self.read(Window(col, row, width, half)), self.read(Window(col, row + half, width, height - half))
        return np.concatenate(parts, axis=0)

    def _places(self, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """(rows, columns, whether they are inside) of the raster's pixels, each (row, col) of the window."""
        row = np.arange(window.row_off, window.row_off + window.height) + 0.5
        col = np.arange(window.col_off, window.col_off + window.width) + 0.5
        box = self.source.geobox
        if box.crs == self.grid.crs:
            across, down = _apply(~box.transform * self.grid.transform, col[None, :], row[:, None])
        else:
            across, down = self._through_crs(row, col)
        with np.errstate(invalid="ignore"):
            x, y = np.floor(across + _TIE), np.floor(down + _TIE)
            inside = (x >= 0) & (y >= 0) & (x < box.shape[1]) & (y < box.shape[0])
        return np.where(inside, y, 0).astype(np.int64), np.where(inside, x, 0).astype(np.int64), inside

    def _through_crs(self, row: NDArray[Any], col: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(x, y) in the raster's pixels, (row, col) each; exact at every ``STEP`` pixels, bilinear between."""
        knots_row, at_row, part_row = _knots(row)
        knots_col, at_col, part_col = _knots(col)
        x, y = self._transformer().transform(*_apply(self.grid.transform, knots_col[None, :], knots_row[:, None]))
        places = _apply(~self.source.geobox.transform, np.asarray(x), np.asarray(y))
        u, v = part_row[:, None], part_col[None, :]
        found = []
        for knot in places:
            knot = np.where(np.isfinite(knot), knot, np.nan)
            across = knot[:, at_col] * (1 - v) + knot[:, at_col + 1] * v
            found.append(across[at_row] * (1 - u) + across[at_row + 1] * u)
        return found[0], found[1]

    def _transformer(self) -> Any:
        """From the grid's CRS to the raster's; one a thread, because they are not to be shared."""
        from pyproj import Transformer

        if not hasattr(self._local, "transformer"):
            mine = self.source.geobox.crs
            assert mine is not None
            assert self.grid.crs is not None
            self._local.transformer = Transformer.from_crs(self.grid.crs.to_wkt(), mine.to_wkt(), always_xy=True)
        return self._local.transformer


def same_pixels(one: GeoBox, other: GeoBox) -> bool:
    """Whether two grids are pixel for pixel the same place, to a hundredth of a pixel.

    Where one of them is not georeferenced at all, equal shapes are enough: masks are often stored so.
    """
    if one.shape != other.shape:
        return False
    if not (one.georeferenced and other.georeferenced):
        return True
    near = min(one.resolution) / 100
    return one.crs == other.crs and bool(np.allclose(one.corners, other.corners, rtol=0, atol=near))


def _knots(centres: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """(knots, which one lies before each centre, how far the centre lies behind it, 0 to 1)."""
    first = int(centres[0]) // STEP
    place = centres / STEP - first
    before = np.floor(place).astype(np.int64)
    return (first + np.arange(before[-1] + 2)) * float(STEP), before, place - before


def _apply(transform: Affine, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(x, y) where an affine transform puts places, of any shapes that go together."""
    t = transform
    return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f


def _crs(box: GeoBox) -> str:
    return "has no CRS" if box.crs is None else f"has {box.crs.to_string()[:60]}"


def _ends(values: NDArray[np.int64]) -> tuple[int, int]:
    return int(values.min()), int(values.max()) + 1
