"""How much of each class lies in each zone: nothing twice, nothing lost, whatever the zones, the grid and the bands."""

from __future__ import annotations

import csv
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from fakes import NORTH_UP, ROTATED, SOUTH_UP, StopAfter, make_pixels, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.windows import Window

from rs_segment import ClassInfo, ClassMap, GeoBox, Pick, Zonal, classmap, zonal, zonetable
from rs_segment.errors import (
    AreaError,
    BandError,
    CancelledError,
    DatasetError,
    OptionError,
    OutputError,
    OutputExistsError,
)
from rs_segment.spans import Edges
from rs_segment.styles import pam
from rs_segment_cli import main

SHAPE = (29, 37)
UTM = "EPSG:32640"
GRIDS = {"north-up": NORTH_UP, "south-up": SOUTH_UP, "rotated": ROTATED, "pixels": Affine.identity()}
PLACES = st.tuples(st.integers(-6, 2 * SHAPE[1] + 6), st.integers(-6, 2 * SHAPE[0] + 6))
ANYWHERE = st.tuples(*(st.integers(-8000, 997 * (side + 8)).map(lambda v: v / 997) for side in SHAPE[::-1]))


def labels_of(seed: int = 0, classes: int = 5) -> NDArray[np.uint8]:
    """Blobs with noise, 0 to ``classes`` - 1; the last one is to be nodata."""
    return (make_pixels(SHAPE, 1, seed=seed)[0].astype(int) * classes // 256).astype(np.uint8)


def make_map(
    path: Path, labels: NDArray[Any], transform: Affine = NORTH_UP, crs: str | None = UTM, **more: Any
) -> Path:
    nodata = more.pop("nodata", int(labels.max()))
    return make_scene(path, pixels=labels[None], transform=transform, crs=crs, nodata=nodata, **more)


def make_zones(
    path: Path,
    shapes: Sequence[shapely.Geometry],
    transform: Affine = NORTH_UP,
    crs: str | None = UTM,
    to: str | None = None,
    **columns: Any,
) -> Path:
    """A layer of shapes that are given in pixels of a grid; ``to`` is another CRS that they are moved to."""
    placed = [shapely.transform(s, lambda xy: np.column_stack(transform * tuple(xy.T))) for s in shapes]
    frame = geopandas.GeoDataFrame(columns, geometry=placed, crs=crs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        (frame if to is None else frame.to_crs(to)).to_file(path, layer="zones", engine="pyogrio")
    return path


def pixels_of(found: Zonal) -> dict[str, dict[int, int]]:
    """Pixels of each class that is there, by zone; nodata as -1."""
    table = found.table
    values = [*(c.value for c in table.classes), -1]
    counts = np.column_stack([table.pixels, table.nodata])
    return {
        zone: {v: int(n) for v, n in zip(values, row, strict=True) if n}
        for zone, row in zip(table.zones, counts, strict=True)
    }


def counted(labels: NDArray[Any], where: NDArray[np.bool_], nodata: int) -> dict[int, int]:
    values, counts = np.unique(labels[where], return_counts=True)
    return {-1 if v == nodata else int(v): int(n) for v, n in zip(values, counts, strict=True)}


def burnt(edges: Edges, owner: int, window: Window) -> NDArray[np.bool_]:
    found = np.zeros(window.height * window.width, bool)
    for part in edges.spans(window).chunks(50):
        chosen = type(part)(*(a[part.owner == owner] for a in (part.owner, part.row, part.start, part.stop)))
        found[chosen.places(window)] = True
    return found.reshape(window.height, window.width)


@settings(deadline=None, max_examples=60)
@given(st.lists(PLACES, max_size=12, unique=True), st.integers(1, 9))
def test_a_partition_holds_each_pixel_once_also_where_edges_run_through_centres(
    corners: list[tuple[int, int]], rows: int
) -> None:
    height, width = SHAPE
    around = [(-4.5, -4.5), (width + 4.5, -4.5), (width + 4.5, height + 4.5), (-4.5, height + 4.5)]
    points = [(x / 2, y / 2) for x, y in corners if -9 < x < 2 * width + 9 and -9 < y < 2 * height + 9]
    parts = shapely.get_parts(shapely.delaunay_triangles(shapely.multipoints([*around, *points])))
    # Each second one is turned round: which way a ring runs must not matter.
    turned = np.array([p.reverse() if i % 2 else p for i, p in enumerate(parts)], object)
    edges, times = Edges.of(turned), np.zeros(SHAPE, int)
    for top in range(0, height, rows):
        window = Window(0, top, width, min(rows, height - top))
        for part in edges.spans(window).chunks(20):
            np.add.at(times[top : top + rows].reshape(-1), part.places(window), 1)
    assert (times == 1).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(ANYWHERE, min_size=3, max_size=6), min_size=1, max_size=4), ANYWHERE)
