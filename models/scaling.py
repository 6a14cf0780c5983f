"""How do raw pixels become what a network reads? The same in training and in prediction."""

from __future__ import annotations

import numpy as np
import torch

from rs_segment.card import Scaling
from rs_segment.types import Mask, Pixels


def scaled(pixels: Pixels, valid: Mask, scaling: Scaling, device: torch.device) -> torch.Tensor:
    """What the network reads, float32 (n, band, row, col) on the device.

    Args:
        pixels: (n, band, row, col) in any pixel type; travels to the device in it.
        valid: (n, row, col); pixels without data become zero, and so do values that are not finite.
        scaling: Not by percentiles.
        device: Where the arithmetic is done.
    """
    offset, factor = scaling.linear(pixels.shape[1])
    if pixels.dtype.itemsize > 2 and pixels.dtype != np.float32:
        # float32 would round these values before the offset is taken off.
        with np.errstate(all="ignore"):
            pixels = (pixels - offset.astype(np.float64)[:, None, None]).astype(np.float32)
        offset = np.zeros_like(offset)
    chips = on_device(pixels, device).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    if offset.any():
        chips.sub_(torch.from_numpy(offset).to(device)[:, None, None])
    if (factor != 1).any():
        chips.mul_(torch.from_numpy(factor).to(device)[:, None, None])
    if pixels.dtype.kind == "f":
        chips.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    if scaling.clip:
        chips.clamp_(0.0, 1.0)
    if not valid.all():
        chips.masked_fill_(on_device(~valid, device)[:, None], 0.0)
    return chips


def on_device(array: Pixels, device: torch.device) -> torch.Tensor:
    """A numpy array on a device, in its own type where torch and the device have it."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    if not array.flags.writeable:
        array = array.copy()
    if device.type == "mps" and array.dtype in (np.uint16, np.uint32):
        array = array.astype(np.float32)
    return torch.from_numpy(array).to(device)
