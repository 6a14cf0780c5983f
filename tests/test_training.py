"""Training: what comes out, that it resumes to the same result, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from click.testing import CliRunner
from fakes import make_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from rs_segment import segment
from rs_segment.card import ModelCard
from rs_segment.dataset import open_dataset
from rs_segment.errors import (
    CancelledError,
    DeviceError,
    DiskFullError,
    ModelError,
    OptionError,
    OutputExistsError,
    TrainingError,
)
from rs_segment.types import NODATA, Compute, Outputs, Training, silent
from rs_segment_cli import main
from rs_segment_models.networks import build
from rs_segment_models.pretrained import adapted, put_weights
from rs_segment_models.training import RECIPES, Trained, checkpoint, choose_recipe, loop, train
from rs_segment_models.training.calibrate import fit
from rs_segment_models.training.losses import LOSSES, make_loss
from rs_segment_models.training.recipe import Recipe
from rs_segment_models.training.sampler import Sampler

TINY: dict[str, Any] = {
    "network": {"arch": "unet", "features": [4, 8], "norm": "batchnorm"},
    "size": 32,
    "batch": 4,
    "epochs": 2,
    "rate": 1e-2,
    "warmup": 2,
}


def blocks(seed: int, shape: tuple[int, int] = (4, 5), side: int = 16) -> NDArray[np.uint8]:
    """Labels of three classes in squares, of which some pixels say nothing."""
    coarse = np.random.default_rng(seed).integers(0, 3, shape)
    labels = np.repeat(np.repeat(coarse, side, axis=0), side, axis=1).astype(np.uint8)[:-3, :-5]
    labels[:2, :7] = NODATA
    return labels


def make_data(folder: Path, count: int = 4, bands: int = 2) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for i in range(count):
        labels = blocks(i)
        noise = np.random.default_rng(i + 100).integers(0, 30, (bands, *labels.shape))
        pixels = (np.where(labels == NODATA, 0, labels)[None] * 90 + noise).astype(np.uint8)
        make_scene(folder / "images" / f"part_{i}.tif", pixels=pixels, crs=None)
        make_scene(folder / "masks" / f"part_{i}.tif", pixels=labels[None], crs=None, nodata=255)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("set"))


def run(data: Path, out: Path, track: Any = silent, told: list[str] | None = None, **changes: Any) -> Trained:
    manner = {k: changes.pop(k) for k in ("resume", "finish", "overwrite", "half", "command") if k in changes}
    dataset = open_dataset(data)
    training = Training(out, "cpu", **manner)
    tell = (lambda sentence: None) if told is None else told.append
    return train(dataset, dataset.split("random:0.3"), {**TINY, **changes}, training, track, tell)


class StopInEpoch:
    """A ``Track`` that cancels at the first step of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        for item in items:
            if label == "train" and item.note.startswith(f"epoch {self.epoch},"):
                raise CancelledError("enough")
            yield item


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_training_makes_a_model_that_predicts(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    result = run(data, tmp_path / "net", told=told, epochs=12, command="rs-segment train set -o net")
    assert result.scores["validation"].confusion.mean_iou > 0.6
    assert {p.name for p in (tmp_path / "net").iterdir()} == {
        *("model.json", "model.safetensors", "README.md", "history.csv", "report.html")
    }
    assert [p.name for p in tmp_path.iterdir()] == ["net"]
    card = ModelCard.read(tmp_path / "net" / "model.json")
    assert (card.stride, card.halo % 2, card.mode, len(card.bands)) == (2, 0, "exact", 2)
    # Images of 40 x 52 px hold no two tiles, many of them together do.
    assert card.training["halo_agreement"][str(card.halo)] >= 0.999
    assert "small images put side by side" in card.training["context"]
    assert card.temperature != 1
    assert card.training["calibration"]["ece_after"] <= card.training["calibration"]["ece_before"] + 0.02
    assert card.training["command"] == "rs-segment train set -o net"
    assert len((tmp_path / "net" / "history.csv").read_text().splitlines()) == 13
    assert sum(line.startswith("epoch ") for line in told) == 12
    page = (tmp_path / "net" / "report.html").read_text()
    assert "rs-segment train set -o net" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="http' not in page
    found = segment(
        data / "images" / "part_0.tif",
        tmp_path / "map.tif",
        str(tmp_path / "net"),
        compute=Compute("cpu"),
        outputs=Outputs(polygons=False),
    )
    assert sum(a.pixels for a in found.areas) > 0
    assert json.dumps(result.to_dict())


def test_the_same_training_twice_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    first, second = run(data, tmp_path / "a"), run(data, tmp_path / "b")
    assert same(weights_of(first.folder), weights_of(second.folder))
    assert not same(weights_of(first.folder), weights_of(run(data, tmp_path / "c", seed=1).folder))


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_resumed_training_gives_the_same_bytes(data: Path, tmp_path: Path, optimiser: str) -> None:
    whole = run(data, tmp_path / "whole", epochs=4, optimiser=optimiser, average=0.9)
    with pytest.raises(CancelledError) as caught:
        run(data, tmp_path / "cut", StopInEpoch(3), epochs=4, optimiser=optimiser, average=0.9)
    assert vars(caught.value)["kept"]
    assert not (tmp_path / "cut").exists()
    told: list[str] = []
    resumed = run(data, tmp_path / "cut", told=told, resume=True, epochs=4, optimiser=optimiser, average=0.9)
    assert "resumed after epoch 2" in told
    assert same(weights_of(whole.folder), weights_of(resumed.folder))
    history = [(f / "history.csv").read_text() for f in (whole.folder, resumed.folder)]
    assert history[0] == history[1]


def test_the_best_so_far_becomes_a_model(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        run(data, tmp_path / "net", StopInEpoch(2))
    assert run(data, tmp_path / "net", finish=True).epochs == 1
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


def test_nothing_is_left_of_a_training_that_was_stopped_before_its_first_epoch(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        run(data, tmp_path / "net", StopInEpoch(1))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TrainingError, match="no finished epoch"):
        run(data, tmp_path / "net", finish=True)


def test_a_checkpoint_of_another_training_is_refused_by_name(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        run(data, tmp_path / "net", StopInEpoch(2))
    with pytest.raises(OptionError, match="network was"):
        run(data, tmp_path / "net", resume=True, network={"arch": "unet", "features": [4, 6]})
    with pytest.raises(OptionError, match="data set was"):
        run(make_data(tmp_path / "other", 5), tmp_path / "net", resume=True)
    last = tmp_path / ".net.partial" / checkpoint.LAST
    with pytest.raises(ModelError, match="another network"):
        checkpoint.read(last, {"network": {"arch": "segnet"}})
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(ModelError, match="no whole checkpoint"):
        run(data, tmp_path / "net", resume=True)


def test_existing_models_are_replaced_only_when_asked(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "net", epochs=1)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        run(data, tmp_path / "net", epochs=1)
    run(data, tmp_path / "net", epochs=1, seed=1, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["net"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("dear")
    with pytest.raises(OutputExistsError, match="other things"):
        run(data, tmp_path / "other", overwrite=True)


def test_half_precision_halves_the_file_and_is_what_was_scored(data: Path, tmp_path: Path) -> None:
    full = run(data, tmp_path / "full", network={"arch": "unet", "features": [16, 32]}, epochs=1)
    half = run(data, tmp_path / "half", network={"arch": "unet", "features": [16, 32]}, epochs=1, half=True)
    sizes = [(f.folder / "model.safetensors").stat().st_size for f in (full, half)]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_loss_that_is_no_number_is_told_with_its_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(logits: torch.Tensor, *_: Any) -> torch.Tensor:
        return (logits - logits.detach()).sum() / 0

    monkeypatch.setitem(LOSSES, "lovasz", broken)
    with pytest.raises(
        TrainingError, match="nan at step 1, in epoch 1, on windows of part_.*; try a lower learning rate, --lr 0.001"
    ):
        run(data, tmp_path / "net", loss="lovasz")
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_does_not_fit_is_halved(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, sizes = loop.batch_of, []

    def tight(chips: Any) -> Any:
        sizes.append(len(chips))
        if len(chips) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(chips)

    monkeypatch.setattr(loop, "batch_of", tight)
    most = 2
    run(data, tmp_path / "net", epochs=1)
    assert sizes[:3] == [4, 2, 2]
    assert set(sizes[1:]) == {2}
    most = 0
    with pytest.raises(DeviceError, match="too little memory to train"):
        run(data, tmp_path / "small", epochs=1)


@pytest.mark.parametrize(
    ("where", "said"), [("look", "look at validation windows of 64 px"), ("step", "the optimiser")]
)
def test_other_want_of_memory_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, said: str
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(*{"look": (loop.validate, "look"), "step": (torch.optim.AdamW, "step")}[where], full)
    with pytest.raises(DeviceError, match=f"too little memory to .*{said}"):
        run(data, tmp_path / "net", epochs=1)


def test_gradients_of_halved_batches_add_up() -> None:
    torch.manual_seed(0)
    net = torch.nn.Conv2d(2, 3, 1)
    chips = [(torch.randn(2, 8, 8), torch.randint(0, 3, (8, 8))) for _ in range(4)]
    trainer = object.__new__(loop.Trainer)
    trainer.net, trainer.loss, trainer.precision = net, make_loss("cross-entropy"), "fp32"
    trainer.optimiser = torch.optim.SGD(net.parameters(), 0.1)
    found = []
    for micro in (4, 1):
        trainer._gradients(chips, micro)
        found.append(net.weight.grad.clone() if net.weight.grad is not None else None)
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / checkpoint.LAST
    checkpoint.write(path, {"net.a": torch.ones(3)}, checkpoint.Progress(1))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(DiskFullError, match="takes no more data"):
        checkpoint.write(path, {"net.a": torch.zeros(3)}, checkpoint.Progress(2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def _heed() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def told(data: Path, out: Path, *more: str) -> list[str]:
    """What is typed for a training of a small network."""
    network = "--arch", "linknet", "--encoder", "tu-test_efficientnet"
    rest = "--size", "32", "--batch", "2", "--split", "random:0.3", "--device", "cpu"
    return ["train", str(data), "-o", str(out), *network, *rest, *more]


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "rs_segment_cli", *args]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_training_loses_at_most_an_epoch(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    out, last = tmp_path / "net", tmp_path / ".net.partial" / checkpoint.LAST
    typed = told(data, out, "--epochs", "5000")
    # Whoever runs the tests in the background of a shell has SIGINT ignored, which children inherit.
    process = subprocess.Popen(command(*typed), stderr=subprocess.PIPE, text=True, preexec_fn=_heed)
    deadline = time.monotonic() + 100
    while not last.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.4)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -9), said
    if number == signal.SIGINT:
        assert "--resume" in said
        assert "Traceback" not in said
    done = sum(line.startswith("epoch ") for line in said.splitlines())
    with checkpoint.safe_open(last, framework="pt") as file:
        assert json.loads(file.metadata()["progress"])["epoch"] >= max(1, done)
    finished = CliRunner().invoke(main, [*typed, "--finish"])
    assert finished.exit_code == 0, finished.output
    assert (out / "model.json").is_file()


def test_the_whole_way_through_the_command_line(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "net"
    more = "--epochs", "1", "--loss", "focal+dice", "--progress", "jsonl", "--json"
    trained = subprocess.run(command(*told(data, out, *more)), capture_output=True, text=True, timeout=120)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["model"] == str(out)
    lines = [json.loads(line) for line in trained.stderr.splitlines()]
    assert {line["stage"] for line in lines} >= {"train"}
    scene, made = str(data / "images" / "part_1.tif"), tmp_path / "map.tif"
    mapped = CliRunner().invoke(main, ["predict", scene, "--model", str(out), "-o", str(made), "--confidence"])
    assert mapped.exit_code == 0, mapped.output
    assert made.is_file()
    both = CliRunner().invoke(main, told(data, out, "--epochs", "1", "--time", "1m"))
    assert (both.exit_code, "choose one" in both.stderr) == (2, True)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"recipe": "best"}, "default, study"),
        ({"loss": "hinge"}, "cross-entropy"),
        ({"loss": "focal+"}, "not known"),
        ({"rate": float("nan")}, "learning rate"),
        ({"optimiser": "lion"}, "adamw"),
        ({"size": 2}, "between"),
    ],
)
def test_choices_that_mean_nothing_are_refused(choices: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        choose_recipe(choices)


def test_recipes_are_data() -> None:
    for recipe in RECIPES.values():
        assert json.loads(json.dumps(recipe.to_dict()))["loss"] == recipe.loss
    study = choose_recipe({"recipe": "study", "arch": "unet-vgg19"})
    assert (study.size, study.batch, study.loss, study.rate, study.epochs) == (256, 16, "focal", 1e-2, 200)
    assert study.network["encoder"] == "vgg19"
    assert choose_recipe({"seconds": 60.0}).epochs is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 5), st.sampled_from([*LOSSES, "focal+dice", "cross-entropy+lovasz"]))
def test_losses_ignore_what_has_no_label_and_favour_what_is_right(seed: int, classes: int, name: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (2, 6, 7), generator=generator)
    labels[:, :2] = NODATA
    loss = make_loss(name)
    right = torch.nn.functional.one_hot(labels.clamp(max=classes - 1), classes).permute(0, 3, 1, 2).float() * 8
    noise = torch.randn(right.shape, generator=generator)
    assert float(loss(right, labels)) < float(loss(noise, labels))
    other = noise.clone()
    other[:, :, :2] += 7
    assert torch.allclose(loss(noise, labels), loss(other, labels), atol=1e-5)
    nothing = loss(noise.requires_grad_(), torch.full_like(labels, NODATA))
    nothing.backward()
    assert float(nothing.detach()) == 0


@settings(deadline=None, max_examples=20)
@given(st.floats(0.2, 5), st.integers(0, 1000))
def test_calibration_finds_the_temperature_that_was_used(temperature: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (20_000, 4))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    labels = (odds.cumsum(1) < rng.random((len(odds), 1))).sum(1).clip(max=3)
    found = fit(logits * temperature, labels)
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.after < 0.02


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(0, 50), st.sampled_from([8, 40, 130]))
def test_windows_depend_on_nothing_but_their_number(seed: int, step: int, size: int) -> None:
    dataset = SETS.setdefault("set", open_dataset(SETS["folder"]))
    recipe = Recipe(size=size, seed=seed)
    parts = dataset.split("random:0.3").train
    sampler = Sampler.of(parts, dataset.survey(), 3, dataset.scaling, recipe)
    pixels, labels = sampler.draw(step, 3)
    again = sampler.draw(step, 3)
    assert torch.equal(pixels, again[0])
    assert torch.equal(labels, again[1])
    assert pixels.shape == (2, size, size)
    assert set(labels.unique().tolist()) <= {0, 1, 2, NODATA}
    assert bool(torch.isfinite(pixels).all())


SETS: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _remember(data: Path) -> None:
    SETS.setdefault("folder", data)


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_encoder_weights_adapt_to_the_bands(tmp_path: Path, bands: int) -> None:
    network = {"arch": "unet", "encoder": "mobilenet_v2", "decoder_channels": [8, 8, 8, 8, 8]}
    source = build(network, 3, 2).encoder
    save_file(source.state_dict(), tmp_path / "encoder.safetensors")
    net = build(network, bands, 2)
    put_weights(net, str(tmp_path / "encoder.safetensors"), "mobilenet_v2")
    first = source.features[0][0].weight
    mine = net.encoder.features[0][0].weight
    assert torch.allclose(mine.sum(1), adapted(first, bands).sum(1))
    grey = torch.randn(1, 1, 16, 16)
    if bands % 3 == 0 or bands < 3:
        one = torch.nn.functional.conv2d(grey.expand(-1, bands, -1, -1), mine)
        assert torch.allclose(one, torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), first), atol=1e-5)
    with pytest.raises(ModelError, match="not of the encoder resnet18"):
        other = build({"arch": "unet", "encoder": "resnet18"}, 3, 2)
        put_weights(other, str(tmp_path / "encoder.safetensors"), "resnet18")
    with pytest.raises(ModelError, match="not there"):
        put_weights(net, str(tmp_path / "nowhere.safetensors"), "mobilenet_v2")


