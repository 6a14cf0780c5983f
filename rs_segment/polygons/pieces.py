"""What is drawn already of polygons that are not complete, and how does it become rings?

A piece is one side of a border, as far as one strip of rows saw it. It has a name and knows the name of the piece that
follows around its polygon; the vertices of all pieces lie in one array.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from .chains import Ints, ranks
from .ragged import ragged

Points = NDArray[np.complexfloating[Any, Any]]

_SPARSE = 32
_MANY = 8


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Sides of borders as columns.

    Args:
        owner: int64 (n,), the component on the left; -1 where it is gone.
        name: int64 (n,), of the piece.
        follow: int64 (n,), name of the piece that follows around the component.
        meeting: int64 (n,), the vertex at the end where two pixels of one label touch diagonally across it, else -1.
        begin, count, step: int64 (n,), where the vertices lie: ``count`` of them from ``begin`` on, in steps of 1 or
            -1.
        low: float64 (n,), the first of the vertices in the order of rows.
        at: int64 (n,), its place among the piece's vertices; outside 0 to count - 1 where another piece has it.
        points: complex64 or complex128 (m,), the vertices: col + row j, in pixels.
    """

    owner: Ints
    name: Ints
    follow: Ints
    meeting: Ints
    begin: Ints
    count: Ints
    step: Ints
    low: NDArray[np.float64]
    at: Ints
    points: Points

    def __len__(self) -> int:
        return len(self.owner)

    @classmethod
    def join(cls, parts: Iterable[Pieces]) -> Pieces:
        """All pieces in one."""
        parts = list(parts)
        shift = np.cumsum([0, *(len(part.points) for part in parts[:-1])])
        moved = [replace(part, begin=part.begin + by) for part, by in zip(parts, shift, strict=True)]
        return cls(*(np.concatenate([getattr(part, column.name) for part in moved]) for column in fields(cls)))

    def take(self, which: Any) -> Pieces:
        """Some of the pieces, on the same points."""
        which = np.flatnonzero(which) if which.dtype == bool else which
        columns: dict[str, Any] = {c.name: getattr(self, c.name)[which] for c in fields(self)[:-1]}
        return replace(self, **columns)

    def alone(self) -> Pieces:
        """The same pieces with no points but their own, one piece after the other."""
        begin = np.cumsum(self.count) - self.count
        points = self.points[ragged(self.begin, self.count, self.step)]
        return replace(self, begin=begin, step=np.ones(len(self), np.int64), points=points)


@dataclass(frozen=True, slots=True, eq=False)
class _Heap:
    """Pieces in the order of their owners, so that owners can be renumbered, and leave, without a look at pieces.

    Args:
        pieces: Their ``owner`` is not looked at.
        owners: int64 (n,), the owners; -1 where one has left.
        start: int64 (n + 1,), where the pieces of each begin.
        weight: int64 (n,), the number of vertices of each.
        level: How often its pieces were moved.
    """

    pieces: Pieces
    owners: Ints
    start: Ints
    weight: Ints
    level: int

    @classmethod
    def of(cls, pieces: Pieces, level: int) -> _Heap:
        pieces = pieces.take(np.argsort(pieces.owner, kind="stable")).alone()
        first = np.flatnonzero(np.diff(pieces.owner, prepend=-1))
        weight = np.add.reduceat(pieces.count, first) if len(first) else pieces.count
        return cls(pieces, pieces.owner[first], np.append(first, len(pieces)), weight, level)

    def taken(self, which: Ints, owners: Ints) -> Pieces:
        """The pieces of some owners, under the numbers of other ones."""
        count = self.start[which + 1] - self.start[which]
        return replace(self.pieces.take(ragged(self.start[which], count)), owner=np.repeat(owners[which], count))

    def plain(self) -> Pieces:
        """The pieces of all who have not left."""
        return self.taken(np.flatnonzero(self.owners >= 0), self.owners)


class Shelf:
    """Pieces of components that are still open.

    They lie in heaps, one a strip; when some heaps of like size have gathered, they become one, so that there are never
    many, and none is copied often.
    """

    def __init__(self) -> None:
        self._heaps: list[_Heap] = []

    def put(self, pieces: Pieces, number: Ints) -> None:
        """Keep pieces, whose owners get new numbers."""
        if not len(pieces):
            return
        self._heaps.append(_Heap.of(replace(pieces, owner=number[pieces.owner]), 0))
        while len(self._heaps) >= _MANY and len({heap.level for heap in self._heaps[-_MANY:]}) == 1:
            like = self._heaps[-_MANY:]
            whole = Pieces.join([heap.plain() for heap in like])
            self._heaps[-_MANY:] = [_Heap.of(whole, like[0].level + 1)]

    def sort_out(self, now: Ints, ended: NDArray[np.bool_], number: Ints) -> list[Pieces]:
        """The pieces of components that have ended, which go.

        Args:
            now: int64 (n,), the component that each former one is part of.
            ended: bool (m,), by component.
            number: int64 (m,), the new number of components that have not ended; the pieces that stay get it.
        """
        gone, kept = [], []
        for heap in self._heaps:
            here = np.flatnonzero(heap.owners >= 0)
            owners = np.full(len(heap.owners), -1)
            owners[here] = now[heap.owners[here]]
            over = here[ended[owners[here]]]
            if len(over):
                gone.append(heap.taken(over, owners))
                owners[over] = -1
            here = np.flatnonzero(owners >= 0)
            owners[here] = number[owners[here]]
            heap = replace(heap, owners=owners)
            if 2 * int(heap.weight[here].sum()) < len(heap.pieces.points):
                heap = _Heap.of(heap.plain(), heap.level)
            if len(here):
                kept.append(heap)
        self._heaps = kept
        return gone


