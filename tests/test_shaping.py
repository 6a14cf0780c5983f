"""Lengths and areas say the same on every grid, or say why they cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from rs_segment.errors import GridError, OptionError
from rs_segment.geobox import GeoBox
from rs_segment.shaping import Length, Shapes, Size

UTM, LONLAT = CRS.from_epsg(32640), CRS.from_epsg(4326)
FEET = CRS.from_epsg(2263)
VALUES = st.floats(0, 1e6).map(lambda v: float(f"{v:g}"))


@given(VALUES, st.sampled_from(["", "px", "m"]))
def test_a_length_is_what_it_says(value: float, unit: str) -> None:
    length = Length.parse(f"{value:g}{unit}")
    assert (length.value, length.unit) == (value, unit)
    assert Length.parse(str(length)) == Length.parse(length) == length


@pytest.mark.parametrize(
    ("text", "square_metres", "pixels"),
    [
        ("50", 50, None),
        (50, 50, None),
        ("50m2", 50, None),
        ("50 m²", 50, None),
        ("0.5ha", 5000, None),
        ("1 KM2", 1e6, None),
        ("1e3", 1000, None),
        ("100px", None, 100),
        (".5 px", None, 0.5),
    ],
)
def test_an_area_is_what_it_says(text: str | float, square_metres: float | None, pixels: float | None) -> None:
    size = Size.parse(text)
    assert (size.value, size.unit) == ((square_metres, "m2") if pixels is None else (pixels, "px"))
    assert Size.parse(str(size)) == Size.parse(size) == size


@pytest.mark.parametrize("text", ["", "px", "-1px", "nan", "inf", "1e999", "1,5", "2 px px", "three", "1m2", "1ha"])
def test_what_is_no_length_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(OptionError) as told:
        Length.parse(text)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["", "ha", "-1", "nan", "1m", "3 acres"])
def test_what_is_no_area_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(OptionError) as told:
        Size.parse(text)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED])
def test_units_of_the_crs_are_pixels_times_their_size(transform: Affine) -> None:
    box = GeoBox((40, 50), transform, UTM)
    for text in ("1.5", "1.5m", "3px"):
        assert Length.parse(text).in_pixels(box) == pytest.approx(3)
        assert Length.parse(text).in_pixels(box, at_most=True) == pytest.approx(3)


def test_metres_are_on_the_ground_whatever_the_crs_counts_in() -> None:
    degree = GeoBox((10, 10), Affine(1e-5, 0, 55, 0, -1e-5, 60), LONLAT)
    east, north = degree.ground_resolution or (math.nan, math.nan)
    assert Length.parse("1e-5").in_pixels(degree) == pytest.approx(1)
    assert Length.parse("3m").in_pixels(degree) == pytest.approx(3 / math.sqrt(east * north))
    assert Length.parse("3m").in_pixels(degree, at_most=True) == pytest.approx(3 / north)
    feet = GeoBox((10, 10), Affine(2, 0, 0, 0, -2, 0), FEET)
    assert Length.parse("2").in_pixels(feet) == pytest.approx(1)
    assert Length.parse("2m").in_pixels(feet) == pytest.approx(1 / 0.3048, rel=1e-5)


def test_pixels_that_are_no_squares_count_by_their_area_or_their_longer_side() -> None:
    box = GeoBox((10, 10), Affine(4, 0, 0, 0, -1, 0), UTM)
    assert Length.parse("4").in_pixels(box) == 2
    assert Length.parse("4").in_pixels(box, at_most=True) == 1


def test_without_a_crs_only_metres_are_refused() -> None:
    for box in (GeoBox((10, 10), Affine.identity()), GeoBox((10, 10), NORTH_UP)):
        assert Length.parse("1").in_pixels(box) == 1 / box.resolution[0]
        assert Length.parse("2px").in_pixels(box) == 2
        assert Size.parse("2px").row_weights(box) is None
        with pytest.raises(GridError, match="no CRS; say it in pixels: 2px"):
            Length.parse("1m").in_pixels(box)
        with pytest.raises(GridError, match="50 m2 cannot be measured, as the raster has no CRS"):
            Size.parse("50").row_weights(box)


def test_areas_weigh_rows_by_their_pixels() -> None:
    flat = Size.parse("50").row_weights(GeoBox((10, 10), NORTH_UP, UTM))
    assert flat is not None
    assert np.array_equal(flat, np.full(10, 0.25))
    globe = Size.parse("1ha").row_weights(GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), LONLAT))
    assert globe is not None
    assert globe[0] < globe[89] / 50


@pytest.mark.parametrize(
    "options",
    [
        {"small": "melt", "min_area": Size(1)},
        {"small": "drop"},
        {"sieve": -1},
        {"split": 0},
        {"split": 5, "dissolve": True},
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        Shapes(**options)  # type: ignore[arg-type]
