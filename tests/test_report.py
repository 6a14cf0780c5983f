"""What a batch made can be seen as a whole: tables, one layer, a Collection and a page tell the same truth."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sqlite3
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from fakes import ROTATED, SOUTH_UP, FakePredictor, make_card, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.crs import CRS
from stac_schemas import problems
from test_qgis import SCRIPT, environment, python

from rs_segment import Outputs, Plan, segment
from rs_segment.archive.describe import describe
from rs_segment.archive.manifest import Output, Record
from rs_segment.archive.page import MAX_FAILED, page, png
from rs_segment.archive.report import NAMES, conclude
from rs_segment.archive.rows import gather
from rs_segment.archive.source import Source
from rs_segment.archive.vrt import fits_mosaic, mosaic
from rs_segment.card import ClassInfo
from rs_segment.geobox import GeoBox
from rs_segment.styles import palette

__all__ = ["python"]

UGLY = '<script>alert("x")</script> & Söhne'
CLASSES = (
    ClassInfo(0, "Water", "#0000FF"),
    ClassInfo(1, UGLY, "#00FF00"),
    ClassInfo(2, "=SUM(A1)", "#FF0000"),
    ClassInfo(3, "scene", "#FFFF00"),
)
CARD = make_card().replace(classes=CLASSES)
SHAPE = (40, 30)


def at(x: float, y: float, size: float = 10.0) -> Affine:
    return Affine(size, 0, 300_000 + x, 0, -size, 2_800_000 - y)


def make(folder: Path, name: str, when: str | None = None, seconds: float = 1.0, **scene: Any) -> Record:
    """A scene that was done, with its Item."""
    path = make_scene(folder / f"{name}.tif", **{"shape": SHAPE, **scene})
    source = Source(name, str(path), datetime=when)
    outputs = Outputs(polygons=False)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    result = segment(path, out / f"{name}_classes.tif", FakePredictor(CARD, 1), plan=Plan(tile=64), outputs=outputs)
    describe(result, source, CARD)
    files = tuple(Output.of(file) for file in result.files)
    told = result.to_dict() | {"classes": result.classes.name}
    return Record(
        name, "done", source.location, None, CARD.name, seconds=seconds, attempts=1, outputs=files, result=told
    )


def fail(name: str, message: str = "it is broken", source: str = "x.tif") -> Record:
    return Record(name, "failed", source, model=CARD.name, error="SceneError", message=message)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Record, ...]]:
    """Scenes side by side and over one another, one of a coarser grid, two that fit no mosaic, two that failed."""
    folder = tmp_path_factory.mktemp("batch")
    hole = np.ones(SHAPE, np.bool_)
    hole[:20, :20] = False
    records = (
        make(folder, "newer", "2021-05-01T00:00:00Z", 3.0, transform=at(0, 0), mask=hole),
        make(folder, "älter", "2020-05-01T00:00:00Z", transform=at(0, 0), dtype="uint8"),
        make(folder, "beside", transform=at(300, 0)),
        make(folder, "coarse", "2019-05-01T00:00:00Z", transform=at(0, 400, 20)),
        make(folder, "turned", transform=ROTATED),
        make(folder, "south", transform=SOUTH_UP),
        make(folder, "nowhere", crs=None),
        make(folder, "empty", transform=at(5000, 5000), mask=np.zeros(SHAPE, np.bool_)),
        fail("bad", f"{UGLY} =1+1", "=cmd|' /C calc'!A0"),
        fail("worse", "=HYPERLINK()"),
        Record("begun", "begun"),
    )
    conclude(folder / "out", records)
    return folder / "out", records


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "summary.csv").read_text("utf-8-sig"))))


def test_the_files_are_whole_and_the_same_whatever_the_order(batch: tuple[Path, tuple[Record, ...]]) -> None:
    folder, records = batch
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    written = conclude(folder, records[::-1])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert set(NAMES) <= set(before)
    assert {p.name for p in written} == set(NAMES) - {"classes.qml"}
    assert written[-1].name == NAMES[-1] == "index.html"
    assert not [name for name in before if name.startswith(".")]


def test_the_table_has_a_row_for_each_scene_that_is_over(batch: tuple[Path, tuple[Record, ...]]) -> None:
    folder, records = batch
    rows = {row["id"]: row for row in table(folder)}
    assert list(rows) == sorted(r.id for r in records if r.status != "begun")
    for record in records[:8]:
        row = rows[record.id]
        with rasterio.open(folder / row["raster"]) as dataset:
            labels = dataset.read(1)
        assert int(row["Water_pixels"]) == (labels == 0).sum()
        assert int(row["nodata_pixels"]) == (labels == 255).sum()
        known = record.id != "nowhere"
        assert row["Water_m2"] == (str(record.result["areas"][0]["area_m2"]) if known else "")
    assert rows["newer"]["datetime"] == "2021-05-01T00:00:00Z"
    assert rows["beside"]["datetime"] == ""
    assert (rows["bad"]["status"], rows["bad"]["error"], rows["bad"]["Water_m2"]) == ("failed", "SceneError", "")


def test_no_cell_is_a_formula(batch: tuple[Path, tuple[Record, ...]]) -> None:
    folder, _ = batch
    cells = [cell for row in csv.reader(io.StringIO((folder / "summary.csv").read_text("utf-8-sig"))) for cell in row]
    assert "'=cmd|' /C calc'!A0" in cells
    assert "'=SUM(A1)_m2" in cells
    assert not [cell for cell in cells if cell[:1] in "=+-@\t\r" and cell]


def test_footprints_are_a_layer_with_class_areas(batch: tuple[Path, tuple[Record, ...]]) -> None:
    folder, records = batch
    found = geopandas.read_file(folder / "footprints.gpkg", engine="pyogrio").set_index("id")
    assert found.crs.to_epsg() == 4326
    assert sorted(found.index) == ["beside", "coarse", "newer", "south", "turned", "älter"]
    assert all((folder / name).exists() for name in found["location"])
    for record in records[:2]:
        assert found.loc[record.id, "Water_m2"] == record.result["areas"][0]["area_m2"]
    # A class with the name of another column must not take its place.
    assert found.loc["newer", "scene"] == records[0].source
    newer, older = found.geometry["newer"], found.geometry["älter"]
    assert newer.area / older.area == pytest.approx(1 - 400 / 1200, rel=0.02)
    with sqlite3.connect(folder / "footprints.gpkg") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_all_results_are_one_layer_with_the_newest_on_top(batch: tuple[Path, tuple[Record, ...]]) -> None:
    folder, _ = batch

    def labels(name: str) -> Any:
        with rasterio.open(folder / f"{name}_classes.tif") as dataset:
            return dataset.read(1)

    newer, older = labels("newer"), labels("älter")
    with rasterio.open(folder / "classes.vrt") as joined:
        assert (joined.nodata, joined.dtypes, joined.res) == (255, ("uint8",), (10, 10))
        assert joined.crs.to_epsg() == 32640
        assert joined.colormap(1)[2] == (255, 0, 0, 255)
        seen = joined.read(1)
        assert joined.transform == at(0, 0)
    assert np.array_equal(seen[:40, :30], np.where(newer == 255, older, newer))
    assert np.array_equal(seen[:40, 30:60], labels("beside"))
    assert np.array_equal(seen[40:120, :60], np.repeat(np.repeat(labels("coarse"), 2, 0), 2, 1))
    assert (folder / "classes.qml").read_text() == palette(CLASSES)


def test_each_crs_has_a_layer_and_old_ones_go(tmp_path: Path) -> None:
    here, there = make(tmp_path, "here", transform=at(0, 0)), make(tmp_path, "there", crs="EPSG:32641")
    own = make(tmp_path, "own", crs="+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84")
    folder = tmp_path / "out"
    (folder / "classes_of_mine.vrt").write_text("<VRTDataset/>")
    assert {p.name for p in conclude(folder, [here, there, own]) if p.suffix == ".vrt"} == {
        "classes_EPSG-32640.vrt",
        "classes_EPSG-32641.vrt",
        "classes_crs-3.vrt",
    }
    for name in ("EPSG-32640", "EPSG-32641", "crs-3"):
        with rasterio.open(folder / f"classes_{name}.vrt") as joined:
            assert (joined.read(1) != 255).all()
    conclude(folder, [here])
    assert sorted(p.name for p in folder.glob("*.vrt")) == ["classes.vrt", "classes_of_mine.vrt"]
    assert sorted(p.name for p in folder.glob("classes*.qml")) == ["classes.qml"]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 9), st.integers(1, 9)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([Affine.scale(0.5, -0.5), Affine.translation(3e5 + 1 / 3, 7e6) * Affine.scale(0.1, -0.1)]),
)
def test_a_mosaic_on_one_grid_is_exact(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int, int, int]], transform: Affine
) -> None:
    folder = tmp_path_factory.mktemp("mosaic")
    crs, tiles = CRS.from_epsg(32640), []
    left, top = min(p[0] for p in places), min(p[1] for p in places)
    right, bottom = max(p[0] + p[2] for p in places), max(p[1] + p[3] for p in places)
    expected = np.full((bottom - top, right - left), 255, np.uint8)
    for number, (x, y, width, height) in enumerate(places):
        box = GeoBox((height, width), transform * Affine.translation(x, y), crs)
        pixels = np.random.default_rng(number).choice(np.array([0, 3, 255], np.uint8), (1, height, width))
        make_scene(folder / f"{number}.tif", pixels=pixels, transform=box.transform, nodata=255)
        tiles.append((f"{number}.tif", box))
        under = expected[y - top : y - top + height, x - left : x - left + width]
        under[pixels[0] != 255] = pixels[0][pixels[0] != 255]
    (folder / "m.vrt").write_text(mosaic(tiles, CLASSES))
    with rasterio.open(folder / "m.vrt") as joined:
        assert np.array_equal(joined.read(1), expected)
        assert np.allclose(joined.transform, transform * Affine.translation(left, top), rtol=0, atol=1e-6)


def test_a_mosaic_of_what_lies_far_apart_still_opens(tmp_path: Path) -> None:
    crs = CRS.from_epsg(4326)
    tiles = [(f"{x}.tif", GeoBox((9, 9), Affine(1e-8, 0, x, 0, -1e-8, 10), crs)) for x in (-179, 179)]
    (tmp_path / "m.vrt").write_text(mosaic(tiles, CLASSES))
    with rasterio.open(tmp_path / "m.vrt") as joined:
        assert joined.width < 2**31


def test_what_is_not_north_up_in_a_crs_is_in_no_mosaic() -> None:
    crs = CRS.from_epsg(32640)
    assert fits_mosaic(GeoBox(SHAPE, at(0, 0), crs))
    for transform, its_crs in ((ROTATED, crs), (SOUTH_UP, crs), (Affine.scale(-1, -1), crs), (at(0, 0), None)):
        assert not fits_mosaic(GeoBox(SHAPE, transform, its_crs))


def test_the_collection_is_valid_and_links_what_is_there(batch: tuple[Path, tuple[Record, ...]]) -> None:
    folder, _ = batch
    told = json.loads((folder / "collection.json").read_text())
    assert problems(told) == []
    items = [link["href"] for link in told["links"] if link["rel"] == "item"]
    assert len(items) == 8
    for href in (*(a["href"] for a in told["assets"].values()), *(link["href"] for link in told["links"])):
        assert (folder / re.sub("%C3%A4", "ä", href)).exists()
    west, south, east, north = told["extent"]["spatial"]["bbox"][0]
    assert shapely.box(55, 25, 56, 26).covers(shapely.box(west, south, east, north)) or west < 55
    assert told["extent"]["temporal"]["interval"] == [[None, None]]
    assert all(json.loads((folder / re.sub("%C3%A4", "ä", i)).read_text())["collection"] == told["id"] for i in items)


def test_the_collection_lasts_as_long_as_its_items(tmp_path: Path) -> None:
    records = [make(tmp_path, str(year), f"{year}-05-01T00:00:00Z", transform=at(0, 0)) for year in (2020, 2018)]
    conclude(tmp_path / "out", records)
    told = json.loads((tmp_path / "out" / "collection.json").read_text())
    assert told["extent"]["temporal"]["interval"] == [["2018-05-01T00:00:00Z", "2020-05-01T00:00:00Z"]]


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_done_is_told_too(count: int, tmp_path: Path) -> None:
    conclude(tmp_path, [fail(f"s{i}") for i in range(count)])
    assert len(table(tmp_path)) == count
    assert problems(json.loads((tmp_path / "collection.json").read_text())) == []
    assert len(geopandas.read_file(tmp_path / "footprints.gpkg", engine="pyogrio")) == 0
    assert f"0 scenes done{', 3 failed' if count else ''}" in (tmp_path / "index.html").read_text()


def test_a_result_without_its_item_is_told_by_what_the_manifest_knows(tmp_path: Path) -> None:
    record = make(tmp_path, "s", transform=at(0, 0))
    folder = tmp_path / "out"
    for content in (None, b"", b"[]", b"{", b"{}"):
        (folder / "s_classes.json").unlink(missing_ok=True)
        if content is not None:
            (folder / "s_classes.json").write_bytes(content)
        conclude(folder, [record])
        assert int(table(folder)[0]["Water_pixels"]) == record.result["areas"][0]["pixels"]
    (folder / "s_classes.tif").unlink()
    conclude(folder, [record])
    assert "cannot be read" in (folder / "index.html").read_text()


class Page(HTMLParser):
    """What a browser would see: tags that are open, addresses that are followed, text, pictures."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def test_the_page_holds_all_it_shows_and_nothing_that_runs(batch: tuple[Path, tuple[Record, ...]]) -> None:
    folder, _ = batch
    seen = Page((folder / "index.html").read_text())
    assert seen.open == []
    assert not seen.tags & {"script", "iframe", "link", "object", "form"}
    assert all(address.startswith(("./", "data:image/png;base64,")) for address in seen.addresses)
    assert UGLY in seen.text
    assert "8 scenes done, 2 failed" in seen.text
    assert "no data" in seen.text
    assert "it is not in classes.vrt" in seen.text
    assert all((folder / a[2:].replace("%C3%A4", "ä")).exists() for a in seen.addresses if a.startswith("./"))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_thumbnails_are_the_maps(batch: tuple[Path, tuple[Record, ...]]) -> None:
    folder, _ = batch
    data = re.findall(r"Classes of newer.*?base64,([^\"]+)", (folder / "index.html").read_text())
    assert len(data) == 1
    with rasterio.MemoryFile(base64.b64decode(data[0])) as memory, memory.open() as picture:
        shown = picture.read(1)
    with rasterio.open(folder / "newer_classes.tif") as dataset:
        assert np.array_equal(shown, dataset.read(1))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@settings(deadline=None, max_examples=30)
