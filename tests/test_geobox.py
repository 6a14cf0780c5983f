"""Windows and zooms keep the place; sizes on the ground are those of the ellipsoid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import rasterio.windows
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS as ProjCRS
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.windows import Window

from rs_segment.card import ClassInfo
from rs_segment.geobox import GeoBox
from rs_segment.result import Tally

UTM = CRS.from_epsg(32640)
TRANSFORMS = st.sampled_from([NORTH_UP, SOUTH_UP, ROTATED, Affine.identity()])


@st.composite
def boxes(draw: st.DrawFn) -> GeoBox:
    return GeoBox((draw(st.integers(1, 90)), draw(st.integers(1, 90))), draw(TRANSFORMS), UTM)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    place, size = st.integers(-20, 60), st.integers(1, 60)
    return Window(draw(place), draw(place), draw(size), draw(size))


@settings(deadline=None, max_examples=50)
@given(boxes(), windows())
def test_a_window_lies_where_rasterio_says(box: GeoBox, window: Window) -> None:
    part = box[window]
    assert part.shape == (window.height, window.width)
    assert part.transform.almost_equals(rasterio.windows.transform(window, box.transform), 1e-6)
    if not box.rotated:
        left, bottom, right, top = rasterio.windows.bounds(window, box.transform)
        assert part.bounds == pytest.approx((left, min(bottom, top), right, max(bottom, top)))


@settings(deadline=None, max_examples=50)
@given(boxes(), windows(), windows())
def test_a_window_of_a_window_is_a_window(box: GeoBox, outer: Window, inner: Window) -> None:
    moved = Window(outer.col_off + inner.col_off, outer.row_off + inner.row_off, inner.width, inner.height)
    assert box[outer][inner].corners == pytest.approx(np.array(box[moved].corners))


@settings(deadline=None, max_examples=50)
@given(boxes(), st.integers(1, 200), st.integers(1, 200))
def test_a_zoom_keeps_the_place_and_comes_back(box: GeoBox, height: int, width: int) -> None:
    zoomed = box.zoom_to((height, width))
    assert zoomed.shape == (height, width)
    assert zoomed.crs == box.crs
    assert zoomed.corners == pytest.approx(np.array(box.corners))
    assert zoomed.zoom_to(box.shape).transform.almost_equals(box.transform, 1e-6)


@settings(deadline=None, max_examples=30)
@given(boxes())
def test_the_whole_window_is_the_box(box: GeoBox) -> None:
    assert box[box.window] == box
    left, bottom, right, top = box.bounds
    assert left < right
    assert bottom < top
    assert all(r > 0 for r in box.resolution)


def test_words_about_the_grid() -> None:
    assert GeoBox((3, 4), ROTATED, UTM).rotated
    assert not GeoBox((3, 4), SOUTH_UP, UTM).rotated
    assert not GeoBox((3, 4), Affine.identity()).georeferenced
    assert GeoBox((3, 4), NORTH_UP).georeferenced
    assert GeoBox((3, 4), Affine.identity(), UTM).georeferenced


def area_on_the_ground(box: GeoBox, row: int) -> float:
    """m2 of the middle pixel of a row, as a polygon with many points on the ellipsoid."""
    crs = ProjCRS.from_wkt(box.crs.to_wkt())
    col, t = box.shape[1] / 2, np.linspace(0, 1, 40, endpoint=False)
    ring = np.concatenate(
        [
            np.column_stack([col + t, row + 0 * t]),
            np.column_stack([col + 1 + 0 * t, row + t]),
            np.column_stack([col + 1 - t, row + 1 + 0 * t]),
            np.column_stack([col + 0 * t, row + 1 - t]),
        ]
    )
    a = box.transform
    x, y = a.a * ring[:, 0] + a.b * ring[:, 1] + a.c, a.d * ring[:, 0] + a.e * ring[:, 1] + a.f
    flat = crs.sub_crs_list[0] if crs.is_compound else crs
    lon, lat = Transformer.from_crs(flat, flat.geodetic_crs, always_xy=True).transform(x, y)
    found, _ = Geod(a=flat.ellipsoid.semi_major_metre, b=flat.ellipsoid.semi_minor_metre).polygon_area_perimeter(
        lon, lat
    )
    return abs(found)


FEET = Affine(2, 0, 984250, 0, -2, 200000)  # lower Manhattan, where the plane of EPSG:2263 is nearly true to area
GRIDS = {
    "degrees": (4326, Affine(0.01, 0, 10, 0, -0.01, 60), 1e-6),
    "degrees, south-up": (4326, Affine(0.01, 0, 10, 0, 0.01, -60), 1e-6),
    "degrees, not square": (4326, Affine(0.03, 0, -70, 0, -0.01, -20), 1e-6),
    "degrees, rotated": (4326, Affine.translation(10, 50) * Affine.rotation(33) * Affine.scale(0.001, -0.001), 1e-4),
    "web mercator": (3857, Affine(1000, 0, 1e6, 0, -1000, 8e6), 1e-6),
    "web mercator, south-up": (3857, Affine(1000, 0, 1e6, 0, 1000, -8e6), 1e-6),
    "web mercator, rotated": (3857, Affine.translation(1e6, 8e6) * Affine.rotation(20) * Affine.scale(50, -50), 1e-4),
    "web mercator at the 180th meridian": (3857, Affine(1000, 0, 20037508.34 - 7500, 0, -1000, 0), 1e-6),
    "world mercator": (3395, Affine(1000, 0, 1e6, 0, -1000, 8e6), 1e-6),
    "web mercator with heights": ("EPSG:3857+5773", Affine(1000, 0, 1e6, 0, -1000, 8e6), 1e-6),
    "UTM": (32640, NORTH_UP, 1e-3),
    "UTM, rotated": (32640, ROTATED, 1e-3),
    "feet": (2263, FEET, 1e-3),
    "equal area": (3035, Affine(10, 0, 4321000, 0, -10, 3210000), 1e-6),
}


@pytest.mark.parametrize("name", GRIDS)
def test_areas_of_rows_are_those_of_geodesic_polygons(name: str) -> None:
    crs, transform, tolerance = GRIDS[name]
    box = GeoBox((40, 14), transform, CRS.from_user_input(crs))
    found = box.row_areas(range(3, 37, 1))
    assert found is not None
    assert found.shape == (34,)
    for row in (3, 20, 36):
        assert found[row - 3] == pytest.approx(area_on_the_ground(box, row), rel=tolerance)
    assert box.row_areas(range(0)).shape == (0,)  # type: ignore[union-attr]
    assert GeoBox(box.shape, box.transform).row_areas(range(3)) is None


def test_rows_have_their_area_whatever_range_they_are_asked_in() -> None:
    box = GeoBox((30, 9), GRIDS["degrees"][1], CRS.from_epsg(4326))
    whole = box.row_areas(range(30))
    assert whole is not None
    for row in range(30):
        assert box.row_areas(range(row, row + 1)) == pytest.approx(whole[row : row + 1], rel=1e-12)


def test_the_world_in_degrees_has_the_area_of_the_earth() -> None:
    box = GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), CRS.from_epsg(4326))
    areas = box.row_areas(range(180))
    assert areas is not None
    assert areas.sum() * 360 == pytest.approx(510_065_621_724_089, rel=1e-9)


@pytest.mark.parametrize(
    "transform",
    [Affine(1, 0, 10, 0, -1, 200), Affine.translation(10, 200) * Affine.rotation(5) * Affine.scale(1, -1)],
    ids=["north-up", "rotated"],
)
def test_rows_beyond_the_poles_have_no_known_area(transform: Affine) -> None:
    areas = GeoBox((150, 4), transform, CRS.from_epsg(4326)).row_areas(range(150))
    assert areas is not None
    assert np.isnan(areas[:105]).all()
    assert (areas[115:] > 0).all()


def test_a_pixel_centred_on_a_pole_has_the_area_on_this_side_of_it() -> None:
    areas = GeoBox((181, 360), Affine(1, 0, -180, 0, -1, 90.5), CRS.from_epsg(4326)).row_areas(range(181))
    assert areas is not None
    assert areas.sum() * 360 == pytest.approx(510_065_621_724_089, rel=1e-9)


def test_the_area_of_a_class_is_unknown_where_that_of_its_pixels_is() -> None:
    box = GeoBox((4, 3), Affine(1, 0, 10, 0, -1, 92), CRS.from_epsg(4326))
    tally = Tally(box, (ClassInfo(0, "far", "#000000"), ClassInfo(1, "near", "#111111"), ClassInfo(2, "", "#222222")))
    tally.add(0, np.array([[0, 0, 0], [0, 0, 255], [0, 1, 1], [1, 1, 255]], np.uint8))
    far, near, none = tally.areas
    assert (far.pixels, far.area_m2) == (6, None)
    known = box.row_areas(range(2, 4))
    assert known is not None
    assert near.area_m2 == pytest.approx(2 * known.sum())
    assert none.area_m2 == 0


@pytest.mark.parametrize("name", GRIDS)
def test_ground_resolution_is_the_geodesic_distance_to_the_next_pixel(name: str) -> None:
    crs, transform, _ = GRIDS[name]
    box = GeoBox((40, 14), transform, CRS.from_user_input(crs))
    flat = ProjCRS.from_wkt(box.crs.to_wkt())  # type: ignore[union-attr]
    flat = flat.sub_crs_list[0] if flat.is_compound else flat
    move = Transformer.from_crs(flat, flat.geodetic_crs, always_xy=True)
    points = [move.transform(*(transform * p)) for p in ((7, 20), (8, 20), (7, 21))]
    geod = Geod(a=flat.ellipsoid.semi_major_metre, b=flat.ellipsoid.semi_minor_metre)
    across, down = (geod.inv(*points[0], *p)[2] for p in points[1:])
    found = box.ground_resolution
    assert found is not None
    assert found == pytest.approx((across, down), rel=3e-3 if name == "equal area" else 1e-3)


def test_ground_resolution_is_unknown_where_it_cannot_be_known() -> None:
    assert GeoBox((3, 3), NORTH_UP).ground_resolution is None
    assert GeoBox((3, 3), Affine(1, 0, 1e30, 0, -1, 1e30), CRS.from_epsg(3857)).ground_resolution is None


def test_a_mercator_hidden_in_old_definitions_is_seen() -> None:
    old = CRS.from_string(
        "+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=0 +x_0=0 +y_0=0 +k=1 +units=m +nadgrids=@null"
    )
    grid = GeoBox((2, 2), Affine(10, 0, 0, 0, -10, 8399738), old)
    found = grid.ground_resolution
    assert found is not None
    assert found[0] == pytest.approx(10 * math.cos(math.radians(60)), rel=5e-3)
