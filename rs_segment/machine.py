"""How much machine may this process use? Cores, memory and GPUs, as a scheduler or a container has limited them."""

from __future__ import annotations

import math
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

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
