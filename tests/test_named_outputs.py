"""Confidence and polygons to files of any name: the same results, wherever they lie."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyogrio
import pytest
from fakes import FakePredictor, StopAfter, make_card, make_scene

from rs_segment import Outputs, Plan, Segmentation, segment
from rs_segment.errors import CancelledError, OptionError, OutputError
from rs_segment.types import silent

CARD = make_card(resolution_limits=(0.01, 10.0))


def run(scene: Path, output: Path, track: Any = silent, **options: Any) -> Segmentation:
    plan = Plan(tile=32, overlap=16)
    return segment(scene, output, FakePredictor(CARD), plan=plan, outputs=Outputs(**options), track=track)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return make_scene(tmp_path / "scene.tif")


@pytest.fixture(params=["same disk", "another disk"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder beside the result, and one that results cannot be renamed to."""
    if request.param == "same disk":
        (tmp_path / "elsewhere").mkdir()
        yield tmp_path / "elsewhere"
        return
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no other disk here")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def test_named_results_are_those_of_the_usual_names(scene: Path, tmp_path: Path, elsewhere: Path) -> None:
    usual = run(scene, tmp_path / "usual.tif", confidence=True)
    named = run(
        scene, tmp_path / "named.tif", confidence=elsewhere / "sure.tiff", polygons=str(elsewhere / "patches.gpkg")
    )
    assert (named.confidence, named.polygons) == (elsewhere / "sure.tiff", elsewhere / "patches.gpkg")
    assert usual.confidence is not None
    assert named.classes.read_bytes() == usual.classes.read_bytes()
    assert (elsewhere / "sure.tiff").read_bytes() == usual.confidence.read_bytes()
    rows, same = (
        pyogrio.read_dataframe(made.polygons, layer=made.polygons.stem)
        for made in (named, usual)
        if made.polygons is not None
    )
    assert rows.equals(same)
    assert sorted(os.listdir(elsewhere)) == ["patches.gpkg", "sure.qml", "sure.tiff"]
    beside = {p.name for p in tmp_path.iterdir() if p.name.startswith((".", "named"))}
    assert beside == {"named.qml", "named.tif", "named.tif.aux.xml"}


def test_what_is_stopped_leaves_nothing_there_and_goes_on_under_another_name(scene: Path, elsewhere: Path) -> None:
    classes = scene.with_name("classes.tif")
    with pytest.raises(CancelledError):
        run(scene, classes, StopAfter(2), polygons=elsewhere / "one.gpkg")
    assert os.listdir(elsewhere) == []
    made = run(scene, classes, polygons=elsewhere / "two.gpkg", resume=True)
    assert made.polygons == elsewhere / "two.gpkg"
    assert os.listdir(elsewhere) == ["two.gpkg"]


@pytest.mark.parametrize("options", [{"polygons": "x.shp"}, {"confidence": "x.gpkg"}, {"confidence": "x"}])
def test_other_endings_are_refused(scene: Path, options: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="must end in"):
        run(scene, scene.with_name("classes.tif"), **options)


def test_two_results_do_not_share_a_name(scene: Path) -> None:
    with pytest.raises(OptionError, match="same name"):
        run(scene, scene.with_name("a.tif"), confidence=scene.parent / "." / "a.tif")


def test_a_missing_folder_is_named_before_the_work(scene: Path) -> None:
    with pytest.raises(OutputError, match=r"gone is no folder"):
        run(scene, scene.with_name("a.tif"), polygons=scene.parent / "gone" / "x.gpkg")
    assert not scene.with_name("a.tif").exists()


def test_an_input_is_not_replaced(scene: Path) -> None:
    with pytest.raises(OptionError, match="is the scene itself"):
        run(scene, scene.with_name("a.tif"), confidence=scene, overwrite=True)
