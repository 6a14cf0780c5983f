"""How does a network become a folder, and a folder a network?

A model folder holds ``model.json`` (the card, source of truth), ``model.safetensors``, ``config.json`` in smp's own
format where smp can build the network, and a ``README.md`` for people. Nothing in it is ever executed: weights are
tensors by name, and they are compared with the network that the card describes before any memory is taken for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import nn

from rs_segment.card import ModelCard
from rs_segment.errors import ModelError

from .networks import build

CARD, WEIGHTS, CONFIG, README = "model.json", "model.safetensors", "config.json", "README.md"
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pt2", ".pth")
_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}

State = dict[str, torch.Tensor]


def save(folder: Path, net: nn.Module, card: ModelCard, fp16: bool = False) -> ModelCard:
    """Writes a model folder and returns the card as written, with the checksum of the weights.

    Each file is complete under its name or not there; the card comes last, so that a folder that was only half
    replaced is refused by ``read``.

    Args:
        folder: Made if it is missing; files of these names in it are replaced.
        net: Must be what ``build(card.network, ...)`` gives, but for the values of its weights.
        card: Its ``weights_sha256`` is ignored.
        fp16: Store the weights of convolutions and linear layers in half the space. Vectors stay in 32 bits: variances
            span too many powers of ten, and they take next to no space.

    Raises:
        ModelError: The network is not the one in the card, or has weights that are not finite or not in fp16's range.
    """
    state = {k: v.detach().to("cpu", memory_format=torch.contiguous_format) for k, v in net.state_dict().items()}
    half = {k: v.half() if fp16 and v.is_floating_point() and v.ndim > 1 else v for k, v in state.items()}
    # A clone of its own for every name: safetensors refuses tensors that share memory.
    stored = {k: v.clone(memory_format=torch.contiguous_format) for k, v in half.items()}
    _check_fit({k: (_dtype_name(v), list(v.shape)) for k, v in stored.items()}, card)
    _check_finite(stored)
    data = save_bytes(stored, {"format": "pt"})
    card = card.replace(weights_sha256=hashlib.sha256(data).hexdigest())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / WEIGHTS, data)
    config = getattr(net, "_hub_mixin_config", None)
    if isinstance(config, Mapping):
        named = {**config, "_model_class": type(net).__name__}
        _put(folder / CONFIG, json.dumps(named, sort_keys=True, indent=2).encode())
    else:
        (folder / CONFIG).unlink(missing_ok=True)
    _put(folder / README, describe(card).encode())
    _put(folder / CARD, (json.dumps(card.to_item(len(data)), indent=2) + "\n").encode())
    return card


def read(folder: Path) -> tuple[ModelCard, State]:
    """The card and the weights in a model folder, checked against each other; floating-point weights as float32.

    Raises:
        ModelError: Something is missing, damaged, not what the card promises, or of a kind that could run code.
    """
    folder = Path(folder)
    if folder.suffix.lower() in PICKLES and folder.is_file():
        raise ModelError(f"{folder} is a pickle, and loading one runs code; {_import_hint(folder)}")
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder; a model is a folder with {CARD} and {WEIGHTS}")
    card = ModelCard.read(folder / CARD)
    path = folder / WEIGHTS
    _check_kind(path)
    if not card.weights_sha256:
        raise ModelError(f"{folder / CARD} has no file:checksum of {WEIGHTS}; save the model again to add it")
    try:
        with safe_open(path, framework="pt") as file:
            header = {k: (str(s.get_dtype()), list(s.get_shape())) for k in file.keys() for s in [file.get_slice(k)]}  # noqa: SIM118
        _check_fit(header, card)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != card.weights_sha256:
            raise ModelError(
                f"its sha256 is {digest[:12]}..., but {CARD} promises {card.weights_sha256[:12]}...: "
                "it is damaged or belongs to another card; fetch the folder again"
            )
        state = load_bytes(data)
        _check_finite(state)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (SafetensorError, OSError, ValueError, OverflowError, MemoryError) as error:
        raise ModelError(f"{path} is no whole safetensors file: {str(error) or type(error).__name__:.200}") from error
    return card, {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def restore(card: ModelCard, state: State) -> nn.Module:
    """The card's network with these weights, in eval mode and without gradients."""
    net = _on_meta(card)
    if net is not None:
        net.load_state_dict(state, assign=True)
    # What a network computes when it is made, and does not save, exists only after a real start.
    if net is None or any(t.is_meta for t in itertools.chain(net.parameters(), net.buffers())):
        net = build(card.network, len(card.bands), len(card.classes))
        net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def describe(card: ModelCard) -> str:
    """The card as a page of Markdown for people."""
    size = "not known" if card.resolution is None else f"{card.resolution:g} m"
    low, high = card.pixel_range
    lines = [
        f"# {card.name}",
        "",
        card.description or "A model for rs-segment.",
        "",
        f"- Reads: {', '.join(card.bands)}; {card.dtype} from {low:g} to {high:g}; ground resolution {size}",
        f"- Scaling: {card.scaling.kind}",
        f"- Network: {', '.join(f'{k} {v}' for k, v in card.network.items())}",
        f"- Stride {card.stride} px, halo {card.halo} px, mode {card.mode}",
        f"- Licence: {card.licence or 'not stated'}",
        "",
        "| value | class | colour |",
        "|---|---|---|",
        *(f"| {c.value} | {c.name} | {c.color} |" for c in card.classes),
        "",
    ]
    if card.precisions:
        lines += ["| precision | labels as in fp32 | change of mean IoU |", "|---|---|---|"]
        for k, v in card.precisions.items():
            lines += [f"| {k} | {v['agreement']:.4%} | {v.get('miou_change', 0.0):+.4f} |"]
        lines += [""]
    if card.training:
        lines += ["## Training", "", *_bullets(card.training), ""]
    lines += [f"`{CARD}` is the source of truth for this page. Use: `rs-segment predict SCENE --model {card.name}`", ""]
    return "\n".join(lines)


