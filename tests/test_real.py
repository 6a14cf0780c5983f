"""The laws with real networks on real imagery, at fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from fakes import StopAfter
from rasterio.windows import Window

from rs_segment import ClassInfo, Compute, ModelCard, Outputs, Plan, Scaling, View, products, segment
from rs_segment.dataset import open_dataset
from rs_segment.errors import CancelledError
from rs_segment_models import measure, networks
from rs_segment_models.predictor import TorchPredictor

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
EXAMPLE = Path(__file__).parents[1] / "examples" / "dubai_tile3.tif"
CLASSES = tuple(ClassInfo(i, f"class {i}", f"#{40 * i:02X}8040") for i in range(6))
TIES = 1e-6
HALOS = {"resnet50": 192, "vgg19": 128}
"""The context that these networks need for 99.9 % of their labels, as ``measure.measured_halo`` finds it."""


def predictor(encoder: str, batch: int = 1) -> TorchPredictor:
    """A network with random weights whose classes are of like strength, so that labels are not all the same."""
    torch.manual_seed(1)
    network = {"arch": "unet", "encoder": encoder, "decoder_channels": [64, 32, 32, 16, 16]}
    scaling = Scaling("z-score", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    card = ModelCard("real", ("red", "green", "blue"), CLASSES, scaling=scaling, halo=HALOS[encoder], network=network)
    net = networks.build(network, 3, 6)
    found = TorchPredictor(net, card, Compute("cpu", "fp32", batch))
    with rasterio.open(EXAMPLE) as scene:
        chip = scene.read(window=Window(900, 900, 256, 256))
    head = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        scores = found.scores(chip[None], np.ones((1, 256, 256), np.bool_), probs=False)[0]
        mean, spread = scores.mean((1, 2)), scores.std((1, 2))
        head.weight /= spread[:, None, None, None]
        head.bias.copy_((head.bias - mean) / spread)
    return found


def cut(path: Path, height: int, width: int) -> Path:
    """A piece of the shipped scene with water, land and roads in it."""
    with rasterio.open(EXAMPLE) as scene:
        window = Window(880, 60, width, height)
        pixels, transform = scene.read(window=window), scene.window_transform(window)
        profile = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "crs": scene.crs}
    with rasterio.open(path, "w", transform=transform, **profile) as target:
        target.write(pixels)
    return path


def run(scene: Path, net: TorchPredictor, output: Path, plan: Plan, **options: Any) -> Any:
    outputs = options.pop("outputs", Outputs(polygons=False, overwrite=True))
    found = segment(scene, output, net, plan=plan, outputs=outputs, **options)
    with rasterio.open(found.classes) as raster:
        return raster.read(1)


def differ(one: Any, other: Any) -> float:
    return float((one != other).mean())


@pytest.fixture(scope="module", params=["resnet50", "vgg19"])
def net(request: pytest.FixtureRequest) -> TorchPredictor:
    return predictor(request.param)


def test_for_one_plan_nothing_else_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: TorchPredictor
) -> None:
    monkeypatch.setattr(products, "COMMIT_SECONDS", 0.0)
    scene, plan = cut(tmp_path / "scene.tif", 544, 160), Plan(tile=128, overlap=64)
    first = run(scene, net, tmp_path / "first.tif", plan, compute=Compute(readers=1))
    assert len(np.unique(first)) >= 4
    bytes_ = (tmp_path / "first.tif").read_bytes()

    with pytest.raises(CancelledError):
        run(scene, net, tmp_path / "again.tif", plan, track=StopAfter(5))
    resume = Outputs(polygons=False, resume=True)
    run(scene, net, tmp_path / "again.tif", plan, outputs=resume, compute=Compute(readers=4))
    assert (tmp_path / "again.tif").read_bytes() == bytes_

    with rasterio.open(scene) as opened:
        left, top = opened.transform * (70, 110)
        right, bottom = opened.transform * (140, 200)
    inside = np.zeros(first.shape, np.bool_)
    inside[110:200, 70:140] = True
    there = run(scene, net, tmp_path / "aoi.tif", plan, view=View(aoi=(left, bottom, right, top)))
    np.testing.assert_array_equal(there, np.where(inside, first, 255))

    four = net.__class__(net._net, net.card, Compute("cpu", "fp32", 4))
    assert differ(first, run(scene, four, tmp_path / "four.tif", plan)) <= 100 * TIES


def test_tiles_of_any_size_say_what_one_pass_says(tmp_path: Path, net: TorchPredictor) -> None:
    # Tiles in rows and columns; then one that nearly holds the scene, so that a halo of all that it sees fits in.
    for tile, shape in {512: (640, 544), 1024: (1088, 160)}.items():
        scene = cut(tmp_path / "scene.tif", *shape)
        with rasterio.open(scene) as opened:
            whole = measure.whole_labels(net, opened.read())
        assert differ(whole, run(scene, net, tmp_path / f"{tile}.tif", Plan(tile=tile))) < 0.001
    reach = measure.receptive_field(net._net)
    assert reach is not None
    halo = -(-reach // 32) * 32
    assert 2 * halo < 1024 - 32, "the scene must be larger than one tile for this to say anything"
    exact = run(scene, net, tmp_path / "exact.tif", Plan(tile=1024, overlap=2 * halo))
    assert differ(whole, exact) <= 10 * TIES


def test_the_shipped_model_keeps_the_promise_of_its_card(tmp_path: Path) -> None:
    from rs_segment import registry

    shipped = registry.load(registry.find("dubai-landcover").path, Compute("cpu", "fp32"))
    with rasterio.open(EXAMPLE) as scene:
        whole = measure.whole_labels(shipped, scene.read())
    for tile in (512, 1024):
        found = segment(
            EXAMPLE, tmp_path / f"{tile}.tif", shipped, plan=Plan(tile=tile), outputs=Outputs(polygons=False)
        )
        with rasterio.open(found.classes) as raster:
            assert differ(whole, raster.read(1)) < 0.001


def test_the_shipped_model_scores_on_scenes_it_has_not_seen_what_its_card_says(tmp_path: Path, data: Path) -> None:
    from rs_segment import registry

    found = registry.find("dubai-landcover")
    result = segment(EXAMPLE, tmp_path / "map.tif", outputs=Outputs(polygons=False))
    with rasterio.open(result.classes) as raster, rasterio.open(data / "dubai_scenes/dubai_tile3_labels.tif") as labels:
        said, truth = raster.read(1), labels.read(1)
    known = truth != 255
    promised = found.card.training["held_out_scores"]["tile_3"]["accuracy"]
    assert float((said == truth)[known].mean()) == pytest.approx(promised, abs=0.02)


def test_the_shipped_model_knows_the_classes_of_its_training_set(tmp_path: Path, data: Path) -> None:
    from rs_segment import registry

    told = (EXAMPLE.parent / "dubai_dataset.toml").read_text()
    (tmp_path / "dataset.toml").write_text(told.replace("[images]", f"root = {str(data / 'dubai')!r}\n\n[images]", 1))
    dataset = open_dataset(tmp_path)
    assert dataset.classes == registry.find("dubai-landcover").card.classes
    assert len(dataset.pairs) == 63
