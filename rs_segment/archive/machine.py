"""How much machine may this process use, and for how many workers is that enough? Limits of containers count."""

from __future__ import annotations

import math
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..types import Compute

BYTES_A_WORKER = 3 * 2**30
CORES_A_WORKER = 4

_GROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may run on."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *_quotas()]))


def memory() -> int | None:
    """Bytes that can still be taken; None where the system does not say."""
    found = [limit - used for limit, used in _limits()]
    try:
        told = Path("/proc/meminfo").read_text(encoding="ascii")
        found += [int(kib) * 1024 for kib in re.findall(r"^MemAvailable:\s+(\d+) kB", told, re.MULTILINE)]
    except OSError:
        pass
    return max(0, min(found)) if found else None


def gpus() -> tuple[str, ...]:
    """NVIDIA GPUs, or the parts that one is divided into, as ``CUDA_VISIBLE_DEVICES`` names them.

    What that variable says already is kept to.
    """
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        named = [name.strip() for name in told.split(",")]
        # As CUDA does it: the first name that means nothing ends the list.
        return tuple(named[: next((i for i, n in enumerate(named) if n in ("", "-1", "NoDevFiles")), len(named))])
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    whole = re.findall(r"UUID: (GPU-[\w-]+)", listed)
    parts = re.findall(r"UUID: (MIG-[\w/-]+)", listed)
    return tuple(parts or whole)


def seats(compute: Compute, workers: int | None, scenes: int | None) -> list[dict[str, str]]:
    """The environment of each worker that this machine is to have.

    One a GPU; without GPUs one for every four cores, as far as there are 3 GiB of memory for each. The cores are
    divided among the threads of torch.

    Args:
        compute: What the user asked for; a device with a number means that one.
        workers: How many; None leaves it to the machine. They take turns on the GPUs.
        scenes: How many scenes there are, where more workers are of no use; None where they are.
    """
    all_cores, free = cores(), memory()
    cards = gpus() if compute.device in ("auto", "cuda") else ()
    if workers is None:
        room = all_cores if free is None else free // BYTES_A_WORKER
        by_cores = all_cores // CORES_A_WORKER if compute.device in ("auto", "cpu") else 1
        workers = max(1, min(len(cards) or by_cores, room))
    workers = max(1, workers if scenes is None else min(workers, scenes))
    threads = str(max(1, all_cores // workers))
    common = {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return [{**common, **({"CUDA_VISIBLE_DEVICES": cards[i % len(cards)]} if cards else {})} for i in range(workers)]


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the control groups that this process is in, outward; of Linux's version 2, then of version 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, inside = (line.split(":", 2) + ["", ""])[:3]
        if names == "" or controller in names.split(","):
            top = _GROUPS / controller if names else _GROUPS
            # In a container the path is the one outside of it, and only the top is there.
            here = top / inside.lstrip("/")
            yield from (p for p in (here, *here.parents) if p == top or top in p.parents)


def _quotas() -> Iterator[int]:
    for group in _groups("cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            numbers = " ".join(_read(group / name) for name in names).split()
            if len(numbers) == 2 and numbers[0].isdecimal() and int(numbers[1]):
                yield math.ceil(int(numbers[0]) / int(numbers[1]))


def _limits() -> Iterator[tuple[int, int]]:
    """(limit, what is taken and cannot be had back at once) of each group, in bytes."""
    for group in _groups("memory"):
        stat = re.search(r"^(?:total_)?inactive_file (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
        cached = int(stat[1]) if stat else 0
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            most, now = _read(group / limit).strip(), _read(group / used).strip()
            if most.isdecimal() and now.isdecimal():
                yield int(most), max(0, int(now) - cached)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