def polygons(pieces: Pieces, transform: Affine) -> NDArray[np.object_]:
    """Polygons 0, 1, 2 and so on from all their pieces.

    Each ring begins at its first vertex in the order of rows; the exterior is the ring that begins first. Exteriors run
    counter-clockwise in the plane of x and y whatever the orientation of the grid, holes clockwise.

    Args:
        pieces: ``owner`` is the polygon.
        transform: From pixels (col, row) to the coordinates that are wanted.
    """
    follow = _successors(pieces)
    before = np.empty(len(follow), np.int64)
    before[follow] = np.arange(len(follow))
    stand, rank = ranks(before)
    heads = np.flatnonzero(stand == np.arange(len(stand)))
    number = np.empty(len(stand), np.int64)
    number[heads] = np.arange(len(heads))
    ring = number[stand]
    size = np.bincount(ring)

    low = np.full(len(heads), np.inf)
    has = np.flatnonzero((pieces.at >= 0) & (pieces.at < pieces.count))
    np.minimum.at(low, ring[has], pieces.low[has])
    opens = has[pieces.low[has] == low[ring[has]]]
    opening = np.empty(len(heads), np.int64)
    opening[ring[opens]] = opens
    owner = pieces.owner[heads]
    order = np.lexsort((low, owner))

    # A ring is its opening piece from the first vertex on, the others, and the opening piece up to the first vertex.
    slots = size[order] + 1
    ends = np.cumsum(slots)
    base = np.empty(len(heads), np.int64)
    base[order] = ends - slots
    sequence = np.empty(ends[-1], np.int64)
    sequence[base[ring] + (rank - rank[opening[ring]]) % size[ring]] = np.arange(len(stand))
    first, last = ends - slots, ends - 1
    sequence[last] = opening[order]
    begin, count, step = (column[sequence] for column in (pieces.begin, pieces.count, pieces.step))
    at = pieces.at[sequence[last]]
    count[last] = at + 1
    begin[first] += step[first] * at
    count[first] -= at
    # One piece alone is both the first and the whole of its ring.
    points = pieces.points[ragged(begin, count, step)]
    ring_ends = np.append(0, np.cumsum(count)[last])
    if transform.determinant > 0:
        points = _reversed(points, ring_ends)
    ring_counts = np.bincount(owner)
    polygon_ends = np.append(0, np.cumsum(ring_counts))
    found = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, placed(points, transform), (ring_ends, polygon_ends)
    )
    return np.asarray(found, dtype=object)


def placed(points: Points, transform: Affine) -> NDArray[np.float64]:
    """float64 (n, 2), the coordinates of points in pixels."""
    t, (col, row) = transform, (points.real, points.imag)
    out = np.empty((len(points), 2))
    if t.b == 0 and t.d == 0:
        for column, values, scale, origin in ((out[:, 0], col, t.a, t.c), (out[:, 1], row, t.e, t.f)):
            np.multiply(values, scale, out=column, dtype=np.float64)
            column += origin
    else:
        col, row = col.astype(np.float64), row.astype(np.float64)
        out[:, 0] = t.c + t.a * col + t.b * row
        out[:, 1] = t.f + t.d * col + t.e * row
    return out


def _reversed(points: Points, ring_ends: Ints) -> Points:
    """The points of each ring in the other order."""
    count = np.diff(ring_ends)
    return points[ragged(ring_ends[1:] - 1, count, np.full(len(count), -1))]


def _successors(pieces: Pieces) -> Ints:
    """The index of the piece that follows each piece.

    Where a polygon lies on both sides of a diagonal, its pieces go from the one pixel to the other. This keeps apart
    the rings that touch there, as OGC's Simple Features ask. Two different polygons keep to their own pixels.
    """
    name, following = pieces.name, pieces.follow
    low = int(name.min())
    span = int(name.max()) - low + 1
    follow: Ints = np.empty(len(name), np.int64)
    if span <= _SPARSE * len(name):
        table = np.empty(span, np.int64)
        table[name - low] = np.arange(len(name))
        follow[:] = table[following - low]
    else:
        follow[np.argsort(following)] = np.argsort(name)
    meets = np.flatnonzero(pieces.meeting >= 0)
    meets = meets[np.lexsort((pieces.meeting[meets], pieces.owner[meets]))]
    one, other = meets[:-1], meets[1:]
    both = (pieces.owner[one] == pieces.owner[other]) & (pieces.meeting[one] == pieces.meeting[other])
    one, other = one[both], other[both]
    follow[one], follow[other] = follow[other], follow[one]
    return follow
