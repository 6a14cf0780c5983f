"""How do arrays become pictures? Pixels of any kind as red, green and blue, labels in the colours of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from .card import ClassInfo
from .types import NODATA, Labels, Mask

Rgb = NDArray[np.uint8]
"""(row, col, 3)."""

BLANK = (255, 255, 255)
_DARK, _BRIGHT = 2.0, 98.0


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A part of an image beside what it should be and what a model says.

    Args:
        name: For people.
        image: uint8 (row, col, 3), see ``as_rgb``.
        reference: uint8 (row, col), class values, 255 where there is none.
        predicted: uint8 (row, col), likewise.
        score: Of this part, such as its mean IoU; NaN or None where there is none.
    """

    name: str
    image: Rgb
    reference: Labels
    predicted: Labels
    score: float | None = None


def as_rgb(
    pixels: NDArray[Any],
    valid: Mask | None = None,
    bands: Sequence[int] | None = None,
    limits: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> Rgb:
    """uint8 (row, col, 3), what a person can look at.

    Bytes are shown as they are, other types stretched between the 2nd and 98th percentile of each band.

    Args:
        pixels: (band, row, col) of any real type; of one or two bands the first is shown in grey.
        valid: (row, col), False where there is no data, which is white.
        bands: Positions of red, green and blue; None is the first three.
        limits: (low, high) of each of the bands that are shown, to be stretched between, so that pictures are alike.
    """
    chosen = list(bands) if bands is not None else ([0, 1, 2] if len(pixels) >= 3 else [0, 0, 0])
    shown = pixels[chosen]
    known = np.ones(shown.shape[1:], np.bool_) if valid is None else valid
    if shown.dtype != np.uint8 or limits is not None:
        low, high = limits if limits is not None else stretch(shown, known)
        span = np.maximum(np.asarray(high, np.float64) - low, 1e-12)
        with np.errstate(all="ignore"):
            scaled = (shown.astype(np.float64) - np.reshape(low, (3, 1, 1))) / np.reshape(span, (3, 1, 1))
        shown = (np.clip(np.nan_to_num(scaled), 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.where(known[..., None], shown.transpose(1, 2, 0), np.uint8(255))


def stretch(pixels: NDArray[Any], valid: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high), float64 (band,) each: the 2nd and 98th percentile of the valid pixels (band, row, col)."""
    values = pixels[:, valid].astype(np.float64)
    values = values[:, np.isfinite(values).all(axis=0)]
    if values.shape[1] == 0:
        return np.zeros(len(pixels)), np.ones(len(pixels))
    low, high = np.percentile(values, [_DARK, _BRIGHT], axis=1)
    return low, np.where(high > low, high, low + 1)


def colored(labels: Labels, classes: Sequence[ClassInfo]) -> Rgb:
    """uint8 (row, col, 3), labels (row, col) in the colours of their classes; white where there is none."""
    table = np.full((256, 3), BLANK, np.uint8)
    for one in classes:
        table[one.value] = one.rgb
    return table[labels]


def transparent(picture: Rgb, where: Mask) -> Rgb:
    """uint8 (row, col, 4), a picture that lets the page through where a mask (row, col) is True."""
    return np.dstack([picture, np.where(where, np.uint8(0), np.uint8(255))])


def overlaid(image: Rgb, labels: Labels, classes: Sequence[ClassInfo], opacity: float = 0.45) -> Rgb:
    """uint8 (row, col, 3), an image under the colours of its labels; as it is where there is no class."""
    mixed = image * (1 - opacity) + colored(labels, classes) * opacity
    return np.where((labels != NODATA)[..., None], np.rint(mixed).astype(np.uint8), image)


def encoded(picture: Rgb, kind: Literal["png", "jpeg"] = "png") -> bytes:
    """The bytes of an image file: PNG for maps and charts, JPEG (quality 85) for photographs.

    Args:
        picture: uint8 (row, col, 3), or (row, col, 4) with alpha.
        kind: The format.
    """
    height, width, count = picture.shape
    options = {"quality": 85} if kind == "jpeg" else {"zlevel": 9}
    # A transform that is not the identity spares a warning; without PAM it is not written anywhere.
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile(ext=f".{kind}") as memory:
        with memory.open(
            driver=kind.upper(),
            width=width,
            height=height,
            count=count,
            dtype="uint8",
            transform=Affine.scale(2),
            **options,
        ) as target:
            target.write(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        return bytes(memory.read())
