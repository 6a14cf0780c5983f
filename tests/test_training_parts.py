"""Laws of what a training draws and makes small: augmentation, losses, schedules, patience."""

from __future__ import annotations

import functools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import StopInEpoch, data, run, same, weights_of

from rs_segment.errors import CancelledError, DeviceError, TrainingError
from rs_segment.types import NODATA
from rs_segment_models.training import checkpoint, loop
from rs_segment_models.training.augment import radiometry, turned, zoom
from rs_segment_models.training.losses import make_loss
from rs_segment_models.training.optimise import FIRST_SCALE, SCHEDULES, next_scale

__all__ = ["data"]

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 16), st.integers(1, 9))
def test_pixels_and_labels_turn_together(seed: int, bands: int, side: int) -> None:
    labels = torch.arange(side * side).reshape(side, side)
    pixels = (labels + torch.arange(bands)[:, None, None] * 1000).float()
    image, marks = turned(pixels, labels, ("turns",), np.random.default_rng(seed))
    assert torch.equal(image, (marks + torch.arange(bands)[:, None, None] * 1000).float())
    assert sorted(marks.ravel().tolist()) == labels.ravel().tolist()
    assert torch.equal(turned(pixels, labels, (), np.random.default_rng(seed))[0], pixels)


def test_all_eight_turns_are_drawn() -> None:
    labels = torch.arange(4).reshape(2, 2)
    found = {
        tuple(turned(labels[None].float(), labels, ("turns",), np.random.default_rng(i))[1].ravel().tolist())
        for i in range(200)
    }
    assert len(found) == 8


@settings(max_examples=50)
@given(seeds, st.integers(1, 16))
def test_missing_pixels_stay_zero_under_any_light(seed: int, bands: int) -> None:
    rng = np.random.default_rng(seed)
    valid = torch.from_numpy(rng.random((12, 15)) < 0.7)
    pixels = torch.from_numpy(rng.standard_normal((bands, 12, 15)).astype(np.float32)) * valid
    lit = radiometry(pixels, valid, 1.0, ("radiometry",), np.random.default_rng(seed))
    assert lit.shape == pixels.shape
    assert lit.dtype == torch.float32
    assert bool((lit[:, ~valid] == 0).all())
    assert bool(lit.isfinite().all())
    assert torch.equal(radiometry(pixels, valid, 1.0, ("turns",), np.random.default_rng(seed)), pixels)


@given(seeds)
def test_scale_lies_between_half_and_twice(seed: int) -> None:
    assert 0.5 <= zoom(("scale",), np.random.default_rng(seed)) <= 2
    assert zoom((), np.random.default_rng(seed)) == 1


