"""Which models are there? Found through the entry-point group ``rs_segment.models``, so that the engine loads no torch.

An entry point names a module with ``folders()``, the model folders that it ships, and ``load(folder, compute, tta)``,
which makes a ``Predictor``. A third party ships models with one such line.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .card import ModelCard
from .errors import ModelError, ModelNotFoundError
from .types import Compute, Predictor

GROUP = "rs_segment.models"
DEFAULT = "dubai-landcover"
SEARCH_PATH = "RS_SEGMENT_MODELS"
PICKLES = (".pt", ".pth", ".ckpt", ".pt2", ".bin", ".pkl", ".pickle")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk: where, what it promises, whether it comes with a package."""

    path: Path
    card: ModelCard
    shipped: bool


def models() -> tuple[ModelFolder, ...]:
    """All models: those of installed packages, then those in the folders that ``RS_SEGMENT_MODELS`` lists.

    A folder whose card is broken is left out; naming it says why.
    """
    found = []
    for folder, shipped in _folders():
        try:
            found.append(ModelFolder(folder, ModelCard.read(folder / "model.json"), shipped))
        except ModelError:
            continue
    return tuple(found)


def find(name: str | Path) -> ModelFolder:
    """The model with a name, or in a folder.

    Raises:
        ModelNotFoundError: Neither is there; the message lists what is.
        ModelError: The folder is no model folder, or its card is broken.
    """
    path = Path(name)
    if path.is_dir() or path.name == "model.json":
        folder = path.parent if path.name == "model.json" else path
        return ModelFolder(folder, ModelCard.read(folder / "model.json"), shipped=False)
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"{path} is a {path.suffix} file, which can run code when it is loaded; "
            "rs-segment reads model folders (model.json and model.safetensors) only"
        )
    for folder, shipped in _folders():
        if folder.name == str(name):
            return ModelFolder(folder, ModelCard.read(folder / "model.json"), shipped)
    names = [folder.name for folder, _ in _folders()]
    near = difflib.get_close_matches(str(name), names, 1)
    advice = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names) or 'none'}"
    raise ModelNotFoundError(f"there is no model {str(name)!r}, neither by name nor as a folder; {advice}")


def load(folder: Path, compute: Compute, tta: str = "none") -> Predictor:
    """The model in a folder, ready to predict.

    Raises:
        ModelError: The weights are missing, damaged, or not those of the card.
        DeviceError: The device is not there.
    """
    for provider in _providers():
        predictor: Predictor = provider.load(folder, compute, tta)
        return predictor
    raise ModelError("no package that can run models is installed; reinstall rs-segment: pip install rs-segment")


def devices() -> list[str]:
    """Sentences on what can compute here."""
    return [told for provider in _providers() for told in provider.devices()]


def _providers() -> list[Any]:
    return [point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]


def _folders() -> list[tuple[Path, bool]]:
    shipped = [(folder, True) for provider in _providers() for folder in provider.folders()]
    places = [Path(p) for p in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if p]
    own = [f for place in places if place.is_dir() for f in sorted(place.iterdir()) if (f / "model.json").is_file()]
    return shipped + [(folder, False) for folder in own]
