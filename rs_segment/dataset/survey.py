"""What is in a training set: how much of which class, where, and which pixel values?

One pass over all images and labels answers it all. Places are kept on a coarse grid, so that windows can be drawn where
a rare class is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..card import Scaling
from ..errors import DatasetError
from ..pipeline import ahead
from ..types import Labels, Track, silent
from .pair import SIDE, Pair, Part, Polygons, Sample
from .spec import ClassSpec, Label

CELL = 64
_MOST_CELLS = 1 << 21
_DRAWN = 1 << 20
QUANTILES = (2, 50, 98)
"""Percentiles of the pixel values that are known."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Statistics of valid pixels, (band,) each, that can be added.

    Args:
        count: Number of pixels.
        mean: Of the values.
        spread: Sum of squared differences from the mean.
        low, high: Smallest and largest value.
    """

    count: int
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Moments:
        """The statistics of values, (band, pixel)."""
        bands, count = values.shape
        if count == 0:
            zero = np.zeros(bands)
            return cls(0, zero, zero, zero + np.inf, zero - np.inf)
        if values.dtype in (np.uint8, np.uint16):
            return cls._counted(values)
        mean = values.mean(axis=1, dtype=np.float64)
        spread = np.array([np.square(v - m).sum(dtype=np.float64) for v, m in zip(values, mean, strict=True)])
        low, high = values.min(axis=1).astype(np.float64), values.max(axis=1).astype(np.float64)
        return cls(count, mean, spread, low, high)

    @classmethod
    def _counted(cls, values: NDArray[Any]) -> Moments:
        """The same by how often each value is there, which is several times as fast."""
        size = np.iinfo(values.dtype).max + 1
        counts = np.array([np.bincount(band, minlength=size) for band in values])
        levels = np.arange(size, dtype=np.float64)
        mean = counts @ levels / values.shape[1]
        spread = np.array([c @ np.square(levels - m) for c, m in zip(counts, mean, strict=True)])
        there = counts > 0
        low, high = there.argmax(axis=1), size - 1 - there[:, ::-1].argmax(axis=1)
        return cls(values.shape[1], mean, spread, low.astype(np.float64), high.astype(np.float64))

    def __add__(self, other: Moments) -> Moments:
        """The statistics of both (Chan, Golub & LeVeque 1983, Algorithms for computing the sample variance)."""
        total = self.count + other.count
        share = other.count / max(total, 1)
        apart = other.mean - self.mean
        return Moments(
            total,
            self.mean + apart * share,
            self.spread + other.spread + apart**2 * share * self.count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of the pixels."""
        return np.asarray(np.sqrt(self.spread / max(self.count, 1)))


