"""How do overlapping tiles become one map?

``exact`` takes each pixel from the one tile that holds it in its core. ``blend`` averages the probabilities of tiles
that overlap, with weights that sum to one by construction, so that nothing has to be divided and nothing fades at the
scene's edge. Both give whole row bands from top to bottom and keep no more than a row of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from .errors import OptionError
from .tiles import Tile, TileGrid
from .types import NODATA, Mask, Pixels, Prediction, Predictor


@dataclass(frozen=True, slots=True)
class Look:
    """What was read through a tile; ``pixels`` is None where the network has nothing to do.

    Args:
        tile: Where.
        pixels: (band, row, col) under ``tile.read``, or None.
        valid: (row, col) under ``tile.read``, or None.
    """

    tile: Tile
    pixels: Pixels | None = None
    valid: Mask | None = None

    @property
    def work(self) -> int:
        """Pixels of the core, counted by progress bars."""
        return self.tile.pixels


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which predictions are kept: the confidence of each label, the probability of each class."""

    confidence: bool = False
    probabilities: bool = False

    @property
    def probs(self) -> bool:
        """Whether scores must be probabilities."""
        return self.confidence or self.probabilities


@dataclass(frozen=True, slots=True)
class Band:
    """Predictions of some full rows of the grid.

    Args:
        window: Which rows.
        prediction: (row, col) labels and what else is wanted; ``NODATA`` where nothing is known.
    """

    window: Window
    prediction: Prediction

    @classmethod
    def empty(cls, window: Window, classes: int, wanted: Wanted) -> Band:
        """A band that knows nothing yet."""
        shape = int(window.height), int(window.width)
        return cls(
            window,
            Prediction(
                np.full(shape, NODATA, np.uint8),
                np.full(shape, NODATA, np.uint8) if wanted.confidence else None,
                np.full((classes, *shape), NODATA, np.uint8) if wanted.probabilities else None,
            ),
        )

    def put(self, window: Window, found: Prediction, valid: Mask) -> None:
        """Fill in the predictions under a window of the grid, where pixels are valid."""
        top, left = window.row_off - self.window.row_off, window.col_off - self.window.col_off
        place = slice(top, top + window.height), slice(left, left + window.width)
        for mine, new in (
            (self.prediction.labels, found.labels),
            (self.prediction.confidence, found.confidence),
            (self.prediction.probabilities, found.probabilities),
        ):
            if mine is not None and new is not None:
                np.copyto(mine[..., place[0], place[1]], new, where=valid)

    def below(self, row: int) -> Band | None:
        """The part of the band from a row of the grid on; None where there is none."""
        skip = row - self.window.row_off
        if skip <= 0:
            return self
        if skip >= self.window.height:
            return None
        rest = Window(0, row, self.window.width, self.window.height - skip)
        return Band(rest, self.prediction.map(lambda values: values[..., skip:, :]))


Stitcher = Callable[[TileGrid, Iterable[Look], Predictor, Wanted], Iterator[Band]]


def exact(grid: TileGrid, looks: Iterable[Look], predictor: Predictor, wanted: Wanted) -> Iterator[Band]:
    """Bands in which each pixel comes from the one tile that holds it in its core.

    Args:
        grid: The plan.
        looks: One for each tile, row by row; may begin at any row of tiles.
        predictor: Gives the scores.
        wanted: What to keep.
    """
    classes = len(predictor.card.classes)
    for row, in_row in groupby(looks, key=lambda look: look.tile.index[0]):
        band = Band.empty(grid.band(row), classes, wanted)
        for look, scores in _scored(in_row, predictor, wanted.probs):
            if scores is None or look.valid is None:
                continue
            rows, cols = look.tile.crop
            found = predictor.labels(scores[:, rows, cols], wanted.probs, wanted.probabilities)
            band.put(look.tile.core, found, look.valid[rows, cols])
        yield band


