"""The plugin in a QGIS without windows: its algorithms, their exit codes and sentences, and what a break leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from fakes import ROTATED, Affine, FakePredictor, make_card, make_scene
from numpy.typing import NDArray
from qgis_desktop import engine as make_engine
from qgis_headless import Done, Headless, files
from rasterio.windows import Window
from test_qgis import python

from rs_segment import NODATA, Outputs, Plan, View, segment

pytestmark = [pytest.mark.qgis, pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")]
__all__ = ["python"]

PREDICT = "rssegment:predict"
CARD = make_card(resolution_limits=(0.01, 10.0))
REAL = Path(__file__).resolve().parents[1] / "examples" / "dubai_tile3.tif"
AT_ONCE = 2
TILES = {"TILE": 64, "OVERLAP": 16}
CANCEL_SECONDS = 20.0
"""What a cancel may take on a machine that is busy; it takes about two."""

SCENES: dict[str, dict[str, Any]] = {
    "ordinary": {},
    "sixteen": {"dtype": "uint16"},
    "rotated": {"transform": ROTATED},
    "unplaced": {"crs": None},
    "nowhere": {"crs": None, "transform": Affine.identity()},
    "gaps": {"nodata": 0},
}

# All that needs no exit code, in one QGIS.
SCRIPT = """
scenes, out, vrt, broken = PLACES
from rs_segment_qgis import handshake


def predict(name, scene="ordinary", output=None, **more):
    source = f"{scenes}/{scene}.tif" if isinstance(scene, str) else scene
    output = output or f"{out}/{name}.tif"
    return go(name, "predict", INPUT=source, MODEL="fake", OUTPUT=output, **more)


many = [f"{scenes}/{name}.tif" for name in ("rotated", "unplaced", "gaps", "ordinary", "sixteen")]
go("batch", "predictbatch", LAYERS=many, MODEL="fake", OUTPUT=f"{out}/batch")
go("again", "predictbatch", LAYERS=many[:4], MODEL="fake", OUTPUT=f"{out}/batch")
go("taken", "predictbatch", LAYERS=many[:4], MODEL="fake", OUTPUT=f"{out}/batch", EXISTING="fail")
go("nothing", "predictbatch", MODEL="fake", OUTPUT=f"{out}/batch")
predict("sixteen", "sixteen", RESCALE="0,10000")
predict("nowhere", "nowhere", EXTENT="5,20,-30,-10")
predict("outside", EXTENT="300100,300110,2799980,2799990 [EPSG:32640]")

usual = os.environ["RS_SEGMENT_PYTHON"]
for name, program in broken.items():
    os.environ["RS_SEGMENT_PYTHON"] = program
    predict(name, output=f"{out}/none.tif")
os.environ["RS_SEGMENT_PYTHON"] = usual
predict("no folder", output=f"{out}/nowhere/x.tif")
predict("ending", output=f"{out}/none.tif", POLYGONS=f"{out}/x.shp")

parcels = QgsVectorLayer("Polygon?crs=EPSG:32640", "parcels", "memory")
for x, y in ((300002, 2799990), (300012, 2799980)):
    feature = QgsFeature()
    feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(x, y, x + 5, y + 5)))
    parcels.dataProvider().addFeature(feature)
parcels.selectByIds([2])
inline = QgsRasterLayer(open(vrt).read(), "inline", "gdal")
tiles = QgsRasterLayer(f"type=xyz&zmax=9&zmin=0&url=file://{scenes}/%7Bz%7D/%7Bx%7D/%7By%7D.png", "tiles", "wms")
QgsProject.instance().addMapLayers([parcels, inline, tiles])
chosen = QgsProcessingFeatureSourceDefinition(parcels.id(), True)
area = "300010,300014.5,2799970,2800000 [EPSG:32640]"
made = predict("chosen", output="TEMPORARY_OUTPUT", AOI=chosen, EXTENT=area, AREAS="memory:")
layer = QgsRasterLayer(made.get("OUTPUT", ""))
answers["style"] = [[int(c.value), c.label, c.color.name()] for c in layer.renderer().classes()]
answers["areas"] = [f.attributes() for f in made["AREAS"].getFeatures()] if made else []

