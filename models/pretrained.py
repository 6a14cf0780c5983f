"""Where do an encoder's first weights come from? Nowhere, a file, or, on explicit request only, the network."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from rs_segment.errors import ModelError

NONE, IMAGENET = "none", "imagenet"
_HEADS = re.compile(r"(model\.)?(fc|classifier|last_linear|last_layer|head|AuxLogits|aux_logits|conv_head|bn2)\b.*")
_COUNTER = "num_batches_tracked"


def put_weights(net: nn.Module, source: str, name: str = "") -> None:
    """Gives the encoder of a network its first weights, in place.

    The first convolution adapts to the number of bands as in smp and timm: the kernels of red, green and blue are taken
    in turn and scaled so that the sum over the bands stays what it was.

    Args:
        net: As ``networks.build`` made it; its encoder is ``net.encoder``.
        source: "none", "imagenet" (fetched by smp or timm from the Hugging Face hub), or a safetensors file.
        name: Of the encoder, as in a card's ``network``.

    Raises:
        ModelError: The weights cannot be had, or are of another encoder.
    """
    if source == NONE:
        return
    encoder = getattr(net, "encoder", None)
    if not isinstance(encoder, nn.Module) or not name:
        raise ModelError(f"this network has no encoder to give the weights {source} to; use none")
    state = _fetched(name) if source == IMAGENET else _read(Path(source))
    _load(encoder, state, source, name)


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"the encoder weights {path} are not there; use none, imagenet or a safetensors file")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is no whole safetensors file: {error!s:.200}") from None


def _fetched(name: str) -> dict[str, torch.Tensor]:
    """The weights of ImageNet from the hub; fails at once without a connection."""
    known = smp.encoders.encoders
    if name.startswith("tu-"):
        if not timm.is_model_pretrained(name[3:]):
            raise ModelError(f"timm {timm.__version__} has no ImageNet weights for {name}; use none or a file")
    elif IMAGENET not in known.get(name, {}).get("pretrained_settings", {}):
        raise ModelError(f"smp {smp.__version__} has no ImageNet weights for {name}; use none or a file")
    # What was fetched before needs no connection; where the cache fails, the hub is asked next, and its error is told.
    with contextlib.suppress(Exception), _offline():
        return _pretrained(name)
    try:
        with _impatient():
            return _pretrained(name)
    # The hub's client raises errors of requests, of its own and of the operating system.
    except Exception as error:
        raise ModelError(
            f"the ImageNet weights of {name} cannot be fetched ({type(error).__name__}: {str(error).strip():.120}); "
            "connect to the network, name a safetensors file, or use none"
        ) from error


def _pretrained(name: str) -> dict[str, torch.Tensor]:
    if name.startswith("tu-"):
        made = smp.encoders.get_encoder(name, weights=True, depth=4 if name[3:].startswith("convnext") else 5)
    else:
        made = smp.encoders.get_encoder(name, weights=IMAGENET)
    state: dict[str, torch.Tensor] = made.state_dict()
    return state


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """The hub's client takes files of its cache only."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        with _silent():
            yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """One try of a few seconds to reach the hub, silently."""
    from huggingface_hub import HfApi

    with _silent():
        # Asked first, because downloads try again and again for a minute.
        HfApi().model_info("smp-hub/resnet18.imagenet", timeout=5)
        yield


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _load(encoder: nn.Module, state: dict[str, torch.Tensor], source: str, name: str) -> None:
    wanted = encoder.state_dict()
    if not wanted.keys() & state.keys():
        for cut in ("encoder.", "model."):
            stripped = {k.removeprefix(cut): v for k, v in state.items() if k.startswith(cut)}
            state = stripped if wanted.keys() & stripped.keys() else state
        longer = {f"model.{k}": v for k, v in state.items()}
        state = longer if wanted.keys() & longer.keys() else state
    missing = sorted(k for k in wanted.keys() - state.keys() if not k.endswith(_COUNTER))
    strange = sorted(k for k in state.keys() - wanted.keys() if not _HEADS.fullmatch(k) and not k.endswith(_COUNTER))
    if missing or strange:
        what, keys = ("lacks", missing) if missing else ("also has", strange)
        raise ModelError(f"{source} is not of the encoder {name}: it {what} {len(keys)} tensors, as {keys[0]!r:.80}")
    first = _first_convolution(encoder, wanted)
    fitted: dict[str, Any] = {}
    for key, tensor in wanted.items():
        value = state.get(key, tensor)
        if key == first and value.ndim == 4 and value.shape[1] != tensor.shape[1]:
            value = adapted(value, tensor.shape[1])
        if value.shape != tensor.shape:
            raise ModelError(
                f"{source} is not of the encoder {name}: {key} is {list(value.shape)} there, "
                f"but {list(tensor.shape)} here"
            )
        fitted[key] = value.to(tensor.dtype)
    encoder.load_state_dict(fitted)


def adapted(weight: torch.Tensor, bands: int) -> torch.Tensor:
    """A first convolution's weight (out, band, row, col) for another number of bands.

    The kernels are taken in turn and scaled; for fewer bands than three their mean stands for each.
    """
    count = weight.shape[1]
    if bands < count:
        return weight.sum(1, keepdim=True).expand(-1, bands, -1, -1).clone() / bands
    return weight[:, [i % count for i in range(bands)]] * (count / bands)


def _first_convolution(encoder: nn.Module, state: dict[str, torch.Tensor]) -> str:
    """The name of the weight that meets the image."""
    return next(k for k, v in state.items() if v.ndim == 4)
