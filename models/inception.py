"""What makes InceptionV3 fit for tiles? Padding, so that each layer lies over the one before."""

from __future__ import annotations

import torch
from timm.models.inception_v3 import InceptionB, InceptionD
from torch import nn
from torch.nn import functional


class _ReductionA(InceptionB):
    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        deep = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [self.branch3x3(x), deep, functional.max_pool2d(x, 3, stride=2, padding=1)]


class _ReductionB(InceptionD):
    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        wide = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        deep = self.branch3x3_2(self.branch3x3_1(x))
        return [deep, self.branch7x7x3_4(wide), functional.max_pool2d(x, 3, stride=2, padding=1)]


_PADDED = {InceptionB: _ReductionA, InceptionD: _ReductionB}


def pad(net: nn.Module) -> nn.Module:
    """The network, changed in place: 3x3 convolutions and poolings of timm's InceptionV3 keep the size or halve it.

    Without padding, a map of features is some pixels smaller than half the one before, and joining it with the
    decoder's stretches it by an amount that depends on the size of the image: labels then change with the place of the
    tile. The weights are the same, so those of ImageNet serve. smp does likewise with InceptionV4.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d) and module.kernel_size in (3, (3, 3)):
            module.padding = 1 if isinstance(module, nn.MaxPool2d) else (1, 1)
        elif type(module) in _PADDED:
            module.__class__ = _PADDED[type(module)]
    return net
