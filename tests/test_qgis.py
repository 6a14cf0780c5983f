"""What QGIS makes of the results: its own Python opens them, and ``qgis_process`` computes with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from fakes import ROTATED, SOUTH_UP, FakePredictor, make_card, make_scene
from numpy.typing import NDArray

from rs_segment import NODATA, UNCLASSIFIED, Outputs, Plan, Segmentation, segment
from rs_segment.layer import COLUMNS
from rs_segment.result import UNCLASSIFIED_CLASS
from rs_segment.types import PROBABILITY_STEPS

pytestmark = [pytest.mark.qgis, pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")]

NO_GEOREFERENCE = Affine.identity()
PREDICTOR = FakePredictor(make_card(classes=5))
PLAN = Plan(tile=32, overlap=16)
CLASSES = PREDICTOR.card.classes
SHAPE = (61, 47)
CASES: dict[str, dict[str, Any]] = {
    "ordinary": {},
    "unsure": {},
    "no crs": {"crs": None},
    "nowhere": {"crs": None, "transform": NO_GEOREFERENCE},
    "rotated": {"transform": ROTATED},
    "south up": {"transform": SOUTH_UP},
}
LEGEND = [[c.value, c.name, c.color.lower()] for c in CLASSES]
UNSURE = [UNCLASSIFIED, UNCLASSIFIED_CLASS.name, UNCLASSIFIED_CLASS.color.lower()]
# What belongs to the Python that runs the tests misleads the one of QGIS.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB")

SCRIPT = """
import json, os, sys
from qgis.core import QgsApplication, QgsRasterLayer, QgsRenderContext, QgsVectorLayer

app = QgsApplication([], False)
app.initQgis()


def common(layer):
    e = layer.extent()
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid() if layer.crs().isValid() else None,
        "extent": [e.xMinimum(), e.yMinimum(), e.xMaximum(), e.yMaximum()],
        "renderer": layer.renderer().type(),
        "styled": layer.loadDefaultStyle()[1],
    }


def raster(path):
    layer = QgsRasterLayer(path)
    found, provider, renderer = common(layer), layer.dataProvider(), layer.renderer()
    block = renderer.block(1, layer.extent(), layer.width(), layer.height())
    found["painted"] = [[block.color(r, c) for c in range(block.width())] for r in range(block.height())]
    found["bands"] = [layer.bandName(i + 1) for i in range(layer.bandCount())]
    found["nodata"] = [provider.sourceNoDataValue(i + 1) for i in range(layer.bandCount())]
    if renderer.type() == "paletted":
        found["legend"] = [[c.value, c.label, c.color.name()] for c in renderer.classes()]
    elif renderer.type() == "singlebandgray":
        stretch, legend = renderer.contrastEnhancement(), renderer.legendSettings()
        found["stretch"] = [stretch.minimumValue(), stretch.maximumValue(), int(renderer.minMaxOrigin().limits())]
        found["legend"] = [legend.minimumLabel(), legend.maximumLabel()]
    return found


def vector(path):
    layer = QgsVectorLayer(path, "", "ogr")
    found, renderer, context = common(layer), layer.renderer(), QgsRenderContext()
    found["fields"] = layer.fields().names()
    found["count"] = layer.featureCount()
    found["attribute"] = renderer.classAttribute()
    found["legend"] = [[int(c.value()), c.label(), c.symbol().color().name()] for c in renderer.categories()]
    found["painted"] = []
    renderer.startRender(context, layer.fields())
    for feature in layer.getFeatures():
        symbol = renderer.originalSymbolForFeature(feature, context)
        found["painted"].append([feature["class_id"], feature["class"], symbol and symbol.color().name()])
    renderer.stopRender(context)
    return found


found = {path: (vector if path.endswith(".gpkg") else raster)(path) for path in sys.argv[2:]}
with open(sys.argv[1], "w") as target:
    json.dump(found, target)
