"""Which models are there, and what runs one? Light to import: torch comes with the first ``load``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs_segment.types import Compute

if TYPE_CHECKING:
    from .predictor import TorchPredictor
    from .training import Trained

# Threads of torch that spin while they wait take the cores from those that read and write: with a network that costs
# nothing the whole run was 1.8 times as fast without. It has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def folders() -> list[Path]:
    """The model folders that ship with this package, by name."""
    return sorted(p.parent for p in Path(__file__).parent.glob("*/model.json"))


def load(folder: Path, compute: Compute, tta: str = "none") -> TorchPredictor:
    """A model folder's network on a device, ready for pixels.

    Args:
        folder: Holds model.json and model.safetensors.
        compute: Device, precision and batch.
        tta: "none", "flips" (mean over the four flips) or "d4" (over flips and quarter turns).

    Raises:
        ModelError: The folder is not a valid model.
        DeviceError: The device is not there, or cannot compute in the precision.
        OptionError: An option means nothing.
    """
    from .predictor import TorchPredictor

    return TorchPredictor.load(Path(folder), compute, tta)


def train(*given: Any, **named: Any) -> Trained:
    """A model folder, trained on a data set; see ``training.train``."""
    from .training import train as run

    return run(*given, **named)


def device_names() -> dict[str, str]:
    """What ``Compute.device`` can be on this machine, by name, told for people."""
    import torch

    from . import device

    return {name: device.title(torch.device(name)) for name in device.names()}


def devices() -> list[str]:
    """Sentences on what this machine can compute with: versions, then one a device."""
    from . import device

    return device.report()
