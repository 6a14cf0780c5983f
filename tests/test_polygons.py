"""Laws of the polygons: they are the map, they are those of one pass over the whole, and bands do not show."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize, shapes
from shapely.geometry import shape

from rs_segment.errors import GridError, PixelTypeError
from rs_segment.geobox import GeoBox
from rs_segment.polygons import PolygonBatch, Polygonizer, polygonize

Raster = NDArray[np.uint8]
LAW = settings(deadline=None, max_examples=60)
UTM = CRS.from_epsg(32640)
NORTH_UP = Affine(0.5, 0, 400_000, 0, -0.5, 2_790_000)
TRANSFORMS = {
    "north-up": NORTH_UP,
    "south-up": Affine(0.5, 0, 400_000, 0, 0.5, 2_790_000),
    "rotated": Affine.translation(400_000, 2_790_000) * Affine.rotation(33) * Affine.scale(0.5, -0.25),
    "sheared": Affine(2, 1, 10, 0.5, -3, 20),
    "pixels": Affine.identity(),
}


def spiral(size: int) -> Raster:
    raster = np.zeros((size, size), np.uint8)
    top, left, bottom, right = 0, 0, size, size
    while right - left > 0 and bottom - top > 0:
        raster[top, left:right] = 1
        raster[top:bottom, right - 1] = 1
        raster[bottom - 1, left + 2 : right] = 1
        raster[top + 2 : bottom, left + 2 : left + 3] = 1
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return raster


def nested(size: int, classes: int = 3) -> Raster:
    near = np.minimum(np.arange(size), np.arange(size)[::-1])
    return (np.minimum.outer(near, near) % classes).astype(np.uint8)


def comb(size: int) -> Raster:
    raster = np.zeros((size, size), np.uint8)
    raster[:-1, ::2] = 1
    raster[-1] = 1
    return raster


SHAPES = {
    "one class": np.full((7, 9), 3, np.uint8),
    "nothing": np.full((5, 4), 255, np.uint8),
    "one pixel": np.zeros((1, 1), np.uint8),
    "one row": np.array([[0, 0, 1, 255, 1, 1, 2]], np.uint8),
    "one column": np.array([[0], [0], [1], [255], [1]], np.uint8),
    "checkerboard": (np.add.outer(np.arange(9), np.arange(8)) % 2).astype(np.uint8),
    "checkerboard with nodata": np.where(np.add.outer(np.arange(9), np.arange(8)) % 2, 255, 4).astype(np.uint8),
    "spiral": spiral(25),
    "nested": nested(17),
    "nested pairs": nested(16, 2),
    "comb": comb(13),
    "comb upside down": comb(13)[::-1].copy(),
    "comb on its side": comb(13).T.copy(),
    "ring closed at a corner": np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1]], np.uint8),
    "stairs": (np.subtract.outer(np.arange(15), np.arange(15)) > 0).astype(np.uint8),
}


@st.composite
def rasters(draw: st.DrawFn) -> Raster:
    """Noise of one to five classes and perhaps nodata, at grains that give both specks and large shapes."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    labels = draw(st.lists(st.sampled_from([0, 1, 2, 7, 254, 255]), min_size=1, max_size=5, unique=True))
    grain = draw(st.sampled_from([1, 1, 2, 5]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.choice(np.array(labels, np.uint8), (-(-height // grain), -(-width // grain)))
    return noise.repeat(grain, 0).repeat(grain, 1)[:height, :width]


def bands(raster: Raster, heights: list[int]) -> Iterator[slice]:
    row, i = 0, 0
    while row < len(raster):
        yield slice(row, row + heights[i % len(heights)])
        row += heights[i % len(heights)]
        i += 1


def stream(
    raster: Raster, geobox: GeoBox, heights: list[int], block: int, confidence: Raster | None = None, **options: Any
) -> PolygonBatch:
    polygonizer = Polygonizer(geobox, block=block, **options)
    batches = [
        polygonizer.feed(raster[b], None if confidence is None else confidence[b]) for b in bands(raster, heights)
    ]
    return PolygonBatch.join([*batches, polygonizer.finish()])


def grid(raster: Raster, transform: Affine = NORTH_UP, crs: CRS | None = UTM) -> GeoBox:
    return GeoBox((raster.shape[0], raster.shape[1]), transform, crs)


def plain(polygons: Any) -> NDArray[np.object_]:
    """The polygons without vertices on straight edges and in one canonical order of rings and vertices, as WKB."""
    rings, owner = shapely.get_rings(polygons, return_index=True)
    rings = shapely.from_wkb(shapely.to_wkb(rings))
    points, index = shapely.get_coordinates(rings, return_index=True)
    kept = []
    for i in range(len(rings)):
        ring = points[index == i][:-1]
        before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
        bends = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
        kept.append(shapely.LinearRing(ring[bends]))
    whole = [
        shapely.Polygon(mine[0], mine[1:])
        for mine in ([kept[j] for j in np.flatnonzero(owner == i)] for i in range(len(polygons)))
    ]
    return np.asarray(shapely.to_wkb(shapely.normalize(np.array(whole, dtype=object))), dtype=object)


def oracle(raster: Raster, transform: Affine) -> tuple[list[int], list[Any]]:
    found = list(shapes(raster, mask=raster != 255, connectivity=4, transform=transform))
    return [int(value) for _, value in found], [shape(geometry) for geometry, _ in found]


def check_against_oracle(raster: Raster, batch: PolygonBatch, transform: Affine) -> None:
    values, polygons = oracle(raster, transform)
    assert len(batch) == len(values)
    if values:
        ours = sorted(zip(batch.class_id.tolist(), plain(batch.geometry).tolist(), strict=True))
        assert ours == sorted(zip(values, plain(polygons).tolist(), strict=True))


def check_laws(raster: Raster, batch: PolygonBatch, geobox: GeoBox, coverage: bool = True) -> None:
    """Valid, a coverage, oriented, and burnt back the same."""
    assert batch.pixels.sum() == np.count_nonzero(raster != 255)
    assert shapely.is_valid(batch.geometry).all()
    assert shapely.is_ccw(shapely.get_exterior_ring(batch.geometry)).all()
    rings, owner = shapely.get_rings(batch.geometry, return_index=True)
    holes = np.append(False, owner[1:] == owner[:-1])[: len(rings)]
    assert not shapely.is_ccw(rings[holes]).any()
    determinant = abs(geobox.transform.determinant)
    assert np.allclose(shapely.area(batch.geometry), batch.pixels * determinant, rtol=1e-6)
    if len(batch):
        assert not coverage or shapely.coverage_is_valid(batch.geometry)
        pairs = zip(batch.geometry, batch.class_id.tolist(), strict=True)
        burnt = rasterize(pairs, geobox.shape, fill=255, transform=geobox.transform, dtype="uint8")
        assert np.array_equal(burnt, raster)


HEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@LAW
@given(rasters(), HEIGHTS, st.integers(1, 200))
def test_equals_one_pass_over_the_whole(raster: Raster, heights: list[int], block: int) -> None:
    batch = stream(raster, grid(raster, Affine.scale(1, -1)), heights, block)
    check_against_oracle(raster, batch, Affine.scale(1, -1))
    check_laws(raster, batch, grid(raster, Affine.scale(1, -1)))


@LAW
@given(rasters(), HEIGHTS, st.integers(1, 200))
def test_bands_do_not_show(raster: Raster, heights: list[int], block: int) -> None:
    geobox = grid(raster)
    confidence = np.random.default_rng(0).integers(0, 256, raster.shape).astype(np.uint8)
    whole = polygonize(raster, geobox, confidence)
    batch = stream(raster, geobox, heights, block, confidence)
    assert shapely.to_wkb(batch.geometry).tolist() == shapely.to_wkb(whole.geometry).tolist()
    assert np.array_equal(batch.class_id, whole.class_id)
    assert np.array_equal(batch.pixels, whole.pixels)
    assert np.array_equal(batch.confidence, whole.confidence, equal_nan=True)
    assert np.allclose(batch.area_m2, whole.area_m2, rtol=1e-12)


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_are_hard_to_follow(name: str, block: int) -> None:
    raster = SHAPES[name]
    geobox = grid(raster, Affine.scale(1, -1))
    batch = stream(raster, geobox, [1, 3], block)
    check_against_oracle(raster, batch, geobox.transform)
    check_laws(raster, batch, geobox)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_any_grid(transform: Affine) -> None:
    raster = np.random.default_rng(3).choice(np.array([0, 1, 2, 255], np.uint8), (11, 14))
    geobox = grid(raster, transform)
    check_laws(raster, stream(raster, geobox, [2], 30), geobox)


def test_large_noise_equals_the_oracle() -> None:
    raster = np.random.default_rng(8).choice(np.array([0, 1], np.uint8), (300, 257), p=[0.6, 0.4])
    batch = stream(raster, grid(raster, Affine.identity()), [64], 1 << 12)
    values, polygons = oracle(raster, Affine.identity())
    assert len(batch) == len(values)
    assert sorted(batch.pixels.tolist()) == sorted(shapely.area(polygons).astype(int).tolist())
    # Whether it is a coverage takes GEOS a minute with as many holes as this has.
    check_laws(raster, batch, grid(raster, Affine.identity()), coverage=False)


@LAW
@given(rasters(), HEIGHTS, st.integers(1, 100))
def test_confidence_is_the_mean_over_the_pixels(raster: Raster, heights: list[int], block: int) -> None:
    confidence = np.random.default_rng(1).choice(np.array([0, 1, 100, 254, 255], np.uint8), raster.shape)
    geobox = grid(raster, Affine.identity(), None)
    batch = stream(raster, geobox, heights, block, confidence)
    for polygon, mean in zip(batch.geometry, batch.confidence, strict=True):
        inside = rasterize([polygon], raster.shape, dtype="uint8").astype(bool)
        values = confidence[inside][confidence[inside] != 255]
        expected = values.mean() / 254 if len(values) else np.nan
        assert np.isclose(mean, expected, equal_nan=True)


def test_confidence_nobody_gave_is_not_known() -> None:
    raster = np.array([[0, 0, 1]], np.uint8)
    assert np.isnan(polygonize(raster, grid(raster)).confidence).all()


def test_order_is_by_last_row_then_first_pixel() -> None:
    raster = np.array([[0, 1, 2], [0, 3, 3], [4, 4, 3]], np.uint8)
    assert polygonize(raster, grid(raster)).class_id.tolist() == [1, 2, 0, 3, 4]


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
    batch = stream(raster, degrees, [7], 100)
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
    with pytest.raises(PixelTypeError, match="labels are int64"):
        polygonizer.feed(np.zeros((1, 3), np.int64))
    polygonizer.feed(np.zeros((1, 3), np.uint8))
    with pytest.raises(GridError, match="only 1 of 2"):
        polygonizer.finish()
