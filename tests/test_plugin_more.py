"""The plugin beyond maps: areas in zones, accuracy, training, and setting up an engine, in a QGIS without windows."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from fakes import NORTH_UP, make_scene
from numpy.typing import NDArray
from qgis_desktop import PROFILE
from qgis_desktop import engine as make_engine
from qgis_headless import Done, Headless, files
from rasterio.windows import Window
from rasterio.windows import bounds as window_bounds
from shapely.geometry import box
from test_qgis import python

pytestmark = pytest.mark.qgis
__all__ = ["python"]

SHAPE = (72, 80)
COLORS = np.array([(60, 90, 40), (200, 60, 50), (40, 60, 180)])
FIELDS = {"red": Window(10, 8, 30, 40), "blue": Window(48, 36, 25, 30)}
DISTRICTS = {"north": Window(0, 0, 80, 30), "south": Window(0, 30, 80, 42)}
STOP_SECONDS = 20.0
"""What a cancel may take on a machine that is busy; it takes about two."""
TRAINING = {"FIELD": "crop", "OUTSIDE": "green", "SIZE": 32, "BATCH": 2, "EPOCHS": 400}

# All that needs no exit code, in one QGIS.
SCRIPT = """
place = PLACE
scenes = [f"{place}/{name}.tif" for name in "abc"]
labels, areas = f"{place}/labels.tif", {}


def rows(name, results):
    layer = results.get("OUTPUT")
    if layer is not None:
        areas[name] = [dict(zip([f.name() for f in layer.fields()], f.attributes())) for f in layer.getFeatures()]


zones = f"{place}/zones.gpkg|layername=districts"
rows("districts", go("districts", "classstats", INPUT=labels, ZONES=zones, FIELD="district", OUTPUT="memory:"))
drawn = QgsVectorLayer(f"{place}/zones.gpkg|layername=districts", "drawn", "ogr")
memory = drawn.materialize(QgsFeatureRequest())
memory.selectByExpression("district = 'south'")
QgsProject.instance().addMapLayer(memory)
chosen = QgsProcessingFeatureSourceDefinition(memory.id(), True)
rows("chosen", go("chosen", "classstats", INPUT=labels, ZONES=chosen, OUTPUT="memory:"))

wrong = f"{place}/wrong.tif"
rows("raster", go("raster", "evaluate", INPUT=wrong, REFERENCE=labels, OUTPUT="memory:", HTML=f"{place}/report.html"))
rows("polygons", go("polygons", "evaluate", INPUT=wrong, POLYGONS=f"{place}/fields.gpkg", FIELD="crop",
                    MATCHES=["red", "1", "blue", 2.0], OUTPUT="memory:"))
go("both", "evaluate", INPUT=wrong, REFERENCE=labels, POLYGONS=f"{place}/fields.gpkg")
go("neither", "evaluate", INPUT=wrong)

fields = QgsVectorLayer(f"{place}/fields.gpkg", "fields", "ogr")
categories = [
    QgsRendererCategory(c, QgsFillSymbol.createSimple({"color": color}), c)
    for c, color in (("red", "#c83c32"), ("blue", "#283cb4"))
]
fields.setRenderer(QgsCategorizedSymbolRenderer("crop", categories))
QgsProject.instance().addMapLayer(fields)
training = dict(TRAINING, INPUT=scenes, LABELS=fields, OUTPUT=f"{place}/model")
go("train", "train", **training, RESUME=True, FINISH=True)
go("both ends", "train", **training, MINUTES=1)
go("no classes", "train", **dict(training, FIELD="empty", OUTSIDE="", OUTPUT=f"{place}/other"))
answers["rows"] = areas

from rs_segment_qgis import installer
from rs_segment_qgis.host import JobFailed

answers["reasons"] = [installer.reason(said) for said in SAID]
try:
    answers["no python"] = installer.python(f"{place}/labels.tif")
except JobFailed as error:
    answers["no python"] = str(error)
answers["python"] = installer.python("")
"""
SAID = (
    ["Collecting click", "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
    [
        "WARNING: Retrying after connection broken by 'NewConnectionError'",
        "ERROR: No matching distribution found for x",
    ],
    ["ERROR: No matching distribution found for torch>=2.10"],
    ["ERROR: something else"],
    [],
)

BACKEND = """
import time