@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_a_picture_has_the_colours_of_its_classes(labels: Any) -> None:
    with rasterio.MemoryFile(png(labels, CLASSES)) as memory, memory.open() as picture:
        assert np.array_equal(picture.read(1), labels)
        colors = picture.colormap(1)
        assert picture.nodata is None
    for value in np.unique(labels):
        known = {c.value: (*c.rgb, 255) for c in CLASSES}
        assert colors[value] == known.get(value, (0, 0, 0, 0))


def test_a_long_list_of_failures_is_cut_and_says_so(tmp_path: Path) -> None:
    rows = gather(tmp_path, [fail(f"s{i:04}") for i in range(MAX_FAILED + 7)])
    text = Page(page(tmp_path, rows, (), ())).text
    assert "s0199" in text
    assert "s0200" not in text
    assert "The other 7 are in" in text


def test_the_slowest_come_first(tmp_path: Path) -> None:
    record = make(tmp_path, "s", transform=at(0, 0))
    records = [replace(record, id=f"s{i}", seconds=float(i)) for i in range(12)]
    text = Page(page(tmp_path, gather(tmp_path, records), CLASSES, ())).text
    slow = text[text.index("Slowest") :]
    assert re.findall(r"s\d+", slow) == [f"s{i}" for i in range(11, 1, -1)]


@pytest.mark.qgis
def test_qgis_shows_all_results_as_one_layer(
    batch: tuple[Path, tuple[Record, ...]], python: Path, tmp_path: Path
) -> None:
    folder, _ = batch
    answer = tmp_path / "answer.json"
    path = str(folder / "classes.vrt")
    subprocess.run([python, "-c", SCRIPT, answer, path], env=environment(tmp_path, python), timeout=120, check=False)
    found = json.loads(answer.read_text())[path]
    assert (found["valid"], found["styled"], found["renderer"]) == (True, True, "paletted")
    assert found["legend"] == [[c.value, c.name, c.color.lower()] for c in CLASSES]
    assert found["nodata"] == [255]
    with rasterio.open(path) as joined:
        labels = joined.read(1)
    alpha = np.array(found["painted"], np.int64) >> 24
    assert np.array_equal(alpha == 0, labels == 255)
