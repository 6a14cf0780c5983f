"""An area of interest is the pixels whose centres it holds, whatever CRS it comes in."""

from __future__ import annotations

import warnings
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.windows import Window

from rs_segment.area import Area
from rs_segment.errors import AreaError
from rs_segment.geobox import GeoBox

UTM = CRS.from_epsg(32640)
BOX = GeoBox((40, 50), NORTH_UP, UTM)
GRIDS = st.sampled_from([NORTH_UP, SOUTH_UP, ROTATED])


def on_ground(box: GeoBox, *pixels: tuple[float, float]) -> shapely.Polygon:
    return shapely.Polygon([box.transform * p for p in pixels])


def centres(area: Area, window: Window) -> np.ndarray:
    """The mask by brute force: each centre of a pixel, asked for by itself."""
    cols = np.arange(window.col_off, window.col_off + window.width) + 0.5
    rows = np.arange(window.row_off, window.row_off + window.height) + 0.5
    return np.asarray(shapely.contains_xy(area.geometry, *np.meshgrid(cols, rows)))


@settings(deadline=None, max_examples=60)
@given(GRIDS, st.lists(st.tuples(st.floats(-20, 70), st.floats(-20, 60)), min_size=3, max_size=3, unique=True))
def test_the_mask_is_the_pixels_whose_centres_lie_inside(transform: Affine, corners: list[tuple[float, float]]) -> None:
    box = GeoBox((40, 50), transform, UTM)
    # Off the half pixel, where a centre on an edge may fall either way.
    shape = on_ground(box, *((x + 0.123, y + 0.217) for x, y in corners))
    try:
        area = _from(shape, box)
    except AreaError:
        assert shapely.intersection(shape, shapely.Polygon(box.corners)).area < 1e-6
        return
    mask = area.mask(box.window)
    near = shapely.distance(area.geometry.boundary, shapely.points(*_grid(box))) < 1e-6
    assert (mask == centres(area, box.window))[~near].all()
    w = area.window
    outside = mask.copy()
    outside[w.row_off : w.row_off + w.height, w.col_off : w.col_off + w.width] = False
    assert not outside.any()
    for part in (Window(0, 0, 7, 9), Window(33, 21, 30, 40), Window(-5, -5, 12, 60)):
        want = np.zeros((part.height, part.width), bool)
        for row in range(part.height):
            for col in range(part.width):
                y, x = row + part.row_off, col + part.col_off
                if 0 <= y < 40 and 0 <= x < 50:
                    want[row, col] = mask[y, x]
        found = area.mask(part)
        rows = slice(max(0, -part.row_off), min(part.height, 40 - part.row_off))
        cols = slice(max(0, -part.col_off), min(part.width, 50 - part.col_off))
        assert (found[rows, cols] == want[rows, cols]).all()
        assert area.touches(part) or not found.any()


