"""What is a U-Net without somebody else's encoder? The network as published, padded so that it keeps the size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

FEATURES = (64, 128, 256, 512, 1024)


class UNet(nn.Module):
    """Logits (n, class, row, col) of the U-Net of Ronneberger et al. 2015.

    U-Net: Convolutional Networks for Biomedical Image Segmentation: two 3x3 convolutions a level, 2x2 max pooling on
    the way down, 2x2 transposed convolutions and joined copies on the way up, a 1x1 convolution at the end. Weights
    begin as in the paper (He et al. 2015). Convolutions are padded, so that the result has the size of the image.

    Args:
        bands: Number of input channels.
        classes: Number of output channels.
        features: Channels of each level, from the finest to the coarsest; the stride is 2 to their number less one.
        norm: "batchnorm" after each convolution, or "none" as published.
    """

    def __init__(self, bands: int, classes: int, features: Sequence[int] = FEATURES, norm: str = "none") -> None:
        super().__init__()
        pairs = list(itertools.pairwise(features))
        self.down = nn.ModuleList(double(i, o, norm) for i, o in [(bands, features[0]), *pairs])
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(o, i, 2, stride=2) for i, o in reversed(pairs))
        self.join = nn.ModuleList(double(2 * i, i, norm) for i, _ in reversed(pairs))
        self.head = nn.Conv2d(features[0], classes, 1)
        start(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, class, row, col) of images (n, band, row, col) whose sides are multiples of the stride."""
        copies = []
        for i, level in enumerate(self.down):
            x = level(self.pool(x) if i else x)
            copies.append(x)
        copies.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([copies.pop(), up(x)], 1))
        logits: torch.Tensor = self.head(x)
        return logits


def double(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    """Two 3x3 convolutions, each with a rectifier."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=norm == "none"))
        layers += [nn.BatchNorm2d(outputs)] if norm == "batchnorm" else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def start(net: nn.Module) -> None:
    """Gives convolutions the weights to begin with: He et al. 2015, Delving Deep into Rectifiers."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
