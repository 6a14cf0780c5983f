"""How are polygons to be drawn? Lengths and sizes with their units, and the options in one value."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import GridError, OptionError
from .geobox import GeoBox

_QUANTITY = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\d\s]\S*)?")
_SQUARE_METRES = {"": 1.0, "m2": 1.0, "m²": 1.0, "ha": 1e4, "km2": 1e6, "km²": 1e6}


@dataclass(frozen=True, slots=True)
class Length:
    """A length on a raster's grid.

    Args:
        value: Not negative.
        unit: "px" for pixels, "m" for metres on the ground, "" for units of the CRS (degrees where it is geographic,
            those of the transform where there is none).
    """

    value: float
    unit: Literal["", "px", "m"] = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise OptionError(f"{self}: a length must be a number that is not negative")

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"

    @classmethod
    def parse(cls, text: str | float | Length) -> Length:
        """The length that a text such as "2px", "1.5" or "3m" says.

        Raises:
            OptionError: It says none.
        """
        if isinstance(text, Length):
            return text
        value, unit = _quantity(text)
        if unit not in ("", "px", "m"):
            raise OptionError(f"{text} is no length; say pixels as 2px, metres as 3m, units of the CRS as a plain 1.5")
        return cls(value, unit)  # type: ignore[arg-type]

    def in_pixels(self, geobox: GeoBox, at_most: bool = False) -> float:
        """The length in pixels of a grid.

        Args:
            geobox: The grid; the ground is measured in its middle.
            at_most: Where pixels are no squares, count their longer side, so that no way of so many pixels is longer
                than this; otherwise the side of a square of their area.

        Raises:
            GridError: The length is in metres, and nothing is known of metres on this grid.
        """
        if self.unit == "px":
            return self.value
        size = geobox.resolution
        if self.unit == "m":
            ground = geobox.ground_resolution
            if ground is None:
                raise GridError(f"{self} cannot be measured, as the raster has {_lack(geobox)}; say it in pixels: 2px")
            size = ground
            return self.value / (max(size) if at_most else math.sqrt(size[0] * size[1]))
        return self.value / (max(size) if at_most else math.sqrt(abs(geobox.transform.determinant)))


@dataclass(frozen=True, slots=True)
class Size:
    """An area on a raster's grid.

    Args:
        value: Not negative.
        unit: "m2" for square metres on the ground, "px" for pixels.
    """

    value: float
    unit: Literal["m2", "px"] = "m2"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise OptionError(f"{self}: an area must be a number that is not negative")

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"

    @classmethod
    def parse(cls, text: str | float | Size) -> Size:
        """The area that a text such as "100px", "50" (square metres), "50m2", "0.5ha" or "1km2" says.

        Raises:
            OptionError: It says none.
        """
        if isinstance(text, Size):
            return text
        value, unit = _quantity(text)
        if unit == "px":
            return cls(value, "px")
        if unit not in _SQUARE_METRES:
            raise OptionError(f"{text} is no area; say pixels as 100px, square metres as 50, or 0.5ha, or 1km2")
        return cls(value * _SQUARE_METRES[unit])

    def row_weights(self, geobox: GeoBox) -> NDArray[np.float64] | None:
        """What one pixel of each row counts towards this area, float64 (height,); None where it is 1 everywhere.

        NaN where a row lies beyond a pole.

        Raises:
            GridError: The area is in square metres, and nothing is known of metres on this grid.
        """
        if self.unit == "px":
            return None
        areas = geobox.row_areas(range(geobox.shape[0]))
        if areas is None:
            raise GridError(f"{self} cannot be measured, as the raster has {_lack(geobox)}; say it in pixels: 100px")
        return areas


@dataclass(frozen=True, slots=True)
class Shapes:
    """How polygons are drawn. The default is every patch of pixels as it is.

    Patches are taken off first (``sieve``, then ``min_area``), then borders are simplified, then smoothed.

    Args:
        simplify: Corners go whose triangle with their neighbours is no larger than the square of this (Visvalingam and
            Whyatt 1993); a border is moved once, for both of its sides.
        smooth: Corners are cut, at most this far from where they are.
        min_area: Polygons smaller than this are small.
        small: What happens to small polygons: "merge" gives them to the neighbour with the longest shared border (those
            with no neighbour stay), "drop" leaves holes, "keep" only counts them.
        sieve: Patches of fewer pixels are given to the neighbour with the longest shared border.
        skip: Classes that give no polygons, by value or name; they are neighbours all the same.
        split: Cut polygons along a grid of so many pixels, counted from the first that is looked at: what spans a whole
            scene comes in pieces, and takes the memory of a piece.
        dissolve: One multipolygon a class; all polygons are held in memory for it.
    """

    simplify: Length | None = None
    smooth: Length | None = None
    min_area: Size | None = None
    small: Literal["merge", "drop", "keep"] = "merge"
    sieve: int = 0
    skip: tuple[int | str, ...] = ()
    split: int | None = None
    dissolve: bool = False

    def __post_init__(self) -> None:
        if self.small not in ("merge", "drop", "keep"):
            raise OptionError(f"small polygons can be merged, dropped or kept (merge, drop, keep), not {self.small!r}")
        if self.small != "merge" and self.min_area is None:
            raise OptionError(f"small polygons are to be handled by {self.small!r}; say how small with --min-area")
        if self.sieve < 0:
            raise OptionError(f"--sieve {self.sieve}: the number of pixels must not be negative")
        if self.split is not None and self.split < 1:
            raise OptionError(f"--split {self.split}: the number of pixels must be 1 or more")
        if self.split is not None and self.dissolve:
            raise OptionError("--split cuts what --dissolve would join again; choose one of them")


def _quantity(text: str | float) -> tuple[float, str]:
    """(number, unit in lower case) of a text."""
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None:
        raise OptionError(f"{str(text)!r} is no number with a unit, such as 2px")
    return float(found[1]), (found[2] or "").lower()


def _lack(geobox: GeoBox) -> str:
    return "no CRS" if geobox.crs is None else "no size on the ground in its middle"
