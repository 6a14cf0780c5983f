"""What is training to make small? Losses by name; a sum is written with "+"."""

from __future__ import annotations

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from rs_segment.errors import OptionError
from rs_segment.types import NODATA

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
GAMMA = 2.0


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, smoothing: float
) -> torch.Tensor:
    """Mean cross-entropy of the labelled pixels, by weights of classes, with smoothed labels (Szegedy et al. 2016)."""
    total = functional.cross_entropy(
        logits, labels, weights, ignore_index=NODATA, reduction="sum", label_smoothing=smoothing
    )
    return total / _mass(labels, weights)


def focal(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, smoothing: float) -> torch.Tensor:
    """Focal loss (Lin et al. 2017) of the softmax: cross-entropy times (1 - p)^2, so that easy pixels count less.

    smp's is of one sigmoid a class; labels and confidence are taken from a softmax here.
    """
    each = functional.cross_entropy(logits, labels, ignore_index=NODATA, reduction="none")
    shaped = (1 - torch.exp(-each)) ** GAMMA * each
    if weights is not None:
        shaped = shaped * weights[labels.clamp(max=len(weights) - 1)]
    return shaped.sum() / _mass(labels, weights)


def dice(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, smoothing: float) -> torch.Tensor:
    """1 - Dice coefficient of the probabilities, mean of all classes (Milletari et al. 2016); smp's."""
    loss = smp.losses.DiceLoss("multiclass", smooth=1.0, ignore_index=NODATA)
    found: torch.Tensor = loss(logits, labels)
    return found


def lovasz(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, smoothing: float) -> torch.Tensor:
    """Lovasz-Softmax (Berman et al. 2018), a convex stand-in for 1 - IoU; smp's."""
    loss = smp.losses.LovaszLoss("multiclass", ignore_index=NODATA)
    found: torch.Tensor = loss(logits, labels)
    return found


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, float], torch.Tensor]] = {
    "cross-entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "lovasz": lovasz,
}
"""Losses by name: (logits float32 (n, class, row, col), labels int64 (n, row, col), weights (class,), smoothing)."""


UNWEIGHTED = ("dice", "lovasz")
"""Losses that count each class alike, whatever its weight."""


def make_loss(text: str, weights: torch.Tensor | None = None, smoothing: float = 0.0) -> Loss:
    """The sum of the losses in a text like "focal+dice"; 0 for labels that are all ignored.

    Raises:
        OptionError: A name is not known.
    """
    parts = [LOSSES[name] for name in loss_names(text)]

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if not bool((labels != NODATA).any()):
            return logits.sum() * 0
        return torch.stack([part(logits, labels, weights, smoothing) for part in parts]).sum()

    return loss


def loss_names(text: str) -> tuple[str, ...]:
    """The names in a sum of losses.

    Raises:
        OptionError: One is not known, or there is none.
    """
    names = tuple(part.strip() for part in text.split("+"))
    for name in names:
        if name not in LOSSES:
            raise OptionError(f"the loss {name!r:.60} is not known; there are {', '.join(LOSSES)}, and sums with +")
    return names


def _mass(labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """What all labelled pixels weigh together, at least a pixel."""
    known = labels != NODATA
    if weights is None:
        return known.sum().clamp(min=1)
    return (weights[labels.clamp(max=len(weights) - 1)] * known).sum().clamp(min=1e-6)
