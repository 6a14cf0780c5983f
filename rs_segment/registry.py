"""Which models are there? Found through the entry-point group ``rs_segment.models``, so that the engine loads no torch.

An entry point names a module with ``folders()``, the model folders that it ships, and ``load(folder, compute, tta)``,
which makes a ``Predictor`` of one; it may have ``devices()``, sentences on what can compute, ``device_names()`` and
``train``. A third party ships models with one such line. A folder that nobody ships is loaded by the entry point
"torch".
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .card import ModelCard
from .errors import ModelError, ModelNotFoundError
from .types import Compute, Predictor

GROUP = "rs_segment.models"
DEFAULT = "dubai-landcover"
DEFAULT_PROVIDER = "torch"
SEARCH_PATH = "RS_SEGMENT_MODELS"
PICKLES = (".pt", ".pth", ".ckpt", ".pt2", ".bin", ".pkl", ".pickle")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk.

    Args:
        path: Where.
        card: What it promises.
        shipped: Whether it comes with a package.
        provider: The entry point that loads it.
    """

    path: Path
    card: ModelCard
    shipped: bool
    provider: str = DEFAULT_PROVIDER


@dataclass(frozen=True, slots=True)
class _Provider:
    name: str
    module: Any
    folders: tuple[Path, ...]


def models() -> tuple[ModelFolder, ...]:
    """All models: those of installed packages, then those in the folders that ``RS_SEGMENT_MODELS`` lists.

    A folder whose card is broken is left out; naming it says why.
    """
    found = []
    for folder, provider in _folders():
        try:
            found.append(_read(folder, provider))
        except ModelError:
            continue
    return tuple(found)


def find(name: str | Path) -> ModelFolder:
    """The model in a folder, or with a name: that of its folder or that of its card.

    A name without a separator means a folder only where that holds a model, so that a folder which happens to be called
    like a model does not hide it.

    Raises:
        ModelNotFoundError: Neither is there; the message lists what is.
        ModelError: The folder is no model folder, or its card is broken.
    """
    path, text = Path(name), str(name)
    bare = not any(separator in text for separator in (os.sep, os.altsep) if separator)
    if path.name == "model.json":
        return _read(path.parent, _provider_of(path.parent))
    if (path / "model.json").is_file() or (path.is_dir() and not bare):
        return _read(path, _provider_of(path))
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"{path} is a {path.suffix} file, which can run code when it is loaded; "
            "rs-segment reads model folders (model.json and model.safetensors) only"
        )
    for folder, provider in _folders():
        if folder.name == text:
            return _read(folder, provider)
    there = models()
    for model in there:
        if model.card.name == text:
            return model
    if path.is_dir():
        return _read(path, None)
    near = difflib.get_close_matches(text, [n for m in there for n in (m.card.name, m.path.name)], 1)
    listed = ", ".join(m.card.name for m in there) or "; ".join(["none", *problems()])
    advice = f"did you mean {near[0]}?" if near else f"there are: {listed}"
    raise ModelNotFoundError(f"there is no model {text!r}, neither by name nor as a folder; {advice}")


def load(folder: Path, compute: Compute, tta: str = "none") -> Predictor:
    """The model in a folder, ready to predict; made by the package that ships it.

    Raises:
        ModelError: The weights are missing, damaged, or not those of the card.
        DeviceError: The device is not there.
    """
    providers, broken = _providers()
    if not providers:
        why = "; ".join(broken) or "none is installed"
        raise ModelError(f"no package can run models: {why}; reinstall rs-segment: pip install rs-segment")
    wanted = _provider_of(folder) or DEFAULT_PROVIDER
    provider = next((p for p in providers if p.name == wanted), providers[0])
    predictor: Predictor = provider.module.load(folder, compute, tta)
    return predictor


def trainer() -> Callable[..., Any]:
    """The function that trains: (data set, split, choices, ``types.Training``, track, tell) -> what came of it.

    Raises:
        ModelError: No package is installed that can.
    """
    working, broken = _providers()
    for provider in working:
        if hasattr(provider.module, "train"):
            found: Callable[..., Any] = provider.module.train
            return found
    why = "; ".join(broken) or "none is installed"
    raise ModelError(f"no package can train models: {why}; reinstall rs-segment: pip install rs-segment")


def devices() -> list[str]:
    """Sentences on what can compute here."""
    return [told for p in _providers()[0] if hasattr(p.module, "devices") for told in p.module.devices()]


def device_names() -> dict[str, str]:
    """What ``Compute.device`` can be here, by name, told for people."""
    known = (p.module.device_names() for p in _providers()[0] if hasattr(p.module, "device_names"))
    return {name: title for names in known for name, title in names.items()}


def problems() -> list[str]:
    """Sentences on installed packages whose models cannot be used."""
    return _providers()[1]


def _providers() -> tuple[list[_Provider], list[str]]:
    """Those that work, and sentences on those that do not: one broken package must not take the others along."""
    working, broken = [], []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            module = point.load()
            working.append(_Provider(point.name, module, tuple(Path(f) for f in module.folders())))
        except Exception as error:
            broken.append(f"the models of {point.value} cannot be used ({type(error).__name__}: {error})")
    return working, broken


def _provider_of(folder: Path) -> str | None:
    """The entry point that ships a folder, or None."""
    place = folder.resolve()
    return next((p.name for p in _providers()[0] if place in (f.resolve() for f in p.folders)), None)


def _read(folder: Path, provider: str | None) -> ModelFolder:
    card = ModelCard.read(folder / "model.json")
    return ModelFolder(folder, card, provider is not None, provider or DEFAULT_PROVIDER)


def _folders() -> list[tuple[Path, str | None]]:
    """Every model folder that is known, with the entry point that ships it."""
    shipped = [(folder, p.name) for p in _providers()[0] for folder in p.folders]
    places = [Path(p) for p in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if p]
    own = [f for place in places if place.is_dir() for f in sorted(place.iterdir()) if (f / "model.json").is_file()]
    return [*shipped, *((folder, None) for folder in own)]
