"""Which polygons does a class raster hold?

``Polygonizer`` reads a raster of labels from top to bottom and hands out each polygon as soon as its last row is known.
A polygon is one 4-connected component of one class; the result is that of a single pass over the whole raster.

How it works: corners of pixels where boundaries bend or meet are nodes, and a directed edge runs along each side of
each straight boundary between two nodes, with its component on the left. Every node sees two rows of pixels only, and
this is enough to say which edge follows which. Edges are named after the upper or left one of their two nodes and
recorded at the node where they end, so that nothing recorded has to be changed when the rows below arrive. Once a
component is complete, its edges are a permutation whose cycles are the rings. Where three classes meet all polygons get
the node, also the one that passes straight: together they are a valid coverage, whose shared borders can be simplified
once.

Memory is that of a block of rows plus, for components that reach the last row read, 24 bytes for each edge, and about
seven times as much when they are drawn: it grows with the outline of the largest polygons, not with the raster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from .errors import GridError, PixelTypeError
from .geobox import GeoBox
from .types import NODATA, PROBABILITY_STEPS, Labels, Mask

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_EAST, _SOUTH, _WEST, _NORTH = range(4)
_BLOCK_PIXELS = 1 << 20
_TABLE_ROOM = 32


@dataclass(frozen=True, slots=True, eq=False)
class PolygonBatch:
    """Some polygons of a class raster, as columns of equal length.

    Args:
        class_id: uint8 (n,), the label.
        geometry: object (n,), shapely polygons in CRS coordinates; exteriors run counter-clockwise in the plane of
            x and y whatever the orientation of the raster, holes clockwise.
        pixels: int64 (n,), number of pixels.
        area_m2: float64 (n,), area on the ground by ``GeoBox.row_areas``; NaN without a CRS.
        confidence: float64 (n,), mean over those pixels that have one, 0 to 1; NaN where none has.
    """

    class_id: Labels
    geometry: NDArray[np.object_]
    pixels: Ints
    area_m2: Floats
    confidence: Floats

    def __len__(self) -> int:
        return len(self.class_id)

    @classmethod
    def join(cls, batches: Iterable[PolygonBatch]) -> PolygonBatch:
        """All polygons of the batches in one, in their order."""
        parts = list(batches) or [_no_polygons()]
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))


class Polygonizer:
    """Turns the rows of a class raster into polygons while they arrive.

    Polygons come in the order of their last row, and among those of one last row in the order of their first pixel; the
    order, like the polygons, does not depend on the heights of the bands that are fed.

    Args:
        geobox: The grid of the whole raster.
        skip: Labels that give no polygons; 255 never does.
        block: Pixels that are worked on at a time; memory for speed, the result is the same.
    """

    def __init__(self, geobox: GeoBox, skip: Collection[int] = frozenset({NODATA}), block: int = _BLOCK_PIXELS) -> None:
        height, width = geobox.shape
        self._geobox = geobox
        self._table = np.arange(256, dtype=np.uint8)
        self._table[list(skip)] = NODATA
        self._plain = bool(np.all(self._table == np.arange(256)))
        self._areas = geobox.row_areas(range(height))
        # One row above holds what the previous block ended with, one below what closes the raster; a column on each
        # side spares every neighbour look-up the question whether it leaves the raster.
        self._rows = max(1, min(block // max(width, 1), height))
        self._labels = np.full((self._rows + 2, width + 2), NODATA, np.uint8)
        self._confidence: Labels | None = None
        self._filled = 0
        self._top = 0
        self._open = _Components.of_size(0)
        self._edges: list[list[Ints]] = []
        self._above = np.full(width + 2, -1, np.int64)
        self._column_node = np.zeros(width + 1, np.int64)
        self._nodes = 0

    def feed(self, labels: Labels, confidence: Labels | None = None) -> PolygonBatch:
        """The polygons that are known to be complete after some more rows.

        Args:
            labels: uint8 (row, col), the next rows of the raster, any number of them.
            confidence: uint8 (row, col), 0 to 254 in steps of 1/254; 255 where there is none.

        Raises:
            GridError: The rows are not as wide as the raster, or more than it has.
            PixelTypeError: The labels or the confidence are not uint8.
        """
        height, width = self._geobox.shape
        for name, rows in (("labels", labels), ("confidence", confidence)):
            if rows is not None and rows.dtype != np.uint8:
                raise PixelTypeError(f"{name} are {rows.dtype}, but polygons are made of uint8; convert them first")
        if labels.ndim != 2 or labels.shape[1] != width or self._top + self._filled + len(labels) > height:
            raise GridError(
                f"labels of shape {labels.shape} do not fit under row {self._top + self._filled} of a raster of "
                f"{height} rows and {width} columns"
            )
        if confidence is not None and confidence.shape != labels.shape:
            raise GridError(f"confidence of shape {confidence.shape} does not fit labels of shape {labels.shape}")
        batches, start = [], 0
        while start < len(labels):
            count = min(self._rows - self._filled, len(labels) - start)
            part = slice(start, start + count)
            self._take(labels[part], None if confidence is None else confidence[part])
            start += count
            if self._filled == self._rows:
                batches.append(self._work(self._filled))
        return PolygonBatch.join(batches)

    def finish(self) -> PolygonBatch:
        """The polygons that are left once all rows are fed.

        Raises:
            GridError: Rows are missing.
        """
        height = self._geobox.shape[0]
        if self._top + self._filled != height:
            raise GridError(f"only {self._top + self._filled} of {height} rows were fed; the polygons are not complete")
        self._labels[self._filled + 1] = NODATA
        if self._confidence is not None:
            self._confidence[self._filled + 1] = NODATA
        return self._work(self._filled + 1)

    def _take(self, labels: Labels, confidence: Labels | None) -> None:
        """Put rows into the block."""
        rows = slice(self._filled + 1, self._filled + 1 + len(labels))
        self._labels[rows, 1:-1] = labels if self._plain else self._table[labels]
        if confidence is not None and self._confidence is None:
            self._confidence = np.full_like(self._labels, NODATA)
        if self._confidence is not None:
            self._confidence[rows, 1:-1] = NODATA if confidence is None else confidence
        self._filled += len(labels)

    def _work(self, rows: int) -> PolygonBatch:
        """The polygons that end above the last row of the block; what is open is kept, and the block made empty."""
        width = self._labels.shape[1]
        block = _Block(self._labels[: rows + 1].ravel(), width)
        slots = len(self._open.class_id)
        component, count = self._connect(block, slots)
        found = self._measure(block, component, count)
        edges, owner = self._trace(block, component[slots:])

        ended = found.last < self._top + rows - 1
        number = np.cumsum(~ended) - 1
        ready = ended[owner]
        here, later = np.flatnonzero(ready), np.flatnonzero(~ready)
        chunks, owners = [edges[:, here]], [owner[here]]
        kept: list[list[Ints]] = [[] for _ in range(int(np.count_nonzero(~ended)))]
        for slot, pieces in enumerate(self._edges):
            now = component[slot]
            if ended[now]:
                chunks += pieces
                owners += [np.full(piece.shape[1], now) for piece in pieces]
            elif kept[number[now]]:
                kept[number[now]] += pieces
            else:
                kept[number[now]] = pieces
        for now, piece in _split(edges, number[owner], later):
            kept[now].append(piece)

        inside = block.label[-width:] != NODATA
        self._above = np.where(inside, number[component[slots:][block.run[-width:]]], -1)
        self._open, self._edges = found.take(~ended), kept
        self._labels[0] = self._labels[rows]
        self._top, self._filled = self._top + rows, 0
        return self._finished(found, ended, np.concatenate(owners), np.concatenate(chunks, axis=1))

    def _connect(self, block: _Block, slots: int) -> tuple[Ints, int]:
        """(component of each open component and of each run, number of components).

        Components are numbered by their first pixels, as the open ones are.
        """
        upper, lower = block.contacts()
        above = np.flatnonzero((self._above >= 0) & block.starts_run[: len(self._above)])
        a = np.concatenate([self._above[above], upper + slots])
        b = np.concatenate([block.run[above] + slots, lower + slots])
        return _components(slots + len(block.start), a, b)

    def _measure(self, block: _Block, component: Ints, count: int) -> _Components:
        """What is known of each component: what was known before, and the block's pixels."""
        slots, width = len(self._open.class_id), self._labels.shape[1]
        old, new = component[:slots], component[slots:]
        found = _Components.of_size(count)
        row = block.start // width
        # Runs of nodata may go on over the ends of rows; they are no component that anyone asks for.
        data = block.label[block.start] != NODATA
        inside = data & (row > 0)
        found.class_id[new] = block.label[block.start]
        length = np.diff(block.start, append=len(block.label))[inside]
        own, at = new[inside], self._top + row[inside] - 1
        start = at * (width - 2) + block.start[inside] % width - 1
        found.last[:] = -1
        np.maximum.at(found.last, new[data], self._top + row[data] - 1)
        found.first[:] = np.iinfo(np.int64).max
        np.minimum.at(found.first, own, start)
        np.minimum.at(found.first, old, self._open.first)
        weights = {"pixels": length}
        if self._areas is not None:
            weights["area"] = length * self._areas[at]
        if self._confidence is not None:
            values = self._confidence[: len(block.label) // width].ravel()
            some = values != NODATA
            weights["score"] = np.add.reduceat(np.where(some, values, 0), block.start, dtype=np.int64)[inside]
            weights["scored"] = np.add.reduceat(some, block.start, dtype=np.int64)[inside]
        for name, weight in weights.items():
            column = getattr(found, name)
            np.add.at(column, own, weight)
        for name in ("pixels", "area", "score", "scored"):
            np.add.at(getattr(found, name), old, getattr(self._open, name))
        return found

    def _trace(self, block: _Block, component: Ints) -> tuple[Ints, Ints]:
        """(edges, component of each edge) that end at the nodes of the block.

        Args:
            block: The pixels.
            component: Of each run of the block.

        Returns:
            int64 (3, n): name of the edge, name of the edge that follows, twice the index of the node's vertex in the
            raster plus 1 where the pixel and the one diagonally across the node have the same label; and int64 (n,).
        """
        width = self._labels.shape[1]
        place, north, east, south, west = block.nodes()
        row, col = place // width, place % width
        node = self._nodes + np.arange(len(place))
        above = self._upper_nodes(node, col)
        self._nodes += len(place)
        # An edge is named by four times its upper or left node, plus its heading.
        out_north, out_east = 4 * above + _NORTH, 4 * node + _EAST
        out_south, out_west = 4 * node + _SOUTH, 4 * node - 4 + _WEST
        vertex = 2 * ((self._top + row) * (width - 1) + col)
        cross = north & east & south & west
        edges, owners = [], []
        for heading, pixel, across, exists, first, second, third, left, ahead in (
            (4 * node - 4 + _EAST, 0, width + 1, west, out_north, out_east, out_south, north, east),
            (4 * node + _NORTH, width, 1, south, out_west, out_north, out_east, west, north),
            (4 * node + _WEST, width + 1, 0, east, out_south, out_west, out_north, south, west),
            (4 * above + _SOUTH, 1, width, north, out_east, out_south, out_west, east, south),
        ):
            label = block.label[place + pixel]
            use = np.flatnonzero(exists & (label != NODATA))
            follows = np.where(left[use], first[use], np.where(ahead[use], second[use], third[use]))
            saddle = cross[use] & (label[use] == block.label[place[use] + across])
            edges.append(np.stack([heading[use], follows, vertex[use] + saddle]))
            owners.append(component[block.run[place[use] + pixel]])
        return np.concatenate(edges, axis=1), np.concatenate(owners)

    def _upper_nodes(self, node: Ints, col: Ints) -> Ints:
        """The node above each node in its column; remembers the lowest of each column for the next block."""
        order = np.argsort(_short(col), kind="stable")
        ordered, cols = node[order], col[order]
        first = np.ones(len(order), bool)
        first[1:] = cols[1:] != cols[:-1]
        previous = np.empty_like(ordered)
        previous[1:] = ordered[:-1]
        previous[first] = self._column_node[cols[first]]
        last = np.roll(first, -1)
        self._column_node[cols[last]] = ordered[last]
        above = np.empty_like(node)
        above[order] = previous
        return above

    def _finished(self, found: _Components, ended: Mask, owner: Ints, edges: Ints) -> PolygonBatch:
        """The polygons of the components that have ended, in their order."""
        some = np.flatnonzero(ended & (found.class_id != NODATA))
        if not len(some):
            return _no_polygons()
        some = some[np.lexsort((found.first[some], found.last[some]))]
        number = np.full(len(ended), -1)
        number[some] = np.arange(len(some))
        geometry = _polygons(number[owner], edges, self._geobox)
        c = found.take(some)
        with np.errstate(invalid="ignore"):
            confidence = c.score / c.scored / PROBABILITY_STEPS
        area = c.area if self._areas is not None else np.full(len(some), np.nan)
        return PolygonBatch(c.class_id, geometry, c.pixels, area, confidence)


def polygonize(
    labels: Labels, geobox: GeoBox, confidence: Labels | None = None, skip: Collection[int] = frozenset({NODATA})
) -> PolygonBatch:
    """All polygons of a class raster that is in memory.

    Args:
        labels: uint8 (row, col).
        geobox: Its grid.
        confidence: uint8 (row, col), 0 to 254 in steps of 1/254; 255 where there is none.
        skip: Labels that give no polygons; 255 never does.

    Raises:
        GridError: The shapes do not agree.
        PixelTypeError: The labels or the confidence are not uint8.
    """
    polygonizer = Polygonizer(geobox, skip)
    return PolygonBatch.join([polygonizer.feed(labels, confidence), polygonizer.finish()])


@dataclass(frozen=True, slots=True, eq=False)
class _Components:
    """What is known of some components, as columns; ``first`` is a pixel's index, ``score`` a sum of confidences."""

    class_id: Labels
    first: Ints
    last: Ints
    pixels: Ints
    area: Floats
    score: Ints
    scored: Ints

    @classmethod
    def of_size(cls, count: int) -> _Components:
        whole = [np.zeros(count, np.int64) for _ in range(5)]
        return cls(np.full(count, NODATA, np.uint8), whole[0], whole[1], whole[2], np.zeros(count), whole[3], whole[4])

    def take(self, which: Mask | Ints) -> _Components:
        return _Components(*(getattr(self, column.name)[which] for column in fields(self)))


class _Block:
    """Rows of labels, flat, with a column of nodata on each side; the first row was the last of the block before."""

    def __init__(self, label: Labels, width: int) -> None:
        self.label, self._width = label, width
        # The ends of rows are nodata on both sides, so that rows can be compared end to end without a false boundary.
        self._beside = label[:-1] != label[1:]
        self._below = label[:-width] != label[width:]
        self.starts_run = np.ones(len(label), bool)
        self.starts_run[1:] = self._beside
        self.start = np.flatnonzero(self.starts_run)
        self.run = np.cumsum(self.starts_run, dtype=np.int32) - 1

    def contacts(self) -> tuple[Ints, Ints]:
        """Runs (upper, lower) of one label that lie on each other, each pair once."""
        width = self._width
        touch = ~self._below & (self.label[:-width] != NODATA)
        touch &= self.starts_run[:-width] | self.starts_run[width:]
        place = np.flatnonzero(touch)
        return self.run[place].astype(np.int64), self.run[place + width].astype(np.int64)

    def nodes(self) -> tuple[Ints, Mask, Mask, Mask, Mask]:
        """(indexes of the pixels to the upper left of all nodes, whether a boundary goes north, east, south, west)."""
        width = self._width
        north, south = self._beside[:-width], self._beside[width:]
        west, east = self._below[:-1], self._below[1:]
        place = np.flatnonzero((north | south) & (west | east))
        return place, north[place], east[place], south[place], west[place]


def _no_polygons() -> PolygonBatch:
    nothing = np.empty(0)
    return PolygonBatch(nothing.astype(np.uint8), nothing.astype(object), nothing.astype(np.int64), nothing, nothing)


def _split(edges: Ints, owner: Ints, places: Ints) -> Iterable[tuple[int, Ints]]:
    """(owner, its edges) of the edges at some places; copies, so that no component keeps another in memory."""
    places = places[np.argsort(_short(owner[places]), kind="stable")]
    owners = owner[places]
    bounds = np.flatnonzero(np.diff(owners)) + 1
    for part in np.split(places, bounds) if len(places) else []:
        yield int(owner[part[0]]), edges[:, part]


def _short(values: Ints) -> NDArray[Any]:
    """The same numbers, none negative, in 16 bits where they fit: numpy sorts those by radix, many times faster."""
    return values.astype(np.uint16) if not len(values) or values.max() < 1 << 16 else values


def _components(count: int, a: Ints, b: Ints) -> tuple[Ints, int]:
    """(component of each of count things, number of components), numbered by their first thing.

    Roots hook onto the smallest root that they touch, and paths are halved until all point at roots.
    """
    parent = np.arange(count)
    while True:
        a, b = parent[a], parent[b]
        apart = a != b
        if not apart.any():
            break
        a, b = a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while True:
            higher = parent[parent]
            if np.array_equal(higher, parent):
                break
            parent = higher
    root = parent == np.arange(count)
    return (np.cumsum(root) - 1)[parent], int(np.count_nonzero(root))


def _cycles(follows: Ints, step: Ints) -> tuple[Ints, Ints]:
    """(a member that stands for the cycle, distance from it) of each element of a permutation.

    Elements whose key is the smallest among their neighbours walk to the next such element, all at once; keys are
    hashed, so that walks are short whatever the order. What is left is a third as long, and is solved in the same way.

    Args:
        follows: int64 (n,), the permutation.
        step: int64 (n,), the distance from each element to its follower.
    """
    stand, distance = np.arange(len(follows)), np.zeros(len(follows), np.int64)
    alone = follows == stand
    if alone.all():
        return stand, distance
    key = _hash(len(follows))
    down = key < key[follows]
    leads = np.empty(len(follows), bool)
    leads[follows] = ~down
    leads &= down
    leader = np.flatnonzero(leads)
    walk, place, far = np.arange(len(leader)), leader, np.zeros(len(leader), np.int64)
    owner = np.zeros(len(follows), np.int64)
    owner[leader] = walk
    to, length = np.empty_like(walk), np.empty_like(walk)
    while len(walk):
        far = far + step[place]
        place = follows[place]
        there = leads[place]
        to[walk[there]], length[walk[there]] = owner[place[there]], far[there]
        walk, place, far = walk[~there], place[~there], far[~there]
        owner[place], distance[place] = walk, far
    above, offset = _cycles(to, length)
    distance += offset[owner]
    distance[alone] = 0
    return np.where(alone, stand, leader[above[owner]]), distance


def _hash(count: int) -> NDArray[np.uint32]:
    """Different numbers without order (the finalizer of MurmurHash3, which is a bijection)."""
    key = np.arange(count, dtype=np.uint32)
    key ^= key >> np.uint32(16)
    key *= np.uint32(0x85EBCA6B)
    key ^= key >> np.uint32(13)
    key *= np.uint32(0xC2B2AE35)
    return key ^ (key >> np.uint32(16))


def _polygons(owner: Ints, edges: Ints, geobox: GeoBox) -> NDArray[np.object_]:
    """Polygons 0, 1, 2 and so on from all their edges.

    Args:
        owner: int64 (n,), the polygon of each edge.
        edges: int64 (3, n), as ``Polygonizer._trace`` makes them.
        geobox: The grid.
    """
    follows = _successors(owner, edges)
    vertex = edges[2] >> 1
    stand, rank = _cycles(follows, np.ones(len(follows), np.int64))
    heads = np.flatnonzero(stand == np.arange(len(stand)))
    number = np.empty(len(stand), np.int64)
    number[heads] = np.arange(len(heads))
    ring = number[stand]
    length = np.bincount(ring)
    # A ring begins at its first vertex in the raster, and the ring that begins first is the exterior.
    begin = np.full(len(heads), np.iinfo(np.int64).max)
    np.minimum.at(begin, ring, vertex)
    first = np.flatnonzero(vertex == begin[ring])
    shift = np.empty(len(heads), np.int64)
    shift[ring[first]] = rank[first]
    rank = rank - shift[ring]
    if geobox.transform.determinant > 0:
        rank = -rank
    rank += length[ring] * (rank < 0)
    rings = np.lexsort((begin, owner[heads]))
    ends = np.cumsum(length[rings] + 1)
    offset = np.empty_like(ends)
    offset[rings] = ends - length[rings] - 1
    path = np.empty(ends[-1], np.int64)
    path[offset[ring] + rank] = vertex
    path[ends - 1] = begin[rings]
    col, row = path % (geobox.shape[1] + 1), path // (geobox.shape[1] + 1)
    t = geobox.transform
    points = np.stack([t.c + t.a * col + t.b * row, t.f + t.d * col + t.e * row], axis=1)
    counts = np.bincount(owner[heads])
    ring_ends, polygon_ends = np.append(0, ends), np.append(0, np.cumsum(counts))
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (ring_ends, polygon_ends))
    return np.asarray(polygons, dtype=object)


def _successors(owner: Ints, edges: Ints) -> Ints:
    """The index of the edge that follows each edge.

    At a node where a polygon lies on both sides of a diagonal, its edges go from the one pixel to the other. This keeps
    apart the rings that touch there, as OGC's Simple Features ask. Two different polygons keep to their own pixels.
    """
    name, following, vertex = edges
    low = int(name.min())
    span = int(name.max()) - low + 1
    follows: Ints = np.empty(len(name), np.int64)
    if span <= _TABLE_ROOM * len(name):
        table = np.empty(span, np.int32)
        table[name - low] = np.arange(len(name))
        follows[:] = table[following - low]
    else:
        follows[np.argsort(following)] = np.argsort(name)
    saddle = np.flatnonzero(vertex & 1)
    saddle = saddle[np.lexsort((vertex[saddle], owner[saddle]))]
    one, other = saddle[:-1], saddle[1:]
    both = (owner[one] == owner[other]) & (vertex[one] == vertex[other])
    one, other = one[both], other[both]
    follows[one], follows[other] = follows[other], follows[one]
    return follows