def blend(grid: TileGrid, looks: Iterable[Look], predictor: Predictor, wanted: Wanted) -> Iterator[Band]:
    """Bands of weighted means of the probabilities of overlapping tiles.

    Across the overlap the weights of two neighbours are raised cosines taken at the middle of the pixels, which add
    up to one; at the scene's edge a tile weighs one. Sums are float32 on the predictor's device. What a row of tiles
    leaves unfinished, as many rows as the overlap, is carried to the next.

    Args: As for ``exact``; to begin at a row, the row above it has to be looked at as well, and its band dropped.
    """
    if grid.step < 2 * grid.halo:
        raise OptionError(f"to blend an overlap of {2 * grid.halo} px, tiles must be at least {4 * grid.halo} px wide")
    classes = len(predictor.card.classes)
    above: dict[int, Any] = {}
    for row, in_row in groupby(looks, key=lambda look: look.tile.index[0]):
        band = Band.empty(_blended(grid, row, 0), classes, wanted)
        below: dict[int, Any] = {}
        left: Any = None
        for look, scores in _scored(in_row, predictor, probs=True):
            col = look.tile.index[1]
            weighted = None if scores is None else scores * predictor.weight(_weights(grid, look.tile))
            weighted, left = _pass_on(weighted, left, grid, col, axis=2)
            finished, below[col] = _pass_on(weighted, above.get(col), grid, row, axis=1)
            window = _blended_tile(grid, row, col)
            if finished is not None and look.valid is not None:
                found = predictor.labels(finished[:, : window.height, : window.width], True, wanted.probabilities)
                band.put(window, found, _valid_under(look, window))
        above = below
        yield band


STITCHERS: dict[str, Stitcher] = {"exact": exact, "blend": blend}


def finished(mode: str, grid: TileGrid, row: int) -> Window:
    """The rows of pixels that are finished once a row of tiles is."""
    return grid.band(row) if mode == "exact" else _blended(grid, row, 0)


def _scored(looks: Iterable[Look], predictor: Predictor, probs: bool) -> Iterator[tuple[Look, Any]]:
    """Each look with its scores (class, row, col), or None; predicted in batches of equal shapes, in order."""
    waiting: list[Look] = []
    ready: list[Look] = []

    def shape(look: Look) -> tuple[int, ...]:
        return () if look.pixels is None else look.pixels.shape

    def flush() -> Iterator[tuple[Look, Any]]:
        if ready:
            pixels = np.stack([look.pixels for look in ready if look.pixels is not None])
            valid = np.stack([look.valid for look in ready if look.valid is not None])
            scores = iter(predictor.scores(pixels, valid, probs))  # (n, class, row, col)
            yield from ((look, None if look.pixels is None else next(scores)) for look in waiting)
        else:
            yield from ((look, None) for look in waiting)
        waiting.clear()
        ready.clear()

    for look in looks:
        if ready and look.pixels is not None and (shape(look) != shape(ready[0]) or len(ready) >= predictor.batch):
            yield from flush()
        waiting.append(look)
        if look.pixels is not None:
            ready.append(look)
    yield from flush()


def _weights(grid: TileGrid, tile: Tile) -> NDArray[np.float32]:
    """The blending window of a tile, float32 (row, col)."""
    down = _ramp(tile.read.height, 2 * grid.halo, tile.index[0] > 0, tile.index[0] < grid.rows - 1)
    across = _ramp(tile.read.width, 2 * grid.halo, tile.index[1] > 0, tile.index[1] < grid.cols - 1)
    return (down[:, None] * across[None, :]).astype(np.float32)


def _ramp(length: int, overlap: int, before: bool, after: bool) -> NDArray[np.float64]:
    """Weights along one axis: a raised cosine over the overlap with a neighbour, one elsewhere."""
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1))
    weights = np.ones(length)
    if before:
        weights[:overlap] = rise
    if after and overlap:
        weights[-overlap:] = 1 - rise
    return weights


def _blended(grid: TileGrid, index: int, axis: int) -> Window:
    """The rows (or columns) that are finished once a row (or column) of tiles is: no later tile reaches them."""
    count = (grid.rows, grid.cols)[axis]
    start = index * grid.step
    end = grid.shape[axis] if index == count - 1 else start + grid.step
    if axis == 0:
        return Window(0, start, grid.shape[1], end - start)
    return Window(start, 0, end - start, grid.shape[0])


def _blended_tile(grid: TileGrid, row: int, col: int) -> Window:
    rows, cols = _blended(grid, row, 0), _blended(grid, col, 1)
    return Window(cols.col_off, rows.row_off, cols.width, rows.height)


def _pass_on(scores: Any, carried: Any, grid: TileGrid, index: int, axis: int) -> tuple[Any, Any]:
    """(What is finished along an axis, what the next tile has to add to).

    A tile that was not scored holds no pixel that anybody wants, so what was carried into it is dropped.
    """
    if scores is None:
        return None, None
    cut = (slice(None),) * axis
    if carried is not None:
        scores[(*cut, slice(0, carried.shape[axis]))] += carried
    if index == (grid.rows, grid.cols)[axis - 1] - 1:
        return scores, None
    return scores[(*cut, slice(0, grid.step))], scores[(*cut, slice(grid.step, None))]


def _valid_under(look: Look, window: Window) -> Mask:
    assert look.valid is not None
    top, left = window.row_off - look.tile.read.row_off, window.col_off - look.tile.read.col_off
    return look.valid[top : top + window.height, left : left + window.width]