def by_hand(kind: str, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> float:
    """Focal loss and cross-entropy of one pixel after the other, from their formulas."""
    total = mass = 0.0
    for n, row, col in np.ndindex(*labels.shape):
        truth = int(labels[n, row, col])
        if truth != NODATA:
            powers = [math.exp(float(v)) for v in logits[n, :, row, col]]
            p = powers[truth] / sum(powers)
            weight = 1.0 if weights is None else float(weights[truth])
            total += weight * -math.log(p) * ((1 - p) ** 2 if kind == "focal" else 1)
            mass += weight
    return total / mass


@settings(max_examples=20)
@given(st.sampled_from(["focal", "cross-entropy"]), seeds, st.booleans())
def test_losses_are_their_formulas(kind: str, seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.standard_normal((2, 4, 3, 5)))
    labels = torch.from_numpy(rng.choice([0, 1, 2, 3, NODATA], (2, 3, 5)))
    labels[0, 0, 0] = 1
    weights = torch.from_numpy(rng.uniform(0.1, 5, 4)) if weighted else None
    assert float(make_loss(kind, weights)(logits, labels)) == pytest.approx(by_hand(kind, logits, labels, weights))


@pytest.mark.parametrize("loss", ["focal", "cross-entropy", "dice", "lovasz"])
def test_ignored_pixels_have_no_gradient(loss: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 6, 7, requires_grad=True)
    labels = torch.randint(0, 3, (1, 6, 7))
    labels[0, :2] = NODATA
    make_loss(loss)(logits, labels).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert bool((logits.grad[:, :, :2] == 0).all())
    assert bool((logits.grad[:, :, 2:] != 0).any())


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rates_never_rise(name: str) -> None:
    shares = [SCHEDULES[name](i / 50) for i in range(51)]
    assert shares[0] == 1
    assert all(later <= sooner for sooner, later in zip(shares, shares[1:], strict=False))
    assert shares[-1] > 0


def test_patience_ends_a_training_that_gets_no_better(data: Path, tmp_path: Path) -> None:
    stuck: dict[str, Any] = {"rate": 1e-9, "warmup": 0, "average": 0.0, "augment": (), "patience": 2}
    assert run(data, tmp_path / "net", epochs=50, **stuck).epochs < 20


def test_a_time_ends_a_training(data: Path, tmp_path: Path) -> None:
    found = run(data, tmp_path / "net", epochs=None, seconds=2.0)
    assert found.epochs >= 1
    assert 1 <= found.seconds <= 20


@given(st.floats(1, 2.0**40), st.lists(st.booleans(), max_size=3000))
def test_the_factor_on_the_loss_falls_where_gradients_do_not_fit(scale: float, fits: list[bool]) -> None:
    steady = 0
    for fit in fits:
        before = scale
        scale, steady = next_scale(scale, steady, fit)
        assert scale == (max(1.0, before / 2) if not fit else before * 2 if steady == 0 else before)
    assert steady <= len(fits)


def test_a_training_in_fp16_learns_and_resumes_to_the_same(data: Path, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole", precision="fp16", epochs=8)
    plain = run(data, tmp_path / "plain", precision="fp32", epochs=8)
    found, wanted = (r.scores["validation"].confusion.mean_iou for r in (whole, plain))
    assert found > wanted - 0.1
    with pytest.raises(CancelledError):
        run(data, tmp_path / "parts", StopInEpoch(4), precision="fp16", epochs=8)
    run(data, tmp_path / "parts", resume=True, precision="fp16", epochs=8)
    assert same(weights_of(tmp_path / "parts"), weights_of(tmp_path / "whole"))


def test_steps_whose_gradients_do_not_fit_into_fp16_are_not_taken(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, scales = [], []
    step, gradients = torch.optim.AdamW.step, loop.Trainer._gradients

    def noted(self: Any, *given: Any) -> Any:
        taken.append(len(scales))
        return step(self, *given)

    def scaled(self: loop.Trainer, *given: Any) -> float:
        scales.append(self._scale)
        return gradients(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    monkeypatch.setattr(loop.Trainer, "_gradients", scaled)
    module = sys.modules["rs_segment_models.training.train"]
    monkeypatch.setattr(module, "Progress", functools.partial(checkpoint.Progress, scale=2.0**40))
    run(data, tmp_path / "net", precision="fp16", batch=1, epochs=3)
    assert scales[:3] == [2.0**40, 2.0**39, 2.0**38]
    assert 0 < len(taken) < len(scales)
    assert min(scales) >= FIRST_SCALE / 256


def test_what_does_not_fit_on_a_device_is_looked_at_on_the_cpu() -> None:
    net, told, tried = torch.nn.Conv2d(1, 1, 1), [], []

    def work() -> int:
        tried.append(1)
        if len(tried) < 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 7

    assert loop.where_it_fits(torch.device("cuda"), net, work, told.append) == 7
    assert "cuda has too little memory to look at whole images" in told[0]
    tried.clear()
    with pytest.raises(DeviceError, match="cpu has too little memory"):
        loop.where_it_fits(torch.device("cpu"), net, work, told.append)
    with pytest.raises(TrainingError):
        loop.where_it_fits(torch.device("cuda"), net, _wrong, told.append)


def _wrong() -> None:
    raise TrainingError("another thing")
