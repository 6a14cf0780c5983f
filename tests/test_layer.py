"""Layers come up in other programs with everything that was put in, whatever the format."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sqlite3
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from fakes import ROTATED, SOUTH_UP
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from rs_segment.card import ClassInfo
from rs_segment.errors import DiskFullError, GridError, OptionError, OutputError, OutputExistsError
from rs_segment.geobox import GeoBox
from rs_segment.layer import (
    COLUMNS,
    FORMATS,
    LayerSpec,
    btree,
    categorised,
    geopackage,
    geoparquet,
    layer_files,
    open_layer,
    rtree,
    to_geodataframe,
)
from rs_segment.layer.geojson import Globe
from rs_segment.layer.geopackage import GeoPackageWriter
from rs_segment.layer.wkb import encode
from rs_segment.polygons import PolygonBatch, Polygonizer, polygonize

CLASSES = (
    ClassInfo(0, "Building", "#3C1098"),
    ClassInfo(1, 'Land & "bare" <soil>', "#8429F6"),
    ClassInfo(2, "Straße ☀ 🌲", "#6EC1E4"),
    ClassInfo(254, "unclassified", "#808080"),
)
UTM = CRS.from_epsg(32640)
NORTH = Affine(0.5, 0, 400_000, 0, -0.5, 2_790_000)
RASTER = np.random.default_rng(0).choice(np.array([0, 1, 2, 7, 254, 255], np.uint8), (44, 36))
CONFIDENCE = np.random.default_rng(1).integers(0, 256, RASTER.shape).astype(np.uint8)
RASTER[20:30, 20:30] = 0
RASTER[22:28, 22:28] = 1
GRID = GeoBox(RASTER.shape, NORTH, UTM)
SPEC = LayerSpec("scene", UTM, CLASSES, "Szene 1.tif")
SHORT = {"perim_m": "perimeter_m", "conf_min": "confidence_min"}
OTHERS = [ending for ending in FORMATS if ending != ".gpkg"]


def batches(grid: GeoBox = GRID, step: int = 7) -> list[PolygonBatch]:
    polygonizer = Polygonizer(grid, block=500)
    rows = range(0, len(RASTER), step)
    fed = [polygonizer.feed(RASTER[row : row + step], CONFIDENCE[row : row + step]) for row in rows]
    return [*fed, polygonizer.finish()]


def dissolved(batch: PolygonBatch) -> PolygonBatch:
    """The first polygon alone, all others in one multipolygon."""
    pair = batch.take(np.arange(2))
    return replace(pair, geometry=np.array([batch.geometry[0], shapely.MultiPolygon(batch.geometry[1:].tolist())]))


def write(path: Path, spec: LayerSpec = SPEC, parts: list[PolygonBatch] | None = None, **options: Any) -> Path:
    needs(path.suffix)
    writer = open_layer(path, spec, **options)
    try:
        for part in batches() if parts is None else parts:
            writer.write(part)
        return writer.close()[0]
    finally:
        writer.abandon()


def needs(ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")


def read(path: Path, layer: str | None = None) -> geopandas.GeoDataFrame:
    """A layer as people get it, under the names of columns that the others have."""
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    found = geopandas.read_file(path, layer=layer or ("scene" if path.suffix == ".gpkg" else None))
    return found.rename(columns=SHORT) if path.suffix == ".shp" else found


def several(frame: geopandas.GeoDataFrame) -> Any:
    """The geometries of a layer, each as a multipolygon."""
    return np.array([shapely.MultiPolygon(shapely.get_parts(shape).tolist()) for shape in frame.geometry], object)


def same_rows(found: geopandas.GeoDataFrame, expected: geopandas.GeoDataFrame) -> None:
    """Asserts that the same polygons have the same columns, in whatever order."""
    assert tuple(found.columns) == (*COLUMNS, "geometry")
    assert len(found) == len(expected)
    shapes = [shapely.to_wkb(shapely.normalize(several(frame))) for frame in (found, expected)]
    orders = [np.argsort(shape) for shape in shapes]
    assert (shapes[0][orders[0]] == shapes[1][orders[1]]).all()
    one, two = (frame.iloc[order] for frame, order in zip((found, expected), orders, strict=True))
    for column, kind in COLUMNS.items():
        if kind is float:
            assert np.allclose(one[column].astype(float), two[column], rtol=1e-12, atol=1e-9, equal_nan=True), column
        else:
            assert one[column].where(one[column].notna(), None).tolist() == two[column].tolist(), column


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


GRIDS = {
    "north up": GRID,
    "rotated": GeoBox(RASTER.shape, ROTATED, UTM),
    "south up": GeoBox(RASTER.shape, SOUTH_UP, UTM),
    "no crs": GeoBox(RASTER.shape, NORTH, None),
    "degrees": GeoBox(RASTER.shape, Affine(1e-5, 0, 8.1, 0, -1e-5, 50.2), CRS.from_epsg(4267)),
}
CASES = [
    *((name, "polygons") for name in GRIDS),
    *((name, k) for name in ("rotated", "no crs") for k in ("dissolved", "empty")),
]


@pytest.mark.parametrize("ending", [".gpkg", ".fgb", ".parquet", ".shp"])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_goes_in_comes_out(tmp_path: Path, ending: str, name: str, kind: str) -> None:
    grid = GRIDS[name]
    parts = batches(grid)
    if kind == "dissolved":
        parts = [dissolved(PolygonBatch.join(parts))]
    elif kind == "empty":
        parts = []
    spec = replace(SPEC, crs=grid.crs, dissolved=kind == "dissolved")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write(tmp_path / f"a{ending}", spec, parts)
        found = read(path)
    same_rows(found, to_geodataframe(parts, grid, CLASSES, SPEC.source))
    assert found.crs == (None if grid.crs is None else grid.crs.to_wkt()) or ending == ".shp"
    assert (found.crs is None) == (grid.crs is None)
    if ending != ".shp":
        assert set(found.geom_type) == {"polygons": {"Polygon"}, "dissolved": {"MultiPolygon"}, "empty": set()}[kind]


def test_a_shapefile_knows_its_crs(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.shp")).crs.to_epsg() == 32640
    assert (tmp_path / "a.cpg").read_text() == "UTF-8"


@pytest.fixture(scope="module")
def small_groups() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rtree, "_LEAVES", 3)
        patched.setattr(geoparquet, "ROWS", 150)
        yield


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory: pytest.TempPathFactory, small_groups: None) -> Path:
    folder = tmp_path_factory.mktemp("one")
    for ending in FORMATS:
        if ending != ".parquet" or importlib.util.find_spec("pyarrow"):
            write(folder / f"a{ending}", parts=[PolygonBatch.join(batches())])
    return folder


@settings(deadline=None, max_examples=4)
@given(step=st.integers(1, 30))
def test_the_same_map_gives_the_same_bytes(in_one_go: Path, step: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for ending in {path.suffix for path in in_one_go.iterdir()} & set(FORMATS):
            write(Path(folder) / f"a{ending}", parts=batches(step=step))
        made, expected = ({p.name: p.read_bytes() for p in Path(f).iterdir()} for f in (folder, in_one_go))
        assert made.keys() == expected.keys()
        assert [name for name in made if made[name] != expected[name]] == []


@pytest.mark.parametrize("ending", FORMATS)
def test_the_files_are_those_that_were_announced(tmp_path: Path, ending: str) -> None:
    needs(ending)
    writer = open_layer(tmp_path / f"a{ending}", SPEC)
    for part in batches():
        writer.write(part)
    files = writer.close()
    assert set(files) == set(tmp_path.iterdir()) == set(layer_files(tmp_path / f"a{ending}"))
    assert files[0] == tmp_path / f"a{ending}"
    assert writer.close() == files
    with pytest.raises(OutputError):
        writer.write(PolygonBatch.join(batches()))


@pytest.mark.parametrize("ending", OTHERS)
def test_the_style_lies_beside(tmp_path: Path, ending: str) -> None:
    assert write(tmp_path / f"a{ending}").with_suffix(".qml").read_text() == categorised(CLASSES)


@pytest.mark.parametrize("ending", FORMATS)
def test_starts_afresh_over_what_a_killed_run_left(tmp_path: Path, ending: str) -> None:
    needs(ending)
    for path in layer_files(tmp_path / f"a{ending}"):
        path.write_bytes(b"half a file")
    (tmp_path / f"a{ending}-journal").write_bytes(b"its journal")
    (tmp_path / f"a{ending}.spool.gpkg").write_bytes(b"half a spool")
    path = write(tmp_path / f"a{ending}")
    assert path.read_bytes() == write(tmp_path / f"b{ending}").read_bytes()
    assert ending != ".gpkg" or not (tmp_path / "a.gpkg-journal").exists()


@pytest.mark.parametrize("ending", FORMATS)
def test_a_folder_that_is_not_there_is_told(tmp_path: Path, ending: str) -> None:
    needs(ending)
    with pytest.raises(OutputError, match=rf"a\{ending}.* cannot be written"):
        open_layer(tmp_path / "missing" / f"a{ending}", SPEC)


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_abandoned_is_not_whole(tmp_path: Path, ending: str) -> None:
    needs(ending)
    writer = open_layer(tmp_path / f"a{ending}", SPEC)
    writer.write(batches()[3])
    for _ in range(2):
        writer.abandon()
    with pytest.raises(OutputError):
        writer.close()


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_may_not_grow_is_never_taken_for_whole(tmp_path: Path, ending: str) -> None:
    size = max(path.stat().st_size for path in layer_files(write(tmp_path / f"a{ending}")) if path.exists())
    parts = batches()
    for limit in (0, 1, 1000, size // 3, size // 2, size * 3 // 4, size - 100, size - 1):
        # GDAL does not say why there is no more in a file, and the disk has room.
        expected = OutputError if ending in (".gpkg", ".fgb", ".shp") else DiskFullError
        with pytest.raises(expected), no_file_above(limit):
            write(tmp_path / f"b{ending}", parts=parts)
    enough_to_begin = 150_000 if expected is OutputError else size // 3
    with no_file_above(enough_to_begin), pytest.raises(DiskFullError, match="takes no more data.*make room"):
        write(tmp_path / f"b{ending}", parts=parts)


def test_an_ending_without_a_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"\.gpkg, \.fgb, \.parquet, \.geojson, \.json, \.shp"):
        open_layer(tmp_path / "a.kml", SPEC)
    assert open_layer(tmp_path / "A.GPKG", SPEC).close() == (tmp_path / "A.GPKG",)


def test_multipolygons_need_a_layer_for_them(tmp_path: Path) -> None:
    writer = open_layer(tmp_path / "a.gpkg", SPEC)
    with pytest.raises(OptionError, match="dissolved"):
        writer.write(dissolved(PolygonBatch.join(batches())))
    writer.abandon()


def test_any_whole_number_may_be_a_class(tmp_path: Path) -> None:
    values = np.array([[-(2**62), 70_000, 2**62, 0]])
    batch = replace(polygonize(np.array([[0, 1, 2, 3]], np.uint8), GeoBox((1, 4), NORTH, UTM)), class_id=values[0])
    spec = replace(SPEC, classes=(*CLASSES, ClassInfo(2**62, "far", "#000000")))
    for ending in (".gpkg", ".fgb", ".shp", ".geojson"):
        found = read(write(tmp_path / f"a{ending}", spec, [batch]))
        assert sorted(zip(found["class_id"], found["class"], strict=True)) == [
            (-(2**62), f"class {-(2**62)}"),
            (0, "Building"),
            (70_000, "class 70000"),
            (2**62, "far"),
        ]


def test_a_label_without_a_class_keeps_its_number() -> None:
    batch = polygonize(np.array([[7, 0]], np.uint8), GeoBox((1, 2), NORTH, UTM))
    found = to_geodataframe([batch], GRID, CLASSES, "a.tif")
    assert found["class"].tolist() == ["class 7", "Building"]
    assert found["color"].isna().tolist() == [True, False]
    assert found["color"][1] == "#3c1098"
    assert found["source"].tolist() == ["a.tif", "a.tif"]
    assert len(to_geodataframe([], GRID)) == 0


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(1, 25), st.integers(1, 25)), prefix=st.integers(0, 50)
)
def test_wkb_is_that_of_geos(seed: int, shape: tuple[int, int], prefix: int) -> None:
    rng = np.random.default_rng(seed)
    grid = GeoBox(shape, ROTATED, UTM)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), shape, p=[0.6, 0.3, 0.1])
    geometry = polygonize(labels, grid).geometry
    before = rng.integers(0, 256, (len(geometry), prefix)).astype(np.uint8)
    expected = shapely.to_wkb(geometry, byte_order=1).tolist()
    assert [bytes(one) for one in encode(geometry)] == expected
    assert [bytes(one) for one in encode(geometry, before)] == [
        head.tobytes() + one for head, one in zip(before, expected, strict=True)
    ]
    if len(geometry) > 1:
        several = np.array([geometry[0], shapely.MultiPolygon(geometry.tolist())])
        assert [bytes(one) for one in encode(several)] == shapely.to_wkb(several, byte_order=1).tolist()


def has_rtree() -> bool:
    with closing(sqlite3.connect(":memory:")) as database:
        return ("ENABLE_RTREE",) in database.execute("PRAGMA compile_options").fetchall()


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.one_of(st.integers(0, 120), st.integers(2500, 3000)),
    leaves=st.integers(1, 5),
    at=st.sampled_from([0.0, 5e5, 1e7]),
)
def test_the_index_is_a_tree_that_finds_all_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, leaves: int, at: float
) -> None:
    if not has_rtree():
        pytest.skip("this SQLite knows no R*trees")
    rng = np.random.default_rng(seed)
    low = at + rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([low, low + rng.exponential(3, (count, 2))], axis=1)
    path = tmp_path_factory.mktemp("index") / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database, pytest.MonkeyPatch.context() as patched:
        patched.setattr(rtree, "_LEAVES", leaves)
        database.execute('CREATE VIRTUAL TABLE "a ""b""" USING rtree(id, minx, maxx, miny, maxy)')
        pages = btree.Pages(path)
        writer, start = rtree.RTreeWriter(database, pages, 'a "b"'), 0
        while start < count:
            stop = min(start + writer.room, start + int(rng.integers(1, 400)), count)
            writer.add(np.arange(start, stop), boxes[start:stop])
            start = stop
        writer.finish()
        pages.close()
        assert database.execute("""SELECT rtreecheck('a "b"')""").fetchall() == [("ok",)]
        kept = np.array(database.execute('SELECT * FROM "a ""b""" ORDER BY id').fetchall()).reshape(-1, 5)
        assert kept[:, 0].tolist() == list(range(count))
        slack = max(at, 100) * 2.0**-23
        assert (kept[:, [1, 3]] <= boxes[:, :2]).all()
        assert (kept[:, [2, 4]] >= boxes[:, 2:]).all()
        assert np.abs(kept[:, [1, 3, 2, 4]] - boxes).max(initial=0) <= slack
        x, y = at + rng.uniform(0, 100, 2)
        query = 'SELECT id FROM "a ""b""" WHERE minx <= ? AND maxx >= ? AND miny <= ? AND maxy >= ? ORDER BY id'
        hit = (kept[:, 1] <= x + 5) & (kept[:, 2] >= x) & (kept[:, 3] <= y + 5) & (kept[:, 4] >= y)
        assert [row[0] for row in database.execute(query, (x + 5, x, y + 5, y))] == np.flatnonzero(hit).tolist()


