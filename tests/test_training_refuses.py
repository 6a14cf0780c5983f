"""Training: what can be known before the first step is said before the first step, and hours are not thrown away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from fakes import make_scene
from test_training import TINY, StopInEpoch, data, make_data, run

from rs_segment.dataset import open_dataset
from rs_segment.errors import CancelledError, DatasetError, ModelError, OptionError, OutputExistsError, TrainingError
from rs_segment.types import NODATA, Training
from rs_segment_cli import main
from rs_segment_models.training import loop, train

__all__ = ["data"]


class NoStep:
    """A ``Track`` that fails at the first step."""

    def __call__(self, items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        for item in items:
            assert label != "train", "a step was taken"
            yield item


def grouped(folder: Path, labels: dict[str, np.ndarray[Any, Any]]) -> Path:
    """Images and labels in folders, which are their groups."""
    for name, values in labels.items():
        pixels = np.random.default_rng(0).integers(0, 200, (2, *values.shape)).astype(np.uint8)
        for kind in ("images", "masks"):
            (folder / name / kind).mkdir(parents=True)
        make_scene(folder / name / "images" / "a.tif", pixels=pixels, crs=None)
        make_scene(folder / name / "masks" / "a.tif", pixels=values[None].astype(np.uint8), crs=None, nodata=NODATA)
    return folder


def described(folder: Path, *classes: list[int], more: str = "") -> Path:
    """A folder of ``make_data`` with a ``dataset.toml``: the labels of each class."""
    told = "".join(f'[[classes]]\nname = "{n}"\ncolor = "#{n}00000"\nlabels = {c}\n' for n, c in enumerate(classes))
    (folder / "dataset.toml").write_text(
        f'format = 1\nname = "x"\n{more}\n[images]\nfiles = ["images/*.tif"]\n'
        f'[labels]\nfiles = ["masks/*.tif"]\nkind = "values"\nignore = [255]\n{told}'
    )
    return folder


def trained(folder: Path, out: Path, split: str, told: list[str] | None = None, track: Any = None) -> None:
    dataset = open_dataset(folder)
    choices = {**TINY, "epochs": 1}
    tell = (lambda sentence: None) if told is None else told.append
    train(dataset, dataset.split(split), choices, Training(out, "cpu"), track or NoStep(), tell)


TWO = np.indices((40, 40)).sum(0) // 20 % 2


@pytest.mark.parametrize(
    ("held", "others", "sentence"),
    [
        (np.full((40, 40), NODATA), TWO, "by the split .*b validation no pixel that validates has a label"),
        (TWO, np.zeros((40, 40)), "by the split .* all that trains is "),
        (TWO, np.full((40, 40), NODATA), "no pixel that trains has a label"),
    ],
)
def test_a_side_without_labels_is_refused_before_the_first_step(
    tmp_path: Path, held: Any, others: Any, sentence: str
) -> None:
    folder = grouped(tmp_path / "set", {"a": others, "b": held, "c": others})
    with pytest.raises(DatasetError, match=sentence) as caught:
        trained(folder, tmp_path / "net", "group:b")
    assert "set" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    said = CliRunner().invoke(main, ["data", str(folder), "--split", "group:b"])
    assert said.exit_code == 4
    assert "by the split" in said.output


def test_a_label_of_no_class_is_refused_before_the_first_step(tmp_path: Path) -> None:
    folder = described(make_data(tmp_path / "set"), [0], [1])
    with pytest.raises(DatasetError, match=r"part_0\.tif.*the label 2 .* is of no class"):
        run(folder, tmp_path / "net", NoStep())


def test_a_class_that_no_image_of_the_training_has_is_told(tmp_path: Path) -> None:
    three = np.where(np.indices((40, 40))[0] < 9, 2, TWO)
    folder = grouped(tmp_path / "set", {"a": TWO, "b": three, "c": TWO})
    told: list[str] = []
    trained(folder, tmp_path / "net", "group:b", told, lambda items, total, label: iter(items))
    assert any("is not trained on" in sentence for sentence in told)


def test_weights_that_cannot_be_had_are_told_before_the_pixels_are_read(data: Path, tmp_path: Path) -> None:
    looked: list[str] = []

    def track(items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        looked.append(label)
        yield from items

    network = {"arch": "unet", "encoder": "mobilenet_v2", "decoder_channels": [8, 8, 8, 8, 8]}
    with pytest.raises(ModelError, match=r"away\.safetensors"):
        run(data, tmp_path / "net", track, network=network, encoder_weights=str(tmp_path / "away.safetensors"))
    assert looked == []


def test_the_same_command_again_does_not_throw_a_training_away(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        run(data, tmp_path / "net", StopInEpoch(2))
    with pytest.raises(OutputExistsError, match="--resume goes on, --finish makes .* --overwrite starts afresh"):
        run(data, tmp_path / "net", NoStep())
    assert run(data, tmp_path / "net", resume=True).epochs == 2
    with pytest.raises(CancelledError):
        run(data, tmp_path / "other", StopInEpoch(2))
    assert run(data, tmp_path / "other", overwrite=True).epochs == 2


def test_other_labels_are_another_training(tmp_path: Path) -> None:
    folder = described(make_data(tmp_path / "set"), [0, 2], [1])
    with pytest.raises(CancelledError):
        run(folder, tmp_path / "net", StopInEpoch(2))
    described(folder, [0], [1, 2])
    with pytest.raises(OptionError, match="labels was"):
        run(folder, tmp_path / "net", resume=True)


def test_labels_edited_in_place_are_another_training(tmp_path: Path) -> None:
    folder = make_data(tmp_path / "set")
    with pytest.raises(CancelledError):
        run(folder, tmp_path / "net", StopInEpoch(2))
    path = folder / "masks" / "part_2.tif"
    before = path.stat().st_size
    with rasterio.open(path, "r+") as mask:
        labels = mask.read()
        labels[0, 9, 9] = (labels[0, 9, 9] + 1) % 3
        mask.write(labels)
    assert path.stat().st_size == before
    with pytest.raises(OptionError, match="labels was"):
        run(folder, tmp_path / "net", resume=True)


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loop.Trainer._gradients

    def steep(self: loop.Trainer, chips: Any, micro: int) -> float:
        loss = plain(self, chips, micro)
        if self.progress.step == steps + 1:
            next(p for p in self.net.parameters() if p.grad is not None).grad.fill_(torch.nan)  # type: ignore[union-attr]
        return loss

    steps = 1
    monkeypatch.setattr(loop.Trainer, "_gradients", steep)
    with pytest.raises(TrainingError, match=r"gradient is not finite at step 3, .* on windows of .*part_\d"):
        run(data, tmp_path / "net", batch=1, epochs=1)


def test_class_weights_that_change_nothing_are_told(tmp_path: Path) -> None:
    folder = described(make_data(tmp_path / "set"), [0], [1], [2], more='weights = "balanced"')
    for loss, expected in (("focal+dice", True), ("focal", False)):
        told: list[str] = []
        run(folder, tmp_path / loss, told=told, epochs=1, loss=loss)
        assert any("change nothing in dice" in sentence for sentence in told) == expected
