"""How is a network trained? A recipe is data: it says everything that decides the result but the images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rs_segment.errors import OptionError

from ..networks import NAMED
from .augment import AUGMENTATIONS
from .losses import loss_names
from .optimise import OPTIMISERS, SCHEDULES

LIGHT = {"arch": "unet", "encoder": "mobilenet_v2", "decoder_channels": [128, 64, 32, 16, 16]}
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    Args:
        network: As in a card.
        encoder_weights: "none", "imagenet" or a safetensors file.
        fine_tune: Folder of a model whose weights the network begins with; "" for none.
        size: Side of the windows in pixels.
        batch: Windows a step.
        epochs: How many; None where time decides. An epoch is as many windows as cover the training images once, but at
            most ``longest`` steps.
        longest: Steps of an epoch at most, so that an interruption loses little of a large data set.
        seconds: Time for training, without what comes after it; None where epochs decide.
        loss: Names of ``LOSSES`` with "+" between them.
        smoothing: Share of each label that is spread over all classes, in cross-entropy.
        optimiser: A key of ``OPTIMISERS``.
        rate: Highest learning rate.
        encoder_share: Learning rate of the encoder, as a share of the other one.
        decay: Weight decay.
        schedule: A key of ``SCHEDULES``.
        warmup: Steps in which the learning rate rises, at most a twentieth of the training.
        clip: Longest gradient; None for any.
        average: Share of the averaged weights that a step keeps; 0 for no average.
        augment: Names of ``AUGMENTATIONS``.
        balance: Share of windows that are drawn around a class, the others anywhere.
        patience: Epochs without a better validation after which training stops; 0 for never.
        seed: Of everything that is drawn.
        precision: "auto" is the shortest type in which the device is fast; bf16 before fp16.
    """

    network: Mapping[str, Any] = field(default_factory=lambda: dict(LIGHT))
    encoder_weights: str = "none"
    fine_tune: str = ""
    size: int = 256
    batch: int = 8
    epochs: int | None = 60
    longest: int = 500
    seconds: float | None = None
    loss: str = "cross-entropy+dice"
    smoothing: float = 0.02
    optimiser: str = "adamw"
    rate: float = 2e-3
    encoder_share: float = 1 / 3
    decay: float = 1e-2
    schedule: str = "cosine"
    warmup: int = 100
    clip: float | None = 5.0
    average: float = 0.998
    augment: tuple[str, ...] = ("turns", "scale", "radiometry")
    balance: float = 0.5
    patience: int = 0
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.seconds is None):
            raise OptionError("a training ends after epochs or after a time; choose one of --epochs and --time")
        least: tuple[tuple[str, Any, float, float], ...] = (
            ("size", self.size, 8, 4096),
            ("batch", self.batch, 1, 4096),
            ("epochs", 1 if self.epochs is None else self.epochs, 1, 100_000),
            ("longest epoch", self.longest, 1, 1e9),
            ("time", 1 if self.seconds is None else self.seconds, 0.001, 1e8),
            ("learning rate", self.rate, 1e-9, 100),
        )
        for name, value, low, high in least:
            if not (math.isfinite(value) and low <= value <= high):
                raise OptionError(f"the {name} is {value}; it must lie between {low:g} and {high:g}")
        loss_names(self.loss)
        known: tuple[tuple[str, str, Any], ...] = (
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, PRECISIONS),
            *(("augmentation", name, AUGMENTATIONS) for name in self.augment),
        )
        for what, name, there in known:
            if name not in there:
                raise OptionError(f"the {what} {name!r:.60} is not known; there are {', '.join(there)}")

    def change(self, **changes: Any) -> Recipe:
        """The same recipe with other values; a budget in epochs replaces one in time, and the other way around.

        Raises:
            OptionError: A value cannot work.
        """
        if changes.get("epochs") is not None:
            changes.setdefault("seconds", None)
        elif changes.get("seconds") is not None:
            changes.setdefault("epochs", None)
        return replace(self, **changes)

    def steps(self, pixels: int) -> int:
        """Steps of an epoch, for training images of so many pixels."""
        return min(self.longest, max(1, round(pixels / (self.size**2 * self.batch))))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data, for JSON."""
        return {**dataclasses.asdict(self), "network": dict(self.network), "augment": list(self.augment)}

    def sentence(self) -> str:
        """The recipe in a line, for people."""
        budget = f"{self.epochs} epochs" if self.epochs is not None else f"{(self.seconds or 0) / 60:g} minutes"
        rate = f"{self.optimiser} at {self.rate:g}, {self.schedule} schedule"
        average = ", averaged weights" if self.average else ""
        balance = f", {self.balance:.0%} of them around a class" if self.balance else ""
        return (
            f"at most {budget} of {self.batch} windows of {self.size} px a step{balance}; {self.loss}; {rate}{average}"
            f"; {', '.join(self.augment) or 'no'} augmentation; seed {self.seed}"
        )


RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "study": Recipe(
        network=NAMED["unet"],
        batch=16,
        epochs=200,
        loss="focal",
        smoothing=0.0,
        optimiser="sgd",
        rate=1e-2,
        encoder_share=1.0,
        decay=0.0,
        schedule="constant",
        warmup=0,
        clip=None,
        average=0.0,
        augment=("turns",),
        balance=0.0,
    ),
}
"""Recipes by name. "study" is the protocol of the study that compared four networks on the Dubai set: 256 px, batch 16,
focal loss, learning rate 1e-2, 200 epochs, flips and quarter turns. Its optimiser is not known to us; SGD with momentum
is one for which that rate is usual.

"default" was shaped on the same set."""