def build_wheel(folder, config_settings=None, metadata_directory=None):
    open({sign!r}, "w").close()
    time.sleep(120)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of everything."""

    place: Path
    labels: NDArray[np.uint8]
    session: dict[str, Any]
    runs: dict[str, Done]
    seconds: dict[str, float]
    homes: dict[str, Headless]

    def rows(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.session["rows"][name]
        return found


def polygons(windows: dict[str, Window], column: str) -> geopandas.GeoDataFrame:
    shapes = [box(*window_bounds(window, NORTH_UP)) for window in windows.values()]
    return geopandas.GeoDataFrame({column: list(windows), "empty": [None, None]}, geometry=shapes, crs="EPSG:32640")


def make_inputs(place: Path) -> NDArray[np.uint8]:
    """Three images, what is on them, a map that is wrong in one row, fields and districts."""
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint8)
    for value, window in enumerate(FIELDS.values(), start=1):
        labels[window.toslices()] = value
    for name in "abc":
        pixels = COLORS[labels] + rng.integers(-15, 16, (*SHAPE, 3))
        make_scene(place / f"{name}.tif", pixels=pixels.clip(1, 255).astype(np.uint8).transpose(2, 0, 1))
    wrong = labels.copy()
    wrong[20] = 2
    for name, values in (("labels", labels), ("wrong", wrong)):
        make_scene(place / f"{name}.tif", pixels=values[None], nodata=255)
    polygons(FIELDS, "crop").to_crs(4326).to_file(place / "fields.gpkg")
    polygons(FIELDS, "crop").to_file(place / "zones.gpkg", layer="first")
    polygons(DISTRICTS, "district").to_file(place / "zones.gpkg", layer="districts")
    return labels


def make_wheels(folder: Path) -> Path:
    """A wheel called rs-segment that stands for the packages of this process: the real one needs gigabytes."""
    folder.mkdir()
    told = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [p for p in sys.path if Path(p).is_dir() and (p in told or p.endswith(("site-packages", "dist-packages")))]
    info = "rs_segment-0.1.0.dist-info"
    with zipfile.ZipFile(folder / "rs_segment-0.1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("elsewhere.pth", "".join(f"import site; site.addsitedir({p!r})\n" for p in places))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: rs-segment\nVersion: 0.1.0\n")
        wheel.writestr(f"{info}/entry_points.txt", "[rs_segment.models]\ntorch = rs_segment_models\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "".join(f"{n},,\n" for n in (*wheel.namelist(), f"{info}/RECORD")))
    return folder


def make_source(folder: Path) -> Path:
    """A source folder that never gets built; it makes the file "begun" when that is tried."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n')
    (folder / "b.py").write_text(BACKEND.format(sign=str(folder / "begun")))
    return folder


def checkpoint_of(place: Path) -> Path:
    return place / ".model.partial" / "last.safetensors"


@pytest.fixture(scope="module")
def seen(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """All of it, some at once: starts take longest."""
    place = tmp_path_factory.mktemp("more")
    labels, engine = make_inputs(place), make_engine(place)
    homes = {name: Headless.make(place / f"home {name}", engine) for name in ("session", "train", "set up", "stopped")}
    script = SCRIPT.replace("PLACE", repr(str(place))).replace("TRAINING", repr(TRAINING)).replace("SAID", repr(SAID))
    wheels, source = make_wheels(place / "wheels"), make_source(place / "source")
    base: dict[str, object] = {"PYTHON": sys.executable}
    scenes: list[Path] = [place / f"{name}.tif" for name in "abc"]
    training: dict[str, object] = {"LABELS": place / "fields.gpkg", "OUTPUT": place / "model", **TRAINING}
    with ThreadPoolExecutor(2) as pool:
        checkpoint = checkpoint_of(place)
        train = pool.submit(
            homes["train"].interrupted, "rssegment:train", {"INPUT": scenes, **training}, engine, checkpoint
        )
        set_up = pool.submit(homes["set up"].run, "rssegment:setupengine", {**base, "FOLDER": wheels}, None)
        stopped = pool.submit(
            homes["stopped"].interrupted,
            "rssegment:setupengine",
            {**base, "FOLDER": source},
            engine,
            source / "begun",
        )
        runs = {"train": train.result()[0]}
        kept = checkpoint.exists()
        session = pool.submit(homes["session"].session, python, script)
        runs |= {"set up": set_up.result(), "stopped": stopped.result()[0]}
        runs["used"] = pool.submit(homes["set up"].run, "rssegment:modelinfo", {}, None).result()
    seconds = {"stopped": stopped.result()[1], "train": train.result()[1], "kept": float(kept)}
    print("\n" + ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()))
    return Seen(place, labels, session.result(), runs, seconds, homes)


def counted(labels: NDArray[np.uint8], window: Window) -> list[int]:
    return [int((labels[window.toslices()] == value).sum()) for value in range(3)]


def test_each_pixel_of_a_zone_is_counted_once(seen: Seen) -> None:
    assert "error" not in seen.session["districts"], seen.session["districts"]
    rows = seen.rows("districts")
    assert [(row["zone"], row["class_id"]) for row in rows] == [(z, v) for z in DISTRICTS for v in range(3)]
    for name, window in DISTRICTS.items():
        mine, counts = [row for row in rows if row["zone"] == name], counted(seen.labels, window)
        assert [row["pixels"] for row in mine] == counts
        assert [row["area_m2"] for row in mine] == pytest.approx([0.25 * count for count in counts])
        assert [row["share"] for row in mine] == pytest.approx([count / sum(counts) for count in counts], abs=1e-12)
    assert seen.session["districts"]["results"]["ZONE_COUNT"] == 2


