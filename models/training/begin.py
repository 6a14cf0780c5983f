"""With which weights does a training begin? Fresh ones, those of an encoder, or those of a model that is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rs_segment.card import ModelCard, Scaling
from rs_segment.dataset import Dataset
from rs_segment.errors import ModelError, OptionError
from rs_segment.registry import find

from .. import device as devices
from .. import folder as folders
from ..networks import build
from ..pretrained import adapted, put_weights
from .recipe import Recipe


def model_to_tune(name: str, told: Mapping[str, Any]) -> tuple[Path, ModelCard]:
    """The folder and the card of a model whose training goes on, with other data.

    Args:
        name: Of a model, or its folder.
        told: What else was chosen.

    Raises:
        ModelError: There is none.
        OptionError: The network or its weights were chosen too.
    """
    for option in ("arch", "encoder", "encoder_weights", "network"):
        if told.get(option) is not None:
            raise OptionError(
                f"--fine-tune takes network and weights from {name}; leave out --{option.replace('_', '-')}"
            )
    found = find(name)
    return found.path, found.card


def origin_of(recipe: Recipe) -> dict[str, Any]:
    """What a card tells of the model that the training began with, and of that one's own training; nothing without."""
    if not recipe.fine_tune:
        return {}
    card = ModelCard.read(Path(recipe.fine_tune) / folders.CARD)
    return {"model": card.name, "weights_sha256": card.weights_sha256, "training": card.training}


def scaling_of(dataset: Dataset, recipe: Recipe) -> Scaling:
    """How pixels are scaled: as a model that is tuned knows them, unless the data set says how or its pixels differ.

    Bands that the model does not know are scaled as they were measured, where that is by the same kind.
    """
    if not recipe.fine_tune or dataset.spec.scaling is not None:
        return dataset.scaling
    card = ModelCard.read(Path(recipe.fine_tune) / folders.CARD)
    own, theirs = dataset.scaling, card.scaling
    known = _places(card.bands, dataset.band_names)
    fits = own.kind == theirs.kind if None in known else theirs.kind != "percentile"
    if card.dtype != dataset.dtype or not fits or not _count(known):
        return own
    (a, b), (their_a, their_b) = _each_band(own, dataset.bands), _each_band(theirs, len(card.bands))
    return replace(
        theirs,
        a=tuple(a[i] if j is None else their_a[j] for i, j in enumerate(known)),
        b=tuple(b[i] if j is None else their_b[j] for i, j in enumerate(known)),
    )


def first_network(recipe: Recipe, dataset: Dataset, device: torch.device) -> tuple[nn.Module, str]:
    """The network with the weights that it begins with, on its device; and a sentence about them, or nothing.

    Raises:
        ModelError: The weights cannot be had, or are of another network.
    """
    torch.manual_seed(recipe.seed)
    bands, classes = tuple(dataset.band_names), tuple(c.name for c in dataset.classes)
    net, sentence = build(recipe.network, len(bands), len(classes)), ""
    put_weights(net, recipe.encoder_weights, str(recipe.network.get("encoder", "")))
    if recipe.fine_tune:
        sentence = put_model(net, Path(recipe.fine_tune), bands, classes)
    if device.type == "cpu":
        devices.reuse_memory()
    layout = torch.channels_last if device.type != "mps" else torch.contiguous_format
    return net.to(device).to(memory_format=layout), sentence


def put_model(net: nn.Module, folder: Path, bands: Sequence[str], classes: Sequence[str]) -> str:
    """Gives a network the weights of a model, in place; returns a sentence about them.

    Bands and classes are known by their names. A band that the model does not know counts for nothing at first, so that
    the network begins as the model, where it has all of the model's bands; a class that it does not know begins afresh.
    Where no band has a known name they are taken in order, or adapted as ``put_weights`` does.

    Args:
        net: As ``build(card.network, ...)`` makes it.
        folder: Of the model.
        bands: Names of the network's bands.
        classes: Names of its classes.

    Raises:
        ModelError: The folder is no model, or damaged, or its network cannot take other bands.
    """
    card, state = folders.read(folder)
    banded = _other(card.network, len(bands), len(classes), bands=1 + len(bands) % 2)
    headed = _other(card.network, len(bands), len(classes), classes=1 + len(classes) % 2)
    own = _places(card.bands, bands)
    known = _places([c.name for c in card.classes], classes)
    fitted: dict[str, torch.Tensor] = {}
    for key, fresh in net.state_dict().items():
        value = state[key].to(fresh.dtype)
        if fresh.shape != banded[key] and own != list(range(len(card.bands))):
            value = _by_band(value, own)
        if fresh.shape != headed[key]:
            value = torch.stack([value[j] if j is not None else fresh[i] for i, j in enumerate(known)])
        if value.shape != fresh.shape:
            raise ModelError(
                f"{card.name} cannot be tuned for {', '.join(bands)}: its {key} does not hang on single bands; "
                f"its own are {', '.join(card.bands)}"
            )
        fitted[key] = value
    net.load_state_dict(fitted)
    return (
        f"begins with the weights of {card.name}, which knows {_count(own)} of the {len(bands)} bands "
        f"and {_count(known)} of the {len(classes)} classes by name"
    )


def _other(network: Mapping[str, Any], of_bands: int, of_classes: int, **more: int) -> dict[str, torch.Size]:
    """The shapes of a network's tensors for another number of bands or classes: those that differ depend on it."""
    net = build(network, more.get("bands", of_bands), more.get("classes", of_classes))
    return {k: v.shape for k, v in net.state_dict().items()}


def _by_band(weight: torch.Tensor, own: Sequence[int | None]) -> torch.Tensor:
    """A first convolution's weight (out, band, row, col) for other bands, which are those at ``own`` of the old."""
    if any(place is not None for place in own):
        nothing = torch.zeros_like(weight[:, 0])
        return torch.stack([nothing if place is None else weight[:, place] for place in own], 1)
    return weight if weight.shape[1] == len(own) else adapted(weight, len(own))


def _each_band(scaling: Scaling, bands: int) -> tuple[list[float], list[float]]:
    """a and b of each band."""
    a, b = (list(values) * (bands if len(values) == 1 else 1) for values in (scaling.a, scaling.b))
    return a, b


def _places(there: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Where each wanted name stands among those that are there."""
    at = {name: i for i, name in enumerate(_plain(there))}
    return [at.get(name) for name in _plain(wanted)]


def _plain(names: Sequence[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


def _count(places: Sequence[int | None]) -> int:
    return sum(place is not None for place in places)