def test_a_polygon_holds_the_pixels_that_gdal_burns(rings: list[list[Any]], hole: tuple[float, float]) -> None:
    cut = shapely.Point(hole[0] + 0.0123, hole[1] + 0.0321).buffer(5)
    shapes = [shapely.make_valid(shapely.Polygon(r), method="structure", keep_collapsed=False) for r in rings]
    shapes = [s for s in (shapely.difference(shape, cut) for shape in shapes) if s.area > 0]
    edges = Edges.of(np.array(shapes, object))
    grid = np.meshgrid(np.arange(SHAPE[1]) + 0.5, np.arange(SHAPE[0]) + 0.5)
    for i, shape in enumerate(shapes):
        # Where a centre lies on an edge GDAL's answer depends on the direction of the ring.
        clear = shapely.distance(shape.boundary, shapely.points(*grid)) > 1e-9
        whole = burnt(edges, i, Window(0, 0, SHAPE[1], SHAPE[0]))
        assert (whole == rasterize([shape], SHAPE, dtype="uint8").astype(bool))[clear].all()
        part = Window(7, 5, 11, 13)
        assert (burnt(edges, i, part) == whole[5:18, 7:18]).all()


@pytest.mark.parametrize(
    ("grid", "to"), [*((grid, None) for grid in GRIDS), *((grid, "EPSG:4326") for grid in GRIDS if grid != "pixels")]
)
def test_zones_that_part_the_raster_add_up_to_it(tmp_path: Path, grid: str, to: str | None) -> None:
    georeferenced = grid != "pixels"
    transform, crs, labels = GRIDS[grid], UTM if georeferenced else None, labels_of()
    source = make_map(tmp_path / "map.tif", labels, transform, crs)
    rng, height, width = np.random.default_rng(1), *SHAPE
    around = [(-3, -3), (width + 3, -3), (width + 3, height + 3), (-3, height + 3)]
    points = [*around, *(rng.random((40, 2)) * (width, height)).tolist()]
    parts = shapely.get_parts(shapely.delaunay_triangles(shapely.multipoints(points)))
    zones = make_zones(tmp_path / "zones.gpkg", parts, transform, crs, to, group=[i % 7 for i in range(len(parts))])
    found = zonal(source, zones)
    with ClassMap.open(source) as opened:
        whole = opened.survey()
    table = found.table
    assert {c.value: int(n) for c, n in zip(table.classes, table.pixels.sum(axis=0), strict=True)} == whole
    assert table.nodata.sum() == (labels == labels.max()).sum()
    if georeferenced:
        assert np.allclose(table.square_metres, table.pixels * 0.25)
    else:
        assert np.isnan(table.square_metres).all()
    merged = zonal(source, zones, "group").table
    assert merged.zones == tuple("0123456")
    for i, zone in enumerate(merged.zones):
        assert (merged.pixels[i] == table.pixels[int(zone) :: 7].sum(axis=0)).all()
    assert np.allclose(merged.shares.sum(axis=1), 1)


@pytest.mark.parametrize("grid", ["north-up", "south-up", "rotated"])
def test_areas_in_degrees_are_those_on_the_ellipsoid(tmp_path: Path, grid: str) -> None:
    turn = {"north-up": Affine.scale(1, -1), "south-up": Affine.identity(), "rotated": Affine.rotation(20)}[grid]
    transform, labels = Affine.translation(10, 60) * turn * Affine.scale(0.3, 0.3), labels_of()
    source = make_map(tmp_path / "map.tif", labels, transform, "EPSG:4326")
    zones = make_zones(
        tmp_path / "z.gpkg", [shapely.box(3, 2, 20, 25), shapely.box(-9, -9, 9, 9)], transform, "EPSG:4326"
    )
    table = zonal(source, zones).table
    row_areas = GeoBox(SHAPE, transform, CRS.from_epsg(4326)).row_areas(range(SHAPE[0]))
    assert row_areas is not None
    for i, where in enumerate((np.s_[2:25, 3:20], np.s_[0:9, 0:9])):
        here, areas = labels[where], np.broadcast_to(row_areas[:, None], SHAPE)[where]
        for j, info in enumerate(table.classes):
            assert table.square_metres[i, j] == pytest.approx(areas[here == info.value].sum(), rel=1e-12)


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_how_many_rows_are_read_at_a_time_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crs: str
) -> None:
    transform = NORTH_UP if crs == UTM else Affine(0.5, 0, 10, 0, -0.5, 50)
    source = make_map(tmp_path / "map.tif", labels_of(), transform, crs, blockysize=1)
    shapes = [shapely.Point(14.1, 13.2).buffer(r) for r in (0.3, 4, 11, 60)]
    zones = make_zones(tmp_path / "zones.gpkg", shapes, transform, crs)
    whole = zonal(source, zones).table
    for rows in (1, 3, 8):
        monkeypatch.setattr(classmap, "BAND_PIXELS", rows * SHAPE[1])
        table = zonal(source, zones).table
        assert (table.pixels == whole.pixels).all()
        assert (table.nodata == whole.nodata).all()
        assert np.allclose(table.square_metres, whole.square_metres, rtol=1e-12)


