"""Model folders and predictors: what is loaded, what is refused, and what pixels become."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import rs_segment_models
from rs_segment.card import ClassInfo, ModelCard, Scaling
from rs_segment.errors import BandError, DeviceError, ModelError, OptionError, PixelTypeError
from rs_segment.types import Compute
from rs_segment_models import folder as folders
from rs_segment_models import measure
from rs_segment_models.device import choose, choose_precision
from rs_segment_models.networks import build
from rs_segment_models.predictor import TorchPredictor

UNET = {"arch": "unet", "encoder": "mobilenet_v2", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
CPU32 = Compute(device="cpu", precision="fp32")
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def card_of(network: dict[str, Any], bands: int = 3, classes: int = 4, **fields: Any) -> ModelCard:
    defaults: dict[str, Any] = {
        "dtype": "uint8",
        "scaling": Scaling("z-score", (100.0,), (50.0,)),
        "stride": 1,
        "halo": 0,
    }
    return ModelCard(
        name="test-model",
        bands=tuple(f"b{i}" for i in range(bands)),
        classes=tuple(ClassInfo(i, f"class {i}", f"#{i:06X}") for i in range(classes)),
        network=network,
        **{**defaults, **fields},
    )


def unet_card(**fields: Any) -> ModelCard:
    return card_of(UNET, **{"stride": 8, "halo": 16, **fields})


class Identity(nn.Module):
    """Scores are the scaled bands."""

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        return chips.clone()


def identity(bands: int = 3, **fields: Any) -> TorchPredictor:
    return TorchPredictor(Identity(), card_of({}, bands, bands, **fields), CPU32)


def pixels_of(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(100, 50, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make small networks slow on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    torch.manual_seed(1)
    net = build(UNET, 3, 4)
    # Normalized by what a first pass finds, so that random weights say something about the image.
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net.train()(torch.randn(2, 3, 64, 64))
    return net.eval()


@pytest.fixture(scope="module")
def model(unet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "test-model"
    folders.save(path, unet, unet_card())
    return path


@pytest.fixture
def pointwise(tmp_path: Path) -> Path:
    torch.manual_seed(2)
    card = card_of({"arch": "conv1x1"})
    folders.save(tmp_path / "m", build(card.network, 3, 4), card)
    return tmp_path / "m"


def forge(model: Path, tensors: dict[str, torch.Tensor] | bytes) -> None:
    """Other weights, with a checksum that fits them."""
    path = model / "model.safetensors"
    path.write_bytes(tensors) if isinstance(tensors, bytes) else save_file(tensors, path)
    item = json.loads((model / "model.json").read_text())
    item["assets"]["weights"]["file:checksum"] = "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
    (model / "model.json").write_text(json.dumps(item))


# Folders


def test_what_is_saved_is_read_back(unet: nn.Module, model: Path) -> None:
    card, state = folders.read(model)
    assert card == unet_card(weights_sha256=hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest())
    assert state.keys() == unet.state_dict().keys()
    assert all(torch.equal(v, state[k]) for k, v in unet.state_dict().items())
    chips = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(folders.restore(card, state)(chips), unet(chips))


def test_folder_holds_what_people_and_smp_need(model: Path) -> None:
    assert {p.name for p in model.iterdir()} == {"model.json", "model.safetensors", "config.json", "README.md"}
    config = json.loads((model / "config.json").read_text())
    assert config["_model_class"] == "Unet"
    assert config["encoder_weights"] is None
    page = (model / "README.md").read_text()
    assert "class 3" in page
    assert "test-model" in page
    mask = os.umask(0)
    os.umask(mask)
    assert (model / "model.json").stat().st_mode & 0o777 == 0o666 & ~mask


def test_smp_itself_reads_the_folder(unet: nn.Module, model: Path) -> None:
    import segmentation_models_pytorch as smp

    again = smp.from_pretrained(str(model)).eval()
    chips = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(chips), unet(chips))


def test_half_precision_halves_the_file_and_keeps_vectors(unet: nn.Module, model: Path, tmp_path: Path) -> None:
    folders.save(tmp_path, unet, unet_card(), fp16=True)
    assert (tmp_path / "model.safetensors").stat().st_size < 0.6 * (model / "model.safetensors").stat().st_size
    _, state = folders.read(tmp_path)
    for key, value in unet.state_dict().items():
        assert state[key].dtype in (torch.float32, torch.int64)
        assert torch.allclose(state[key], value, rtol=1e-3, atol=1e-6)
        assert value.ndim > 1 or torch.equal(state[key], value)


def test_saving_over_a_model_leaves_no_other_file(pointwise: Path) -> None:
    card, _ = folders.read(pointwise)
    folders.save(pointwise, build(card.network, 3, 4), card)
    assert {p.name for p in pointwise.iterdir()} == {"model.json", "model.safetensors", "README.md"}
    folders.read(pointwise)


def test_save_refuses_a_network_that_is_not_the_cards(unet: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="classes"):
        folders.save(tmp_path, unet, card_of(UNET, classes=5, stride=8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_save_refuses_weights_that_are_not_finite(value: float, tmp_path: Path) -> None:
    card = card_of({"arch": "conv1x1"})
    net = build(card.network, 3, 4)
    nn.init.constant_(net.weight, value)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="finite"):
        folders.save(tmp_path, net, card, fp16=True)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", ["pickle", "torch", "legacy"])
def test_pickle_disguised_as_weights_never_runs(pointwise: Path, tmp_path: Path, kind: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "bomb"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"weight": Bomb(mark)}))
    else:
        torch.save({"weight": Bomb(mark)}, path, _use_new_zipfile_serialization=kind == "torch")
    forge(pointwise, path.read_bytes())
    with pytest.raises(ModelError, match="pickle"):
        rs_segment_models.load(pointwise, CPU32)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".pt2", ".pkl"])
def test_pickles_as_weights_are_refused_with_a_way_out(pointwise: Path, suffix: str) -> None:
    other = (pointwise / "model.safetensors").rename(pointwise / f"model{suffix}")
    with pytest.raises(ModelError, match=f"model{suffix} is a pickle.*safetensors"):
        folders.read(pointwise)
    with pytest.raises(ModelError, match=r"pickle.*safetensors"):
        folders.read(other)


def test_missing_parts_are_named(pointwise: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no folder"):
        folders.read(tmp_path / "nowhere")
    (pointwise / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        folders.read(pointwise)
    (pointwise / "model.json").unlink()
    with pytest.raises(ModelError, match=r"no model\.json"):
        folders.read(pointwise)


def test_one_flipped_bit_is_found(pointwise: Path) -> None:
    path = pointwise / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="sha256"):
        folders.read(pointwise)


def test_card_without_checksum_is_refused(pointwise: Path) -> None:
    item = json.loads((pointwise / "model.json").read_text())
    del item["assets"]["weights"]["file:checksum"]
    (pointwise / "model.json").write_text(json.dumps(item))
    with pytest.raises(ModelError, match="checksum"):
        folders.read(pointwise)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_truncated_and_scrambled_files_are_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = tmp_path_factory.mktemp("broken")
    card = card_of({"arch": "conv1x1"})
    folders.save(model, build(card.network, 3, 4), card)
    whole = (model / "model.safetensors").read_bytes()
    kind = data.draw(st.sampled_from(["cut", "junk", "length"]))
    if kind == "cut":
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "junk":
        broken = whole[:8] + data.draw(st.binary(min_size=1, max_size=60)) + b"!"
    else:
        broken = data.draw(st.integers(len(whole), 2**63)).to_bytes(8, "little") + whole[8:]
    forge(model, broken)
    with pytest.raises(ModelError):
        folders.read(model)


def test_absurd_shape_takes_no_memory(pointwise: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2**40, 1], "data_offsets": [0, 2**42]}}).encode()
    forge(pointwise, len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError):
        folders.read(pointwise)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bias": None}, "lacks 1 tensors, as 'bias'"),
        ({"extra": torch.zeros(1)}, "also has 1 tensors, as 'extra'"),
        ({"weight": torch.zeros(4, 4, 1, 1)}, r"needs \[4, 3, 1, 1\]"),
        ({"weight": torch.zeros(4, 3, 1, 1, dtype=torch.int32)}, "type I32"),
        ({"weight": torch.full((4, 3, 1, 1), float("nan"))}, "weight holds values"),
        ({"bias": torch.full((4,), float("-inf"))}, "bias holds values"),
    ],
)
def test_weights_that_are_not_the_networks_are_refused(pointwise: Path, change: dict[str, Any], says: str) -> None:
    tensors = {"weight": torch.zeros(4, 3, 1, 1), "bias": torch.zeros(4), **change}
    forge(pointwise, {k: v for k, v in tensors.items() if v is not None})
    with pytest.raises(ModelError, match=says):
        folders.read(pointwise)


def test_package_is_light_until_a_model_is_loaded() -> None:
    code = "import sys, rs_segment_models as m; m.folders(); sys.exit('torch' in sys.modules)"
    path = os.pathsep.join(p for p in sys.path if p)
    assert (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False).returncode
        == 0
    )


def test_shipped_models_are_whole() -> None:
    for path in rs_segment_models.folders():
        card, _ = folders.read(path)
        assert card.name == path.name


# Devices


def test_devices_are_described_and_refused() -> None:
    assert any(line.startswith("cpu") for line in rs_segment_models.devices())
    assert choose("cpu").type == "cpu"
    choose("auto")
    with pytest.raises(OptionError, match="gpu"):
        choose("gpu")
    with pytest.raises(DeviceError, match="there is .*cpu"):
        choose("cuda:99")


def test_precision_is_what_the_card_allows() -> None:
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    good = card_of({}, precisions={"bf16": {"agreement": 0.999, "miou_change": 0.0}})
    assert choose_precision("auto", torch.device("cpu"), good) == ("bf16" if fast else "fp32")
    bad = card_of({}, precisions={"bf16": {"agreement": 0.98}})
    assert choose_precision("auto", torch.device("cpu"), bad) == "fp32"
    assert choose_precision("bf16", torch.device("cpu"), bad) == "bf16"
    with pytest.raises(OptionError, match="int8"):
        choose_precision("int8", torch.device("cpu"), good)


def test_bad_options_are_refused() -> None:
    with pytest.raises(OptionError, match="batch"):
        TorchPredictor(Identity(), card_of({}), Compute(device="cpu", batch=0))
    with pytest.raises(OptionError, match="turns"):
        TorchPredictor(Identity(), card_of({}), CPU32, "turns")


# Pixels


SCALINGS = [
    Scaling(),
    Scaling("min-max", (10.0,), (200.0,)),
    Scaling("min-max", (10.0, 0.0, 5.0), (20.0, 90.0, 100.0), clip=True),
    Scaling("z-score", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    Scaling("fixed", (0.0,), (255.0,)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.kind + ("-clip" if s.clip else ""))
def test_scaling_is_numpys(scaling: Scaling, dtype: str) -> None:
    pixels = pixels_of((2, 3, 5, 7), dtype)
    before = pixels.copy()
    offset, factor = (v.astype(np.float64)[:, None, None] for v in scaling.linear(3))
    wanted = (pixels.astype(np.float64) - offset) * factor
    wanted = np.clip(wanted, 0, 1) if scaling.clip else wanted
    found = identity(dtype=dtype, scaling=scaling).scores(pixels, np.ones((2, 5, 7), bool), False)
    assert np.allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-5)
    assert np.array_equal(pixels, before)


def test_wide_integers_keep_their_small_differences() -> None:
    pixels = np.array([2_000_000_000, 2_000_000_001, 2_000_000_050], np.uint32).reshape(1, 1, 1, 3)
    predictor = identity(1, dtype="uint32", scaling=Scaling("z-score", (2e9,), (1.0,)))
    assert predictor.scores(pixels, np.ones((1, 1, 3), bool), False).flatten().tolist() == [0, 1, 50]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [False, True])
def test_nodata_and_what_is_no_number_reach_the_network_as_zero(dtype: str, clip: bool) -> None:
    pixels = pixels_of((1, 3, 4, 4), dtype)
    pixels[0, 0, 0, 0], pixels[0, 1, 1, 1], pixels[0, 2, 2, 2] = np.nan, np.inf, -np.inf
    valid = np.ones((1, 4, 4), bool)
    valid[0, 3] = False
    predictor = identity(dtype=dtype, scaling=Scaling("min-max", (20.0,), (90.0,), clip=clip))
    found = predictor.scores(pixels, valid, False).numpy()
    assert np.all(found[:, :, 3] == 0)
    assert found[0, 0, 0, 0] == found[0, 1, 1, 1] == found[0, 2, 2, 2] == 0
    assert np.isfinite(found).all()


def test_values_under_nodata_change_nothing(model: Path) -> None:
    predictor = rs_segment_models.load(model, CPU32)
    pixels, valid = pixels_of((1, 3, 64, 64)), np.random.default_rng(0).random((1, 64, 64)) < 0.7
    other = np.where(valid[:, None], pixels, 255 - pixels)
    assert torch.equal(predictor.scores(pixels, valid, False), predictor.scores(other, valid, False))


@pytest.mark.parametrize("kind", ["read-only", "reversed", "big-endian", "strided"])
def test_awkward_arrays_are_the_same_pixels(kind: str) -> None:
    pixels = pixels_of((1, 3, 6, 8), "uint16")
    awkward = pixels.copy()
    if kind == "read-only":
        awkward.setflags(write=False)
    elif kind == "reversed":
        awkward = awkward[..., ::-1].copy()[..., ::-1]
    elif kind == "big-endian":
        awkward = awkward.astype(">u2")
    else:
        awkward = np.repeat(awkward, 2, axis=3)[..., ::2]
    valid, predictor = np.ones((1, 6, 8), bool), identity(dtype="uint16")
    assert torch.equal(predictor.scores(awkward, valid, False), predictor.scores(pixels, valid, False))


def test_wrong_pixels_are_refused() -> None:
    with pytest.raises(BandError, match="b|read"):
        identity().scores(pixels_of((1, 4, 2, 2)), np.ones((1, 2, 2), bool), False)
    with pytest.raises(PixelTypeError, match="complex"):
        identity().scores(np.zeros((1, 3, 2, 2), np.complex64), np.ones((1, 2, 2), bool), False)
    unresolved = identity(scaling=Scaling("percentile", (2.0,), (98.0,)))
    with pytest.raises(ModelError, match="percentile"):
        unresolved.scores(pixels_of((1, 3, 2, 2)), np.ones((1, 2, 2), bool), False)
    resolved = unresolved.with_scaling(Scaling("min-max", (0.0,), (255.0,)))
    assert resolved.scores(pixels_of((1, 3, 2, 2)), np.ones((1, 2, 2), bool), False).max() <= 1


# Scores and labels


@settings(deadline=None, max_examples=40)
@given(
    classes=st.integers(1, 254),
    shape=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    coarse=st.booleans(),
    layout=st.sampled_from(["planes", "last", "bf16", "cropped"]),
    seed=st.integers(0, 99),
)
def test_labels_are_the_first_best_class(
    classes: int, shape: tuple[int, int], coarse: bool, layout: str, seed: int
) -> None:
    torch.manual_seed(seed)
    scores = torch.randn(1, classes, shape[0] + 2, shape[1] + 2)
    scores = scores.round() if coarse else scores
    scores = scores.to(memory_format=torch.channels_last) if layout == "last" else scores
    scores = scores.bfloat16() if layout == "bf16" else scores
    rectangle = scores[0, :, 1:-1, 1:-1] if layout == "cropped" else scores[0]
    found = identity().labels(rectangle, False, False)
    assert found.confidence is None
    assert found.probabilities is None
    assert found.labels.dtype == np.uint8
    wanted = np.argmax(rectangle.float().numpy(), axis=0) if rectangle.numel() else np.zeros(rectangle.shape[1:])
    assert np.array_equal(found.labels, wanted)


def test_large_rectangles_are_labelled_in_pieces() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 301, 1111)
    assert np.array_equal(identity().labels(scores, False, False).labels, scores.argmax(0).numpy())


def test_confidence_is_the_probability_of_the_chosen_class() -> None:
    predictor = identity(bands=4, scaling=Scaling("fixed", (0.0,), (60.0,)))
    pixels = pixels_of((1, 4, 30, 40))
    probs = predictor.scores(pixels, np.ones((1, 30, 40), bool), True)
    assert probs.dtype == torch.float32
    assert torch.allclose(probs.sum(1), torch.ones(1, 30, 40))
    found = predictor.labels(probs[0], True, True)
    assert found.confidence is not None
    assert found.probabilities is not None
    logits = pixels[0].astype(np.float64) / 60
    wanted = np.exp(logits) / np.exp(logits).sum(0)
    assert np.abs(found.probabilities.astype(float) / 254 - wanted).max() <= 0.5 / 254 + 1e-6
    assert np.array_equal(found.confidence, found.probabilities.max(0))
    assert found.probabilities.dtype == found.confidence.dtype == np.uint8
    assert predictor.labels(probs[0] * 0 + 1, True, False).confidence.max() == 254  # type: ignore[union-attr]


def test_a_network_that_computes_no_number_is_no_map() -> None:
    scores = torch.zeros(3, 4, 4)
    scores[1, 2, 2] = float("nan")
    with pytest.raises(ModelError, match="nan"):
        identity().labels(scores, False, False)


def test_scores_are_ordinary_tensors_that_blend() -> None:
    predictor = identity()
    scores = predictor.scores(pixels_of((1, 3, 4, 4)), np.ones((1, 4, 4), bool), True)
    total = torch.zeros(3, 4, 4)
    total += scores[0] * predictor.weight(np.full((4, 4), 0.5, np.float32))
    scores[0] *= 0.5
    assert torch.equal(total, scores[0])


def test_channels_last_and_a_folder_change_no_score(unet: nn.Module, model: Path) -> None:
    pixels = pixels_of((2, 3, 32, 48))
    with torch.no_grad():
        plain = unet(torch.from_numpy((pixels.astype(np.float32) - 100) / 50))
    found = rs_segment_models.load(model, CPU32).scores(pixels, np.ones((2, 32, 48), bool), False)
    assert (found - plain).abs().max() < 1e-4 * plain.std()


def test_same_input_same_bytes_whatever_the_batch(model: Path) -> None:
    pixels, valid = pixels_of((3, 3, 32, 48)), np.ones((3, 32, 48), bool)
    one = rs_segment_models.load(model, CPU32).scores(pixels, valid, False)
    assert torch.equal(one, rs_segment_models.load(model, CPU32).scores(pixels, valid, False))
    three = rs_segment_models.load(model, Compute("cpu", "fp32", 3))
    assert three.batch == 3
    assert (one - three.scores(pixels, valid, False)).abs().max() < 1e-4 * one.std()
    assert three.scores(pixels[:0], valid[:0], False).shape == (0, 4, 32, 48)


def test_short_precision_nearly_agrees(model: Path) -> None:
    images = [pixels_of((3, 64, 96))]
    full = rs_segment_models.load(model, CPU32)
    short = rs_segment_models.load(model, Compute("cpu", "bf16"))
    assert short.precision == "bf16"
    found = measure.precision_agreement(full, short, images)
    assert 0.9 < found["agreement"] <= 1
    same = measure.precision_agreement(full, full, images, [np.zeros((64, 96), np.uint8)])
    assert same == {"agreement": 1.0, "miou_change": 0.0}


@pytest.mark.parametrize("shape", [(32, 32), (16, 48)])
@pytest.mark.parametrize(("tta", "count"), [("flips", 4), ("d4", 8)])
def test_augmentation_is_the_mean_over_the_views(model: Path, tta: str, count: int, shape: tuple[int, int]) -> None:
    predictor = rs_segment_models.load(model, CPU32)
    pixels, valid = pixels_of((1, 3, *shape)), np.random.default_rng(1).random((1, *shape)) < 0.9
    views = []
    for turns in range(4) if tta == "d4" else (0, 2):
        for flip in (slice(None), slice(None, None, -1)):
            chip, mask = (np.rot90(a[..., flip], turns, (-2, -1)) for a in (pixels, valid))
            probs = predictor.scores(chip, mask, True).numpy()
            views.append(np.rot90(probs, -turns, (-2, -1))[..., flip])
    assert len(views) == count
    augmented = predictor.with_tta(tta)
    found = augmented.scores(pixels, valid, True).numpy()
    assert np.allclose(found, np.mean(views, axis=0), atol=1e-5)
    assert np.array_equal(found, augmented.scores(pixels, valid, False).numpy())
    assert np.array_equal(found, rs_segment_models.load(model, CPU32, tta).scores(pixels, valid, True).numpy())


class Hungry(nn.Module):
    """Runs out of memory above ``limit`` chips."""

    def __init__(self, limit: int, error: BaseException) -> None:
        super().__init__()
        self.limit, self.error, self.seen = limit, error, list[int]()

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(chips))
        if len(chips) > self.limit:
            raise self.error
        return chips.clone()


SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda e: type(e).__name__)
def test_batch_is_halved_and_stays_halved(error: BaseException) -> None:
    net = Hungry(2, error)
    predictor = TorchPredictor(net, card_of({}, 3, 3, scaling=Scaling()), Compute("cpu", "fp32", 8))
    pixels, valid = pixels_of((7, 3, 4, 4)), np.ones((7, 4, 4), bool)
    assert np.array_equal(predictor.scores(pixels, valid, False).numpy(), pixels)
    assert net.seen == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert predictor.batch == 1
    predictor.scores(pixels, valid, False)
    assert max(net.seen[9:]) == 1


def test_no_memory_for_one_tile_is_said() -> None:
    predictor = TorchPredictor(Hungry(0, SHORTAGES[0]), card_of({}), Compute("cpu", "fp32", 2))
    with pytest.raises(DeviceError, match=r"4 x 6 px; try a smaller --tile"):
        predictor.scores(pixels_of((2, 3, 4, 6)), np.ones((2, 4, 6), bool), False)


def test_other_failures_are_not_taken_for_a_shortage() -> None:
    predictor = TorchPredictor(Hungry(0, RuntimeError("shapes differ")), card_of({}), CPU32)
    with pytest.raises(RuntimeError, match="shapes differ"):
        predictor.scores(pixels_of((1, 3, 4, 6)), np.ones((1, 4, 6), bool), False)


# Measures


def test_stride_and_context_of_known_networks() -> None:
    conv = nn.Conv2d(3, 4, 1)
    assert (measure.stride_of(conv), measure.receptive_field(conv)) == (1, 0)
    stack = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 5, padding=2, dilation=1))
    assert (measure.stride_of(stack), measure.receptive_field(stack)) == (1, 3)
    pooled = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.Upsample(None, 2)
    )
    assert (measure.stride_of(pooled), measure.receptive_field(pooled)) == (2, 3)
    deep = build({"arch": "unet", "encoder": "mobilenet_v2", "decoder_channels": [8] * 5}, 3, 2)
    assert measure.stride_of(deep) == 32
    assert measure.receptive_field(nn.Sequential(nn.Conv2d(1, 1, 1), nn.InstanceNorm2d(1))) is None


def test_shift_by_the_stride_and_by_less(unet: nn.Module) -> None:
    found = measure.shift_test(unet, 8, side=384)
    assert found.passed
    assert found.by_stride < 1e-2 < found.by_less
    assert measure.shift_test(nn.Conv2d(3, 4, 1), 1, side=64).by_stride < 1e-6


def test_halo_of_a_known_network() -> None:
    net = nn.Conv2d(1, 2, 9, padding=4)
    nn.init.normal_(net.weight, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(net.bias)  # type: ignore[arg-type]
    predictor = TorchPredictor(net, card_of({}, 1, 2), CPU32)
    found = measure.measured_halo(predictor, [pixels_of((1, 150, 170))], 2, tile=48)
    assert found.halo == 4
    assert found.edge[4] == found.map[4] == 1
    assert found.edge[0] < found.map[0] < 1
    less = measure.measured_halo(predictor, [pixels_of((1, 150, 170))], 2, tile=12)
    assert less.halo is None
    assert list(less.edge) == [0, 2]
    more = measure.measured_halo(predictor, [pixels_of((1, 150, 170))], 2, tile=48, tried=less)
    assert (more.halo, more.edge[0], list(more.edge)) == (4, less.edge[0], [0, 2, 4])
