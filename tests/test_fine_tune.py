"""Fine-tuning: a training that begins with a model begins as that model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from fakes import COLORS
from test_training import data, run, same, weights_of

from rs_segment.card import ClassInfo, ModelCard, Scaling
from rs_segment.errors import ModelError, ModelNotFoundError, OptionError
from rs_segment.registry import find
from rs_segment_cli import main
from rs_segment_models import folder as folders
from rs_segment_models.networks import build
from rs_segment_models.training import choose_recipe
from rs_segment_models.training.begin import put_model, scaling_of
from rs_segment_models.training.finish import usual_halo
from rs_segment_models.training.recipe import Recipe

__all__ = ["data"]

LIGHT = {"decoder_channels": [8, 8, 8, 8, 8]}
NETWORKS = [
    {"arch": "unet", "features": [4, 8], "norm": "batchnorm"},
    {"arch": "segnet", "features": [4, 8]},
    {"arch": "unet", "encoder": "mobilenet_v2", **LIGHT},
    {"arch": "unetplusplus", "encoder": "resnet18", **LIGHT},
    {"arch": "deeplabv3plus", "encoder": "mobilenet_v2"},
    {"arch": "unet", "encoder": "tu-inception_v3", **LIGHT},
]


def saved(
    folder: Path,
    network: dict[str, Any],
    bands: tuple[str, ...],
    classes: tuple[str, ...],
    scaling: Scaling = Scaling(),  # noqa: B008
) -> torch.nn.Module:
    """A network with random weights, as a model folder."""
    torch.manual_seed(3)
    net = build(network, len(bands), len(classes)).eval()
    kinds = tuple(ClassInfo(i, name, COLORS[i]) for i, name in enumerate(classes))
    card = ModelCard(name="first", bands=bands, classes=kinds, network=network, stride=32, halo=32, scaling=scaling)
    folders.save(folder, net, card)
    return net


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n['arch']}-{n.get('encoder', 'own')}")
def test_a_network_begins_as_the_model(tmp_path: Path, network: dict[str, Any]) -> None:
    first = saved(tmp_path / "first", network, ("red", "green", "nir"), ("water", "land", "road"))
    bands, classes = ("nir", "swir", "Red", "green"), ("road", "crop", "Water", "land", "ice")
    net = build(network, len(bands), len(classes)).eval()
    fresh = {k: v.clone() for k, v in net.state_dict().items()}
    told = put_model(net, tmp_path / "first", bands, classes)
    assert "first, which knows 3 of the 4 bands and 3 of the 5 classes by name" in told
    image = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        mine, theirs = net(image), first(image[:, [2, 3, 0]])
    assert float((mine[:, [2, 3, 0]] - theirs).abs().max()) < 1e-3 * float(theirs.std())
    after = net.state_dict()
    head = [k for k in after if after[k].shape[:1] == (5,) and first.state_dict()[k].shape[:1] == (3,)]
    assert head
    assert all(torch.equal(after[k][[1, 4]], fresh[k][[1, 4]]) for k in head)


def test_a_halo_that_cannot_be_measured_is_no_less_than_the_first_models(tmp_path: Path) -> None:
    saved(tmp_path / "near", NETWORKS[0], ("red",), ("a", "b"))
    saved(tmp_path / "far", NETWORKS[0], ("red",), ("a", "b"))
    card = tmp_path / "far" / folders.CARD
    card.write_text(card.read_text().replace('"rs_segment:halo": 32', '"rs_segment:halo": 224'))
    near, far = (usual_halo(Recipe(fine_tune=str(tmp_path / name))) for name in ("near", "far"))
    assert near == usual_halo(Recipe())
    assert far == 224


@pytest.mark.parametrize("bands", [2, 3, 5])
def test_bands_of_other_names_are_taken_in_order(tmp_path: Path, bands: int) -> None:
    network = NETWORKS[0]
    first = saved(tmp_path / "first", network, ("red", "green", "blue"), ("a", "b"))
    net = build(network, bands, 2).eval()
    put_model(net, tmp_path / "first", [f"b{i}" for i in range(bands)], ("a", "b"))
    if bands == 3:
        assert same(dict(net.state_dict()), dict(first.state_dict()))
    grey = torch.randn(1, 1, 32, 32)
    if bands % 3 == 0 or bands < 3:
        assert torch.allclose(net(grey.expand(-1, bands, -1, -1)), first(grey.expand(-1, 3, -1, -1)), atol=1e-4)


def test_training_goes_on_from_a_model(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path / "first", epochs=8)
    before = first.scores["validation"].confusion.mean_iou
    told: list[str] = []
    own = {"network": None, "fine_tune": str(tmp_path / "first"), "rate": 1e-4, "epochs": 1, "augment": ()}
    second = run(data, tmp_path / "second", told=told, **own)
    assert told[0].startswith("begins with the weights of first, which knows 2 of the 2 bands and 3 of the 3 classes")
    assert second.scores["validation"].confusion.mean_iou > before - 0.05
    assert not same(weights_of(tmp_path / "first"), weights_of(tmp_path / "second"))
    origin = second.card.training["fine_tuned_from"]
    assert (origin["model"], origin["weights_sha256"]) == ("first", first.card.weights_sha256)
    assert origin["training"]["scores"] == first.card.training["scores"]
    assert second.card.network == first.card.network
    assert (second.card.scaling, second.card.bands) == (first.card.scaling, first.card.bands)
    assert run(data, tmp_path / "third", **own).card.weights_sha256 == second.card.weights_sha256


def test_the_pixels_are_scaled_as_the_model_knows_them(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "first", epochs=1)
    card = ModelCard.read(tmp_path / "first" / "model.json")
    part = tmp_path / "part"
    for kind in ("images", "masks"):
        (part / kind).mkdir(parents=True)
        for name in ("part_0.tif", "part_1.tif"):
            (part / kind / name).write_bytes((data / kind / name).read_bytes())
    second = run(part, tmp_path / "second", network=None, fine_tune=str(tmp_path / "first"), epochs=1)
    assert second.card.scaling == card.scaling
    assert run(part, tmp_path / "third", epochs=1).card.scaling != card.scaling


def test_scaling_goes_by_the_names_of_bands(tmp_path: Path) -> None:
    def scaled(bands: tuple[str, ...], kind: str = "z-score", dtype: str = "uint8", told: bool = False) -> Scaling:
        own = Scaling(kind, tuple(range(len(bands))), tuple(range(10, 10 + len(bands))))
        spec = SimpleNamespace(scaling=object() if told else None)
        data = SimpleNamespace(scaling=own, spec=spec, dtype=dtype, band_names=bands, bands=len(bands))
        return scaling_of(data, Recipe(fine_tune=str(tmp_path)))

    saved(tmp_path, NETWORKS[0], ("red", "green", "nir"), ("a", "b"), Scaling("z-score", (1.5, 2.5, 3.5), (7.0,)))
    assert scaled(("nir", "red")) == Scaling("z-score", (3.5, 1.5), (7.0, 7.0))
    assert scaled(("green", "swir")) == Scaling("z-score", (2.5, 1.0), (7.0, 11.0))
    assert scaled(("nir", "red"), "min-max").a == (3.5, 1.5)
    for own in (("x", "y"), "z-score"), (("green", "swir"), "min-max"), (("red", "nir"), "z-score", "uint16"):
        assert scaled(*own).a == (0, 1)
    assert scaled(("red", "nir"), told=True).a == (0, 1)


def test_a_network_whose_bands_are_mixed_says_so(tmp_path: Path) -> None:
    network = {"arch": "unet", "encoder": "tu-tresnet_m", **LIGHT}
    saved(tmp_path, network, ("red", "green", "blue"), ("a", "b"))
    put_model(build(network, 3, 2), tmp_path, ("red", "green", "blue"), ("a", "b"))
    with pytest.raises(ModelError, match="cannot be tuned for red, nir"):
        put_model(build(network, 2, 2), tmp_path, ("red", "nir"), ("a", "b"))


def test_what_does_not_go_with_it_is_refused(data: Path, tmp_path: Path) -> None:
    for option in ("arch", "encoder", "encoder_weights"):
        with pytest.raises(OptionError, match=f"leave out --{option.replace('_', '-')}"):
            choose_recipe({"fine_tune": "dubai-landcover", option: "unet"})
    with pytest.raises(ModelNotFoundError, match="did you mean dubai-landcover"):
        choose_recipe({"fine_tune": "dubai-landcovr"})
    assert choose_recipe({"fine_tune": "dubai-landcover"}).network["encoder"] == "mobilenet_v2"
    made = CliRunner().invoke(main, ["train", str(data), "-o", str(tmp_path / "x"), "--fine-tune", str(tmp_path)])
    assert (made.exit_code, "model.json" in made.output) == (4, True), made.output
    assert not (tmp_path / "x").exists()


def test_the_shipped_model_takes_other_bands_and_classes() -> None:
    shipped = find("dubai-landcover")
    net = build(shipped.card.network, 4, 2)
    told = put_model(net, shipped.path, ("blue", "green", "red", "nir"), ("roof", "water"))
    assert "3 of the 4 bands and 1 of the 2 classes" in told


def test_the_whole_way_through_the_command_line(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "first", epochs=1)
    few = ["--epochs", "1", "--size", "32", "--batch", "2", "--device", "cpu", "--split", "random:0.3", "--json"]
    words = ["train", str(data), "-o", str(tmp_path / "mine"), "--fine-tune", str(tmp_path / "first"), *few]
    made = CliRunner().invoke(main, words)
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["epochs"] == 1
    assert "begins with the weights of first" in made.stderr