def test_zones_that_overlap_are_each_what_they_are_alone(tmp_path: Path) -> None:
    labels = labels_of()
    source = make_map(tmp_path / "map.tif", labels)
    shapes = [shapely.Point(5 * i + 0.1, 20.3).buffer(3.3 * i + 2) for i in range(6)]
    together = pixels_of(zonal(source, make_zones(tmp_path / "all.gpkg", shapes)))
    assert len(together) == 6
    for i, shape in enumerate(shapes):
        alone = pixels_of(zonal(source, make_zones(tmp_path / f"{i}.gpkg", [shape])))
        assert together[str(i + 1)] == alone["1"]
        assert alone["1"] == counted(labels, rasterize([shape], SHAPE, dtype="uint8").astype(bool), int(labels.max()))


@pytest.mark.parametrize("kind", ["int8", "uint16", "int32", "int64", "float32"])
def test_classes_are_whole_numbers_of_any_type(tmp_path: Path, kind: str) -> None:
    values = np.array([-7, 3, 100, 5, 11] if kind != "uint16" else [60000, 3, 100, 5, 11])
    if kind in ("int32", "int64"):
        values[1] = 2_000_000_000
    labels = values[labels_of()].astype(kind)
    source = make_map(tmp_path / "map.tif", labels, nodata=11)
    zones = make_zones(tmp_path / "zones.gpkg", [shapely.box(2, 3, 30, 20), shapely.box(20, 10, 33, 28)])
    found = pixels_of(zonal(source, zones))
    assert found["1"] == counted(labels.astype(int)[3:20, 2:30], np.ones((17, 28), bool), 11)
    assert found["2"] == counted(labels.astype(int)[10:28, 20:33], np.ones((18, 13), bool), 11)