def _grid(box: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    cols, rows = np.meshgrid(np.arange(box.shape[1]) + 0.5, np.arange(box.shape[0]) + 0.5)
    return cols, rows


def _from(shape: shapely.Geometry, box: GeoBox) -> Area:
    """The area of a shape in the grid's own CRS, without a file."""
    left, bottom, right, top = shape.bounds
    t = ~box.transform
    pixels = shapely.transform(shape, lambda xy: np.array([t * tuple(p) for p in xy]))
    whole = Area.of((left - 1, bottom - 1, right + 1, top + 1), box)
    if shapely.intersection(pixels, shapely.box(0, 0, box.shape[1], box.shape[0])).area < 1e-9:
        raise AreaError("apart")
    return Area(pixels, whole.window)


def test_bounds_are_numbers_or_text() -> None:
    left, bottom, right, top = BOX[Window(5, 10, 20, 8)].bounds
    for aoi in ((left, bottom, right, top), f"{left},{bottom},{right},{top}", f"{left}, {bottom}, {right}, {top}"):
        area = Area.of(aoi, BOX)
        assert area.window == Window(5, 10, 20, 8)
        assert area.mask(BOX.window).sum() == 160
        assert area.mask(area.window).all()


def test_bounds_on_a_rotated_scene_stand_upright_in_the_world() -> None:
    box = GeoBox((40, 50), ROTATED, UTM)
    x, y = ROTATED * (25, 20)
    area = Area.of((x - 4, y - 4, x + 4, y + 4), box)
    assert area.mask(box.window).sum() == pytest.approx(256, abs=16)
    assert np.array_equal(area.mask(box.window), centres(area, box.window))


def test_bounds_on_a_scene_without_crs_are_pixels() -> None:
    area = Area.of("3,4,9,10", GeoBox((40, 50), Affine.identity()))
    assert area.window == Window(3, 4, 6, 6)


@pytest.mark.parametrize(
    "aoi",
    ["1,2,3", "5,5,1,9", "1,9,5,5", "nan,0,1,1", "0,0,inf,1", "nowhere.gpkg", "", "0,0,10,10", (5.0, 5.0, 1.0, 9.0)],
)
def test_what_is_no_area_is_refused_in_a_sentence(aoi: str | tuple[float, float, float, float]) -> None:
    with pytest.raises(AreaError) as caught:
        Area.of(aoi, BOX)
    assert len(str(caught.value)) > 20


def write(path: Path, *shapes: shapely.Geometry, crs: object = UTM, layer: str | None = None) -> Path:
    frame = geopandas.GeoDataFrame(
        geometry=list(shapes), crs=None if crs is None else CRS.from_user_input(crs).to_wkt()
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        frame.to_file(path, engine="pyogrio", **({} if layer is None else {"layer": layer}))
    return path


def test_a_file_in_another_crs_is_the_same_place(tmp_path: Path) -> None:
    shape = on_ground(BOX, (10.2, 5.2), (40.3, 8.1), (22.7, 33.4))
    same = Area.of(write(tmp_path / "same.gpkg", shape), BOX)
    dense = geopandas.GeoSeries([shapely.segmentize(shape, 1)], crs=UTM.to_wkt())
    for crs in (4326, 3857, 32639):
        moved = Area.of(write(tmp_path / f"{crs}.geojson", dense.to_crs(crs).iloc[0], crs=crs), BOX)
        # GeoJSON keeps 7 digits of a degree, which is a centimetre.
        assert shapely.symmetric_difference(same.geometry, moved.geometry).area < (3 if crs == 4326 else 0.5)
        assert (same.mask(BOX.window) != moved.mask(BOX.window)).sum() <= 4


def test_a_huge_polygon_covers_a_small_scene_in_the_middle_of_it(tmp_path: Path) -> None:
    world = shapely.box(-180, -90, 180, 90)
    assert Area.of(write(tmp_path / "world.gpkg", world, crs=4326), BOX).mask(BOX.window).all()
    # A parallel is no straight line in UTM: its edge must lie where it does, not on the chord over ten degrees.
    x, y = BOX.transform * (25, 20)
    lat = geopandas.GeoSeries([shapely.Point(x, y)], crs=UTM.to_wkt()).to_crs(4326).iloc[0].y
    south = Area.of(write(tmp_path / "south.gpkg", shapely.box(50, 0, 60, lat), crs=4326), BOX)
    rows = (~south.mask(BOX.window)).sum(axis=0)
    assert abs(int(rows[25]) - 20) <= 1


def test_holes_parts_and_broken_rings_are_read(tmp_path: Path) -> None:
    ring = on_ground(BOX, (2.2, 2.2), (30.2, 2.2), (30.2, 30.2), (2.2, 30.2))
    hole = on_ground(BOX, (10.2, 10.2), (20.2, 10.2), (20.2, 20.2), (10.2, 20.2))
    holed = Area.of(write(tmp_path / "hole.gpkg", ring.difference(hole)), BOX)
    assert holed.mask(BOX.window).sum() == 28 * 28 - 100
    both = Area.of(
        write(tmp_path / "two.gpkg", hole, on_ground(BOX, (40.2, 1.2), (45.2, 1.2), (45.2, 6.2), (40.2, 6.2))), BOX
    )
    assert both.mask(BOX.window).sum() == 125
    bow = on_ground(BOX, (2.2, 2.2), (20.2, 20.2), (20.2, 2.2), (2.2, 20.2))
    assert Area.of(write(tmp_path / "bow.gpkg", bow), BOX).mask(BOX.window).any()


def test_files_that_say_nothing_are_refused(tmp_path: Path) -> None:
    far = shapely.box(0, 0, 10, 10)
    near = on_ground(BOX, (2, 2), (9, 2), (9, 9))
    bare = GeoBox(BOX.shape, BOX.transform)
    cases = [
        (write(tmp_path / "far.gpkg", far), BOX, "does not meet"),
        (write(tmp_path / "far4326.gpkg", far, crs=4326), BOX, "does not meet"),
        (write(tmp_path / "points.gpkg", shapely.Point(*BOX.corners[0])), BOX, "no polygon"),
        (write(tmp_path / "line.gpkg", shapely.LineString(BOX.corners)), BOX, "no polygon"),
        (write(tmp_path / "shape.shp", near, crs=None), BOX, "has no CRS"),
        (write(tmp_path / "near.gpkg", near), bare, "the scene has no CRS"),
    ]
    write(tmp_path / "layers.gpkg", near, layer="a")
    cases.append((write(tmp_path / "layers.gpkg", near, layer="b"), BOX, "2 layers"))
    (tmp_path / "text.gpkg").write_text("nothing")
    cases.append((tmp_path / "text.gpkg", BOX, "cannot be read"))
    for path, box, want in cases:
        with pytest.raises(AreaError, match=want):
            Area.of(path, box)
    assert Area.of(tmp_path / "shape.shp", bare).mask(bare.window).any()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 120), st.integers(1, 120))
def test_an_area_on_another_grid_is_the_same_place(height: int, width: int) -> None:
    other = BOX.zoom_to((height, width))
    bounds = BOX[Window(7, 11, 21, 17)].bounds
    moved = Area.of(bounds, BOX).on(BOX, other)
    direct = Area.of(bounds, other)
    assert shapely.symmetric_difference(moved.geometry, direct.geometry).area < 1e-6
    w, d = moved.window, direct.window
    assert w.col_off <= d.col_off
    assert w.row_off <= d.row_off
    assert w.col_off + w.width >= min(width, d.col_off + d.width - 1)
    assert w.row_off + w.height >= min(height, d.row_off + d.height - 1)
    assert moved.on(other, other) is moved
