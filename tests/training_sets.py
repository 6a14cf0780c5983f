"""Training sets that are small, odd and ugly, made in code."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from fakes import NORTH_UP, make_pixels, make_scene
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

RED, GREEN, BLUE, BLACK = (200, 0, 0), (0, 180, 20), (10, 20, 230), (0, 0, 0)
HEX = {RED: "#C80000", GREEN: "#00B414", BLUE: "#0A14E6", BLACK: "#000000"}


def patches(shape: tuple[int, int], classes: int, seed: int = 0) -> NDArray[np.uint8]:
    """Labels in patches of a few pixels, (row, col), 0 to ``classes`` - 1, all of which occur."""
    rng = np.random.default_rng(seed)
    rows, cols = shape
    coarse = rng.integers(0, classes, (rows // 5 + 1, cols // 4 + 1))
    labels = np.repeat(np.repeat(coarse, 5, axis=0), 4, axis=1)[:rows, :cols].astype(np.uint8)
    labels.flat[:classes] = np.arange(classes)
    return labels


def png(path: Path, pixels: NDArray[Any], palette: Mapping[int, tuple[int, ...]] | None = None) -> Path:
    """A PNG of pixels (band, row, col) or (row, col), with a palette if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = pixels if pixels.ndim == 3 else pixels[None]
    if palette is None:
        return make_scene(path, pixels=data, transform=Affine.identity(), crs=None, driver="PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        shape = {"height": data.shape[1], "width": data.shape[2], "count": 1, "dtype": "uint8"}
        with rasterio.open(path, "w", driver="PNG", **shape) as target:
            target.write(data)
            target.write_colormap(1, {v: (*rgb, 255)[:4] for v, rgb in palette.items()})
    return path


def painted(labels: NDArray[np.uint8], colors: Sequence[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Labels as colours, (3, row, col)."""
    return np.array(colors, np.uint8)[labels].transpose(2, 0, 1)


def tif(path: Path, pixels: NDArray[Any], **profile: Any) -> Path:
    """A GeoTIFF of pixels (band, row, col) or (row, col)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_scene(path, pixels=pixels if pixels.ndim == 3 else pixels[None], **{"transform": NORTH_UP, **profile})


def grouped(root: Path, groups: int = 3, parts: int = 2, shape: tuple[int, int] = (40, 52)) -> Path:
    """Groups of parts, images beside colour masks, the way that the Dubai set lies."""
    for g in range(groups):
        for p in range(parts):
            seed = 10 * g + p
            png(root / f"tile_{g}" / "images" / f"image_part_{p:03}.png", make_pixels(shape, seed=seed))
            labels = patches(shape, 3, seed)
            png(root / f"tile_{g}" / "masks" / f"image_part_{p:03}.png", painted(labels, (RED, GREEN, BLUE)))
    return root