# Tearing QGIS down from Python crashes now and then.
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One scene, what was made of it, and what QGIS says of each file by its path."""

    scene: Path
    made: Segmentation
    told: Mapping[str, Mapping[str, Any]]

    def of(self, path: Path | None) -> Mapping[str, Any]:
        return self.told[str(path)]

    def labels(self) -> NDArray[np.uint8]:
        with rasterio.open(self.made.classes) as found:
            labels: NDArray[np.uint8] = found.read(1)
        return labels


def environment(home: Path, python: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in FOREIGN}
    path = os.pathsep.join([str(python.parent), "/usr/bin", "/bin"])
    return {**kept, "PATH": path, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "QT_QPA_PLATFORM": "offscreen"}


def missing(what: str) -> None:
    """Skip, or fail where all tests have to run."""
    message = f"{what} is not there; PYQGIS_PYTHON names the Python of QGIS"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that can import QGIS."""
    for candidate in (os.environ.get("PYQGIS_PYTHON"), "/usr/bin/python3"):
        if candidate and Path(candidate).exists():
            env = environment(tmp_path_factory.mktemp("home"), Path(candidate))
            asked = [candidate, "-c", "import qgis.core"]
            if subprocess.run(asked, env=env, capture_output=True, timeout=60).returncode == 0:
                return Path(candidate)
    missing("a Python with qgis.core")
    raise AssertionError


@pytest.fixture(scope="module")
def seen(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """Every case, with all of its files opened by one QGIS."""
    folder = tmp_path_factory.mktemp("seen")
    valid = np.ones(SHAPE, np.bool_)
    valid[:20, :11] = False
    made: dict[str, tuple[Path, Segmentation]] = {}
    for name, options in CASES.items():
        scene = make_scene(folder / f"{name} scene.tif", SHAPE, mask=valid, **options)
        outputs = Outputs(confidence=True, probabilities=True, min_confidence=0.6 if name == "unsure" else 0)
        made[name] = scene, segment(scene, folder / f"{name}.tif", PREDICTOR, plan=PLAN, outputs=outputs)
    paths = [str(path) for scene, found in made.values() for path in (scene, *found.files)]
    answer = folder / "answer.json"
    done = subprocess.run(
        [python, "-c", SCRIPT, answer, *paths],
        env=environment(folder, python),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.exists(), done.stderr
    told = json.loads(answer.read_text())
    return {name: Seen(scene, found, told) for name, (scene, found) in made.items()}


def rgba(painted: Any) -> NDArray[np.int64]:
    """(row, col, 4), from colours that QGIS packs as alpha, red, green, blue."""
    packed = np.array(painted, dtype=np.int64)
    return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255, packed >> 24], axis=-1)


