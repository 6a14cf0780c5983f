"""What a ``Polygonizer`` promises beside the right rings, which ``test_polygon_laws.py`` is about."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from polygon_oracle import stream
from rasterio.crs import CRS
from rasterio.features import rasterize

from rs_segment.errors import GridError, PixelTypeError
from rs_segment.geobox import GeoBox
from rs_segment.polygons import Polygonizer, polygonize

Raster = NDArray[np.uint8]
LAW = settings(deadline=None, max_examples=40)
UTM = CRS.from_epsg(32640)
NORTH_UP = Affine(0.5, 0, 400_000, 0, -0.5, 2_790_000)
HEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=4)
SCORES = np.array([0, 1, 100, 254, 255], np.uint8)


@st.composite
def rasters(draw: st.DrawFn) -> Raster:
    """Noise of one to four classes and perhaps nodata, at grains that give both specks and large shapes."""
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    labels = draw(st.lists(st.sampled_from([0, 1, 2, 254, 255]), min_size=1, max_size=4, unique=True))
    grain = draw(st.sampled_from([1, 2, 5]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.choice(np.array(labels, np.uint8), (-(-height // grain), -(-width // grain)))
    return noise.repeat(grain, 0).repeat(grain, 1)[:height, :width]


def grid(raster: Raster, transform: Affine = NORTH_UP, crs: CRS | None = UTM) -> GeoBox:
    return GeoBox((raster.shape[0], raster.shape[1]), transform, crs)


@LAW
@given(rasters(), HEIGHTS, st.integers(1, 200))
def test_what_is_measured_does_not_depend_on_bands(raster: Raster, heights: list[int], block: int) -> None:
    geobox = grid(raster)
    confidence = np.random.default_rng(0).integers(0, 256, raster.shape).astype(np.uint8)
    whole = polygonize(raster, geobox, confidence)
    batch = stream(raster, geobox, heights, confidence, block=block)
    assert np.array_equal(batch.confidence, whole.confidence, equal_nan=True)
    assert np.array_equal(batch.confidence_min, whole.confidence_min, equal_nan=True)
    assert np.allclose(batch.area_m2, shapely.area(whole.geometry), rtol=1e-6)
    assert np.allclose(batch.area_m2, whole.area_m2, rtol=1e-12)
    assert np.allclose(batch.perimeter_m, shapely.length(whole.geometry), rtol=1e-6)
    assert np.allclose(batch.perimeter_m, whole.perimeter_m, rtol=1e-12)


@LAW
@given(rasters(), HEIGHTS, st.integers(1, 100))
def test_confidence_is_that_of_the_pixels(raster: Raster, heights: list[int], block: int) -> None:
    confidence = np.random.default_rng(1).choice(SCORES, raster.shape)
    geobox = grid(raster, Affine.identity(), None)
    batch = stream(raster, geobox, heights, confidence, block=block)
    for polygon, mean, least in zip(batch.geometry, batch.confidence, batch.confidence_min, strict=True):
        inside = rasterize([polygon], raster.shape, dtype="uint8").astype(bool)
        values = confidence[inside][confidence[inside] != 255]
        expected = (values.mean() / 254, values.min() / 254) if len(values) else (np.nan, np.nan)
        assert np.allclose((mean, least), expected, equal_nan=True)


def test_confidence_nobody_gave_is_not_known() -> None:
    raster = np.array([[0, 0, 1]], np.uint8)
    batch = polygonize(raster, grid(raster))
    assert np.isnan(batch.confidence).all()
    assert np.isnan(batch.confidence_min).all()


def test_polygons_come_as_soon_as_they_are_complete() -> None:
    raster = np.repeat(np.arange(6, dtype=np.uint8), 2)[:, None].repeat(5, 1)
    polygonizer = Polygonizer(grid(raster), block=1)
    counts = [len(polygonizer.feed(raster[i : i + 1])) for i in range(len(raster))]
    assert counts == [0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert len(polygonizer.finish()) == 1


def test_skipped_labels_give_no_polygons_and_do_not_part_their_neighbours() -> None:
    raster = np.array([[0, 1, 0], [0, 2, 0], [0, 0, 0]], np.uint8)
    batch = polygonize(raster, grid(raster), skip={1, 2})
    assert batch.class_id.tolist() == [0]
    assert batch.pixels.tolist() == [7]


def test_area_on_the_ground() -> None:
    raster = np.random.default_rng(5).integers(0, 3, (40, 30)).astype(np.uint8)
    degrees = GeoBox(raster.shape, Affine(0.01, 0, 55, 0, -0.01, 60), CRS.from_epsg(4326))
    areas = degrees.row_areas(range(40))
    assert areas is not None
    batch = stream(raster, degrees, [7], block=100)
    assert np.isclose(batch.area_m2.sum(), areas.sum() * 30, rtol=1e-12)
    one = polygonize(np.zeros_like(raster), degrees)
    assert np.isclose(one.area_m2[0], areas.sum() * 30, rtol=1e-12)
    assert np.allclose(polygonize(raster, grid(raster)).area_m2, polygonize(raster, grid(raster)).pixels * 0.25)
    assert np.isnan(polygonize(raster, grid(raster, crs=None)).area_m2).all()


def test_simplified_polygons_stay_a_coverage() -> None:
    raster = np.random.default_rng(2).integers(0, 4, (12, 12)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    batch = polygonize(raster, grid(raster, Affine.identity()))
    simple = shapely.coverage_simplify(batch.geometry, 2.0)
    assert shapely.coverage_is_valid(simple)
    assert np.isclose(shapely.area(simple).sum(), raster.size)


def test_memory_does_not_grow_with_the_height() -> None:
    tile = np.random.default_rng(4).integers(0, 4, (64, 128)).astype(np.uint8)
    tile[-1] = 255

    def peak(repeats: int) -> int:
        polygonizer = Polygonizer(GeoBox((64 * repeats, 128), NORTH_UP), block=1 << 14)
        tracemalloc.start()
        for _ in range(repeats):
            polygonizer.feed(tile)
        polygonizer.finish()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(30) < 1.3 * peak(5)


def test_rows_that_do_not_fit_are_refused() -> None:
    polygonizer = Polygonizer(GeoBox((2, 3), NORTH_UP))
    with pytest.raises(GridError, match="2 rows and 3 columns"):
        polygonizer.feed(np.zeros((1, 4), np.uint8))
    with pytest.raises(GridError, match="2 rows"):
        polygonizer.feed(np.zeros((3, 3), np.uint8))
    with pytest.raises(GridError, match="confidence"):
        polygonizer.feed(np.zeros((1, 3), np.uint8), np.zeros((1, 2), np.uint8))
    with pytest.raises(GridError, match="valid"):
        polygonizer.feed(np.zeros((1, 3), np.uint8), valid=np.ones((2, 3), np.bool_))
    with pytest.raises(PixelTypeError, match="labels are float32"):
        polygonizer.feed(np.zeros((1, 3), np.float32))
    with pytest.raises(PixelTypeError, match="confidence is int16"):
        polygonizer.feed(np.zeros((1, 3), np.uint8), np.zeros((1, 3), np.int16))
    polygonizer.feed(np.zeros((1, 3), np.uint8))
    with pytest.raises(PixelTypeError, match="labels are int16, but those above were uint8"):
        polygonizer.feed(np.zeros((1, 3), np.int16))
    with pytest.raises(GridError, match="only 1 of 2"):
        polygonizer.finish()
