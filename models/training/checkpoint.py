"""What must be remembered so that a training goes on as if nothing had happened?

Everything is in one safetensors file, tensors by name and the rest as JSON in its header, so that it is there as a
whole or not at all. Nothing in it is executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from rs_segment.errors import ModelError
from rs_segment.workfolder import disk_errors, sync_folder

from .optimise import FIRST_SCALE

LAST, BEST = "last.safetensors", "best.safetensors"
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    Args:
        epoch: Epochs that are done.
        step: Steps that are done.
        seconds: Time that training took so far.
        best: Mean IoU of the best epoch; below 0 before the first.
        best_epoch: Its number.
        micro: Windows that fit into memory at once.
        scale: Factor on the loss, in fp16.
        steady: Steps that it has held.
        history: One row an epoch, numbers by name.
        identity: What the training is of, see ``read``.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    best_epoch: int = 0
    micro: int = 0
    scale: float = FIRST_SCALE
    steady: int = 0
    history: tuple[Mapping[str, float], ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)


def write(path: Path, tensors: Tensors, progress: Progress) -> None:
    """Writes a checkpoint; until it is whole, the one before stays.

    Raises:
        DiskFullError, OutputError: It cannot be written.
    """
    temp = path.with_name(f".{path.name}.tmp")
    plain = {k: v.detach().to("cpu").clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    with disk_errors(path.parent):
        try:
            try:
                save_file(plain, temp, {"progress": json.dumps(asdict(progress))})
            except SafetensorError as error:
                raise _as_os_error(error, temp) from error
            with open(temp, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(temp, path)
            sync_folder(path.parent)
        finally:
            temp.unlink(missing_ok=True)


def read(path: Path, identity: Mapping[str, Any]) -> tuple[Tensors, Progress]:
    """A checkpoint, and how far it was.

    Args:
        path: Of the file.
        identity: What the training is of: network, data and so on, by name; it must be that of the checkpoint.

    Raises:
        ModelError: The file is damaged, or of another network or other data.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})["progress"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        progress = Progress(**{**told, "history": tuple(told["history"])})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is no whole checkpoint ({error!s:.120}); train again without --resume") from error
    for what, mine in json.loads(json.dumps(identity)).items():
        its = progress.identity.get(what)
        if its != mine:
            raise ModelError(
                f"{path} is of another {what}: {its!r:.120} there, {mine!r:.120} now; "
                "train again without --resume, or into another folder"
            )
    return tensors, progress


def pack(net: nn.Module, average: nn.Module | None, optimiser: torch.optim.Optimizer) -> Tensors:
    """All tensors of a training by name."""
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for i, parameter in enumerate(_parameters(optimiser)):
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimiser.{i}.{key}"] = value
    return tensors


def unpack(tensors: Tensors, net: nn.Module, average: nn.Module | None, optimiser: torch.optim.Optimizer) -> None:
    """Puts tensors back where ``pack`` took them from."""
    net.load_state_dict(under(tensors, "net."))
    if average is not None:
        average.load_state_dict(under(tensors, "average."))
    for i, parameter in enumerate(_parameters(optimiser)):
        state = under(tensors, f"optimiser.{i}.")
        # Like the parameter also in how it lies in memory: sums may depend on that.
        optimiser.state[parameter] = {
            k: torch.empty_like(parameter, requires_grad=False).copy_(v) if v.shape == parameter.shape else v
            for k, v in state.items()
        }


def under(tensors: Tensors, prefix: str) -> Tensors:
    """Tensors whose names begin like that, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _parameters(optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimiser.param_groups for p in group["params"]]


def _as_os_error(error: SafetensorError, path: Path) -> OSError:
    """What the operating system said, which safetensors tells as a text only."""
    import errno
    import re

    found = re.search(r"os error (\d+)", str(error))
    code = int(found[1]) if found else errno.EIO
    return OSError(code, os.strerror(code) if found else str(error), str(path))
