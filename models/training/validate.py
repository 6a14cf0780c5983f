"""How good is the network now? A quick look at some windows that it does not learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rasterio.windows import Window
from torch import nn

from rs_segment.accuracy import Confusion
from rs_segment.card import Scaling
from rs_segment.dataset import Part
from rs_segment.types import NODATA

from ..device import DTYPES
from ..scaling import scaled
from .losses import Loss

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Glance:
    """What a look at the validation windows told.

    Args:
        loss: Mean of the windows.
        confusion: Of their labelled pixels.
    """

    loss: float
    confusion: Confusion


def chosen(parts: Sequence[Part], side: int, most: int) -> tuple[Part, ...]:
    """Windows of parts, evenly spread, together about ``most`` pixels; always the same ones."""
    whole = [
        Part(part.pair, Window(col, row, min(side, right - col), min(side, bottom - row)))
        for part in parts
        for bottom in [part.window.row_off + part.window.height]
        for right in [part.window.col_off + part.window.width]
        for row in range(part.window.row_off, bottom, side)
        for col in range(part.window.col_off, right, side)
    ]
    count = min(len(whole), max(4, most // side**2))
    return tuple(whole[i * len(whole) // count] for i in range(count))


def chips(parts: Sequence[Part], side: int, scaling: Scaling) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Windows one by one, filled up to a square: float32 (1, band, side, side), int64 (1, side, side)."""
    for part in parts:
        sample = part.pair.read(part.window)
        rows, cols = sample.labels.shape
        pixels = torch.zeros(1, len(sample.pixels), side, side)
        pixels[:, :, :rows, :cols] = scaled(sample.pixels[None], sample.valid[None], scaling, _CPU)
        labels = torch.full((1, side, side), NODATA, dtype=torch.int64)
        labels[0, :rows, :cols] = torch.from_numpy(sample.labels).long()
        yield pixels, labels


def look(
    net: nn.Module,
    windows: Iterator[tuple[torch.Tensor, torch.Tensor]],
    loss: Loss,
    names: Sequence[str],
    precision: str,
) -> Glance:
    """Loss and confusion of a network on windows; the network is left in eval mode."""
    net.eval()
    device = next(net.parameters()).device
    confusion, losses = Confusion.empty(names), []
    for pixels, labels in windows:
        with torch.no_grad():
            with torch.autocast(device.type, DTYPES[precision], precision != "fp32"):
                logits = net(pixels.to(device))
            logits = logits.float()
            losses.append(float(loss(logits, labels.to(device))))
            said = logits.argmax(1).to("cpu", torch.uint8).numpy()
        confusion += Confusion.of(labels.numpy(), said, names)
    return Glance(float(np.mean(losses)) if losses else float("nan"), confusion)