@pytest.mark.parametrize("name", ["scene", 'a "b" it\'s [c] ; -- ü 🌲', "Größe.tif_1"])
def test_geopackage_has_an_index_a_count_a_place_and_a_style(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.gpkg", replace(SPEC, name=name))
    every = PolygonBatch.join(batches())
    assert pyogrio.read_info(path, layer=name)["features"] == len(every)
    assert rows(path, "SELECT feature_count FROM gpkg_ogr_contents WHERE feature_count > 0") == [(len(every),)]
    found = rows(path, "SELECT table_name, data_type, description, min_x, min_y, max_x, max_y FROM gpkg_contents")
    assert found[0] == (name, "features", SPEC.source, *shapely.total_bounds(every.geometry).tolist())
    assert found[1][:2] == ("layer_styles", "attributes")
    box = (400_001, 2_789_989, 400_003, 2_789_991)
    assert len(geopandas.read_file(path, layer=name, bbox=box)) == np.count_nonzero(
        shapely.intersects(every.geometry, shapely.box(*box))
    )
    style = rows(path, "SELECT f_table_name, f_geometry_column, styleName, useAsDefault, styleQML FROM layer_styles")
    assert style == [(name, "geom", name[:30], 1, categorised(CLASSES))]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "PRAGMA foreign_key_check") == []