@pytest.fixture
def plain(tmp_path: Path) -> tuple[Path, Path]:
    """A map with names, and zones of all kinds."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 10:20] = 1
    labels[5:9, :] = 2
    labels[20:] = 255
    source = make_map(tmp_path / "map.tif", labels)
    classes = [
        ClassInfo(0, "Bare soil", "#AA8855"),
        ClassInfo(1, "bare-soil", "#00FF00"),
        ClassInfo(2, "水", "#0000FF"),
    ]
    source.with_name("map.tif.aux.xml").write_text(pam(classes), encoding="utf-8")
    shapes = [
        shapely.box(0, 0, 10, 5),
        shapely.MultiPolygon([shapely.box(10, 0, 12, 2), shapely.box(30, 6, 31, 7)]),
        shapely.box(500, 500, 510, 505),
        shapely.box(8, 0, 11, 3),
        shapely.box(2, 22, 5, 25),
        shapely.box(3.1, 3.1, 3.2, 3.2),
    ]
    names = ["north", "south", "far, away", "north", None, "tiny"]
    return source, make_zones(tmp_path / "zones.gpkg", shapes, name=names, number=[1.5, 2, 2, 2, 2, 2])


def test_zones_of_one_name_are_one_and_those_outside_have_zeros(plain: tuple[Path, Path]) -> None:
    found = zonal(*plain, "name")
    assert pixels_of(found) == {
        "north": {0: 50 + 3 * 2 - 3 * 2, 1: 3},
        "south": {1: 4, 2: 1},
        "far, away": {},
        "": {-1: 9},
        "tiny": {},
    }
    assert [c.name for c in found.table.classes] == ["Bare soil", "bare-soil", "水"]
    assert found.table.shares[0].tolist() == [50 / 53, 3 / 53, 0]
    assert found.table.shares[2].tolist() == [0, 0, 0]
    assert found.table.square_metres[2].tolist() == [0, 0, 0]
    assert found.notes == (
        "1 polygons have no name: together they are the zone without a name",
        "the zones far, away, tiny have no pixel's centre on the raster",
        "the zone  has only pixels without data",
    )


def test_the_files_say_what_the_result_says(plain: tuple[Path, Path], tmp_path: Path) -> None:
    rows = list(zonal(*plain, "name", output=tmp_path / "out.json").table.rows())
    assert list(rows[0]) == list(zonetable.COLUMNS)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == rows
    zonal(*plain, "name", output=tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [{k: str(v) for k, v in row.items()} for row in rows]
    found = zonal(*plain, "name", output=tmp_path / "out.gpkg")
    layer = geopandas.read_file(tmp_path / "out.gpkg")
    zones = geopandas.read_file(plain[1])
    assert list(layer.columns) == [
        *("zone", "pixels", "nodata_pixels"),
        *("Bare_soil_m2", "Bare_soil_share", "bare_soil_1_m2", "bare_soil_1_share", "水_m2", "水_share"),
        "geometry",
    ]
    assert layer["zone"].tolist() == list(found.table.zones)
    assert layer["Bare_soil_m2"].tolist() == found.table.square_metres[:, 0].tolist()
    assert layer["水_share"].tolist() == found.table.shares[:, 2].tolist()
    assert layer.crs == zones.crs
    assert layer.geometry[0].equals(zones.geometry[0].union(zones.geometry[3]))
    assert set(layer.geom_type) == {"MultiPolygon"}
    assert not list(tmp_path.glob(".*"))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("aA1 _-é水/", max_size=9), max_size=9))
def test_names_of_columns_are_safe_and_there_once(names: list[str]) -> None:
    found = zonetable.column_names([ClassInfo(i, name or "?", "#000000") for i, name in enumerate(names)])
    assert len({name.casefold() for name in found}) == len(names)
    assert all(name and all(c.isalnum() or c == "_" for c in name) for name in found)


def test_a_file_is_replaced_only_when_told_and_an_input_never(plain: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        zonal(*plain, output=out)
    assert out.read_text() == "mine"
    with pytest.raises(OptionError, match="one of the inputs"):
        zonal(*plain, output=plain[1], overwrite=True)
    with pytest.raises(OutputError, match="is no folder"):
        zonal(*plain, output=tmp_path / "nowhere" / "out.csv")
    with pytest.raises(OptionError, match=r"'\.xlsx'; choose \.csv, \.json, \.gpkg"):
        zonal(*plain, output=tmp_path / "out.xlsx")
    with pytest.raises(CancelledError):
        zonal(*plain, output=out, overwrite=True, track=StopAfter(0))
    assert out.read_text() == "mine"
    zonal(*plain, output=out, overwrite=True)
    assert out.read_text().startswith("zone,class_id,class,")
    assert {p.name for p in tmp_path.iterdir()} == {"map.tif", "map.tif.aux.xml", "zones.gpkg", "out.csv"}


def test_bad_zones_are_refused_with_a_sentence(plain: tuple[Path, Path], tmp_path: Path) -> None:
    source, zones = plain
    with pytest.raises(DatasetError, match="no attribute 'nmae'; it has name, number"):
        zonal(source, zones, "nmae")
    with pytest.raises(DatasetError, match="does not exist"):
        zonal(source, tmp_path / "none.gpkg")
    with pytest.raises(DatasetError, match="has no layer 'roads'; it has zones"):
        zonal(source, zones, layer="roads")
    geopandas.read_file(zones).to_file(zones, layer="more")
    with pytest.raises(DatasetError, match="2 layers with geometries .zones, more.; name one with --layer"):
        zonal(source, zones)
    assert pixels_of(zonal(source, zones, "name", "more"))["south"] == {1: 4, 2: 1}
    points = make_zones(tmp_path / "points.gpkg", [shapely.Point(3, 3)])
    with pytest.raises(DatasetError, match="holds no polygon"):
        zonal(source, points)
    lost = make_zones(tmp_path / "lost.geojson", [shapely.box(5, 5, 9, 9)], Affine.identity(), None)
    with pytest.raises(AreaError, match=r"\(5, 5, 9, 9 in EPSG:4326\) meets map.tif \(300000, 2799985.5, .* CRS are"):
        zonal(source, lost)
    bare = make_map(tmp_path / "bare.tif", labels_of(), NORTH_UP, None)
    with pytest.raises(DatasetError, match="bare.tif has no CRS"):
        zonal(bare, zones, layer="more")
    with pytest.raises(BandError, match="has no band 3"):
        zonal(source, zones, layer="more", pick=Pick(band=3))


def test_what_is_no_polygon_is_left_out_and_said(tmp_path: Path) -> None:
    source = make_map(tmp_path / "map.tif", labels_of())
    shapes = [shapely.Point(1, 1), shapely.box(0, 0, 4, 4), shapely.Polygon()]
    found = zonal(source, make_zones(tmp_path / "zones.geojson", shapes, to="EPSG:4326"))
    assert found.table.zones == ("2",)
    assert found.table.pixels.sum() + found.table.nodata.sum() == 16
    assert found.notes == ("2 of 3 features are no polygons, and are left out",)


def test_a_zone_over_the_edge_and_pixels_beyond_the_pole_are_said(tmp_path: Path) -> None:
    labels, transform = np.ones(SHAPE, np.uint8), Affine(1, 0, 0, 0, -1, 95)
    source = make_map(tmp_path / "map.tif", labels, transform, "EPSG:4326", nodata=0)
    zones = make_zones(
        tmp_path / "zones.gpkg", [shapely.box(-3, 10, 4, 14), shapely.box(3, 1, 9, 7)], transform, "EPSG:4326"
    )
    found = zonal(source, zones)
    assert found.table.pixels.tolist() == [[16], [36]]
    assert np.isfinite(found.table.square_metres).tolist() == [[True], [False]]
    assert found.notes == (
        "some pixels lie beyond the poles: the areas of their classes are unknown",
        "1 zone reaches beyond the raster: only what lies on it is counted",
    )
    assert next(iter(found.to_dict()["rows"]))["area_m2"] > 0


def test_only_what_zones_cover_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_map(tmp_path / "map.tif", labels_of(), blockysize=1)
    zones = make_zones(tmp_path / "zones.gpkg", [shapely.box(4, 3, 6, 5), shapely.box(9, 24, 11, 26)])
    monkeypatch.setattr(classmap, "BAND_PIXELS", 1)
    read: list[Window] = []
    inner = ClassMap.read
    monkeypatch.setattr(ClassMap, "read", lambda self, window: (read.append(window), inner(self, window))[1])
    zonal(source, zones)
    assert {w.row_off for w in read} == {3, 4, 24, 25}
    assert {(w.col_off, w.width, w.height) for w in read} == {(4, 7, 1)}


def test_too_large_a_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_map(tmp_path / "map.tif", np.arange(SHAPE[0] * SHAPE[1], dtype=np.int32).reshape(SHAPE), nodata=-1)
    zones = make_zones(tmp_path / "zones.gpkg", [shapely.box(0, 0, 30, 20)] * 3)
    monkeypatch.setattr(sys.modules["rs_segment.zonal"], "MOST_ROWS", 1000)
    with pytest.raises(OptionError, match="3 zones and 601 classes would be more than 1,000 rows"):
        zonal(source, zones)
    monkeypatch.setattr(sys.modules["rs_segment.zonal"], "MOST_ROWS", 10000)
    assert zonal(source, zones).table.pixels.sum(axis=1).tolist() == [600] * 3


def test_the_command_line_tells_the_table(plain: tuple[Path, Path], tmp_path: Path) -> None:
    def run(*args: object) -> Any:
        return CliRunner().invoke(main, ["zonal", *map(str, args)])

    done = run(*plain, "--field", "name", "-o", tmp_path / "out.csv")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:2] == ["5 zones, 3 classes", "  north  Bare soil         0.0013 ha   94.34%"]
    assert f"wrote {tmp_path / 'out.csv'}" in done.stderr
    told = json.loads(run(*plain, "--field", "name", "--json").stdout)
    assert told["rows"] == list(zonal(*plain, "name").table.rows())
    assert told["table"] is None
    assert told["classes"][2] == {"value": 2, "name": "水", "color": "#0000FF"}
    assert told["notes"]
    refused = run(*plain, "--field", "nmae")
    assert refused.exit_code == 4
    assert "no attribute 'nmae'" in refused.stderr
    assert run(*plain, "-o", tmp_path / "out.csv").exit_code == 4
    assert run(plain[0]).exit_code == 2
    with rasterio.open(plain[0]) as dataset:
        assert dataset.count == 1
