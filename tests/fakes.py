"""Rasters that are small, odd and ugly, and a network that needs no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from rs_segment.card import ClassInfo, ModelCard, Scaling
from rs_segment.errors import CancelledError
from rs_segment.types import PROBABILITY_STEPS, Prediction

NORTH_UP = Affine(0.5, 0, 300000, 0, -0.5, 2800000)
SOUTH_UP = Affine(0.5, 0, 300000, 0, 0.5, 2800000)
ROTATED = Affine.translation(300000, 2800000) * Affine.rotation(33) * Affine.scale(0.5, -0.5)
COLORS = ("#3C1098", "#8429F6", "#6EC1E4", "#FEDD3A", "#E2A929", "#9B9B9B", "#112233")


def make_card(bands: int = 3, classes: int = 4, **fields: Any) -> ModelCard:
    """A card for the network below."""
    names = ("red", "green", "blue") if bands == 3 else tuple(f"b{i + 1}" for i in range(bands))
    kinds = tuple(ClassInfo(i, f"class {i}", COLORS[i % len(COLORS)]) for i in range(classes))
    return ModelCard(**{"name": "fake", "bands": names, "classes": kinds, "stride": 4, "halo": 8, **fields})


def make_pixels(shape: tuple[int, int], bands: int = 3, dtype: str = "uint8", seed: int = 0) -> NDArray[Any]:
    """Blobs with noise, (band, row, col), using most of the range of an integer type."""
    rng = np.random.default_rng(seed)
    height, width = shape
    coarse = rng.random((bands, height // 7 + 2, width // 5 + 2))
    smooth = np.repeat(np.repeat(coarse, 7, axis=1), 5, axis=2)[:, :height, :width]
    values = np.clip(smooth + rng.normal(0, 0.05, (bands, height, width)), 0.02, 1)
    top = 1.0 if np.dtype(dtype).kind == "f" else min(np.iinfo(dtype).max, 10_000)
    return (values * top).astype(dtype)


def make_scene(
    path: Path,
    shape: tuple[int, int] = (61, 47),
    bands: int = 3,
    dtype: str = "uint8",
    pixels: NDArray[Any] | None = None,
    transform: Affine = NORTH_UP,
    crs: str | None = "EPSG:32640",
    nodata: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    names: Sequence[str] | None = None,
    **profile: Any,
) -> Path:
    """A GeoTIFF at a path; ``mask`` (True = valid) is written as an internal mask."""
    data = make_pixels(shape, bands, dtype) if pixels is None else pixels
    settings: dict[str, Any] = {
        "driver": "GTiff",
        "height": data.shape[1],
        "width": data.shape[2],
        "count": data.shape[0],
        "dtype": data.dtype,
        "nodata": nodata,
        "crs": crs,
        **({} if transform == Affine.identity() else {"transform": transform}),
        **profile,
    }
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        target = rasterio.open(path, "w", **settings)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), target:
        target.write(data)
        if mask is not None:
            target.write_mask(mask)
        for index, name in enumerate(names or (), start=1):
            target.set_band_description(index, name)
    return path


class FakePredictor:
    """A network that pools by its stride, smooths over a radius, and calls the nearest brightness its class.

    Its receptive field is known, its sums are whole numbers, so a correct tiling gives exactly the labels of one pass.
    """

    device = "cpu"
    precision = "fp32"

    def __init__(self, card: ModelCard, radius: int = 3, batch: int = 2) -> None:
        self.card, self.radius, self.batch = card, radius, batch
        self.seen: list[tuple[int, ...]] = []

    @property
    def halo(self) -> int:
        """Context that gives exactly the labels of one pass."""
        return -(-(self.radius + self.card.stride - 1) // self.card.stride) * self.card.stride

    def with_scaling(self, scaling: Scaling) -> FakePredictor:
        same = scaling == self.card.scaling
        return self if same else FakePredictor(self.card.replace(scaling=scaling), self.radius, self.batch)

    def scores(self, pixels: NDArray[Any], valid: NDArray[np.bool_], probs: bool) -> NDArray[np.float32]:
        assert pixels.ndim == 4
        assert valid.shape == (len(pixels), *pixels.shape[2:])
        s = self.card.stride
        assert pixels.shape[2] % s == 0
        assert pixels.shape[3] % s == 0
        self.seen.append(pixels.shape)
        offset, factor = self.card.scaling.linear(pixels.shape[1])
        scaled = (pixels.astype(np.float64) - offset[:, None, None]) * factor[:, None, None]
        top = (self.card.pixel_range[1] - float(offset[0])) * float(factor[0])
        known = np.where(valid[:, None] & np.isfinite(scaled), scaled, 0)
        whole = np.rint(known * (1000 / top)).astype(np.int64).sum(1)
        n, height, width = whole.shape
        pooled = whole.reshape(n, height // s, s, width // s, s).sum(axis=(2, 4))
        fine = whole * s * s + np.repeat(np.repeat(pooled, s, axis=1), s, axis=2)
        r = self.radius
        padded = np.pad(fine, ((0, 0), (r, r), (r, r)))
        smooth = sum(
            padded[:, i : i + height, j : j + width] for i in range(2 * r + 1) for j in range(2 * r + 1)
        )  # (n, row, col)
        full = 1000 * pixels.shape[1] * 2 * s * s * (2 * r + 1) ** 2
        centres = (np.arange(len(self.card.classes)) + 0.5) / len(self.card.classes)
        near = -((smooth[:, None] / full - centres[:, None, None]) ** 2) * 60
        if probs:
            near = np.exp(near)
            near /= near.sum(axis=1, keepdims=True)
        return near.astype(np.float32)  # (n, class, row, col)

    def weight(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        return window

    def labels(self, scores: NDArray[np.float32], probs: bool, probabilities: bool) -> Prediction:
        return Prediction(
            scores.argmax(0).astype(np.uint8),
            np.rint(scores.max(0) * PROBABILITY_STEPS).astype(np.uint8) if probs else None,
            np.rint(scores * PROBABILITY_STEPS).astype(np.uint8) if probabilities else None,
        )


def one_pass(predictor: FakePredictor, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Labels of one pass over a whole image, padded at the right and bottom to the stride; 255 where not valid."""
    s = predictor.card.stride
    height, width = valid.shape
    pad = (0, -height % s), (0, -width % s)
    scores = predictor.scores(np.pad(pixels, ((0, 0), *pad))[None], np.pad(valid, pad)[None], probs=False)
    labels = scores[0].argmax(0)[:height, :width].astype(np.uint8)
    return np.where(valid, labels, 255).astype(np.uint8)


class StopAfter:
    """A ``Track`` that cancels after some tiles."""

    def __init__(self, tiles: int) -> None:
        self.left = tiles

    def __call__(self, items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        for item in items:
            if self.left == 0:
                raise CancelledError("enough")
            self.left -= 1
            yield item
