"""Laws of the polygons, against GDAL as the oracle: the same rings, whatever the raster and however it is fed.

Thousands of rasters: all that fit on a few pixels, and those of shapes that are hard to follow. The rest of what a
``Polygonizer`` promises is in ``test_polygons.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from polygon_oracle import PIXELS, Geometries, bands, check_polygons, check_validity, gdal_polygons, keys, stream
from rasterio.crs import CRS
from rasterio.features import rasterize

from rs_segment.errors import PixelTypeError
from rs_segment.geobox import GeoBox
from rs_segment.polygons import PolygonBatch, Polygonizer, polygonize, polygonizer

Raster = NDArray[np.uint8]
Numbers = NDArray[np.int64]
NODATA = 255
FAR = 2**60
"""Labels beyond this have no room for what is worked out with them."""

UTM = CRS.from_epsg(32640)
TRANSFORMS = {
    "north-up": Affine(0.5, 0, 400_000, 0, -0.5, 2_790_000),
    "south-up": Affine(0.5, 0, 400_000, 0, 0.5, 2_790_000),
    "mirrored": Affine(-0.5, 0, 400_000, 0, -0.5, 2_790_000),
    "rotated": Affine.translation(400_000, 2_790_000) * Affine.rotation(33) * Affine.scale(0.5, -0.25),
    "on its side": Affine(0, 2, 10, 3, 0, 20),
    "sheared": Affine(2, 1, 10, 0.5, -3, 20),
    "pixels": Affine.identity(),
}


def noise(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    return rng.integers(0, count, (height, width))


def sponge(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    """One large shape full of holes that touch at corners."""
    return np.where(rng.random((height, width)) < 0.62, 0, noise(rng, height, width, count))


def grains(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    size = int(rng.integers(2, 6))
    coarse = noise(rng, -(-height // size), -(-width // size), count)
    return coarse.repeat(size, 0).repeat(size, 1)[:height, :width]


def blobs(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    ground = rng.random((height + 4, width + 4))
    smooth = sum(ground[i : i + height, j : j + width] for i in range(5) for j in range(5)) / 25
    return np.clip((smooth - 0.35) / 0.3 * count, 0, count - 1).astype(np.int64)


def checkerboard(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    return np.add.outer(np.arange(height), np.arange(width)) % count


def spiral(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    raster = np.zeros((height, width), np.int64)
    top, left, bottom, right = 0, 0, height, width
    while right > left and bottom > top:
        raster[top, left:right] = 1
        raster[top:bottom, right - 1] = 1
        raster[bottom - 1, left + 2 : right] = 1
        raster[top + 2 : bottom, left + 2 : left + 3] = 1
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return raster % count


def nested(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    down, along = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (height, width))
    return np.minimum.outer(down, along) % count


def comb(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    raster = np.zeros((height, width), np.int64)
    raster[:-1, :: int(rng.integers(2, 4))] = 1
    raster[-1] = 1
    return raster % count


def stairs(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    return np.subtract.outer(np.arange(height), np.arange(width)) // int(rng.integers(1, 4)) % count


def one_class(rng: np.random.Generator, height: int, width: int, count: int) -> Numbers:
    return np.full((height, width), count - 1)


Maker = Callable[[np.random.Generator, int, int, int], Numbers]
MAKERS: tuple[Maker, ...] = (noise, sponge, grains, blobs, checkerboard, spiral, nested, comb, stairs, one_class)
SHAPES = [(16, 16), (16, 16), (1, 30), (30, 1), (2, 20), (20, 2)]


@st.composite
def numbers(draw: st.DrawFn) -> tuple[Numbers, np.random.Generator]:
    """(classes 0 to 4 in one of the ways above, turned somehow, and with specks on it; what else is random)."""
    make = draw(st.sampled_from(MAKERS))
    tallest, widest = draw(st.sampled_from(SHAPES))
    height, width = draw(st.integers(1, tallest)), draw(st.integers(1, widest))
    count = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raster = make(rng, height, width, count)
    specks = rng.random(raster.shape) < draw(st.sampled_from([0, 0, 0.05, 0.3]))
    raster = np.rot90(np.where(specks, noise(rng, height, width, count), raster), int(rng.integers(4)))
    return raster, rng


@st.composite
def rasters(draw: st.DrawFn) -> Raster:
    """The same with labels that are uint8, some of it nodata."""
    raster, rng = draw(numbers())
    labels = np.array(draw(st.permutations([0, 1, 2, 254, 255]))[:5], np.uint8)[raster]
    holes = rng.random(raster.shape) < draw(st.sampled_from([0, 0, 0.02, 0.3]))
    return np.where(holes, NODATA, labels).astype(np.uint8)


HEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any)
BLOCKS = st.sampled_from([1, 40, 90, 150, 1 << 20])


def grid(raster: NDArray[Any], transform: Affine = PIXELS, crs: CRS | None = None) -> GeoBox:
    return GeoBox((raster.shape[0], raster.shape[1]), transform, crs)


def assert_same(one: PolygonBatch, other: PolygonBatch) -> None:
    """The same bytes in the same order; sums of fractions may differ by how they are added up."""
    assert shapely.to_wkb(one.geometry).tolist() == shapely.to_wkb(other.geometry).tolist()
    for column in ("class_id", "pixels"):
        assert np.array_equal(getattr(one, column), getattr(other, column)), column


def assert_ordered(polygons: Geometries) -> None:
    """By the last row of the polygons, then by their first pixel."""
    points, owner = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    bottom, top = shapely.bounds(polygons)[:, [1, 3]].T
    left = np.full(len(polygons), np.inf)
    high = points[:, 1] == top[owner]
    np.minimum.at(left, owner[high], points[high, 0])
    places = list(zip(-bottom, -top, left, strict=True))
    assert places == sorted(set(places))


@settings(deadline=None, max_examples=150)
@given(rasters(), HEIGHTS, BLOCKS)
def test_the_same_rings_however_the_raster_is_fed(raster: Raster, heights: list[int], block: int) -> None:
    batch = stream(raster, grid(raster), heights, block=block)
    assert_same(batch, polygonize(raster, grid(raster)))
    check_polygons(raster, batch)
    assert_ordered(batch.geometry)


@settings(deadline=None, max_examples=40)
@given(rasters(), HEIGHTS, BLOCKS, st.sets(st.sampled_from([0, 1, 2, 254, 255, 256, -1])))
def test_skipped_labels_give_nothing(raster: Raster, heights: list[int], block: int, skip: set[int]) -> None:
    batch = stream(raster, grid(raster), heights, block=block, skip=skip)
    check_polygons(raster, batch, ~np.isin(raster, list(skip)))


INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i2", ">u4"]


@settings(deadline=None, max_examples=70)
@given(numbers(), st.sampled_from(INTEGERS), HEIGHTS, BLOCKS, st.sampled_from([0, 0.03, 0.5, 1]))
def test_any_integers_where_they_are_valid(
    made: tuple[Numbers, np.random.Generator], dtype: str, heights: list[int], block: int, missing: float
) -> None:
    number, rng = made
    low, high = max(np.iinfo(dtype).min, -FAR), min(np.iinfo(dtype).max, FAR)
    values = np.unique(np.array([low, low + 1, 0, 1, 255 if high > 255 else 3, high - 1, high], dtype))
    raster = rng.permutation(values)[number]
    valid = rng.random(raster.shape) >= missing
    batch = stream(raster, grid(raster), heights, valid=valid, block=block, skip=())
    check_polygons(raster, batch, valid)


@pytest.mark.parametrize("split", [None, 4])
@pytest.mark.parametrize("label", [-FAR - 1, FAR + 1, -(2**63), 2**63 - 1, 2**63, 2**64 - 1])
def test_labels_too_large_to_work_with_are_refused(label: int, split: int | None) -> None:
    raster = np.array([[0, label]], np.int64 if label < 2**63 else np.uint64)
    with pytest.raises(PixelTypeError, match=str(label)):
        stream(raster, grid(raster), [1], split=split)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_a_mask_that_is_not_of_booleans_is_refused(dtype: str) -> None:
    raster = np.zeros((3, 3), np.uint8)
    with pytest.raises(PixelTypeError, match=f"valid is {dtype}"):
        stream(raster, grid(raster), [3], valid=np.ones((3, 3), dtype))


@settings(deadline=None, max_examples=50)
@given(rasters(), HEIGHTS, BLOCKS, st.integers(1, 12))
def test_split_polygons_are_those_of_the_cells(raster: Raster, heights: list[int], block: int, side: int) -> None:
    batch = stream(raster, grid(raster), heights, block=block, split=side)
    rows, cols = (np.arange(n) // side for n in raster.shape)
    cells = raster.astype(np.int64) * 1000 + rows[:, None] * 30 + cols
    left, _, _, top = shapely.bounds(batch.geometry).T
    own = batch.class_id.astype(np.int64) * 1000 + (-top // side * 30 + left // side).astype(np.int64)
    check_polygons(cells, replace(batch, class_id=own), raster != NODATA)
    assert_ordered(batch.geometry)


@settings(deadline=None, max_examples=30)
@given(rasters(), HEIGHTS, BLOCKS)
def test_burnt_back_they_are_the_raster(raster: Raster, heights: list[int], block: int) -> None:
    batch = stream(raster, grid(raster), heights, block=block)
    burnt = np.full(raster.shape, NODATA, np.uint8)
    if len(batch):
        pairs = zip(batch.geometry, batch.class_id.tolist(), strict=True)
        rasterize(pairs, out=burnt, transform=PIXELS)
    assert np.array_equal(burnt, raster)


def sheet(height: int, width: int, labels: list[int]) -> Raster:
    """Every raster of a size with these labels, side by side on a large one with nodata between them.

    Labels but 255 are interchangeable, so of those that differ by names only the first is there.
    """
    tiles = np.array(list(itertools.product(range(len(labels)), repeat=height * width)), np.uint8)
    data = [i for i, label in enumerate(labels) if label != NODATA]
    first = np.stack([np.where((tiles == i).any(1), (tiles == i).argmax(1), height * width) for i in data])
    tiles = np.array(labels, np.uint8)[tiles[(np.diff(first, axis=0) >= 0).all(axis=0)]]
    side = int(np.ceil(np.sqrt(len(tiles))))
    whole = np.full((side * side, height + 1, width + 1), NODATA, np.uint8)
    whole[: len(tiles), :height, :width] = tiles.reshape(-1, height, width)
    tall = whole.reshape(side, side, height + 1, width + 1).swapaxes(1, 2)
    return tall.reshape(side * (height + 1), side * (width + 1))


@pytest.mark.parametrize(
    ("height", "width", "labels"),
    [(2, 2, [0, 1, 2, 3, 255]), (3, 3, [0, 1, 255]), (2, 3, [0, 1, 2, 255]), (4, 3, [0, 255])],
)
def test_every_small_raster(height: int, width: int, labels: list[int]) -> None:
    raster = sheet(height, width, labels)
    batch = stream(raster, grid(raster), [1, 64, 5], block=3 * raster.shape[1])
    ours, theirs = keys(batch.class_id, batch.geometry), keys(*gdal_polygons(raster, raster != NODATA))
    wrong = [shapely.from_wkb(polygon).bounds for _, polygon in sorted(set(ours) ^ set(theirs))]
    corners = {(int(-top) // (height + 1), int(left) // (width + 1)) for left, _, _, top in wrong}
    bad = [raster[r * (height + 1) :, c * (width + 1) :][:height, :width].tolist() for r, c in sorted(corners)]
    assert not bad, f"{len(bad)} rasters, the first of them {bad[0]}"
    check_validity(raster, batch, raster != NODATA)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (13, 13), (16, 25)])
def test_shapes_that_are_hard_to_follow(make: Maker, height: int, width: int) -> None:
    labels = make(np.random.default_rng(5), height, width, 2)
    for values in ([0, 1], [NODATA, 1], [1, NODATA]):
        raster = np.array(values, np.uint8)[labels]
        for turn in range(4):
            turned = np.rot90(raster, turn)
            check_polygons(turned, stream(turned, grid(turned), [1, 3], block=40))


@pytest.mark.parametrize("count", [2, 5])
def test_large_noise_has_the_rings_of_one_pass(count: int) -> None:
    raster = sponge(np.random.default_rng(count), 150, 157, count).astype(np.uint8)
    batch = stream(raster, grid(raster), [64], block=1 << 12)
    # Whether it is a coverage takes GEOS a minute with as many holes as this has; the check of edges says the same.
    check_polygons(raster, batch, coverage=False)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_any_grid_has_the_same_rings(transform: Affine) -> None:
    raster = np.random.default_rng(3).choice(np.array([0, 1, 2, 255], np.uint8), (11, 14))
    batch = stream(raster, grid(raster, transform, UTM), [2], block=30)
    assert shapely.is_valid(batch.geometry).all()
    assert shapely.coverage_is_valid(batch.geometry)
    assert shapely.is_ccw(shapely.get_exterior_ring(batch.geometry)).all()
    assert np.allclose(shapely.area(batch.geometry), batch.pixels * abs(transform.determinant), rtol=1e-6)
    back = PIXELS * ~transform
    points = shapely.get_coordinates(batch.geometry)
    pixels = np.stack(back * tuple(points.T), axis=1)
    assert np.allclose(pixels, np.rint(pixels), rtol=0, atol=1e-5)
    geometry = shapely.set_coordinates(batch.geometry.copy(), np.rint(pixels))
    assert keys(batch.class_id, geometry) == keys(*gdal_polygons(raster, raster != NODATA))


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 40)),
    heights=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    block=st.integers(1, 900),
)
def test_a_second_thread_changes_nothing(seed: int, shape: tuple[int, int], heights: list[int], block: int) -> None:
    raster = grains(np.random.default_rng(seed), *shape, 4).astype(np.uint8)
    confidence = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    metric = grid(raster, crs=CRS.from_epsg(32640))
    alone = stream(raster, metric, heights, confidence=confidence, block=block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polygonizer, "_FEW_PIXELS", 0)
        patch.setattr(polygonizer, "_MANY_BORDERS", 200)
        helped = stream(raster, metric, heights, confidence=confidence, block=block)
    assert_same(helped, alone)
    for name in ("area_m2", "perimeter_m"):
        assert np.allclose(getattr(helped, name), getattr(alone, name), rtol=1e-12)
    for name in ("pixels", "confidence", "confidence_min"):
        assert np.array_equal(getattr(helped, name), getattr(alone, name), equal_nan=name != "pixels")


def test_the_caller_may_use_the_array_again() -> None:
    raster = grains(np.random.default_rng(0), 40, 30, 4).astype(np.uint8)
    confidence = np.random.default_rng(1).integers(0, 255, raster.shape).astype(np.uint8)
    expected = polygonize(raster, grid(raster), confidence)
    polygonizer, found = Polygonizer(grid(raster), block=200), []
    rows, scores = np.empty((7, 30), np.uint8), np.empty((7, 30), np.uint8)
    for band in bands(len(raster), [7]):
        count = len(raster[band])
        rows[:count], scores[:count] = raster[band], confidence[band]
        found.append(polygonizer.feed(rows[:count], scores[:count]))
        rows[:], scores[:] = 9, 9
    batch = PolygonBatch.join([*found, polygonizer.finish()])
    assert_same(batch, expected)
    assert np.array_equal(batch.confidence, expected.confidence)


def test_arrays_of_any_layout_that_cannot_be_written_to() -> None:
    raster = grains(np.random.default_rng(0), 30, 30, 4).astype(np.uint8)
    expected = polygonize(raster, grid(raster))
    wide = np.zeros((60, 90), np.uint8)
    wide[::2, ::3] = raster
    for same in (np.asfortranarray(raster), wide[::2, ::3], raster[::-1].copy()[::-1]):
        same.flags.writeable = False
        assert_same(stream(same, grid(same), [4], block=100), expected)
        assert np.array_equal(same, raster)
