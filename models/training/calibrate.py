"""How sure may the network be? One number makes its confidence the share of pixels that are right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rs_segment.accuracy import Reliability
from rs_segment.types import NODATA

PIXELS_A_WINDOW = 4000
LOWEST, HIGHEST = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What temperature scaling found (Guo et al. 2017, On calibration of modern neural networks).

    Args:
        temperature: Logits divided by it give the likeliest probabilities.
        before: Expected calibration error at temperature 1.
        after: With the temperature, of the same pixels.
        pixels: Number of pixels that it was fitted to.
    """

    temperature: float
    before: float
    after: float
    pixels: int


def calibrate(net: nn.Module, windows: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> Calibration:
    """The temperature that fits a network's logits to labels, in fp32 and eval mode."""
    net.eval()
    device = next(net.parameters()).device
    rng = np.random.default_rng(0)
    drawn: list[NDArray[np.float64]] = []
    truth: list[NDArray[np.int64]] = []
    for pixels, labels in windows:
        with torch.no_grad():
            logits = net(pixels.to(device)).float().cpu()[0].flatten(1).numpy()
        flat = labels.numpy().ravel()
        known = np.flatnonzero(flat != NODATA)
        some = rng.permutation(known)[:PIXELS_A_WINDOW]
        drawn.append(logits[:, some].T.astype(np.float64))
        truth.append(flat[some])
    return fit(np.concatenate(drawn), np.concatenate(truth)) if drawn else Calibration(1.0, 0.0, 0.0, 0)


def fit(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Calibration:
    """The temperature of logits (pixel, class) and labels (pixel,): the loss is convex in its inverse."""
    if not len(labels):
        return Calibration(1.0, 0.0, 0.0, 0)
    low, high = 1 / HIGHEST, 1 / LOWEST
    while high - low > 1e-4 * high:
        a, b = low + (high - low) / 3, high - (high - low) / 3
        if _loss(logits * a, labels) <= _loss(logits * b, labels):
            high = b
        else:
            low = a
    temperature = round(2 / (low + high), 4)
    ece = [reliability(logits / t, labels).ece for t in (1.0, temperature)]
    return Calibration(temperature, ece[0], ece[1], len(labels))


def reliability(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Reliability:
    """How often confidence is right."""
    return Reliability.of(np.exp(_log_softmax(logits)).max(1), logits.argmax(1) == labels)


def _loss(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(-_log_softmax(logits)[np.arange(len(labels)), labels].mean())


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    high = logits - logits.max(1, keepdims=True)
    return np.asarray(high - np.log(np.exp(high).sum(1, keepdims=True)))
