"""What is an FCN? torchvision's, on a dilated ResNet."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.fcn import FCNHead

ENCODERS = ("resnet50", "resnet101")


class FCN(nn.Module):
    """Logits (n, class, row, col) of torchvision's fully convolutional network.

    Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation; as in torchvision, with a ResNet whose
    last two stages are dilated instead of reduced, and one head, whose scores are enlarged eight times.

    Args:
        bands: Number of input channels.
        classes: Number of output channels.
        encoder: One of ``ENCODERS``.
    """

    def __init__(self, bands: int, classes: int, encoder: str = "resnet50") -> None:
        super().__init__()
        body = getattr(resnet, encoder)(weights=None, replace_stride_with_dilation=[False, True, True])
        if bands != 3:
            body.conv1 = nn.Conv2d(bands, 64, 7, stride=2, padding=3, bias=False)
        self.encoder = IntermediateLayerGetter(body, return_layers={"layer4": "out"})
        self.head = FCNHead(2048, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, class, row, col) of images (n, band, row, col)."""
        coarse = self.head(self.encoder(x)["out"])
        return functional.interpolate(coarse, size=x.shape[-2:], mode="bilinear", align_corners=False)
