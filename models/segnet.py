"""What is a SegNet? A network that remembers where each maximum was, and puts values back there on the way up."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from .unet import double, start

FEATURES = (64, 128, 256, 512)


class SegNet(nn.Module):
    """Logits (n, class, row, col) of a small SegNet.

    Badrinarayanan et al. 2017, SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation. Two
    3x3 convolutions a level with batch normalization, where the paper has the thirteen of VGG16.

    Args:
        bands: Number of input channels.
        classes: Number of output channels.
        features: Channels of each level, from the finest to the coarsest; each ends in a pooling by two.
    """

    def __init__(self, bands: int, classes: int, features: Sequence[int] = FEATURES) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(features))
        self.down = nn.ModuleList(double(i, o, "batchnorm") for i, o in [(bands, features[0]), *pairs])
        self.pool = nn.MaxPool2d(2, return_indices=True)
        ups = [(o, i) for i, o in reversed(pairs)] + [(features[0], features[0])]
        self.up = nn.ModuleList(double(i, o, "batchnorm") for i, o in ups)
        self.head = nn.Conv2d(features[0], classes, 1)
        start(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, class, row, col) of images (n, band, row, col) whose sides are multiples of the stride."""
        places = []
        for level in self.down:
            x, where = self.pool(level(x))
            places.append(where)
        for level in self.up:
            x = level(functional.max_unpool2d(x, places.pop(), [2, 2]))
        logits: torch.Tensor = self.head(x)
        return logits
