"""How do raw pixels become labels on a device?

Pixels travel to the device in their own narrow type; scaling, the network and the choice of the class happen there, and
one byte a pixel comes back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rs_segment.card import ModelCard, Scaling
from rs_segment.errors import BandError, DeviceError, ModelError, OptionError, PixelTypeError
from rs_segment.types import PROBABILITY_STEPS, Compute, Labels, Mask, Pixels, Prediction

from . import device as devices
from . import folder as folders
from .scaling import scaled

TTA: dict[str, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, flip) for turns in range(4) for flip in (False, True)),
}
"""Views of a chip by the name of the augmentation: (quarter turns, mirrored first)."""

_CHUNK = 1 << 16
_NO_MEMORY = ("not enough memory", "DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")


class TorchPredictor:
    """A network on a device: implements ``rs_segment.types.Predictor``.

    The same pixels in the same batches give the same bytes. The number of threads and other settings of torch's are
    left as they are; on a CPU, malloc is told to keep large buffers, see ``device.reuse_memory``.

    Args:
        net: Turns float32 (n, band, row, col) into logits (n, class, row, col). It is moved to the device, put into
            eval mode, and belongs to the predictor from then on.
        card: What it expects and means.
        compute: Device, precision and batch.
        tta: "none", "flips" or "d4": average the probabilities over that many views of each chip.

    Raises:
        DeviceError: The device is not there, or cannot compute in the precision.
        OptionError: An option means nothing.
    """

    def __init__(self, net: nn.Module, card: ModelCard, compute: Compute | None = None, tta: str = "none") -> None:
        compute = compute or Compute()
        if compute.batch is not None and compute.batch < 1:
            raise OptionError(f"the batch is {compute.batch}; it must be 1 or more")
        self._card = card
        self._device = devices.choose(compute.device)
        self._precision = devices.choose_precision(compute.precision, self._device, card)
        self._batch = compute.batch or devices.default_batch(self._device)
        if self._device.type == "cpu" and _spatial(net):
            devices.reuse_memory()
        self._views = _views(tta)
        self._layout = _layout(net, self._device)
        self._net = net.to(self._device).to(memory_format=self._layout).eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path, compute: Compute, tta: str = "none") -> TorchPredictor:
        """The predictor of a model folder.

        Raises:
            ModelError: The folder is not a valid model.
            DeviceError: The device is not there, or cannot compute in the precision.
            OptionError: An option means nothing.
        """
        card, state = folders.read(folder)
        return cls(folders.restore(card, state), card, compute, tta)

    def with_tta(self, tta: str) -> TorchPredictor:
        """The same network with another augmentation: "none", "flips" or "d4"."""
        other = copy.copy(self)
        other._views = _views(tta)
        return other

    def with_scaling(self, scaling: Scaling) -> TorchPredictor:
        """The same network behind another scaling: what a card's percentiles were resolved to for a scene."""
        other = copy.copy(self)
        other._card = self._card.replace(scaling=scaling)
        return other

    @property
    def card(self) -> ModelCard:
        """What the model expects and means."""
        return self._card

    @property
    def device(self) -> str:
        """Where it computes, for people: "cpu", "cuda:0 (NVIDIA H200)"."""
        return devices.title(self._device)

    @property
    def precision(self) -> str:
        """What it computes in: "fp32", "bf16" or "fp16"."""
        return self._precision

    @property
    def batch(self) -> int:
        """Tiles a forward pass; smaller than asked for once memory has run out."""
        return self._batch

    def scores(self, pixels: Pixels, valid: Mask, probs: bool) -> torch.Tensor:
        """Scores of a batch, as a tensor on the device.

        When memory runs out, the batch is halved and stays so.

        Args:
            pixels: (n, band, row, col) in the scene's own dtype; rows and columns are multiples of the stride.
            valid: (n, row, col), False where a pixel holds no data; those reach the network as zero after scaling, and
                so do values that are not finite: the same as the network's own padding.
            probs: True for probabilities (float32, summing to one over the classes); False allows logits.

        Returns:
            (n, class, row, col); an ordinary tensor, which may be written to.

        Raises:
            BandError: Another number of bands than the card's.
            PixelTypeError: Pixels are not real numbers.
            DeviceError: There is too little memory for a single chip.
        """
        if pixels.ndim != 4 or pixels.shape[1] != len(self._card.bands):
            wanted = f"(n, {len(self._card.bands)}, row, col)"
            raise BandError(f"pixels of shape {pixels.shape}; {self._card.name} reads {wanted}")
        if pixels.dtype.kind not in "iuf":
            raise PixelTypeError(f"pixels of type {pixels.dtype}; {self._card.name} reads {self._card.dtype}")
        parts: list[torch.Tensor] = []
        start = 0
        while start < len(pixels):
            stop = min(start + self._batch, len(pixels))
            part = self._try(pixels[start:stop], valid[start:stop], probs)
            if part is not None:
                parts.append(part)
                start = stop
                continue
            # Out here nothing refers to what the failed pass had computed, so that it can be freed.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            elif self._device.type == "mps":
                torch.mps.empty_cache()
            self._batch = max(1, (stop - start) // 2)
        if not parts:
            return torch.empty((0, len(self._card.classes), *pixels.shape[2:]), device=self._device)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def weight(self, window: NDArray[np.float32]) -> torch.Tensor:
        """A blending window, float32 (row, col), as a tensor on the device."""
        return torch.from_numpy(np.array(window, np.float32)).to(self._device)

    def labels(self, scores: torch.Tensor, probs: bool, probabilities: bool) -> Prediction:
        """Labels of one rectangle of scores, back in numpy; among equal scores the first class wins.

        Args:
            scores: (class, row, col), as ``scores`` returned them, cropped or blended.
            probs: True where scores are probabilities, so that confidence is known.
            probabilities: Whether the probability of every class is wanted; needs ``probs``.

        Raises:
            ModelError: The network computed something that is no number.
        """
        with torch.no_grad():
            scores = scores.to(torch.float32, memory_format=torch.contiguous_format)
            if scores.device.type == "cpu":
                labels, confidence, worst = _best_on_cpu(scores.numpy(), probs)
            else:
                labels, confidence, worst = _best_on_device(scores, probs)
            every = _steps(scores).cpu().numpy() if probs and probabilities else None
        if not np.isfinite(worst):
            hint = "" if self._precision == "fp32" else "; use --precision fp32"
            raise ModelError(f"{self._card.name} computed {worst} in {self._precision}, which is no score{hint}")
        return Prediction(labels, confidence, every)

    def _try(self, pixels: Pixels, valid: Mask, probs: bool) -> torch.Tensor | None:
        """Scores of one forward pass, or None when memory ran out with more than one chip in it."""
        try:
            with torch.no_grad():
                return self._pass(scaled(pixels, valid, self._card.scaling, self._device), probs)
        except (RuntimeError, MemoryError) as error:
            known = isinstance(error, torch.OutOfMemoryError | MemoryError)
            if not known and not any(text in str(error) for text in _NO_MEMORY):
                raise
            if len(pixels) == 1:
                height, width = pixels.shape[2:]
                raise DeviceError(
                    f"{self.device} has too little memory for {self._card.name} on one tile of {height} x {width} px; "
                    "try a smaller --tile"
                ) from error
            return None

    def _pass(self, chips: torch.Tensor, probs: bool) -> torch.Tensor:
        """Logits or probabilities of scaled chips; with augmentation, the mean of the probabilities."""
        total: torch.Tensor | None = None
        for turns, flip in self._views:
            view = torch.rot90(chips.flip(-1) if flip else chips, turns, (-2, -1)) if turns or flip else chips
            scores = self._forward(view)
            if probs or len(self._views) > 1:
                # Softmax over classes that lie side by side is several times slower.
                scores = scores.to(torch.float32, memory_format=torch.contiguous_format)
                scores = scores.div(self._card.temperature).softmax(1)
            if turns or flip:
                scores = torch.rot90(scores, -turns, (-2, -1))
                scores = scores.flip(-1) if flip else scores
            total = scores if total is None else total.add_(scores)
        assert total is not None
        return total.div_(len(self._views)) if len(self._views) > 1 else total

    def _forward(self, chips: torch.Tensor) -> torch.Tensor:
        chips = chips.contiguous(memory_format=self._layout)
        alone = _one_thread() if self._device.type == "cpu" and not _spatial(self._net) else nullcontext()
        with alone, torch.autocast(self._device.type, devices.DTYPES[self._precision], self._precision != "fp32"):
            scores: torch.Tensor = self._net(chips)
        return scores


def _views(tta: str) -> tuple[tuple[int, bool], ...]:
    if tta not in TTA:
        raise OptionError(f"the augmentation {tta!r} is none of {', '.join(TTA)}")
    return TTA[tta]


def _spatial(net: nn.Module) -> bool:
    """Whether a network looks at more than single pixels."""
    return any(max(m.kernel_size) > 1 for m in net.modules() if isinstance(m, nn.Conv2d))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: where a pass over single pixels is short, waking the others costs more than it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _layout(net: nn.Module, device: torch.device) -> torch.memory_format:
    """Bands side by side where that is faster: not for networks that look at single pixels, nor on MPS."""
    return torch.channels_last if _spatial(net) and device.type != "mps" else torch.contiguous_format


def _best_on_cpu(scores: NDArray[np.float32], probs: bool) -> tuple[Labels, Labels | None, float]:
    """(labels, confidence, a score that is not finite if there is any among the best ones).

    A running maximum over planes, in pieces that stay in the processor's cache: 266 Mpx/s for six classes on one core,
    where torch's ``max`` over the first axis ran at 22 and its ``argmax`` at 4.
    """
    classes, height, width = scores.shape
    labels = np.zeros((height, width), np.uint8)
    confidence = np.empty((height, width), np.uint8) if probs else None
    rows = max(1, _CHUNK // max(width, 1))
    buffers = np.empty((rows, width), np.float32), np.empty((rows, width), bool), np.empty((rows, width), np.uint8)
    worst = 0.0
    for start in range(0, height, rows):
        planes, found = scores[:, start : start + rows], labels[start : start + rows]
        best, above, index = (b[: len(found)] for b in buffers)
        np.copyto(best, planes[0])
        for k in range(1, classes):
            np.greater(planes[k], best, out=above)
            np.multiply(above.view(np.uint8), np.uint8(k), out=index)
            np.maximum(found, index, out=found)
            np.maximum(best, planes[k], out=best)
        highest = float(best.max(initial=-np.inf)) if best.size else 0.0
        worst = worst if np.isfinite(highest) else highest
        if confidence is not None:
            np.multiply(best, np.float32(PROBABILITY_STEPS), out=best)
            np.copyto(confidence[start : start + rows], np.rint(best, out=best), casting="unsafe")
    return labels, confidence, worst


def _best_on_device(scores: torch.Tensor, probs: bool) -> tuple[Labels, Labels | None, float]:
    """As ``_best_on_cpu``, where one pass over all classes is fast."""
    if not scores.numel():
        empty = np.zeros(scores.shape[1:], np.uint8)
        return empty, empty.copy() if probs else None, 0.0
    best, index = scores.max(0)
    confidence = _steps(best).cpu().numpy() if probs else None
    return index.to(torch.uint8).cpu().numpy(), confidence, float(best.max())


def _steps(probabilities: torch.Tensor) -> torch.Tensor:
    """Probabilities as uint8 in steps of 1/254."""
    return (probabilities * PROBABILITY_STEPS).round_().to(torch.uint8)
