"""Models of several packages live beside each other, and each is loaded by the package that ships it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import make_card

from rs_segment import registry
from rs_segment.errors import ModelError, ModelNotFoundError
from rs_segment.types import Compute

WORKING = """
from pathlib import Path
def folders():
    return sorted(Path({place!r}).glob("*/"))
def load(folder, compute, tta="none"):
    return ("loaded by {package}", folder.name, tta)
"""


def make_model(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(make_card(name=name).to_item()))
    return folder


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a package with models: its entry point, its name, its code; returns where its model folders go."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(point: str, package: str, code: str = WORKING) -> Path:
        place = tmp_path / package
        place.mkdir()
        (site / f"{package}.py").write_text(code.format(place=str(place), package=package))
        info = site / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{point} = {package}\n")
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, package, raising=False)
        return place

    return install


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the models that come with rs-segment."""
    entry_points = registry.entry_points

    def others(group: str) -> Any:
        return [p for p in entry_points(group=group) if p.value != "rs_segment_models"]

    monkeypatch.setattr(registry, "entry_points", others)


@pytest.mark.usefixtures("alone")
def test_a_folder_is_loaded_by_the_package_that_ships_it_and_others_by_torch(tmp_path: Path, install: Any) -> None:
    roads = make_model(install("acme", "acme_models") / "roads", "acme-roads")
    trees = make_model(install("torch", "torch_models") / "trees", "torch-trees")
    own = make_model(tmp_path / "own", "my-model")
    assert registry.find("roads").provider == "acme"
    assert registry.find(roads).shipped
    assert registry.find(trees).provider == "torch"
    assert registry.find(own).provider == "torch"
    assert not registry.find(own).shipped
    assert registry.load(roads, Compute(), "flips") == ("loaded by acme_models", "roads", "flips")
    assert registry.load(trees, Compute()) == ("loaded by torch_models", "trees", "none")
    assert registry.load(own, Compute()) == ("loaded by torch_models", "own", "none")


@pytest.mark.parametrize("code", ["import nothing_like_this", "raise RuntimeError('a driver is missing')", "x = 1"])
def test_a_broken_package_does_not_break_the_others(install: Any, code: str) -> None:
    install("acme", "acme_models", code)
    assert "dubai-landcover" in [m.card.name for m in registry.models()]
    assert registry.find("dubai-landcover").shipped
    assert registry.devices()
    assert "acme_models" in " ".join(registry.problems())


@pytest.mark.usefixtures("alone")
def test_where_no_package_is_left_the_error_says_why(tmp_path: Path, install: Any) -> None:
    install("acme", "acme_models", "import nothing_like_this")
    with pytest.raises(ModelError, match="nothing_like_this"):
        registry.load(make_model(tmp_path / "own", "my-model"), Compute())
    with pytest.raises(ModelNotFoundError, match="nothing_like_this"):
        registry.find("roads")


def test_a_package_need_not_tell_of_devices(install: Any) -> None:
    install("acme", "acme_models")
    assert any("cpu" in told for told in registry.devices())


def test_a_model_has_the_name_of_its_folder_and_of_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(tmp_path / "models" / "roads_v2", "acme-roads")
    monkeypatch.setenv(registry.SEARCH_PATH, str(tmp_path / "models"))
    assert "acme-roads" in [m.card.name for m in registry.models()]
    assert registry.find("acme-roads").path == registry.find("roads_v2").path == folder
    with pytest.raises(ModelNotFoundError, match="did you mean acme-roads"):
        registry.find("acme-road")


def test_a_folder_that_is_called_like_a_model_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dubai-landcover").mkdir()
    assert registry.find("dubai-landcover").shipped
    for name in ("./dubai-landcover/", tmp_path / "dubai-landcover", "."):
        with pytest.raises(ModelError, match="no model folder"):
            registry.find(name)
    make_model(tmp_path / "mine", "my-model")
    assert registry.find("mine").card.name == "my-model"