def test_only_the_selected_zone_of_a_layer_in_memory_counts(seen: Seen) -> None:
    assert "error" not in seen.session["chosen"], seen.session["chosen"]
    assert [row["pixels"] for row in seen.rows("chosen")] == counted(seen.labels, DISTRICTS["south"])
    assert {row["zone"] for row in seen.rows("chosen")} == {"1"}


def test_accuracy_is_the_share_of_equal_pixels(seen: Seen) -> None:
    found = seen.session["raster"]
    assert "error" not in found, found
    with rasterio.open(seen.place / "wrong.tif") as source:
        wrong = source.read(1)
    assert found["results"]["ACCURACY"] == pytest.approx((wrong == seen.labels).mean())
    assert found["results"]["PIXELS"] == wrong.size
    for row in seen.rows("raster"):
        both, either = ((wrong == row["value"]), (seen.labels == row["value"]))
        assert row["iou"] == pytest.approx((both & either).sum() / (both | either).sum(), abs=1e-12)
        assert row["reference_pixels"] == either.sum()
    assert "<html" in (seen.place / "report.html").read_text("utf-8")


def test_polygons_in_another_crs_are_a_reference_whose_classes_are_told(seen: Seen) -> None:
    assert "error" not in seen.session["polygons"], seen.session["polygons"]
    rows = {row["class"]: row for row in seen.rows("polygons")}
    assert {name: row["value"] for name, row in rows.items()} == {"red": 1, "blue": 2}
    assert {name: row["reference_pixels"] for name, row in rows.items()} == {"red": 1200, "blue": 750}


@pytest.mark.parametrize("name", ["both", "neither"])
def test_one_reference_is_asked_for(seen: Seen, name: str) -> None:
    assert f"there are {'none' if name == 'neither' else name}" in seen.session[name]["error"]


def test_a_model_is_trained_from_layers_with_the_classes_and_colors_of_the_polygons(seen: Seen) -> None:
    found = seen.session["train"]
    assert "error" not in found, found
    assert 0 <= found["results"]["ACCURACY"] <= 1
    assert Path(found["results"]["REPORT"]).is_file()
    card = json.loads((seen.place / "model" / "model.json").read_text("utf-8"))
    classes = card["properties"]["mlm:output"][0]["classification:classes"]
    assert [c.get("title") or c["name"] for c in classes] == ["blue", "red", "green"]
    assert [c["color_hint"] for c in classes][:2] == ["283CB4", "C83C32"]


def test_what_cannot_be_trained_is_refused_in_a_sentence(seen: Seen) -> None:
    assert "choose one" in seen.session["both ends"]["error"]
    assert "no polygon has anything in empty" in seen.session["no classes"]["error"]


def test_a_training_that_is_cancelled_is_kept_and_can_be_finished(seen: Seen) -> None:
    assert seen.runs["train"].code != 0
    assert "what was trained is kept" in seen.runs["train"].said
    assert seen.seconds["kept"]
    assert seen.seconds["train"] < STOP_SECONDS
    assert 1 <= seen.session["train"]["results"]["EPOCHS_DONE"] < 400
    assert not checkpoint_of(seen.place).exists()


def test_the_engine_is_set_up_from_a_folder_of_wheels_and_then_used(seen: Seen) -> None:
    made, used = seen.runs["set up"], seen.runs["used"]
    assert made.code == 0, made.said
    profile = seen.homes["set up"].home / PROFILE / "rs_segment"
    assert made.results["PYTHON"] == str(profile / "venv" / "bin" / "python")
    assert made.results["VERSION"] == "0.1.0"
    assert "dubai-landcover" in made.results["MODELS"]
    assert json.loads((profile / "engine.json").read_text()) == {"environment": "venv"}
    assert "tmp" not in files(profile / "venv")
    assert used.code == 0, used.said
    assert used.results["NAME"] == "dubai-landcover"


def test_a_set_up_that_is_cancelled_leaves_no_process_and_no_environment(seen: Seen) -> None:
    assert seen.runs["stopped"].code != 0
    assert seen.seconds["stopped"] < STOP_SECONDS
    assert seen.homes["stopped"].engines() == []
    assert files(seen.homes["stopped"].home / PROFILE / "rs_segment") == []


def test_what_pip_says_is_put_into_sentences(seen: Seen) -> None:
    full, unreachable, missing, other, nothing = seen.session["reasons"]
    assert "disk is full" in full
    assert "cannot be reached" in unreachable
    assert "there is no torch>=2.10 for this Python" in missing
    assert other == "ERROR: something else"
    assert nothing == "it said nothing"


def test_a_python_is_found_and_what_is_none_is_refused(seen: Seen) -> None:
    assert Path(seen.session["python"]).exists()
    assert "cannot make an environment" in seen.session["no python"]