predict("refused", inline)
predict("unsized", tiles, EXTENT=area)
predict("vast", tiles, EXTENT=area, PIXEL_SIZE=0.00001)
predict("blank", tiles, EXTENT=area, PIXEL_SIZE=0.5)
predict("exported", inline, EXTENT="300002.2,300010,2799980,2799990 [EPSG:32640]")

gaps = f"{out}/batch/gaps_classes.tif"
go("polygonize", "polygonize", INPUT=gaps, OUTPUT=f"{out}/polygons.gpkg", CLASSES="1,2", SIMPLIFY="2px")
go("card", "modelinfo", MODEL="fake", OUTPUT=f"{out}/card.html")
go("doctor", "doctor", OUTPUT=f"{out}/doctor.html")
answers["remembered"] = [handshake.models(), handshake.devices()]
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of everything: runs of ``qgis_process`` by name, answers of the session, seconds of the cancel."""

    place: Path
    scenes: Path
    runs: dict[str, Done]
    session: dict[str, Any]
    seconds: float
    left: list[str]

    def classes(self, name: str) -> Path:
        """The class raster of a scene, wherever it was made."""
        batch = self.place / "out" / "batch" / f"{name}_classes.tif"
        return batch if batch.exists() else self.place / "out" / f"{name}.tif"

    def labels(self, name: str) -> NDArray[np.uint8]:
        return read(self.classes(name))


def read(path: Path | str) -> NDArray[np.uint8]:
    with rasterio.open(path) as found:
        labels: NDArray[np.uint8] = found.read(1)
    return labels


def program(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def command_line(engine: Path, *words: object) -> Done:
    """The command line by the same engine."""
    line = [engine, "-m", "rs_segment_cli", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return Done(done.returncode, {}, done.stderr)


def make_inputs(place: Path) -> Path:
    """Scenes, odd and ugly, and a model that reads four bands."""
    scenes = place / "scenes"
    scenes.mkdir()
    for name, options in SCENES.items():
        make_scene(scenes / f"{name}.tif", **options)
    make_scene(scenes / "large.tif", (700, 700))
    with rasterio.open(REAL) as source:
        window = Window(700, 900, 160, 130)
        pixels, here = source.read(window=window), source.window_transform(window)
        make_scene(scenes / "real.tif", pixels=pixels, transform=here, crs=source.crs.to_string())
    rasterio.shutil.copy(scenes / "ordinary.tif", scenes / "inline.vrt", driver="VRT")
    inline = (scenes / "inline.vrt").read_text().replace('relativeToVRT="1">', f'relativeToVRT="0">{scenes}/')
    (scenes / "inline.vrt").write_text(inline)
    (scenes / "four").mkdir()
    four = make_card(bands=4, resolution_limits=(0.01, 10.0), weights_sha256="0" * 64)
    (scenes / "four" / "model.json").write_text(json.dumps(four.to_item(1)))
    return scenes


@pytest.fixture(scope="module")
def seen(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """All of it, some at once: starts take longest."""
    place = tmp_path_factory.mktemp("place")
    scenes, out, elsewhere = make_inputs(place), place / "out", place / "elsewhere"
    for folder in (out, elsewhere, place / "slow", place / "typed"):
        folder.mkdir()
    engine = make_engine(place)
    slow = make_engine(place / "slow", slow=0.2)
    # What is compiled must not be cut off as well.
    limits = ("ulimit -f 40", "export PYTHONDONTWRITEBYTECODE=1")
    full = program(place / "full", *limits, f"exec '{engine}' \"$@\"")
    hello = json.dumps({"event": "hello", "protocol": 2, "version": "9.9"})
    other = program(place / "other", f"echo '{hello}'", "read line")
    mute = program(place / "mute", "echo 'some library is missing' >&2", "exit 1")
    usual = {"INPUT": scenes / "ordinary.tif", "MODEL": "fake"}

    def files_of(name: str) -> dict[str, object]:
        return {**usual, "OUTPUT": out / f"{name}.tif"}

    whole = {
        **files_of("whole"),
        "CONFIDENCE": elsewhere / "sure.tif",
        "POLYGONS": elsewhere / "patches.gpkg",
        "AREAS": elsewhere / "areas.csv",
    }
    tries: dict[str, tuple[dict[str, object], Path | str | None]] = {
        "real": ({"INPUT": scenes / "real.tif", "OUTPUT": out / "real.tif"}, ""),
        "whole": (whole, ""),
        "four bands": ({**files_of("four"), "MODEL": scenes / "four"}, ""),
        "full": ({**files_of("full"), "INPUT": scenes / "large.tif"}, full),
        "no engine": (files_of("none"), None),
        "other protocol": (files_of("none"), other),
    }
    typed = place / "typed"
    lines = {
        "typed whole": (
            engine,
            "predict",
            scenes / "ordinary.tif",
            "-o",
            typed / "whole.tif",
            "-m",
            "fake",
            "--confidence",
        ),
        "typed real": (sys.executable, "predict", scenes / "real.tif", "-o", typed / "real.tif", "--no-polygons"),
    }
    stop: dict[str, object] = {**TILES, "INPUT": scenes / "large.tif", "MODEL": "fake", "OUTPUT": out / "stopped.tif"}
    homes = {name: Headless.make(place / f"home {name}", engine) for name in (*tries, "session", "stopped")}
    broken = {"wrong path": str(place / "not-there"), "no rs-segment": str(python), "mute": str(mute)}
    script = SCRIPT.replace("PLACES", repr((str(scenes), str(out), str(scenes / "inline.vrt"), broken)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        session = pool.submit(homes["session"].session, python, script)
        runs: dict[str, Future[Done]] = {
            name: pool.submit(homes[name].run, PREDICT, inputs, engine) for name, (inputs, engine) in tries.items()
        }
        runs |= {name: pool.submit(command_line, Path(line[0]), *line[1:]) for name, line in lines.items()}
        stopped = pool.submit(homes["stopped"].interrupted, PREDICT, stop, slow, out / ".stopped.tif.partial")
    runs_done = {name: future.result() for name, future in runs.items()}
    runs_done["stopped"], seconds = stopped.result()
    print(f"\ncancelled within {seconds:.2f} s")
    return Seen(place, scenes, runs_done, session.result(), seconds, homes["stopped"].engines())


@pytest.mark.parametrize("name", ["whole", "real"])
def test_the_class_raster_is_that_of_the_command_line_byte_for_byte(seen: Seen, name: str) -> None:
    assert seen.runs[f"typed {name}"].code == 0, seen.runs[f"typed {name}"].said
    assert seen.runs[name].code == 0, seen.runs[name].said
    for ending in (".tif", ".tif.aux.xml", ".qml"):
        mine, typed = (seen.place / folder / f"{name}{ending}" for folder in ("out", "typed"))
        assert mine.read_bytes() == typed.read_bytes()


def test_each_output_lies_where_it_was_asked_for_and_nothing_else_does(seen: Seen) -> None:
    elsewhere, results = seen.place / "elsewhere", seen.runs["whole"].results
    assert {name: Path(results[name]) for name in ("OUTPUT", "CONFIDENCE", "POLYGONS", "AREAS")} == {
        "OUTPUT": seen.place / "out" / "whole.tif",
        "CONFIDENCE": elsewhere / "sure.tif",
        "POLYGONS": elsewhere / "patches.gpkg",
        "AREAS": elsewhere / "areas.csv",
    }
    assert files(elsewhere) == ["areas.csv", "patches.gpkg", "sure.qml", "sure.tif"]
    assert results["NODATA_PIXELS"] == 0
    assert results["DEVICE_USED"] == "cpu"
    assert read(elsewhere / "sure.tif").shape == read(results["OUTPUT"]).shape
    assert "patches" in pyogrio.list_layers(elsewhere / "patches.gpkg")[:, 0]
    rows = pyogrio.read_dataframe(elsewhere / "areas.csv", read_geometry=False)
    counts = np.bincount(read(results["OUTPUT"]).ravel(), minlength=len(CARD.classes))
    assert rows["pixels"].astype(int).tolist() == counts.tolist()
    assert rows["class"].tolist() == [c.name for c in CARD.classes]
    assert rows["area_m2"].astype(float).sum() == pytest.approx(counts.sum() * 0.25)


SENTENCES = {
    "four bands": ("ordinary.tif has 3 bands", "reads 4"),
    "no folder": ("nowhere is no folder; make it",),
    "full": ("takes no more data", "make room"),
    "no engine": ("no engine was found", "Set up the engine"),
    "wrong path": ("the variable RS_SEGMENT_PYTHON names", "not-there", "Settings > Options > RS Segment"),
    "other protocol": ("speaks protocol 2", "this plug-in speaks 1", "update the plug-in"),
    "no rs-segment": ("has no rs-segment", "correct RS_SEGMENT_PYTHON or unset it"),
    "mute": ("does not answer", "some library is missing", "correct RS_SEGMENT_PYTHON"),
    "ending": ("Polygons", "x.shp must be a file that ends in .gpkg"),
    "stopped": ("canceled",),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_what_cannot_be_fails_with_a_sentence_and_leaves_nothing(seen: Seen, name: str) -> None:
    if name in seen.runs:
        done = seen.runs[name]
        assert done.code != 0
        assert done.results == {}
        said = done.said
    else:
        said = seen.session[name]["error"]
    assert "Traceback" not in said
    assert any(all(part in line for part in SENTENCES[name]) for line in said.splitlines()), said
    names = ("four", "x", "full", "none", "stopped")
    assert [f for f in files(seen.place / "out") if f.strip(".").split(".")[0] in names] == []


def test_ctrl_c_ends_the_engine_as_well(seen: Seen) -> None:
    assert seen.left == []
    assert seen.seconds < CANCEL_SECONDS


@pytest.mark.parametrize("name", ["rotated", "unplaced", "gaps", "sixteen"])
def test_odd_scenes_are_done_as_the_engine_does_them(seen: Seen, tmp_path: Path, name: str) -> None:
    view = View(rescale=(0, 10000)) if name == "sixteen" else View()
    made = segment(
        seen.scenes / f"{name}.tif",
        tmp_path / "x.tif",
        FakePredictor(CARD),
        view,
        Plan(),
        outputs=Outputs(polygons=False),
    )
    np.testing.assert_array_equal(seen.labels(name), read(made.classes))
    with rasterio.open(made.classes) as expected, rasterio.open(seen.classes(name)) as found:
        assert (found.crs, found.transform) == (expected.crs, expected.transform)


def test_an_extent_on_a_scene_from_nowhere_is_where_qgis_shows_it(seen: Seen) -> None:
    assert "error" not in seen.session["nowhere"], seen.session["nowhere"]
    known = np.zeros((61, 47), np.bool_)
    known[10:30, 5:20] = True
    np.testing.assert_array_equal(seen.labels("nowhere") != NODATA, known)


def test_an_extent_outside_is_refused_with_both_places(seen: Seen) -> None:
    told = seen.session["outside"]["error"]
    assert "the extent (300100, 2799980, 300110, 2799990) does not meet ordinary (300000, 2799969.5" in told
    assert "EPSG:32640" in told


def test_selected_polygons_within_an_extent(seen: Seen) -> None:
    """From 300012 to 300014.5 and from 2799980 to 2799985, in pixels of half a metre."""
    found = seen.session["chosen"]
    assert "error" not in found, found
    known = np.zeros((61, 47), np.bool_)
    known[30:40, 24:29] = True
    labels = read(found["results"]["OUTPUT"])
    np.testing.assert_array_equal(labels != NODATA, known)
    counts = {row[0]: row[2] for row in seen.session["areas"]}
    assert counts == {c.value: int((labels == c.value).sum()) for c in CARD.classes}


def test_a_temporary_layer_has_its_style(seen: Seen) -> None:
    assert seen.session["style"] == [[c.value, c.name, c.color.lower()] for c in CARD.classes]


def test_a_layer_that_is_no_file_needs_an_extent_and_is_cut_along_its_pixels(seen: Seen, tmp_path: Path) -> None:
    assert "inline is no file" in seen.session["refused"]["error"]
    assert "choose an extent" in seen.session["refused"]["error"]
    assert "error" not in seen.session["exported"], seen.session["exported"]
    window = Window(4, 20, 16, 20)
    with rasterio.open(seen.scenes / "ordinary.tif") as source:
        part, here = source.read(window=window), source.window_transform(window)
    scene = make_scene(tmp_path / "part.tif", pixels=part, transform=here)
    made = segment(scene, tmp_path / "x.tif", FakePredictor(CARD), outputs=Outputs(polygons=False))
    np.testing.assert_array_equal(seen.labels("exported"), read(made.classes))
    with rasterio.open(seen.place / "out" / "exported.tif") as found:
        assert found.transform.almost_equals(here)


def test_tiles_that_cannot_be_exported_are_refused(seen: Seen) -> None:
    sentences = {"unsized": "say how large", "vast": "choose a smaller extent", "blank": "does its server answer"}
    for name, part in sentences.items():
        assert part in seen.session[name]["error"]
        assert not seen.classes(name).exists()


def test_polygons_of_some_classes(seen: Seen) -> None:
    results = seen.session["polygonize"]["results"]
    rows = pyogrio.read_dataframe(results["OUTPUT"], layer="polygons")
    assert results["COUNT"] == len(rows) > 0
    assert set(rows["class_id"]) == {1, 2}


def test_the_card_tells_bands_and_classes(seen: Seen) -> None:
    results = seen.session["card"]["results"]
    assert results["BANDS"] == "red, green, blue"
    assert results["CLASS_COUNT"] == len(CARD.classes)
    page = Path(results["OUTPUT"]).read_text(encoding="utf-8")
    assert all(c.name in page and c.color[1:] in page for c in CARD.classes)


RASTERS = {f"{name}_classes.tif" for name in ("rotated", "unplaced", "gaps", "ordinary")}


def test_a_scene_of_a_batch_that_fails_fails_the_batch_after_the_others(seen: Seen) -> None:
    told = seen.session["batch"]["error"]
    assert "1 of 5 scenes failed" in told
    assert "uint16" in told
    assert "“Values to be mapped onto the model's range”" in told
    assert {r.name for r in (seen.place / "out" / "batch").glob("*.tif")} == RASTERS


def test_a_batch_goes_on_and_refuses_as_it_is_told(seen: Seen) -> None:
    results = seen.session["again"]["results"]
    assert (results["DONE"], results["SKIPPED"]) == (0, 4)
    assert {Path(r).name for r in results["CLASSES"]} == RASTERS
    assert all(Path(r).exists() for r in results["CLASSES"])
    assert "holds results already" in seen.session["taken"]["error"]
    assert "there is nothing to do" in seen.session["nothing"]["error"]


def test_the_doctor_tells_what_is_there_and_the_lists_know_it(seen: Seen) -> None:
    results = seen.session["doctor"]["results"]
    assert "fake" in results["MODELS"].split(", ")
    assert "cpu" in results["DEVICES"].split(", ")
    models, devices = seen.session["remembered"]
    assert "fake" in models
    assert {"auto", "cpu"} <= set(devices)


def test_the_log_tells_the_same_as_a_command_line(seen: Seen) -> None:
    log = seen.session["sixteen"]["log"]
    typed = f"rs-segment predict {seen.scenes}/sixteen.tif -o {seen.place}/out/sixteen.tif --model fake"
    assert f"{typed} --rescale 0,10000 --no-polygons --overwrite" in log
    assert "on cpu, 47 x 61 px, 1 tile" in log
