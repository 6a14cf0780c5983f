"""Where to look: a plan that covers a raster with overlapping tiles.

Every tile reads one window and answers for another, its core. The cores cover each pixel exactly once. The origins of
the reading windows are multiples of the network's stride, counted from the raster's own (0, 0): a network that halves
the image five times sees the same phase in every tile, and so says the same as in one pass over the whole raster. The
last row and column of tiles are not shifted inward but end where the raster does, rounded up to the stride; at the edge
of the raster a tile has no halo, because one pass over the whole has none there either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rasterio.windows import Window

from .errors import OptionError


def round_up(value: int, step: int) -> int:
    """The smallest multiple of step that is not below value."""
    return -(-value // step) * step


@dataclass(frozen=True, slots=True)
class Tile:
    """One look at a raster.

    Args:
        index: (row, col) of the tile in its grid.
        read: Pixels that the network sees; reaches over the raster's right and bottom edge by less than a stride.
        core: Pixels that this tile answers for.
    """

    index: tuple[int, int]
    read: Window
    core: Window

    @property
    def pixels(self) -> int:
        """Number of pixels in the core."""
        return int(self.core.height * self.core.width)

    @property
    def crop(self) -> tuple[slice, slice]:
        """The core within the reading window, as (rows, cols)."""
        top, left = self.core.row_off - self.read.row_off, self.core.col_off - self.read.col_off
        return slice(top, top + self.core.height), slice(left, left + self.core.width)


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Covers a raster with tiles of one size.

    Args:
        shape: (height, width) of the raster in pixels.
        size: Side of a tile in pixels.
        halo: Pixels on each inner side of a tile that serve only as context; neighbours share twice as many.
        stride: Factor by which the network reduces the image; size and halo are multiples of it.
    """

    shape: tuple[int, int]
    size: int = 1024
    halo: int = 64
    stride: int = 32

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % self.stride or self.halo < 0 or self.halo % self.stride:
            raise OptionError(
                f"tile {self.size} and halo {self.halo} (half the overlap) must be multiples of the model's stride, "
                f"{self.stride} px; try tile {round_up(max(self.size, 1), self.stride)} and "
                f"overlap {2 * round_up(max(self.halo, 0), self.stride)}"
            )
        if self.size <= 2 * self.halo:
            raise OptionError(
                f"tile {self.size} is not larger than its overlap of {2 * self.halo} px; "
                f"the least that works is {2 * self.halo + self.stride} px, and four times the overlap is sensible"
            )

    @property
    def step(self) -> int:
        """Distance between the origins of neighbouring tiles, in pixels."""
        return self.size - 2 * self.halo

    @property
    def rows(self) -> int:
        """Number of rows of tiles."""
        return _count(self.shape[0], self.size, self.step)

    @property
    def cols(self) -> int:
        """Number of columns of tiles."""
        return _count(self.shape[1], self.size, self.step)

    def __len__(self) -> int:
        return self.rows * self.cols

    def __getitem__(self, index: tuple[int, int]) -> Tile:
        row, col = index
        (top, bottom), (first, last) = self._span(row, 0), self._span(col, 1)
        (core_top, core_bottom), (core_first, core_last) = self._core(row, 0), self._core(col, 1)
        return Tile(
            index,
            Window(first, top, last - first, bottom - top),
            Window(core_first, core_top, core_last - core_first, core_bottom - core_top),
        )

    def __iter__(self) -> Iterator[Tile]:
        for row in range(self.rows):
            for col in range(self.cols):
                yield self[row, col]

    def band(self, row: int) -> Window:
        """The cores of one row of tiles, joined: full width."""
        top, bottom = self._core(row, 0)
        return Window(0, top, self.shape[1], bottom - top)

    @property
    def tax(self) -> float:
        """Pixels that the network sees for each pixel of the raster; 1 is none twice."""
        seen = sum(self._span(i, 0)[1] - self._span(i, 0)[0] for i in range(self.rows)) * sum(
            self._span(i, 1)[1] - self._span(i, 1)[0] for i in range(self.cols)
        )
        return seen / (self.shape[0] * self.shape[1])

    def _span(self, index: int, axis: int) -> tuple[int, int]:
        start = index * self.step
        return start, min(start + self.size, round_up(self.shape[axis], self.stride))

    def _core(self, index: int, axis: int) -> tuple[int, int]:
        count = (self.rows, self.cols)[axis]
        start = index * self.step + (self.halo if index else 0)
        end = self.shape[axis] if index == count - 1 else (index + 1) * self.step + self.halo
        return start, end


def _count(length: int, size: int, step: int) -> int:
    return 1 + max(0, -(-(length - size) // step))