@pytest.fixture
def unconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub on a machine without a network."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_imagenet_weights_that_were_fetched_before_need_no_network(unconnected: Path) -> None:
    repo = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    kept = unconnected / f"models--{repo['repo_id'].replace('/', '--')}" / "snapshots" / repo["revision"]
    kept.mkdir(parents=True)
    (kept / "config.json").write_text("{}")
    torch.manual_seed(5)
    known = build({"arch": "unet", "encoder": "resnet18"}, 3, 2).encoder.state_dict()  # type: ignore[union-attr]
    save_file(known, kept / "model.safetensors")
    net = build({"arch": "unet", "encoder": "resnet18"}, 3, 2)
    put_weights(net, "imagenet", "resnet18")
    assert same(net.encoder.state_dict(), known)  # type: ignore[union-attr]


@pytest.mark.usefixtures("unconnected")
def test_imagenet_weights_fail_at_once_without_a_network() -> None:
    net = build({"arch": "unet", "encoder": "resnet18"}, 3, 2)
    started = time.monotonic()
    with pytest.raises(ModelError, match="cannot be fetched"):
        put_weights(net, "imagenet", "resnet18")
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(("size", "narrow"), [(8, True), (16, False)])
def test_windows_that_are_mostly_margin_are_named(data: Path, tmp_path: Path, size: int, narrow: bool) -> None:
    told: list[str] = []
    run(data, tmp_path / "model", told=told, size=size)
    assert any("windows of 8 px are 4 px wide" in t and "--size 16" in t for t in told) == narrow


def test_the_study_prints_its_table(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.spec_from_file_location("study", Path(__file__).parents[1] / "examples" / "dubai_study.py")
    assert found is not None
    assert found.loader is not None
    study = importlib.util.module_from_spec(found)
    found.loader.exec_module(study)

    def small(dataset: Any, split: Any, choices: dict[str, Any], *more: Any, **others: Any) -> Trained:
        recipe = choose_recipe(choices)
        assert recipe.network["arch"] == "unet"
        assert recipe.optimiser == ("adamw" if recipe.network.get("encoder") == "mobilenet_v2" else "sgd")
        smaller = {k: v for k, v in choices.items() if k != "arch"} | {"network": TINY["network"]}
        return train(dataset, split, smaller, *more, **others)

    monkeypatch.setattr(study, "train", small)
    few = "--networks", "unet", "ours", "--epochs", "1", "--size", "32", "--batch", "2", "--device", "cpu"
    assert study.main([str(data), "-o", str(tmp_path / "study"), "--split", "random:0.3", *few]) == 0
    printed = capsys.readouterr().out
    assert "1 epoch, NOT the study's 200" in printed
    assert "| U-Net | 0.51 | 0." in printed
    assert "| our recipe, U-Net + mobilenet_v2 |  | 0." in printed