@dataclass(frozen=True, slots=True)
class PairSurvey:
    """What one pair holds.

    Args:
        name: Of the pair.
        cells: int32 (cell row, cell col, class), pixels of each class in each cell of ``Survey.cell`` pixels.
        unlabelled: Pixels that hold data but no label.
        missing: Pixels that hold no data.
        hectares: (class,), NaN where the pair is not georeferenced.
        moments: Of its valid pixels.
        strange: How often each label occurs that no class has: pixels, or polygons where labels are such.
    """

    name: str
    cells: NDArray[np.int32]
    unlabelled: int
    missing: int
    hectares: NDArray[np.float64]
    moments: Moments
    strange: Mapping[Label, int]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Pixels of each class, (class,)."""
        return np.asarray(self.cells.sum(axis=(0, 1), dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Survey:
    """What all pairs hold.

    Args:
        cell: Side of a cell in pixels.
        pairs: In the order of the data set.
        quantiles: (percentile, band), those of ``QUANTILES``; from an even sample of about a million pixels.
    """

    cell: int
    pairs: tuple[PairSurvey, ...]
    quantiles: NDArray[np.float64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Pixels of each class, (class,)."""
        return np.asarray(np.sum([p.counts for p in self.pairs], axis=0, dtype=np.int64))

    @property
    def moments(self) -> Moments:
        """Statistics of all valid pixels."""
        total = self.pairs[0].moments
        for pair in self.pairs[1:]:
            total += pair.moments
        return total

    def of(self, pairs: Iterable[Pair]) -> Survey:
        """What some of the pairs hold; the quantiles stay those of all."""
        names = {pair.name for pair in pairs}
        return Survey(self.cell, tuple(p for p in self.pairs if p.name in names), self.quantiles)

    def scaling(self) -> Scaling:
        """Mean and standard deviation of each band; a band that is the same everywhere is only shifted."""
        found = self.moments
        std = np.where(found.std > 0, found.std, 1.0)
        return Scaling("z-score", tuple(map(float, found.mean)), tuple(map(float, std)))

    def balanced(self) -> tuple[float, ...]:
        """A weight for each class, such that all weigh the same together and a pixel weighs 1 on average.

        Pixels / (classes that occur x pixels of the class); 0 for a class that does not occur. (King & Zeng 2001,
        Logistic regression in rare events data.)
        """
        counts = self.counts
        there = max(1, int((counts > 0).sum()))
        weights = np.where(counts > 0, counts.sum() / (there * np.maximum(counts, 1)), 0.0)
        return tuple(float(w) for w in weights)

    def places(self, value: int, parts: Sequence[Part]) -> NDArray[np.int64]:
        """Where a class is: (n, 4) index of the part, row and column of a cell in the pair's pixels, pixels in it.

        A cell belongs to a part if its middle lies in it.
        """
        known = {p.name: p.cells for p in self.pairs}
        found = []
        for index, part in enumerate(parts):
            w, half = part.window, self.cell / 2
            top, left = (max(0, int(np.ceil((o - half) / self.cell))) for o in (w.row_off, w.col_off))
            ends = (w.row_off + w.height, w.col_off + w.width)
            bottom, right = (int(np.ceil((end - half) / self.cell)) for end in ends)
            # The last cell of an image may be narrow, with its middle beyond the edge.
            bottom, right = (
                max(e, -(-size // self.cell) if end >= size else 0)
                for e, end, size in zip((bottom, right), ends, part.pair.shape, strict=True)
            )
            cells = known[part.pair.name][top:bottom, left:right, value]
            rows, cols = np.nonzero(cells)
            where = np.stack([np.full(len(rows), index), rows + top, cols + left, cells[rows, cols]], axis=1)
            found.append(where.astype(np.int64) * (1, self.cell, self.cell, 1))
        return np.concatenate(found) if found else np.zeros((0, 4), np.int64)

    def refuse_untrainable(self, classes: Sequence[ClassSpec]) -> None:
        """Raises ``DatasetError`` where labels do not tell two classes apart, or no pixel is valid."""
        counts = self.counts
        there = [c.name for c, n in zip(classes, counts.tolist(), strict=True) if n]
        if len(there) < 2:
            told = f"all labelled pixels are {there[0]}" if there else "no pixel has a label"
            raise DatasetError(f"{told}, so there is nothing to tell apart; a network needs two classes at least")


def take_survey(pairs: Sequence[Pair], threads: int, track: Track = silent) -> Survey:
    """What pairs hold, in one pass over their pixels.

    Raises:
        SceneError: A block cannot be decoded.
        DatasetError: Labels cannot be placed, or are no whole numbers.
    """
    total = sum(p.shape[0] * p.shape[1] for p in pairs)
    cell = CELL
    while total / cell**2 * max(1, pairs[0].legend.count) > 8 * _MOST_CELLS:
        cell *= 2
    step = max(1, total // _DRAWN)
    jobs = [Part(pair, window) for pair in pairs for window in pair.windows(max(SIDE, cell))]

    def look(part: Part) -> tuple[Part, _Look]:
        return part, _look(part, cell, step)

    looks: dict[str, list[tuple[Part, _Look]]] = {p.name: [] for p in pairs}
    drawn: list[NDArray[Any]] = []
    for job in track(map(_Done, ahead(look, jobs, threads, 2 * threads)), total, "survey"):
        part, found = job.found
        looks[part.pair.name].append((part, found))
        drawn.append(found.drawn)
    values = np.concatenate(drawn, axis=1).astype(np.float64)
    quantiles = np.percentile(values, QUANTILES, axis=1) if values.size else np.zeros((len(QUANTILES), len(values)))
    return Survey(cell, tuple(_join(pair, looks[pair.name], cell) for pair in pairs), quantiles)


@dataclass(frozen=True, slots=True)
class _Look:
    cells: NDArray[np.int32]
    missing: int
    unlabelled: int
    hectares: NDArray[np.float64]
    moments: Moments
    drawn: NDArray[Any]
    strange: Mapping[Label, int]


@dataclass(frozen=True, slots=True)
class _Done:
    found: tuple[Part, _Look]

    @property
    def work(self) -> int:
        return self.found[0].work


def _look(part: Part, cell: int, step: int) -> _Look:
    strange: dict[Label, int] = {}
    sample: Sample = part.pair.read(part.window, strange)
    count = part.pair.legend.count
    values = sample.pixels.reshape(len(sample.pixels), -1)
    if not sample.valid.all():
        values = values[:, sample.valid.ravel()]
    valid = int(sample.valid.sum())
    cells = _cells(sample.labels, cell, count)
    return _Look(
        cells,
        sample.valid.size - valid,
        valid - int(cells.sum()),
        _hectares(part.pair, part.window, sample.labels, count),
        Moments.of(values),
        values[:, ::step].copy(),
        strange,
    )


def _cells(labels: Labels, cell: int, count: int) -> NDArray[np.int32]:
    """Pixels of each class in each cell."""
    rows, cols = labels.shape
    down, across = -(-rows // cell), -(-cols // cell)
    place = (np.arange(rows) // cell * across)[:, None] + np.arange(cols) // cell
    found = np.bincount((place * 256 + labels).ravel(), minlength=down * across * 256)
    return found.reshape(down, across, 256)[:, :, :count].astype(np.int32)


def _hectares(pair: Pair, window: Window, labels: Labels, count: int) -> NDArray[np.float64]:
    areas = pair.geobox.row_areas(range(window.row_off, window.row_off + window.height))
    if areas is None:
        return np.full(count, np.nan)
    if len(areas) and (areas == areas[0]).all():
        return np.asarray(np.bincount(labels.ravel(), minlength=256)[:count] * (areas[0] / 10_000))
    return np.array([(labels == value).sum(axis=1) @ areas / 10_000 for value in range(count)])


def _join(pair: Pair, looks: Sequence[tuple[Part, _Look]], cell: int) -> PairSurvey:
    rows, cols = pair.shape
    cells = np.zeros((-(-rows // cell), -(-cols // cell), pair.legend.count), np.int32)
    moments = looks[0][1].moments
    strange: dict[Label, int] = {}
    for i, (part, found) in enumerate(looks):
        row, col = part.window.row_off // cell, part.window.col_off // cell
        cells[row : row + found.cells.shape[0], col : col + found.cells.shape[1]] = found.cells
        moments = moments + found.moments if i else moments
        for label, n in found.strange.items():
            # Polygons are counted as such, and are met in every window.
            strange[label] = n if isinstance(pair.labels, Polygons) else strange.get(label, 0) + n
    return PairSurvey(
        pair.name,
        cells,
        sum(f.unlabelled for _, f in looks),
        sum(f.missing for _, f in looks),
        np.sum([f.hectares for _, f in looks], axis=0),
        moments,
        strange,
    )
