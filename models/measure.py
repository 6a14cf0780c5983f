"""What context does a network need, and what does a shorter precision cost? Numbers for a model's card."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rs_segment.tiles import TileGrid, round_up
from rs_segment.types import NODATA, Labels, Mask, Pixels

from .predictor import TorchPredictor

_WIDEST = 8192


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a network is from saying the same of an image that was moved.

    Args:
        by_stride: Largest difference of a logit after a shift by the stride, in standard deviations of its class.
        by_less: Likewise after a shift by half the stride; 0 where the stride is 1.
    """

    by_stride: float
    by_less: float

    @property
    def passed(self) -> bool:
        """Whether tiles on a grid of the stride can say the same as one pass over the whole."""
        return self.by_stride < 0.01


@dataclass(frozen=True, slots=True)
class Halo:
    """How labels from tiles agree with those of one pass over the whole image.

    Args:
        halo: The smallest that reaches the agreement on the edge, in pixels; None when none that was tried does.
        edge: Share of labels that agree, by halo, among pixels within one stride of an inner edge of a tile's core.
        map: Share of labels that agree, by halo, among all pixels.
    """

    halo: int | None
    edge: Mapping[int, float] = field(default_factory=dict)
    map: Mapping[int, float] = field(default_factory=dict)


def stride_of(net: nn.Module) -> int:
    """The factor by which a network reduces the image at its coarsest, in pixels.

    Measured: a layer whose output grows by d pixels when the image grows by 256 has reduced it 256 / d times. Layers
    that pool the whole image do not grow and do not count; a layer whose output nothing uses does.
    """
    seen: dict[str, list[int]] = {}

    def note(name: str, out: Any) -> None:
        out = out[0] if isinstance(out, tuple) and out else out
        if isinstance(out, torch.Tensor) and out.ndim == 4:
            seen.setdefault(name, []).append(int(out.shape[-1]))

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, out, name=name: note(name, out))
        for name, module in net.named_modules()
    ]
    like = next(net.parameters())
    net.eval()
    try:
        with torch.no_grad():
            for side in (256, 512):
                net(torch.zeros(1, _bands(net), side, side, device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    pairs = [p for sizes in seen.values() for p in zip(*np.array_split(np.array(sizes), 2), strict=False)]
    grown = [large - small for small, large in pairs if large > small]
    return math.lcm(*(max(1, round(256 / g)) for g in grown))


def receptive_field(net: nn.Module, bands: int | None = None) -> int | None:
    """The theoretical context: pixels beyond a block of one stride that can change a label in it; None if unlimited.

    A halo of this size, rounded up to the stride, makes tiles say exactly what the whole says. Found by gradient (as in
    Luo et al. 2016, Understanding the Effective Receptive Field in Deep Convolutional Neural Networks): in a copy of
    the network with positive weights, averages in the place of maxima, and neither normalization nor rectifiers,
    nothing cancels and nothing is switched off, so the gradient of a block reaches as far as the network does.

    Args:
        net: Left as it is.
        bands: Number of bands that it reads; None asks its first convolution.
    """
    stride, bands = stride_of(net), bands or _bands(net)
    # In float32 the gradient at the rim of fifty layers is less than the smallest number.
    opened = _opened(net).to("cpu", torch.float64)
    return _reach(opened, stride, bands, False, _reach(opened, stride, bands, True, 0))


def _reach(net: nn.Module, stride: int, bands: int, along: bool, least: int | None) -> int | None:
    """The context along rows or columns of a strip one stride high, or ``least`` if that is more."""
    if least is None:
        return None
    length, height = max(512, 4 * stride), max(stride, 32)
    while length <= _WIDEST:
        shape = (height, length) if along else (length, height)
        generator = torch.Generator().manual_seed(0)
        image = torch.rand((1, bands, *shape), generator=generator, dtype=torch.float64).requires_grad_()
        start = length // 2 // stride * stride
        scores = net(image)
        block = scores[..., start : start + stride] if along else scores[..., start : start + stride, :]
        (gradient,) = torch.autograd.grad(block.sum(), image)
        felt = gradient.abs().sum((0, 1, 2 if along else 3)).nonzero().flatten()
        first, last = int(felt[0]), int(felt[-1])
        if first > 0 and last < length - 1:
            return max(least, start - first, last - (start + stride - 1))
        length *= 2
    return None


def _opened(net: nn.Module) -> nn.Module:
    """A copy in which every pixel that can matter does."""
    net = copy.deepcopy(net).eval()
    generator = torch.Generator().manual_seed(0)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.ReLU | nn.ReLU6 | nn.LeakyReLU | nn.Hardswish | nn.Dropout2d):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d) and not child.return_indices:
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, name, pool)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            weight = torch.rand(module.weight.shape, generator=generator) + 0.5
            # A quarter of a mean, so that a hundred residual blocks do not drive gates into saturation.
            module.weight = nn.Parameter(weight / weight[0].numel() / 4, requires_grad=False)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def shift_test(net: nn.Module, stride: int, side: int = 1024) -> Shift:
    """Whether a network says the same of a place when the image is cut elsewhere, in fp32 and away from the borders.

    Where a pooling keeps indices, as SegNet's, rounding decides between values that nearly tie, and moves what is put
    back there; so of such a network one difference in a thousand is left out.

    Args:
        net: In fp32; put into eval mode.
        stride: In pixels.
        side: Of the image, noise of all scales, in pixels; a quarter of it in the middle is compared, which should be
            farther from the borders than the network sees.
    """
    like = next(net.parameters())
    noise = _noise(_bands(net), side + stride).to(like.device)
    low = side * 3 // 8 // stride * stride
    size = max(side // 4, 1)
    net.eval()
    keeps = any(isinstance(m, nn.MaxPool2d) and m.return_indices for m in net.modules())

    def look(shift: int) -> torch.Tensor:
        with torch.no_grad():
            scores: torch.Tensor = net(noise[..., shift : shift + side, shift : shift + side])
        return scores[..., low - shift : low - shift + size, low - shift : low - shift + size].float()

    here = look(0)
    spread = max(float(here.std((-2, -1)).mean()), 1e-12)

    def apart(shift: int) -> float:
        differences = (look(shift) - here).abs().flatten()
        count = len(differences) // 1000 if keeps else 0
        return float(differences.topk(count + 1).values[-1]) / spread

    return Shift(apart(stride), apart(stride // 2) if stride > 1 else 0.0)


def _noise(bands: int, side: int) -> torch.Tensor:
    """(1, band, row, col) with as much variance at coarse scales as at fine ones, which images have too."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(1, bands, side, side)
    for octave in range(6):
        small = torch.randn((1, bands, *[-(-side // 2**octave)] * 2), generator=generator)
        total += nn.functional.interpolate(small, (side, side), mode="bilinear")
    return total


def measured_halo(
    predictor: TorchPredictor,
    images: Sequence[Pixels],
    stride: int,
    tile: int = 1024,
    agree: float = 0.999,
    tried: Halo | None = None,
) -> Halo:
    """The context that a network really uses: tiles as the engine cuts them, against one pass over the whole image.

    Halos grow by the stride until the labels within one stride of the tiles' inner edges agree.

    Args:
        predictor: On a device that holds a whole image.
        images: (band, row, col) each, real imagery in its own pixel type, larger than two tiles.
        stride: In pixels.
        tile: Side of a tile in pixels; halos up to a quarter of it are tried. The share on the edge hardly
            depends on it, the share in the map does.
        agree: Share of labels that must agree.
        tried: What smaller tiles told; only larger halos are tried.
    """
    least = max(tried.edge, default=-stride) + stride if tried else 0
    wholes = [whole_labels(predictor, image) for image in images]
    edge = dict(tried.edge) if tried else {}
    everywhere = dict(tried.map) if tried else {}
    for halo in range(least, tile // 4 + 1, stride):
        same = np.zeros(4, np.int64)
        for image, whole in zip(images, wholes, strict=True):
            grid = TileGrid(whole.shape, tile, halo, stride)
            tiled, near = _tiled_labels(predictor, image, grid)
            equal = tiled == whole
            same += [np.count_nonzero(equal & near), np.count_nonzero(near), np.count_nonzero(equal), equal.size]
        edge[halo] = float(same[0] / same[1]) if same[1] else 1.0
        everywhere[halo] = float(same[2] / same[3])
        if edge[halo] >= agree:
            return Halo(halo, edge, everywhere)
    return Halo(None, edge, everywhere)


def precision_agreement(
    full: TorchPredictor, short: TorchPredictor, images: Sequence[Pixels], truths: Sequence[Labels] | None = None
) -> dict[str, float]:
    """What a card's ``precisions`` says of a shorter type: {"agreement": ..., "miou_change": ...}.

    Args:
        full: In fp32.
        short: The same model in the shorter type.
        images: (band, row, col) each, real imagery in its own pixel type.
        truths: (row, col) each, reference labels with 255 where there are none; without them "miou_change" is left out.
    """
    classes = len(full.card.classes)
    equal = total = 0
    counts = np.zeros((2, classes, classes), np.int64)
    for i, image in enumerate(images):
        pair = whole_labels(full, image), whole_labels(short, image)
        equal += int(np.count_nonzero(pair[0] == pair[1]))
        total += pair[0].size
        if truths is not None:
            known = truths[i] < classes
            for count, labels in zip(counts, pair, strict=True):
                code = truths[i][known].astype(np.int64) * classes + labels[known]
                count += np.bincount(code, minlength=classes**2).reshape(classes, classes)
    found = {"agreement": equal / total}
    if truths is not None:
        found["miou_change"] = _mean_iou(counts[1]) - _mean_iou(counts[0])
    return found


def whole_labels(predictor: TorchPredictor, image: Pixels) -> Labels:
    """Labels (row, col) of an image (band, row, col) in one pass, padded with nodata up to the stride."""
    height, width = image.shape[1:]
    stride = predictor.card.stride
    chip, valid = _padded(image, round_up(height, stride), round_up(width, stride))
    scores = predictor.scores(chip, valid, False)[0]
    return predictor.labels(scores[:, :height, :width], False, False).labels


def _tiled_labels(predictor: TorchPredictor, image: Pixels, grid: TileGrid) -> tuple[Labels, Mask]:
    """(labels, which pixels lie within one stride of an inner edge of a core)."""
    labels = np.full(grid.shape, NODATA, np.uint8)
    near = np.zeros(grid.shape, bool)
    height, width = grid.shape
    for tile in grid:
        read, core = tile.read, tile.core
        part = image[:, read.row_off : read.row_off + read.height, read.col_off : read.col_off + read.width]
        scores = predictor.scores(*_padded(part, read.height, read.width), False)[0]
        rows = slice(core.row_off, core.row_off + core.height)
        cols = slice(core.col_off, core.col_off + core.width)
        labels[rows, cols] = predictor.labels(scores[:, *tile.crop], False, False).labels
        for edge in {rows.start, rows.stop} - {0, height}:
            near[max(edge - grid.stride, 0) : edge + grid.stride, cols] = True
        for edge in {cols.start, cols.stop} - {0, width}:
            near[rows, max(edge - grid.stride, 0) : edge + grid.stride] = True
    return labels, near


def _padded(image: Pixels, height: int, width: int) -> tuple[Pixels, Mask]:
    """(a batch of one chip of that size, its valid pixels)."""
    chip = np.zeros((1, image.shape[0], height, width), image.dtype)
    chip[0, :, : image.shape[1], : image.shape[2]] = image
    valid = np.zeros((1, height, width), bool)
    valid[0, : image.shape[1], : image.shape[2]] = True
    return chip, valid


def _mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean intersection over union of the classes that occur in the reference or the prediction."""
    hits = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - hits
    return float((hits[union > 0] / union[union > 0]).mean()) if union.any() else 0.0


def _bands(net: nn.Module) -> int:
    return next(m.in_channels for m in net.modules() if isinstance(m, nn.Conv2d))
