"""In which ways may a window look different and mean the same?

Everything that is drawn comes from the generator that is passed in, so that a window depends on nothing else. All of it
works for any number of bands: values are what the network reads, and their spread is told.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

AUGMENTATIONS = {
    "turns": "flips and quarter turns",
    "scale": "ground resolution from half to twice, as a power of two",
    "radiometry": "contrast, brightness, balance of the bands, noise, blur",
}


def zoom(names: tuple[str, ...], rng: np.random.Generator) -> float:
    """By how much a window is enlarged, 0.5 to 2."""
    return float(2 ** rng.uniform(-1, 1)) if "scale" in names else 1.0


def turned(
    pixels: torch.Tensor, labels: torch.Tensor, names: tuple[str, ...], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A window (band, row, col) and its labels (row, col) in one of the eight ways that a square can lie."""
    if "turns" not in names:
        return pixels, labels
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    pixels, labels = torch.rot90(pixels, turns, (-2, -1)), torch.rot90(labels, turns, (-2, -1))
    return (pixels.flip(-1), labels.flip(-1)) if flip else (pixels, labels)


def radiometry(
    pixels: torch.Tensor, valid: torch.Tensor, spread: float, names: tuple[str, ...], rng: np.random.Generator
) -> torch.Tensor:
    """A window under another light and through another lens.

    Args:
        pixels: float32 (band, row, col), as the network reads them.
        valid: bool (row, col); other pixels stay zero.
        spread: Standard deviation of such pixels.
        names: Augmentations that are wanted.
        rng: What is drawn comes from here.
    """
    if "radiometry" not in names:
        return pixels
    bands = len(pixels)
    share = max(1, int(valid.sum()))
    middle = pixels.sum((1, 2), keepdim=True) / share
    contrast, light = rng.uniform(0.7, 1.4), rng.uniform(-0.5, 0.5)
    balance = torch.from_numpy(rng.uniform(-0.25, 0.25, (bands, 1, 1)).astype(np.float32))
    pixels = (pixels - middle) * contrast + middle + (balance + light) * spread
    if rng.random() < 0.3:
        noise = rng.standard_normal(tuple(pixels.shape), np.float32)
        pixels = pixels + torch.from_numpy(noise) * float(rng.uniform(0, 0.17)) * spread
    if rng.random() < 0.2:
        padded = functional.pad(pixels[None], (1, 1, 1, 1), mode="replicate")
        pixels = functional.avg_pool2d(padded, 3, 1)[0]
    return pixels * valid