def colored(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(row, col, 4): how labels have to look; no data is transparent."""
    table = np.zeros((256, 4), np.int64)
    for info in (*CLASSES, UNCLASSIFIED_CLASS):
        table[info.value] = (*info.rgb, 255)
    return table[labels]


def files(case: Seen) -> Iterator[Mapping[str, Any]]:
    return (case.of(path) for path in case.made.files)


@pytest.mark.parametrize("name", CASES)
def test_every_file_opens_with_the_style_that_lies_with_it(seen: dict[str, Seen], name: str) -> None:
    found = [(f["valid"], f["styled"], f["renderer"]) for f in files(seen[name])]
    kinds = ("paletted", "singlebandgray", "singlebandgray", "categorizedSymbol")
    assert found == [(True, True, kind) for kind in kinds]


@pytest.mark.parametrize("name", CASES)
def test_the_legends_are_the_classes_and_unclassified_only_when_asked(seen: dict[str, Seen], name: str) -> None:
    case = seen[name]
    expected = [*LEGEND, UNSURE] if name == "unsure" else LEGEND
    assert case.of(case.made.classes)["legend"] == expected
    assert case.of(case.made.polygons)["legend"] == expected
    assert case.of(case.made.polygons)["attribute"] == "class_id"
    assert np.isin(UNCLASSIFIED, case.labels()) == (name == "unsure")


@pytest.mark.parametrize("name", CASES)
def test_bands_and_nodata_are_known(seen: dict[str, Seen], name: str) -> None:
    case = seen[name]
    classes, confidence, probabilities, _ = files(case)
    assert classes["bands"] == ["Band 1: class"]
    assert confidence["bands"] == ["Band 1: confidence"]
    assert probabilities["bands"] == [f"Band {c.value + 1}: {c.name}" for c in CLASSES]
    assert {value for f in (classes, confidence, probabilities) for value in f["nodata"]} == {NODATA}


@pytest.mark.parametrize("name", [n for n in CASES if n != "nowhere"])
def test_results_lie_where_the_scene_lies(seen: dict[str, Seen], name: str) -> None:
    case = seen[name]
    scene, bounds = case.of(case.scene), case.made.geobox.bounds
    *rasters, polygons = files(case)
    for raster in rasters:
        assert raster["crs"] == scene["crs"] == (None if name == "no crs" else "EPSG:32640")
        assert raster["extent"] == pytest.approx(scene["extent"], abs=1e-6)
        # QGIS warps a rotated raster to north-up pixels, of which the last ones stand out by less than one.
        assert raster["extent"] == pytest.approx(bounds, abs=0.5 if name == "rotated" else 1e-6)
    assert polygons["crs"] == (scene["crs"] or "")
    # The missing corner of the rotated scene is its leftmost.
    assert polygons["extent"][1:] == pytest.approx(bounds[1:], abs=1e-6)
    assert (polygons["extent"][0] > bounds[0] + 4) if name == "rotated" else polygons["extent"][0] == bounds[0]


@pytest.mark.parametrize("name", ["ordinary", "unsure", "no crs", "south up"])
def test_every_pixel_has_the_color_of_its_class(seen: dict[str, Seen], name: str) -> None:
    case = seen[name]
    labels = case.labels()
    shown = rgba(case.of(case.made.classes)["painted"])
    np.testing.assert_array_equal(shown, colored(labels[::-1] if name == "south up" else labels))


def test_a_rotated_map_is_painted_where_its_pixels_lie(seen: dict[str, Seen]) -> None:
    case = seen["rotated"]
    told = case.of(case.made.classes)
    shown, labels = rgba(told["painted"]), case.labels()
    left, bottom, right, top = told["extent"]
    rows, cols = np.mgrid[: shown.shape[0], : shown.shape[1]] + 0.5
    x = left + cols * (right - left) / shown.shape[1]
    y = top - rows * (top - bottom) / shown.shape[0]
    col, row = (np.floor(v).astype(int) for v in ~case.made.geobox.transform @ (x, y))
    inside = (row >= 0) & (row < SHAPE[0]) & (col >= 0) & (col < SHAPE[1])
    expected = np.where(inside, labels[row.clip(0, SHAPE[0] - 1), col.clip(0, SHAPE[1] - 1)], NODATA)
    # The warp is right to an eighth of a pixel.
    assert (shown == colored(expected.astype(np.uint8))).all(axis=-1).mean() > 0.97


def test_a_map_of_a_scene_from_nowhere_lies_over_it_the_right_way_up(seen: dict[str, Seen]) -> None:
    case = seen["nowhere"]
    *rasters, _ = files(case)
    np.testing.assert_array_equal(rgba(rasters[0]["painted"]), colored(case.labels()))
    for raster in rasters:
        assert raster["crs"] is None
        assert raster["extent"] == case.of(case.scene)["extent"] == [0, -SHAPE[0], SHAPE[1], 0]


def test_polygons_of_a_scene_from_nowhere_count_rows_upward(seen: dict[str, Seen]) -> None:
    case = seen["nowhere"]
    polygons = case.of(case.made.polygons)
    assert (polygons["crs"], polygons["extent"]) == ("", [0, 0, SHAPE[1], SHAPE[0]])


@pytest.mark.parametrize("name", ["ordinary", "unsure", "no crs"])
def test_confidence_is_gray_from_0_to_100_per_cent(seen: dict[str, Seen], name: str) -> None:
    case = seen[name]
    assert case.made.confidence is not None
    told = case.of(case.made.confidence)
    # Limits 0 are those in the style, not some that QGIS takes from the pixels it shows.
    assert told["stretch"] == [0, PROBABILITY_STEPS, 0]
    assert told["legend"] == ["0 %", "100 %"]
    with rasterio.open(case.made.confidence) as found:
        values = found.read(1).astype(int)
    shown, valid = rgba(told["painted"]), values != NODATA
    assert (shown[..., 3] == np.where(valid, 255, 0)).all()
    assert np.ptp(shown[valid][:, :3], axis=1).max() == 0
    assert np.abs(shown[valid][:, 0] - values[valid] * 255 / PROBABILITY_STEPS).max() <= 1
    assert len(np.unique(shown[valid])) > 50


@pytest.mark.parametrize("name", CASES)
def test_every_polygon_is_painted_as_its_class(seen: dict[str, Seen], name: str) -> None:
    case = seen[name]
    told = case.of(case.made.polygons)
    assert told["fields"] == ["fid", *COLUMNS]
    assert told["count"] == len(told["painted"]) == len(table(case.made)) > 10
    assert all(painted in [*LEGEND, UNSURE] for painted in told["painted"])
    assert {value for value, *_ in told["painted"]} == set(np.unique(case.labels()).tolist()) - {NODATA}


def table(made: Segmentation) -> Any:
    assert made.polygons is not None
    return geopandas.read_file(made.polygons, layer=made.polygons.stem)


def process(python: Path, home: Path, algorithm: str, **inputs: object) -> dict[str, Any]:
    """What an algorithm of QGIS answers."""
    env = environment(home, python)
    # Debian's qgis_process without the ending is a script that wants a screen.
    program = shutil.which("qgis_process.bin", path=env["PATH"]) or shutil.which("qgis_process", path=env["PATH"])
    if program is None:
        missing("qgis_process")
    done = subprocess.run(
        [str(program), "--json", "run", algorithm, "--", *(f"{k}={v}" for k, v in inputs.items())],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)["results"]
    return results


def test_qgis_counts_the_pixels_of_each_class(seen: dict[str, Seen], python: Path, tmp_path: Path) -> None:
    made = seen["unsure"].made
    counts = tmp_path / "counts.csv"
    answer = process(
        python, tmp_path, "native:rasterlayeruniquevaluesreport", INPUT=made.classes, BAND=1, OUTPUT_TABLE=counts
    )
    assert (answer["WIDTH_IN_PIXELS"], answer["HEIGHT_IN_PIXELS"]) == SHAPE[::-1]
    assert answer["NODATA_PIXEL_COUNT"] == made.nodata_pixels == 220
    assert answer["CRS_AUTHID"] == "EPSG:32640"
    found = geopandas.read_file(counts)
    assert {
        int(float(value)): (int(n), float(area)) for value, n, area in found.iloc[:, :3].itertuples(index=False)
    } == {a.value: (a.pixels, a.area_m2) for a in made.areas if a.pixels}


def test_qgis_measures_the_area_of_each_polygon(seen: dict[str, Seen], python: Path, tmp_path: Path) -> None:
    made = seen["unsure"].made
    measured = tmp_path / "measured.gpkg"
    process(
        python,
        tmp_path,
        "native:fieldcalculator",
        INPUT=made.polygons,
        FIELD_NAME="measured",
        FIELD_TYPE=0,
        FORMULA="area($geometry)",
        OUTPUT=measured,
    )
    found = geopandas.read_file(measured)
    assert found["measured"].to_numpy() == pytest.approx(found["area_m2"].to_numpy(), abs=1e-6)
    assert found["measured"].to_numpy() == pytest.approx(found["pixels"].to_numpy() * 0.25, abs=1e-6)
    assert found["pixels"].sum() == sum(a.pixels for a in made.areas)
