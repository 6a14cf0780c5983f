"""Which polygons must a raster give? Asked of GDAL, and put into a form in which polygons can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely import GeometryType

from rs_segment.geobox import GeoBox
from rs_segment.polygons import PolygonBatch, Polygonizer

Labels = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]
Geometries = NDArray[np.object_]
Keys = list[tuple[int, bytes]]

PIXELS = Affine.scale(1, -1)
"""Coordinates are whole numbers on this grid, so that nothing has to be compared with a tolerance."""


def stream(
    raster: Labels,
    geobox: GeoBox,
    heights: Iterable[int],
    confidence: NDArray[np.uint8] | None = None,
    valid: Bools | None = None,
    **options: Any,
) -> PolygonBatch:
    """All polygons of a raster that is fed in bands of these heights, over and over."""
    polygonizer = Polygonizer(geobox, **options)
    batches = [
        polygonizer.feed(*(None if rows is None else rows[band] for rows in (raster, confidence, valid)))
        for band in bands(len(raster), list(heights))
    ]
    return PolygonBatch.join([*batches, polygonizer.finish()])


def bands(height: int, heights: list[int]) -> Iterator[slice]:
    row, i = 0, 0
    while row < height:
        yield slice(row, row + heights[i % len(heights)])
        row += heights[i % len(heights)]
        i += 1


def gdal_polygons(raster: Labels, use: Bools) -> tuple[Labels, Geometries]:
    """(label of each polygon, polygons) on the grid ``PIXELS``, by ``rasterio.features.shapes``."""
    # It takes few types of integers, so it gets the number of each label instead.
    labels, number = np.unique(raster, return_inverse=True)
    number = number.reshape(raster.shape).astype(np.int32)
    indexes, polygons = from_geojson(list(shapes(number, mask=use, connectivity=4, transform=PIXELS)))
    return labels[indexes], polygons


def from_geojson(found: Sequence[tuple[Any, float]]) -> tuple[Labels, Geometries]:
    """(values, polygons) of what ``rasterio.features.shapes`` yields."""
    polygons = [geometry["coordinates"] for geometry, _ in found]
    rings = list(chain.from_iterable(polygons))
    points = np.array(list(chain.from_iterable(rings)), np.float64).reshape(-1, 2)
    ends = (
        np.append(0, np.cumsum([len(r) for r in rings], dtype=np.int64)),
        np.append(0, np.cumsum([len(p) for p in polygons], dtype=np.int64)),
    )
    geometry = shapely.from_ragged_array(GeometryType.POLYGON, points, ends) if found else np.empty(0, object)
    return np.array([int(value) for _, value in found], np.int64), geometry


def bends(polygons: Geometries) -> tuple[Bools, NDArray[np.float64], tuple[NDArray[np.int64], ...]]:
    """Whether the outline turns at each vertex, the vertices and their offsets as in a ragged array.

    The last vertex of a ring, which is its first again, never counts.
    """
    _, points, (rings, owners) = shapely.to_ragged_array(polygons)
    rings, owners = rings.astype(np.int64), owners.astype(np.int64)
    before, after = np.arange(-1, len(points) - 1), np.arange(1, len(points) + 1)
    before[rings[:-1]] = rings[1:] - 2
    after[rings[1:] - 1] = rings[:-1]
    one, two = points - points[before], points[after] - points
    turns = one[:, 0] * two[:, 1] != one[:, 1] * two[:, 0]
    turns[rings[1:] - 1] = False
    return turns, points, (rings, owners)


def keys(labels: Labels, polygons: Geometries) -> Keys:
    """(label, polygon as WKB) in an order of their own: without vertices on straight edges, rings in one form."""
    if not len(polygons):
        return []
    turns, points, (rings, owners) = bends(polygons)
    keep = turns.copy()
    counts = np.add.reduceat(turns, rings[:-1], dtype=np.int64)
    firsts = np.flatnonzero(turns)[np.append(0, np.cumsum(counts)[:-1])]
    ends = np.append(0, np.cumsum(counts + 1))
    keep[rings[1:] - 1] = True
    bare = points[keep]
    bare[ends[1:] - 1] = points[firsts]
    bare += 0.0  # -0.0 has other bytes than 0.0
    plain = shapely.normalize(shapely.from_ragged_array(GeometryType.POLYGON, bare, (ends, owners)))
    return sorted(zip(labels.tolist(), shapely.to_wkb(plain).tolist(), strict=True))


def surrounded(raster: Labels, use: Bools) -> NDArray[np.int64]:
    """Numbers of the labels with a frame of -1, which is also what is not used."""
    _, number = np.unique(raster, return_inverse=True)
    return np.pad(np.where(use, number.reshape(raster.shape), -1), 1, constant_values=-1)


def meetings(raster: Labels, use: Bools) -> int:
    """How often a polygon passes straight through a point where two others, or another and nothing, meet."""
    n = surrounded(raster, use)
    a, b, c, d = n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]  # clockwise around each corner
    return sum(
        int(np.count_nonzero((p == q) & (p >= 0) & (r != s) & (r != p) & (s != p)))
        for p, q, r, s in ((a, b, c, d), (b, c, d, a), (c, d, a, b), (d, a, b, c))
    )


def check_edges(raster: Labels, use: Bools, polygons: Geometries) -> None:
    """The polygons are a coverage: each edge is that of one polygon, and of a neighbour the other way round.

    It says what ``shapely.coverage_is_valid`` says where all edges follow those of pixels, in the time of a sort.
    """
    turns, points, (rings, _) = bends(polygons)
    last = np.zeros(len(points), bool)
    last[rings[1:] - 1] = True
    assert np.count_nonzero(~turns & ~last) == meetings(raster, use), "vertices on straight edges"
    whole = np.rint(points * (1, -1)).astype(np.int64)
    assert (whole * (1, -1) == points).all()
    start, end = whole[:-1][~last[:-1]], whole[1:][~last[:-1]]
    assert ((start == end).sum(axis=1) == 1).all(), "edges along rows and columns"
    side = max(raster.shape) + 1
    low, high = (np.minimum(start, end) @ (side, 1), np.maximum(start, end) @ (side, 1))
    forward = (start < end).any(axis=1)
    edge = low * side**2 + high
    both = np.unique(2 * edge + forward)
    assert len(both) == len(edge), "an edge is there twice the same way"
    _, times = np.unique(both // 2, return_counts=True)
    n = surrounded(raster, use)
    expected = lone = 0
    for one, other in ((n[:-1], n[1:]), (n[:, :-1], n[:, 1:])):
        apart = one != other
        expected += int(np.count_nonzero(apart))
        lone += int(np.count_nonzero(apart & ((one < 0) | (other < 0))))
    length = np.abs(end - start).sum(axis=1)
    paired = np.isin(edge, np.unique(both // 2)[times == 2])
    assert length[~paired].sum() == lone, "an edge between two polygons is only one's"
    assert length[paired].sum() == 2 * (expected - lone)


def check_polygons(raster: Labels, batch: PolygonBatch, use: Bools | None = None, coverage: bool = True) -> None:
    """All that has to be true of the polygons of a raster on the grid ``PIXELS``.

    Args:
        raster: The labels.
        batch: What was made of them.
        use: True where a pixel belongs to a polygon; by default where it is not 255.
        coverage: Whether GEOS is asked about the coverage too; where polygons have many holes it takes minutes.
    """
    used = raster != 255 if use is None else use
    assert keys(batch.class_id, batch.geometry) == keys(*gdal_polygons(raster, used))
    check_validity(raster, batch, used, coverage)


def check_validity(raster: Labels, batch: PolygonBatch, use: Bools, coverage: bool = True) -> None:
    """What can be seen without an oracle: valid, oriented, of the right size, and a coverage."""
    assert batch.pixels.sum() == np.count_nonzero(use)
    if not len(batch):
        return
    assert shapely.is_valid(batch.geometry).all()
    assert np.array_equal(shapely.area(batch.geometry), batch.pixels)
    rings, owner = shapely.get_rings(batch.geometry, return_index=True)
    outer = np.append(True, owner[1:] != owner[:-1])
    assert np.array_equal(shapely.is_ccw(rings), outer)
    check_edges(raster, use, batch.geometry)
    assert not coverage or shapely.coverage_is_valid(batch.geometry)