def test_geopackage_says_what_to_do_about_a_polygon_that_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geopackage, "_MOST_BYTES", 300)
    with pytest.raises(OutputError, match=r"polygon of class 0 .* --split"):
        write(tmp_path / "a.gpkg", parts=[polygonize(RASTER, GRID)])


def test_geopackage_can_be_edited_afterwards(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg")
    far = shapely.box(500_000, 2_800_000, 500_001, 2_800_001)
    extra = to_geodataframe([batches()[3]], GRID, CLASSES).iloc[:1].set_geometry([far])
    before = len(read(path))
    pyogrio.write_dataframe(extra, path, layer="scene", append=True)
    assert len(read(path)) == before + 1
    assert len(geopandas.read_file(path, layer="scene", bbox=far.bounds)) == 1
    assert rows(path, "SELECT feature_count FROM gpkg_ogr_contents WHERE table_name = 'scene'") == [(before + 1,)]


def test_a_layer_is_added_and_the_others_stay(tmp_path: Path) -> None:
    first = write(tmp_path / "a.gpkg", replace(SPEC, name="one"))
    before = sha(first)
    second = write(tmp_path / "b.gpkg", replace(SPEC, name="two", crs=None, classes=CLASSES[:1]), into=first)
    assert sha(first) == before
    assert pyogrio.list_layers(second)[:, 0].tolist() == ["one", "two", "layer_styles"]
    whole = to_geodataframe(batches(), GRID, CLASSES, SPEC.source)
    same_rows(read(second, "one"), whole)
    bare = to_geodataframe(batches(), replace(GRID, crs=None), CLASSES[:1], SPEC.source)
    same_rows(read(second, "two"), bare)
    assert read(second, "one").crs.to_epsg() == 32640
    assert read(second, "two").crs is None
    told = rows(second, "SELECT f_table_name, styleQML, useAsDefault FROM layer_styles ORDER BY id")
    assert told == [("one", categorised(CLASSES), 1), ("two", categorised(CLASSES[:1]), 1)]
    with pytest.raises(OutputExistsError, match="already has a layer 'ONE'"):
        write(tmp_path / "c.gpkg", replace(SPEC, name="ONE"), into=first)

    third = write(tmp_path / "c.gpkg", replace(SPEC, name="one", classes=()), batches()[:3], into=second, replace=True)
    assert sorted(pyogrio.list_layers(third)[:, 0]) == ["layer_styles", "one", "two"]
    same_rows(read(third, "one"), to_geodataframe(batches()[:3], GRID, (), SPEC.source))
    same_rows(read(third, "two"), bare)
    told = rows(third, "SELECT f_table_name, styleQML FROM layer_styles ORDER BY f_table_name")
    assert told == [("one", categorised(())), ("two", categorised(CLASSES[:1]))]
    assert rows(third, "PRAGMA integrity_check") == [("ok",)]
    assert rows(third, "SELECT count(*) FROM rtree_one_geom_rowid") == [(len(read(third, "one")),)]


@pytest.mark.parametrize("vacuum", ["NONE", "FULL", "INCREMENTAL"])
def test_a_layer_that_is_replaced_leaves_nothing_behind(tmp_path: Path, vacuum: str) -> None:
    path = write(tmp_path / "0.gpkg")
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA auto_vacuum = {vacuum}")
        database.execute("VACUUM")
    sizes = []
    for turn in range(1, 4):
        path = write(tmp_path / f"{turn}.gpkg", into=path, replace=True)
        sizes.append(path.stat().st_size)
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        assert rows(path, "PRAGMA freelist_count") == [(0,)]
    assert len(set(sizes)) == 1
    same_rows(read(path), to_geodataframe(batches(), GRID, CLASSES, SPEC.source))


def test_a_layer_is_added_to_what_others_made(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.gpkg"
    frame = geopandas.GeoDataFrame({"a": ["x"]}, geometry=[shapely.Point(1, 2)], crs=4326)
    pyogrio.write_dataframe(frame, foreign, layer="points", dataset_options={"ADD_GPKG_OGR_CONTENTS": "NO"})
    with closing(sqlite3.connect(foreign)) as writing:
        # Its last change is still in the journal of another program.
        writing.execute("PRAGMA journal_mode = WAL")
        writing.execute("UPDATE gpkg_contents SET description = 'y'")
        writing.commit()
        added = write(tmp_path / "b.gpkg", into=foreign)
    assert read(added, "points")["a"].tolist() == ["x"]
    assert rows(added, "SELECT description FROM gpkg_contents WHERE table_name = 'points'") == [("y",)]
    same_rows(read(added), to_geodataframe(batches(), GRID, CLASSES, SPEC.source))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("b")) == ["b.gpkg"]


def test_a_layer_cannot_be_added_everywhere(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg")
    with pytest.raises(OptionError, match="in place"):
        GeoPackageWriter(path, replace(SPEC, name="b"), into=path)
    with pytest.raises(OptionError, match="FlatGeobuf holds one layer"):
        open_layer(tmp_path / "a.fgb", SPEC, into=path)
    with pytest.raises(OutputError, match="is not there"):
        open_layer(tmp_path / "b.gpkg", SPEC, into=tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("nothing")
    with pytest.raises(OutputError, match="cannot be read"):
        open_layer(tmp_path / "b.gpkg", SPEC, into=tmp_path / "text.gpkg")
    assert len(read(path)) == len(PolygonBatch.join(batches()))


def test_the_style_has_exactly_the_classes() -> None:
    root = ElementTree.fromstring(categorised(CLASSES).split("\n", 1)[1])
    categories = root.findall(".//category")
    assert [(int(c.attrib["value"]), c.attrib["label"]) for c in categories] == [(c.value, c.name) for c in CLASSES]
    symbols = {s.attrib["name"]: s for s in root.findall(".//symbol")}
    for category, info in zip(categories, CLASSES, strict=True):
        option = symbols[category.attrib["symbol"]].find(".//Option[@name='color']")
        assert option is not None
        assert option.attrib["value"] == ",".join(map(str, (*info.rgb, 255)))


def test_names_and_texts_of_a_shapefile_fit(tmp_path: Path) -> None:
    classes = (ClassInfo(0, "🌲" * 100, "#000000"),)
    path = write(tmp_path / "a.shp", replace(SPEC, classes=classes))
    names = pyogrio.read_info(path)["fields"].tolist()
    assert [SHORT.get(name, name) for name in names] == list(COLUMNS)
    assert max(map(len, names)) <= 10
    assert set(read(path)["class"]) >= {"🌲" * (254 // 4), "class 1"}
    assert all(name in FORMATS[".shp"].note for name in SHORT)


@pytest.mark.parametrize("name", ["north up", "rotated", "degrees"])
def test_geojson_is_what_the_standard_says(tmp_path: Path, name: str) -> None:
    grid = GRIDS[name]
    path = write(tmp_path / "a.geojson", replace(SPEC, crs=grid.crs), batches(grid))
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["type"] == "FeatureCollection"
    assert "crs" not in told
    expected = to_geodataframe(batches(grid), grid, CLASSES, SPEC.source)
    assert [list(f["properties"]) for f in told["features"]] == [list(COLUMNS)] * len(expected)
    geometry = np.array([shapely.geometry.shape(f["geometry"]) for f in told["features"]])
    degrees = expected.to_crs("OGC:CRS84").geometry.to_numpy()
    assert shapely.is_ccw(shapely.get_exterior_ring(geometry)).all()
    rings = shapely.get_rings(geometry[shapely.get_num_interior_rings(geometry) > 0])
    assert 0 < np.count_nonzero(~shapely.is_ccw(rings)) < len(rings)
    assert np.abs(shapely.get_coordinates(geometry) - shapely.get_coordinates(degrees)).max() <= 0.51e-7
    found = read(path)
    assert found.crs.to_epsg() == 4326
    same_rows(found.set_geometry(expected.geometry.to_numpy()), expected)


def test_geojson_needs_a_place_on_earth(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"Szene 1\.tif has no CRS, .* choose \.gpkg"):
        open_layer(tmp_path / "a.geojson", replace(SPEC, crs=None))
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(OptionError, match="no way leads"):
        open_layer(tmp_path / "a.json", replace(SPEC, crs=local))
    assert not list(tmp_path.iterdir())
    writer = open_layer(tmp_path / "a.json", replace(SPEC, crs=CRS.from_epsg(3857)))
    for place in (1e300, 1e10):
        with pytest.raises(GridError, match="no longitude"):
            writer.write(polygonize(np.zeros((2, 2), np.uint8), GeoBox((2, 2), Affine(1, 0, place, 0, -1, 0), None)))
    writer.abandon()
    with pytest.raises(GridError, match="no longitude"):
        moved(4326, shapely.box(0, 0, 5000, 4000))
    assert moved(4326, shapely.box(0, 89, 1, 90.25))[0].bounds == (0, 89, 1, 90)


def moved(crs: int, *shapes: shapely.Geometry) -> list[shapely.Geometry]:
    return list(Globe(CRS.from_epsg(crs).to_wkt()).draw(np.array(shapes, object)))


def wraps(longitude: float) -> float:
    return (longitude + 180) % 360 - 180


def test_geojson_is_cut_where_days_meet() -> None:
    # The strip of UTM zone 60 goes on beyond 180 degrees east of easting 833 978 on the equator.
    whole = shapely.box(800_000, 0, 900_000, 10_000) - shapely.box(829_000, 4_000, 839_000, 6_000)
    far = shapely.box(900_020, 0, 900_030, 10)
    cut, east = moved(32660, whole, far)
    assert cut.geom_type == "MultiPolygon"
    assert cut.is_valid
    assert sorted(-1 if part.bounds[0] < 0 else 1 for part in cut.geoms) == [-1, 1]
    assert (cut.bounds[0], cut.bounds[2]) == (-180, 180)
    assert all(part.bounds[2] - part.bounds[0] < 1 for part in cut.geoms)
    assert east.geom_type == "Polygon"
    assert east.bounds[2] < -179
    one = moved(32660, shapely.box(600_000, 0, 700_000, 10_000))[0]
    assert cut.area == pytest.approx(one.area * whole.area / 1e9, rel=0.01)
    multi = moved(32660, shapely.MultiPolygon([whole, far]))[0]
    assert multi.equals(shapely.union_all([cut, east]))


def test_geojson_of_longitudes_beyond_180_comes_back_to_earth() -> None:
    cut, beyond, wide = moved(4326, shapely.box(170, 0, 190, 1), shapely.box(200, 0, 201, 1), shapely.box(0, 5, 360, 6))
    assert cut.equals(shapely.MultiPolygon([shapely.box(170, 0, 180, 1), shapely.box(-180, 0, -170, 1)]))
    assert beyond.equals(shapely.box(-160, 0, -159, 1))
    assert wide.equals(shapely.box(-180, 5, 180, 6))


@pytest.mark.parametrize(("crs", "half"), [(4326, 180), (3857, 20_037_508.342789244), (6933, 17_367_530.445161372)])
def test_geojson_of_the_whole_world_is_not_folded(crs: int, half: float) -> None:
    world = moved(crs, shapely.box(-half, -half / 3, half, half / 3))[0]
    assert world.geom_type == "Polygon"
    assert world.bounds[0] == -180
    assert world.bounds[2] == 180


def test_geojson_around_a_pole_is_refused() -> None:
    with pytest.raises(GridError, match="around a pole"):
        moved(3413, shapely.box(-1e6, -1e6, 1e6, 1e6))
    ring = shapely.box(-2e6, -2e6, 2e6, 2e6) - shapely.box(-1e6, -1e6, 1e6, 1e6)
    with pytest.raises(GridError, match="around a pole"):
        moved(3413, ring)


def test_geojson_exteriors_run_counter_clockwise_where_axes_are_mirrored() -> None:
    # Hartebeesthoek94 / Lo29 counts to the west and to the south.
    found = moved(2053, shapely.box(-20_000, 2_800_000, -10_000, 2_810_000))[0]
    assert found.exterior.is_ccw
    assert -26 < found.bounds[1] < found.bounds[3] < -25


def parquet(path: Path) -> Any:
    return pytest.importorskip("pyarrow.parquet").ParquetFile(path)


@pytest.mark.parametrize("crs", [UTM, None], ids=["utm", "none"])
@pytest.mark.parametrize("several", [True, False], ids=["dissolved", "polygons"])
def test_geoparquet_is_what_the_standard_says(tmp_path: Path, crs: CRS | None, several: bool) -> None:
    needs(".parquet")
    every = PolygonBatch.join(batches(replace(GRID, crs=crs)))
    parts = [dissolved(every)] if several else [every]
    path = write(tmp_path / "a.parquet", replace(SPEC, crs=crs, dissolved=several), parts)
    file = parquet(path)
    told = json.loads(file.metadata.metadata[b"geo"])
    assert set(told) == {"version", "primary_column", "columns"}
    assert (told["version"], told["primary_column"], list(told["columns"])) == ("1.1.0", "geometry", ["geometry"])
    column = told["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == (["MultiPolygon"] if several else ["Polygon"])
    assert column["orientation"] == "counterclockwise"
    assert column["bbox"] == shapely.total_bounds(every.geometry).tolist()
    assert column["covering"] == {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}}
    assert (column["crs"] is None) == (crs is None)
    assert crs is None or column["crs"]["id"] == {"authority": "EPSG", "code": 32640}
    table = file.read()
    boxes = np.array([list(box.values()) for box in table["bbox"].to_pylist()])
    geometry = shapely.from_wkb(np.array(table["geometry"].to_pylist(), object))
    assert np.array_equal(boxes, shapely.bounds(geometry))
    assert shapely.is_ccw(shapely.get_exterior_ring(shapely.get_parts(geometry))).all()
    assert str(file.schema_arrow.field("class_id").type) == "int64"
    assert table["confidence"].null_count == np.isnan(parts[0].confidence).sum() > 0 or several


def test_geoparquet_is_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs(".parquet")
    monkeypatch.setattr(geoparquet, "ROWS", 100)
    path = write(tmp_path / "a.parquet")
    every = PolygonBatch.join(batches())
    assert parquet(path).metadata.num_row_groups == -(-len(every) // 100) > 3
    box = shapely.box(400_001, 2_789_989, 400_003, 2_789_991)
    found = geopandas.read_parquet(path, bbox=box.bounds)
    assert len(found) == np.count_nonzero(shapely.intersects(shapely.envelope(every.geometry), box)) > 0


def test_geoparquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OptionError, match=r"pip install rs-segment\[parquet\]"):
        open_layer(tmp_path / "a.parquet", SPEC)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", FORMATS)
def test_batches_that_are_empty_cost_nothing(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"a{ending}", parts=[PolygonBatch.join([])] * 1000)
    counted: Callable[[Path], int] = lambda path: len(read(path, "scene" if ending == ".gpkg" else None))  # noqa: E731
    assert counted(tmp_path / f"a{ending}") == 0
