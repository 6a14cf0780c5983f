"""Which windows are learnt from? Each is drawn by its number alone, so that a resumed training draws the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch.nn import functional

from rs_segment.card import Scaling
from rs_segment.dataset import Part, Survey
from rs_segment.types import NODATA

from ..scaling import scaled
from .augment import radiometry, turned, zoom
from .recipe import Recipe

_CPU = torch.device("cpu")
Chip = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Draws windows for training.

    Args:
        parts: Rectangles of images to draw from.
        shares: (part,), how often each is chosen: by the root of its size, so that small images count.
        places: For each class, cells that hold it, as ``Survey.places``; and how often the class is chosen: by the root
            of its share, half-way between as it comes and all alike.
        class_shares: (class,).
        cell: Side of a cell in pixels.
        scaling: Of the pixels.
        spread: Standard deviation of scaled pixels.
        recipe: Size, augmentation, balance, seed.
    """

    parts: tuple[Part, ...]
    shares: NDArray[np.float64]
    places: tuple[NDArray[np.int64], ...]
    class_shares: NDArray[np.float64]
    cell: int
    scaling: Scaling
    spread: float
    recipe: Recipe

    @classmethod
    def of(cls, parts: Sequence[Part], survey: Survey, classes: int, scaling: Scaling, recipe: Recipe) -> Sampler:
        """The sampler of some parts."""
        sizes = np.sqrt([p.window.width * p.window.height for p in parts])
        places = tuple(survey.places(value, parts) for value in range(classes))
        found = np.sqrt([float(p[:, 3].sum()) for p in places])
        spread = 1.0 if scaling.kind == "z-score" else _spread(survey, scaling)
        chosen = found / found.sum() if found.any() else found
        return cls(tuple(parts), sizes / sizes.sum(), places, chosen, survey.cell, scaling, spread, recipe)

    @property
    def pixels(self) -> int:
        """Pixels of all parts."""
        return int(sum(p.window.width * p.window.height for p in self.parts))

    def draw(self, step: int, index: int) -> Chip:
        """The window of a step and a place in its batch.

        Returns:
            float32 (band, row, col) as the network reads it, and int64 (row, col) labels, 255 where there are none.
        """
        size, names = self.recipe.size, self.recipe.augment
        rng, factor, part, window = self._chosen(step, index)
        sample = part.pair.read(window)
        pixels = scaled(sample.pixels[None], sample.valid[None], self.scaling, _CPU)
        labels = torch.from_numpy(sample.labels)[None, None].float()
        valid = torch.from_numpy(sample.valid)[None, None].float()
        if factor != 1:
            shape = tuple(min(size, max(1, round(side * factor))) for side in labels.shape[2:])
            pixels = functional.interpolate(pixels, shape, mode="bilinear", antialias=factor < 1)
            labels = functional.interpolate(labels, shape, mode="nearest-exact")
            valid = functional.interpolate(valid, shape, mode="nearest-exact")
        seen = valid[0, 0] > 0
        chip = radiometry(pixels[0] * seen, seen, self.spread, names, rng)
        rows, cols = chip.shape[1:]
        top, left = int(rng.integers(size - rows + 1)), int(rng.integers(size - cols + 1))
        around = (left, size - cols - left, top, size - rows - top)
        chip, marks = functional.pad(chip, around), functional.pad(labels[0, 0], around, value=float(NODATA))
        return turned(chip, marks.long(), names, rng)

    def source(self, step: int, index: int) -> str:
        """Name of the image that the window of a step and a place in its batch is drawn from."""
        return self._chosen(step, index)[2].pair.name

    def _chosen(self, step: int, index: int) -> tuple[np.random.Generator, float, Part, Window]:
        """What is drawn first: by how much the window is enlarged, and where it lies; and what draws the rest."""
        rng = np.random.default_rng((self.recipe.seed, step, index))
        factor = zoom(self.recipe.augment, rng)
        return rng, factor, *self._window(max(1, round(self.recipe.size / factor)), rng)

    def _window(self, side: int, rng: np.random.Generator) -> tuple[Part, Window]:
        """A part and a window in it, of that side or as large as the part."""
        around = rng.random() < self.recipe.balance and bool(self.class_shares.any())
        if around:
            places = self.places[int(rng.choice(len(self.class_shares), p=self.class_shares))]
            index, row, col, _ = (int(v) for v in places[rng.integers(len(places))])
            row, col = row + int(rng.integers(self.cell)), col + int(rng.integers(self.cell))
        else:
            index, row, col = int(rng.choice(len(self.parts), p=self.shares)), 0, 0
        part = self.parts[index]
        w = part.window
        height, width = min(side, w.height), min(side, w.width)
        if around:
            top, left = row - int(rng.integers(height)), col - int(rng.integers(width))
        else:
            top = w.row_off + int(rng.integers(w.height - height + 1))
            left = w.col_off + int(rng.integers(w.width - width + 1))
        top = min(max(top, w.row_off), w.row_off + w.height - height)
        left = min(max(left, w.col_off), w.col_off + w.width - width)
        return part, Window(left, top, width, height)


def batch_of(chips: Sequence[Chip]) -> Chip:
    """Windows in one tensor, and their labels."""
    return torch.stack([c[0] for c in chips]), torch.stack([c[1] for c in chips])


def _spread(survey: Survey, scaling: Scaling) -> float:
    """Standard deviation of scaled pixels, mean of the bands."""
    std = survey.moments.std
    _, factor = scaling.linear(len(std))
    return float((std * factor).mean()) or 1.0
