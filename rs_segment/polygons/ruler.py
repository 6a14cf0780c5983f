"""How large and how long on the ground is what is drawn on a grid?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geobox import GeoBox

Floats = NDArray[np.float64]


class Ruler:
    """Measures lines on a grid in metres: in the plane of a projected CRS, on the ellipsoid for degrees and Mercator.

    On the ellipsoid the strip between a line and the grid's first row is measured by ``GeoBox.row_areas``, and a line
    by the sizes of pixels at its ends. Everything is NaN on a grid without a CRS.

    Attributes:
        cell: Area of a pixel in m2 where all have the same, else None.
    """

    def __init__(self, geobox: GeoBox) -> None:
        height = geobox.shape[0]
        self._geobox = geobox
        areas = geobox.row_areas(range(height))
        self.known = areas is not None
        self._planar = geobox.planar
        if areas is None:
            areas = np.full(height, np.nan)
        self.cell = float(areas[0]) if height and self.known and self._planar else None
        self._missing = np.append(0.0, np.cumsum(np.isnan(areas)))
        self._above = np.append(0.0, np.cumsum(np.nan_to_num(areas)))
        self._lines = np.arange(height + 1, dtype=np.float64)
        self._across, self._down = np.zeros(0), np.zeros(0)
        if self.known and not self._planar:
            across, down = geobox.pixel_steps()
            self._across, self._down = across, np.append(0.0, np.cumsum(down))

    def under(self, x: Floats, y: Floats, top: int) -> Floats:
        """Signed area in m2 between each step of a line and the upper edge of row ``top``, positive to the east.

        Args:
            x, y: float64 (n,), vertices in pixels (col, row).
            top: A row.

        Returns:
            float64 (n - 1,).
        """
        run = np.diff(x)
        if not self.known:
            return np.full(len(run), np.nan)
        if self.cell is not None:
            return np.asarray(run * (y[1:] + y[:-1] - 2 * top) * (self.cell / 2))
        depth = self._at(y, self._above - self._above[top])
        area = run * (depth[1:] + depth[:-1]) / 2
        if self._missing[-1]:
            area[(run != 0) & (self._at(np.maximum(y[1:], y[:-1]), self._missing) > self._missing[top])] = np.nan
        return np.asarray(area)

    def steps(self, x: Floats, y: Floats) -> Floats:
        """Length in metres of each step of a line; float64 (n - 1,) for n vertices in pixels (col, row)."""
        run, fall = np.diff(x), np.diff(y)
        if not self.known:
            return np.full(len(run), np.nan)
        if self._planar:
            t, unit = self._geobox.transform, self._geobox.unit_metres
            if t.b == 0 and t.d == 0:
                wide, deep = np.abs(run * (t.a * unit)), np.abs(fall * (t.e * unit))
                # Most steps are along rows or columns, and roots are slow.
                steep = np.flatnonzero(np.minimum(wide, deep) > 0)
                steps = wide + deep
                steps[steep] = np.hypot(wide[steep], deep[steep])
                return np.asarray(steps)
            return np.asarray(np.hypot(t.a * run + t.b * fall, t.d * run + t.e * fall) * unit)
        wide, deep = self._at(y, self._across), self._at(y, self._down)
        return np.asarray(np.hypot(run * (wide[1:] + wide[:-1]) / 2, np.diff(deep)))

    def _at(self, y: Floats, table: Floats) -> Floats:
        return np.asarray(np.interp(y, self._lines, table))