def _bullets(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Facts as a list, those within others farther in."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield f"{indent}- {key}"
            yield from _bullets(value, indent + "  ")
        else:
            yield f"{indent}- {key}: {value:.4g}" if isinstance(value, float) else f"{indent}- {key}: {value}"


def _check_kind(path: Path) -> None:
    """Refuses what is not there, or is another format under this name."""
    if not path.is_file():
        pickles = sorted(p for p in path.parent.iterdir() if p.suffix.lower() in PICKLES)
        hint = "".join(f"; {p.name} is a pickle, and loading one runs code; {_import_hint(p)}" for p in pickles[:1])
        raise ModelError(f"{path.parent} has no {path.name}{hint}")
    with path.open("rb") as file:
        start = file.read(9)
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ModelError(f"{path} is a pickle under another name, and loading one runs code; {_import_hint(path)}")
    if len(start) < 9 or start[8:] != b"{":
        raise ModelError(f"{path} is no safetensors file, or only the beginning of one")


def _import_hint(path: Path) -> str:
    return f"load {path.name} where you trust it, and store its tensors with safetensors.torch.save_file"


def _on_meta(card: ModelCard) -> nn.Module | None:
    """The card's network without memory for its weights; None for the few that compute while they are made."""
    try:
        with torch.device("meta"):
            return build(card.network, len(card.bands), len(card.classes))
    except ModelError as error:
        if isinstance(error.__cause__, RuntimeError | NotImplementedError) and "meta" in str(error.__cause__):
            return None
        raise


def _check_fit(header: Mapping[str, tuple[str, list[int]]], card: ModelCard) -> None:
    """Refuses weights (name: (safetensors dtype, shape)) that are not those of the card's network."""
    net = _on_meta(card)
    wanted = (build(card.network, len(card.bands), len(card.classes)) if net is None else net).state_dict()
    for what, keys in (("lacks", wanted.keys() - header.keys()), ("also has", header.keys() - wanted.keys())):
        if keys:
            raise ModelError(
                f"it {what} {len(keys)} tensors, as {min(keys)!r:.100}: these are not the weights of {_name(card)}"
            )
    for key, tensor in wanted.items():
        dtype, shape = header[key]
        if shape != list(tensor.shape):
            raise ModelError(f"{key} is {shape}, but {_name(card)} needs {list(tensor.shape)}")
        if dtype not in (_FLOATS if tensor.is_floating_point() else {_dtype_name(tensor)}):
            raise ModelError(f"{key} is of type {dtype}; {_name(card)} needs {_dtype_name(tensor)}")


def _check_finite(state: Mapping[str, torch.Tensor]) -> None:
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{key} holds values that are not finite in {_dtype_name(tensor)}; the network is broken")


def _name(card: ModelCard) -> str:
    parts = (card.network.get("arch"), card.network.get("encoder"))
    return f"{'/'.join(str(p) for p in parts if p)} with {len(card.bands)} bands and {len(card.classes)} classes"


def _dtype_name(tensor: torch.Tensor) -> str:
    """The tensor's type as safetensors writes it."""
    names: dict[Any, str] = {v: k for k, v in _FLOATS.items()} | {torch.int64: "I64", torch.int32: "I32"}
    return names.get(tensor.dtype, str(tensor.dtype))


def _put(path: Path, data: bytes) -> None:
    """Writes a file that is whole or absent."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp hides the file from others; a model is as public as its folder.
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    """The process's mask, found without changing it for a moment under other threads."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022
