"""How do weights move, how fast, and what is their average?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Groups = list[dict[str, Any]]

OPTIMISERS: dict[str, Callable[[Groups, float], torch.optim.Optimizer]] = {
    "adamw": lambda groups, decay: torch.optim.AdamW(groups, weight_decay=decay),
    "adam": lambda groups, decay: torch.optim.Adam(groups, weight_decay=decay),
    "sgd": lambda groups, decay: torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=decay),
}
"""Optimisers by name: AdamW (Loshchilov & Hutter 2019), Adam (Kingma & Ba 2015), SGD with Nesterov's momentum 0.9."""

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2,
    "linear": lambda done: 0.01 + 0.99 * (1 - min(done, 1.0)),
    "constant": lambda done: 1.0,
}
"""Learning rates, as a share of the highest one, by the share of training that is done."""


def groups_of(net: nn.Module, rate: float, encoder_share: float) -> Groups:
    """Parameters with their highest learning rate: the encoder's, and the others."""
    named = list(net.named_parameters())
    encoder = [p for name, p in named if name.startswith("encoder.")]
    rest = [p for name, p in named if not name.startswith("encoder.")]
    groups = [{"params": encoder, "lr": rate * encoder_share}, {"params": rest, "lr": rate}]
    return [{**g, "highest": g["lr"]} for g in groups if g["params"]]


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Sets all learning rates to a share of their highest; returns the last one."""
    for group in optimiser.param_groups:
        group["lr"] = group["highest"] * factor
    return float(optimiser.param_groups[-1]["lr"])


FIRST_SCALE = 65536.0
_RISES_AFTER = 1000


def next_scale(scale: float, steady: int, fits: bool) -> tuple[float, int]:
    """(factor on the loss, steps that it has held) after a step; fp16 loses gradients that are not scaled up.

    A step whose gradients do not fit into fp16 is not taken and halves the factor; many that fit double it
    (Micikevicius et al. 2018).
    """
    if not fits:
        return max(1.0, scale / 2), 0
    return (scale * 2, 0) if steady + 1 >= _RISES_AFTER else (scale, steady + 1)


class Average:
    """A copy of a network whose weights follow slowly (Polyak & Juditsky 1992, as an exponential mean).

    Args:
        net: To follow.
        keep: Share that a step keeps; less at the beginning, when the weights are still those of chance.
    """

    def __init__(self, net: nn.Module, keep: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.keep = keep

    @torch.no_grad()
    def follow(self, net: nn.Module, step: int) -> None:
        """Take a step after that many have been taken."""
        keep = min(self.keep, (1 + step) / (20 + step))
        for mine, its in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(its, 1 - keep)
            else:
                mine.copy_(its)
