"""Do the labels lie where they should? Samples of a training set, each beside itself with its labels over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..lettering import HEIGHT, legend, shortened, write
from ..pictures import BLANK, Rgb, as_rgb, overlaid
from ..types import NODATA, Labels, Mask
from .dataset import Dataset
from .pair import Part
from .survey import Survey

SIDE = 320
ACROSS = 2
_GAP = 12
_DOT = 2
_STRIPE = 8
UNLABELLED = (255, 0, 200)
"""Colour of the stripes over pixels without a label."""


def sample_picture(dataset: Dataset, survey: Survey, count: int = 8) -> Rgb:
    """uint8 (row, col, 3): samples in which every class is seen, with a legend.

    Args:
        dataset: The training set.
        survey: What it holds.
        count: How many samples, of ``SIDE`` pixels.
    """
    parts = choose(dataset, survey, count)
    low, high = survey.quantiles[0], survey.quantiles[-1]
    shown = _natural_colors(dataset)
    limits = None if dataset.dtype == "uint8" else (low[shown], np.maximum(high, low + 1e-12)[shown])
    tiles = []
    for value, part in parts:
        sample = part.pair.read(part.window)
        image = as_rgb(sample.pixels, sample.valid, shown, limits)
        over = striped(overlaid(image, sample.labels, dataset.classes), sample.labels)
        title = part.pair.name if value is None else f"{part.pair.name}: {dataset.classes[value].name}"
        tiles.append(_tile(image, over, title))
    rows = [np.concatenate(_filled(tiles[i : i + ACROSS]), axis=1) for i in range(0, len(tiles), ACROSS)]
    counts = survey.counts
    entries = [
        (c.rgb, f"{c.name} {n / max(1, counts.sum()):.1%}") for c, n in zip(dataset.classes, counts, strict=True)
    ]
    width = rows[0].shape[1] if rows else 2 * SIDE
    key = legend([*entries, (UNLABELLED, "no label")], width - 2 * _GAP, _DOT)
    framed = np.full((key.shape[0] + 2 * _GAP, width, 3), BLANK, np.uint8)
    framed[_GAP:-_GAP, _GAP:-_GAP] = key
    return np.concatenate([*rows, framed])


def _natural_colors(dataset: Dataset) -> list[int]:
    """Positions of the bands that are called red, green and blue; of the first three, or the first, where none are."""
    names = [name.lower() for name in dataset.band_names]
    if {"red", "green", "blue"} <= set(names):
        return [names.index(name) for name in ("red", "green", "blue")]
    return [0, 1, 2] if dataset.bands >= 3 else [0, 0, 0]


def choose(dataset: Dataset, survey: Survey, count: int) -> list[tuple[int | None, Part]]:
    """(class, part) of each sample: where there is most of each class, the rarest first, from different images."""
    wholes = [Part.of(pair) for pair in dataset.pairs]
    counts = survey.counts
    there = [int(v) for v in np.argsort(counts, kind="stable") if counts[v]]
    if not there:
        return [(None, _around(part, part.window.height // 2, part.window.width // 2)) for part in wholes[:count]]
    used: dict[str, int] = {}
    found: list[tuple[int | None, Part]] = []
    for turn in range(count):
        value = there[turn % len(there)]
        places = survey.places(value, wholes)
        places = places[_apart(places, [part for _, part in found], wholes)]
        if len(places) == 0:
            continue
        # Fewest samples of its group so far, then of its image, then most of the class.
        groups = np.array([used.get(w.pair.group, 0) for w in wholes])[places[:, 0]]
        images = np.array([used.get(f"/{w.pair.name}", 0) for w in wholes])[places[:, 0]]
        best = places[np.lexsort((-places[:, 3], images, groups))[0]]
        part = wholes[best[0]]
        for key in (part.pair.group, f"/{part.pair.name}"):
            used[key] = used.get(key, 0) + 1
        found.append((value, _around(part, int(best[1]) + survey.cell // 2, int(best[2]) + survey.cell // 2)))
    return found


def _apart(places: NDArray[np.int64], chosen: Sequence[Part], wholes: Sequence[Part]) -> Mask:
    """Which of the places are not in a sample that is already chosen."""
    apart = np.ones(len(places), np.bool_)
    for part in chosen:
        index = next(i for i, whole in enumerate(wholes) if whole.pair.name == part.pair.name)
        row, col = places[:, 1] - part.window.row_off, places[:, 2] - part.window.col_off
        inside = (row >= 0) & (row < part.window.height) & (col >= 0) & (col < part.window.width)
        apart &= ~(inside & (places[:, 0] == index))
    return apart


def striped(picture: Rgb, labels: Labels) -> Rgb:
    """A picture with stripes where there is no label."""
    rows, cols = np.indices(labels.shape)
    stripes = (labels == NODATA) & ((rows + cols) % _STRIPE < 2)
    return np.where(stripes[..., None], np.array(UNLABELLED, np.uint8), picture)


def _around(part: Part, row: int, col: int) -> Part:
    rows, cols = part.pair.shape
    tall, wide = min(SIDE, rows), min(SIDE, cols)
    top, left = (
        int(np.clip(at - size // 2, 0, end - size)) for at, size, end in ((row, tall, rows), (col, wide, cols))
    )
    return Part(part.pair, Window(left, top, wide, tall))


def _tile(image: Rgb, over: Rgb, title: str) -> Rgb:
    """Both pictures side by side under a title; small ones are shown larger."""
    times = max(1, SIDE // max(image.shape[:2]))
    image, over = (np.repeat(np.repeat(p, times, axis=0), times, axis=1) for p in (image, over))
    head = HEIGHT * _DOT + _GAP
    tile = np.full((head + SIDE + _GAP, 2 * SIDE + 2 * _GAP, 3), BLANK, np.uint8)
    write(tile, shortened(title, tile.shape[1] - 2 * _GAP, _DOT), _GAP // 2, _GAP, _DOT)
    for left, picture in ((_GAP, image), (_GAP + SIDE + 4, over)):
        height, width = picture.shape[:2]
        tile[head : head + height, left : left + width] = picture
    return tile


def _filled(tiles: Sequence[Rgb]) -> list[NDArray[np.uint8]]:
    return [*tiles, *(np.full_like(tiles[0], 255) for _ in range(ACROSS - len(tiles)))]
