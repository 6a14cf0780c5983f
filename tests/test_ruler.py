"""Lengths and areas on the ground of lines on a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.crs import CRS

from rs_segment.geobox import GeoBox
from rs_segment.polygons.ruler import Ruler

UTM, DEGREES, FEET = CRS.from_epsg(32640), CRS.from_epsg(4326), CRS.from_epsg(2263)
ROTATED = Affine.translation(300000, 2800000) * Affine.rotation(33) * Affine.scale(0.5, -0.25)


def rectangle(left: float, top: float, right: float, bottom: float) -> tuple[np.ndarray, np.ndarray]:
    """The way around a rectangle that has it on the left, on a grid whose rows go down."""
    return np.array([left, left, right, right, left]), np.array([top, bottom, bottom, top, top])


@pytest.mark.parametrize("transform", [Affine(0.5, 0, 300000, 0, -0.25, 2800000), ROTATED])
def test_in_the_plane_it_is_geometry(transform: Affine) -> None:
    ruler = Ruler(GeoBox((40, 50), transform, UTM))
    x, y = rectangle(3, 5, 13, 9)
    assert ruler.under(x, y, 2).sum() == pytest.approx(10 * 4 * 0.125)
    assert ruler.steps(x, y) == pytest.approx([4 * 0.25, 10 * 0.5, 4 * 0.25, 10 * 0.5])


def test_feet_are_not_metres() -> None:
    ruler = Ruler(GeoBox((40, 50), Affine(10, 0, 1e6, 0, -10, 2e5), FEET))
    x, y = rectangle(0, 0, 1, 1)
    foot = 1200 / 3937
    assert ruler.under(x, y, 0).sum() == pytest.approx((10 * foot) ** 2)
    assert ruler.steps(x, y).sum() == pytest.approx(40 * foot)


@settings(deadline=None, max_examples=30)
@given(st.floats(-80, 80), st.integers(1, 30), st.integers(1, 30))
def test_on_the_ellipsoid_it_is_geodesy(latitude: float, wide: int, high: int) -> None:
    size = 1e-4
    geobox = GeoBox((40, 50), Affine(size, 0, 30, 0, -size, latitude), DEGREES)
    x, y = rectangle(2, 3, 2 + wide, 3 + high)
    # Parallels are no geodesics, so the reference gets a vertex at each pixel.
    around_x = np.r_[np.full(high, 2), np.arange(2, 2 + wide), np.full(high, 2 + wide), np.arange(2 + wide, 2, -1)]
    around_y = np.r_[np.arange(3, 3 + high), np.full(wide, 3 + high), np.arange(3 + high, 3, -1), np.full(wide, 3)]
    area, length = Geod(ellps="WGS84").polygon_area_perimeter(30 + size * around_x, latitude - size * around_y)
    ruler = Ruler(geobox)
    assert ruler.under(x, y, 0).sum() == pytest.approx(abs(area), rel=1e-5)
    assert ruler.steps(x, y).sum() == pytest.approx(length, rel=1e-6)


def test_without_a_crs_nothing_is_known() -> None:
    ruler = Ruler(GeoBox((4, 5), Affine.identity(), None))
    x, y = rectangle(0, 0, 1, 1)
    assert np.isnan(ruler.under(x, y, 0)).all()
    assert np.isnan(ruler.steps(x, y)).all()


def test_a_slanting_step_is_measured_along_its_slope() -> None:
    ruler = Ruler(GeoBox((40, 50), Affine(2, 0, 0, 0, -1, 0), UTM))
    assert ruler.steps(np.array([0.0, 3.0]), np.array([0.0, 8.0])) == pytest.approx([10.0])
    degrees = Ruler(GeoBox((40, 50), Affine(1e-5, 0, 30, 0, -1e-5, 60.0), DEGREES))
    across = degrees.steps(np.array([0.0, 3.0]), np.array([0.0, 0.0]))[0]
    down = degrees.steps(np.array([0.0, 0.0]), np.array([0.0, 4.0]))[0]
    assert degrees.steps(np.array([0.0, 3.0]), np.array([0.0, 4.0]))[0] == pytest.approx(math.hypot(across, down))


def test_rows_beyond_a_pole_have_no_area() -> None:
    ruler = Ruler(GeoBox((4, 4), Affine(1, 0, 0, 0, -1, 91), DEGREES))
    for top, known in ((0, False), (1, True)):
        x, y = rectangle(0, top, 1, 2)
        assert np.isfinite(ruler.under(x, y, top).sum()) == known
