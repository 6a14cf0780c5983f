"""How many work, and on what."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs_segment import Compute
from rs_segment.archive import machine


def test_workers_fit_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def seats(workers: int | None = None, scenes: int = 100, device: str = "auto") -> list[dict[str, str]]:
        return machine.seats(Compute(device=device), workers, scenes)

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 16)
    monkeypatch.setattr(machine, "memory", lambda: 100 * 2**30)
    monkeypatch.setattr(machine, "gpus", lambda: ())
    assert len(seats()) == 4
    assert seats()[0] == {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}
    assert len(seats(scenes=3)) == 3
    assert len(seats(workers=7)) == 7
    assert seats(workers=32)[0]["OMP_NUM_THREADS"] == "1"
    monkeypatch.setattr(machine, "memory", lambda: 7 * 2**30)
    assert len(seats()) == 2
    monkeypatch.setattr(machine, "memory", lambda: 0)
    assert len(seats()) == 1
    monkeypatch.setattr(machine, "memory", lambda: None)
    assert len(seats()) == 4
    monkeypatch.setattr(machine, "gpus", lambda: ("GPU-a", "GPU-b"))
    assert [s["CUDA_VISIBLE_DEVICES"] for s in seats()] == ["GPU-a", "GPU-b"]
    assert [s["CUDA_VISIBLE_DEVICES"] for s in seats(workers=3)] == ["GPU-a", "GPU-b", "GPU-a"]
    assert len(seats(device="cuda:1")) == 1
    assert "CUDA_VISIBLE_DEVICES" not in seats(device="cuda:1")[0]
    assert len(seats(device="cpu")) == 4


def test_gpus_are_those_that_may_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-x,-1,3")
    assert machine.gpus() == ("2", "GPU-x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus() == ()
    assert machine.cores() >= 1
    assert machine.memory() is None or machine.memory() > 0  # type: ignore[operator]
