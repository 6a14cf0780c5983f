"""Where does a network compute, and in what precision?"""

from __future__ import annotations

import ctypes
import platform
import re
from typing import Literal

import torch

from rs_segment.card import ModelCard
from rs_segment.errors import DeviceError, OptionError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def choose(name: str) -> torch.device:
    """The device of that name; "auto" is the first of CUDA, Apple's MPS and the CPU that is there.

    Raises:
        OptionError: The name means nothing.
        DeviceError: This machine, or this build of torch, does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", name):
        raise OptionError(f"the device {name!r} is none of auto, cpu, cuda, cuda:N, mps")
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" and torch.cuda.is_available() else 0
    missing = kind == "cuda" and int(index or 0) >= count
    if missing or (kind == "mps" and not torch.backends.mps.is_available()):
        raise DeviceError(f"there is no {name} here; there is {', '.join(names())} (torch {torch.__version__})")
    if kind == "cuda":
        return torch.device("cuda", int(index) if index else torch.cuda.current_device())
    return torch.device(kind)


def names() -> list[str]:
    """What ``choose`` takes on this machine."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def title(device: torch.device) -> str:
    """The device for people: "cpu", "cuda:0 (NVIDIA H200)"."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def choose_precision(asked: str, device: torch.device, card: ModelCard) -> str:
    """What to compute in: "fp32", "bf16" or "fp16".

    "auto" leaves fp32 only where the device is fast in a shorter type and the card says that it was measured to cost
    next to nothing. In fp32, CUDA devices multiply as ``torch.backends`` is set, which for convolutions is TF32.

    Raises:
        OptionError: There is no such precision.
        DeviceError: The device cannot compute in it.
    """
    if asked == "auto":
        fast = (p for p in ("bf16", "fp16") if p in fast_in(device) and card.allows(p))
        return next(fast, "fp32")
    if asked not in DTYPES:
        raise OptionError(f"the precision {asked!r} is none of auto, {', '.join(DTYPES)}")
    if asked == "bf16" and device.type == "cuda" and not _cuda_bf16(device):
        raise DeviceError(f"{title(device)} cannot compute in bf16; use --precision fp16 or fp32")
    return asked


def default_batch(device: torch.device) -> int:
    """Tiles a forward pass when nobody says: one on a CPU, which a tile fills; by free memory on CUDA."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return int(min(max(free // (3 * 2**30), 1), 8))


def reuse_memory() -> None:
    """Makes malloc keep large buffers for the next layer, on Linux with glibc, for the whole process.

    The output of a layer on a large tile takes hundreds of megabytes. glibc maps, clears and unmaps them anew for each
    layer, which took a third to a half of the time of a U-Net on 2048 px tiles. Kept buffers go back to the system when
    the process ends; at its peak it held 2.9 GiB instead of 2.1.

    A thread that the caller made has an arena of its own, which gives memory back all the same: a scene of 1 Mpx took
    4.5 s in one and 3.6 s in the main thread (U-Net with MobileNetV2). ``MALLOC_ARENA_MAX=1`` in the environment
    of Python makes that 3.7 s.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def report() -> list[str]:
    """Sentences on what this machine's torch can do, one a device, versions first."""
    import segmentation_models_pytorch as smp
    import timm

    lines = [f"torch {torch.__version__}, segmentation-models-pytorch {smp.__version__}, timm {timm.__version__}"]
    for name in names():
        device = torch.device(name)
        fast = ", ".join(["fp32", *fast_in(device)])
        if device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory / 2**30
            lines.append(f"{title(device)}: {total:.0f} GiB, fast in {fast}")
        elif device.type == "cpu":
            capability = torch.backends.cpu.get_cpu_capability()
            lines.append(f"cpu: {capability}, {torch.get_num_threads()} threads, fast in {fast}")
        else:
            lines.append(f"{name}: fast in {fast}")
    return lines


def fast_in(device: torch.device) -> tuple[Literal["bf16", "fp16"], ...]:
    """Shorter types in which the device is faster than in fp32, the better first."""
    if device.type == "cuda":
        return ("bf16", "fp16") if _cuda_bf16(device) else ("fp16",)
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return ("bf16",)
    return ()


def _cuda_bf16(device: torch.device) -> bool:
    """Whether bf16 is in the hardware, since compute capability 8.0; torch emulates it on older ones."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
