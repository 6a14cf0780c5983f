"""A footprint holds the pixels that have data, wherever on Earth they are, and is GeoJSON as RFC 7946 wants it."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.windows import Window

from rs_segment.archive.footprint import BBox, bbox, box_of, footprint
from rs_segment.geobox import GeoBox

# (EPSG, x, y, pixel) of the top left corner of grids in awkward places.
PLACES = {
    "an ordinary one": (32640, 300_000, 2_800_000, 30.0),
    "in the south": (32733, 300_000, 6_200_000, 10.0),
    "at the 180th meridian, from the east": (32601, 340_000, 7_100_000, 500.0),
    "at the 180th meridian, from the west": (32660, 620_000, 7_100_000, 500.0),
    "around the north pole": (3413, -20_000, 20_000, 500.0),
    "near the south pole": (3031, 100_000, -100_000, 500.0),
    "in degrees": (4326, 10, 50, 0.01),
    "in degrees beyond 180": (4326, 359.5, 50, 0.01),
    "on a web map": (3857, -20_037_000, 5_000_000, 300.0),
}


def grid(place: str, shape: tuple[int, int], turned: float = 0.0) -> GeoBox:
    code, x, y, pixel = PLACES[place]
    transform = Affine.translation(x, y) * Affine.rotation(turned) * Affine.scale(pixel, -pixel)
    return GeoBox(shape, transform, CRS.from_epsg(code))


def middles(box: GeoBox) -> NDArray[np.float64]:
    """(row, col, 2) the middle of each pixel in degrees, -180 to 180."""
    rows, cols = np.mgrid[: box.shape[0], : box.shape[1]] + 0.5
    t = box.transform
    x, y = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    lon, lat = Transformer.from_crs(box.crs.to_wkt(), "OGC:CRS84", always_xy=True).transform(x, y)
    return np.stack([(lon + 180) % 360 - 180, lat], axis=-1)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(PLACES)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sampled_from([0.0, 33.0, 90.0, 180.0]),
)
def test_a_footprint_holds_the_middle_of_every_pixel_and_little_else(
    place: str, shape: tuple[int, int], turned: float
) -> None:
    box = grid(place, shape, turned)
    found = footprint(box)
    assert found is not None
    assert found.is_valid
    inside = middles(box).reshape(-1, 2)
    assert shapely.covers(found, shapely.points(inside)).all()
    around = middles(box[Window(-1, -1, shape[1] + 2, shape[0] + 2)])
    edge = np.ones(around.shape[:2], np.bool_)
    edge[1:-1, 1:-1] = False
    outside = shapely.covers(found, shapely.points(around[edge]))
    assert outside.mean() == 0 or "pole" in place


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(PLACES)), st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_it_is_geojson(place: str, shape: tuple[int, int]) -> None:
    found = footprint(grid(place, shape))
    coordinates = shapely.get_coordinates(found)
    assert (abs(coordinates) <= [180, 90]).all()
    assert np.array_equal(coordinates, coordinates.round(7))
    assert all(shapely.is_ccw(part.exterior) for part in shapely.get_parts(found))
    west, south, east, north = bbox(found)
    assert box_of((west, south, east, north)).covers(found)
    assert (east < west) == (found.geom_type == "MultiPolygon")


def test_a_scene_across_the_180th_meridian_has_two_parts_and_a_narrow_box() -> None:
    found = footprint(grid("at the 180th meridian, from the west", (60, 200)))
    assert found.geom_type == "MultiPolygon"
    west, _, east, _ = bbox(found)
    assert west > 175
    assert east < -175


def test_a_scene_around_a_pole_reaches_all_the_way_round() -> None:
    found = footprint(grid("around the north pole", (80, 80)))
    assert shapely.covers(found, shapely.points([[0, 89.99], [-120, 89.99], [180, 90]])).all()
    west, _, east, north = bbox(found)
    assert (west, east, north) == (-180, 180, 90)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000),
    st.tuples(st.integers(2, 50), st.integers(2, 50)),
    st.floats(0.02, 0.98),
    st.sampled_from([NORTH_UP, SOUTH_UP, ROTATED]),
    st.integers(1, 4),
)
def test_the_outline_of_what_is_valid_holds_nearly_all_of_it(
    seed: int, shape: tuple[int, int], share: float, transform: Affine, zoom: int
) -> None:
    """Scattered pixels, seen through fewer rows and columns than the grid has."""
    valid = np.random.default_rng(seed).random(shape) < share
    box = GeoBox((shape[0] * zoom, shape[1] * zoom), transform, CRS.from_epsg(32640))
    found = footprint(box, valid)
    if not valid.any():
        assert found is None
        return
    assert shapely.get_num_coordinates(found) < 1500
    spread = middles(box.zoom_to(shape))[valid]
    within = shapely.distance(found, shapely.points(spread)) * 100_000
    assert within.max() <= 1.6 * 0.5 * zoom * 1.2


def test_a_turned_image_in_an_upright_grid_is_a_quadrangle() -> None:
    rows, cols = np.mgrid[:500, :500]
    valid = (abs(0.96 * (cols - 250) + 0.28 * (rows - 250)) < 150) & (
        abs(-0.28 * (cols - 250) + 0.96 * (rows - 250)) < 150
    )
    found = footprint(GeoBox((5000, 5000), Affine(10, 0, 300_000, 0, -10, 2_800_000), CRS.from_epsg(32640)), valid)
    share = (
        found.area
        / footprint(GeoBox((5000, 5000), Affine(10, 0, 300_000, 0, -10, 2_800_000), CRS.from_epsg(32640))).area
    )
    assert share == pytest.approx(0.36, abs=0.005)
    assert shapely.get_num_coordinates(found) < 150


def test_holes_are_filled_and_an_edge_that_bends_has_points_along_it() -> None:
    valid = np.ones((50, 50), np.bool_)
    valid[20:30, 20:30] = False
    box = GeoBox((50, 50), Affine(20_000, 0, 300_000, 0, -20_000, 8_000_000), CRS.from_epsg(32640))
    whole = footprint(box)
    assert shapely.symmetric_difference(footprint(box, valid), whole).area < 0.01 * whole.area
    assert shapely.get_num_coordinates(whole) > 8


@pytest.mark.parametrize(
    "box",
    [
        GeoBox((9, 9), NORTH_UP, None),
        GeoBox((9, 9), Affine(1e6, 0, 1e9, 0, -1e6, 1e9), CRS.from_epsg(32640)),
        GeoBox((9, 9), Affine(1e9, 0, 0, 0, -1, 0), CRS.from_epsg(4326)),
        GeoBox((9, 9), Affine(1, 0, float("inf"), 0, -1, 0), CRS.from_epsg(3857)),
        GeoBox((9, 9), NORTH_UP, CRS.from_wkt('LOCAL_CS["a site",UNIT["metre",1]]')),
    ],
    ids=["no CRS", "nowhere", "too wide", "not finite", "a site"],
)
def test_what_is_not_on_the_earth_has_no_footprint(box: GeoBox) -> None:
    assert footprint(box) is None


@settings(deadline=None, max_examples=50)
@given(st.floats(-180, 180), st.floats(0.1, 170), st.floats(-80, 80))
def test_a_box_of_degrees_survives(west: float, width: float, south: float) -> None:
    east = west + width if west + width <= 180 else west + width - 360
    box: BBox = (west, south, east, south + 5)
    if west < 180:
        assert bbox(box_of(box)) == pytest.approx(box)
