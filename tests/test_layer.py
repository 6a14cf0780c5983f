"""Layers come up in other programs with everything that was put in."""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from rs_segment import layer
from rs_segment.card import ClassInfo
from rs_segment.errors import DiskFullError, OutputError
from rs_segment.geobox import GeoBox
from rs_segment.layer import COLUMNS, GeoPackageWriter, categorised, to_geodataframe
from rs_segment.polygons import PolygonBatch, Polygonizer, polygonize

CLASSES = (
    ClassInfo(0, "Building", "#3C1098"),
    ClassInfo(1, 'Land & "bare" <soil>', "#8429F6"),
    ClassInfo(2, "Straße ☀", "#6EC1E4"),
    ClassInfo(254, "unclassified", "#808080"),
)
UTM = CRS.from_epsg(32640)
RASTER = np.random.default_rng(0).choice(np.array([0, 1, 2, 254, 255], np.uint8), (60, 50))
CONFIDENCE = np.random.default_rng(1).integers(0, 255, RASTER.shape).astype(np.uint8)
GRID = GeoBox(RASTER.shape, Affine(0.5, 0, 400_000, 0, -0.5, 2_790_000), UTM)


def write(path: Path, crs: CRS | None = UTM, name: str = "scene", step: int = 7) -> Path:
    writer = GeoPackageWriter(path, name, crs, CLASSES, "scene.tif")
    polygonizer = Polygonizer(GeoBox(RASTER.shape, GRID.transform, crs), block=500)
    for row in range(0, len(RASTER), step):
        writer.write(polygonizer.feed(RASTER[row : row + step], CONFIDENCE[row : row + step]))
    writer.write(polygonizer.finish())
    return writer.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute(query).fetchall()
    connection.close()
    return found


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "_MANY_POLYGONS", 100)


@pytest.mark.usefixtures("small_batches")
def test_round_trip(tmp_path: Path) -> None:
    found = geopandas.read_file(write(tmp_path / "a.gpkg"), layer="scene")
    expected = to_geodataframe([polygonize(RASTER, GRID, CONFIDENCE)], GRID, CLASSES)
    assert tuple(found.columns) == (*COLUMNS, "geometry")
    assert found.crs.to_epsg() == 32640
    assert len(found) > 300
    for column in ("class_id", "class", "pixels"):
        assert found[column].tolist() == expected[column].tolist()
    assert np.allclose(found["area_m2"], expected["area_m2"])
    assert np.allclose(found["confidence"], expected["confidence"])
    assert shapely.to_wkb(found.geometry.to_numpy()).tolist() == shapely.to_wkb(expected.geometry.to_numpy()).tolist()


@pytest.mark.usefixtures("small_batches")
def test_the_index_finds_every_polygon(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg")
    assert rows(path, "SELECT count(*) FROM rtree_scene_geom") == rows(path, "SELECT count(*) FROM scene")
    assert len(geopandas.read_file(path, layer="scene", bbox=(400_001, 2_789_989, 400_002, 2_789_990))) < 40


@pytest.mark.parametrize("crs", [UTM, None], ids=["utm", "none"])
@pytest.mark.usefixtures("small_batches")
def test_same_map_same_bytes(tmp_path: Path, crs: CRS | None) -> None:
    one, two = (hashlib.sha256(write(tmp_path / f"{i}.gpkg", crs).read_bytes()).digest() for i in range(2))
    assert one == two
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.gpkg", "1.gpkg"]


def test_without_crs_there_is_no_crs_and_no_area(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write(tmp_path / "a.gpkg", crs=None)
    found = geopandas.read_file(path, layer="scene")
    assert found.crs is None
    assert found["area_m2"].isna().all()


def test_the_style_is_in_the_file(tmp_path: Path) -> None:
    name = 'a scene with a "long" name & it\'s 45 letters'
    path = write(tmp_path / "a.gpkg", name=name)
    style = rows(path, "SELECT f_table_name, f_geometry_column, styleName, useAsDefault, styleQML FROM layer_styles")
    assert [s[:4] for s in style] == [(name, "geom", name[:30], 1)]
    contents = rows(path, "SELECT table_name, data_type FROM gpkg_contents ORDER BY data_type")
    assert contents == [("layer_styles", "attributes"), (name, "features")]
    assert rows(path, "SELECT description FROM gpkg_contents WHERE data_type = 'features'") == [("scene.tif",)]
    assert style[0][4] == categorised(CLASSES)


def test_the_style_has_exactly_the_classes() -> None:
    root = ElementTree.fromstring(categorised(CLASSES).split("\n", 1)[1])
    categories = root.findall(".//category")
    assert [(int(c.attrib["value"]), c.attrib["label"]) for c in categories] == [(c.value, c.name) for c in CLASSES]
    symbols = {s.attrib["name"]: s for s in root.findall(".//symbol")}
    for category, info in zip(categories, CLASSES, strict=True):
        option = symbols[category.attrib["symbol"]].find(".//Option[@name='color']")
        assert option is not None
        assert option.attrib["value"] == ",".join(map(str, (*info.rgb, 255)))


def test_no_polygons_make_an_empty_layer(tmp_path: Path) -> None:
    writer = GeoPackageWriter(tmp_path / "a.gpkg", "empty", UTM, CLASSES, "")
    writer.write(polygonize(np.full((3, 3), 255, np.uint8), GeoBox((3, 3), GRID.transform, UTM)))
    path = writer.close()
    found = geopandas.read_file(path, layer="empty")
    assert (len(found), tuple(found.columns), found.crs.to_epsg()) == (0, (*COLUMNS, "geometry"), 32640)
    assert len(rows(path, "SELECT * FROM layer_styles")) == 1
    assert writer.close() == path


def test_starts_afresh_over_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / "a.gpkg").write_bytes(b"half a file")
    (tmp_path / "a.gpkg-journal").write_bytes(b"its journal")
    path = write(tmp_path / "a.gpkg")
    assert path.read_bytes() == write(tmp_path / "b.gpkg").read_bytes()
    assert not (tmp_path / "a.gpkg-journal").exists()


def test_a_label_without_a_class_keeps_its_number() -> None:
    batch = polygonize(np.array([[7, 0]], np.uint8), GeoBox((1, 2), GRID.transform, UTM))
    assert to_geodataframe([batch], GRID, CLASSES)["class"].tolist() == ["class 7", "Building"]
    assert len(to_geodataframe([], GRID)) == 0


@pytest.mark.usefixtures("small_batches")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    pyogrio.set_gdal_config_options({"OGR_SQLITE_PRAGMA": "max_page_count=60"})
    try:
        with pytest.raises(DiskFullError, match=r"is full; make room"):
            write(tmp_path / "a.gpkg")
    finally:
        pyogrio.set_gdal_config_options({"OGR_SQLITE_PRAGMA": None})


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.gpkg cannot be written"):
        GeoPackageWriter(tmp_path / "missing" / "a.gpkg", "x", UTM, CLASSES, "")


def test_a_batch_that_is_empty_costs_nothing(tmp_path: Path) -> None:
    writer = GeoPackageWriter(tmp_path / "a.gpkg", "x", UTM, CLASSES, "")
    for _ in range(1000):
        writer.write(PolygonBatch.join([]))
    assert len(geopandas.read_file(writer.close(), layer="x")) == 0
