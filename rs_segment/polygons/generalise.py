"""How are borders drawn with fewer corners, or without the steps of pixels, and still fit together?

Arcs are changed one by one, yet never cross, touch or swallow each other, because no change sweeps over a vertex.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GridError
from .arcs import Arcs
from .places import Places, portions
from .ragged import ragged

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FIELD_BITS = 7
_STAYS = int(np.iinfo(np.int64).max)


def simplify(arcs: Arcs, tolerance: float) -> Arcs:
    """The arcs without the corners that stand out least (Visvalingam & Whyatt 1993).

    A corner goes while its triangle with its neighbours is no larger than a square of the tolerance, of neighbours the
    smaller one first. Ends stay, and so does the first vertex of a closed arc.

    Why nothing crosses: a corner q between p and r goes only if no vertex of the original arcs lies in the triangle pqr
    or on it, but those of its own arc between p and r. So arcs are pulled tight without passing a vertex, and two that
    cross when they are tight would have crossed from the beginning. They can only fall together where two arcs between
    the same two nodes both become the straight line. Arcs that pass no vertex of each other on the way to it come from
    different sides of it, and only those on one side may become it (left of the way from the upper node to the lower);
    none may where it is a row or a column, as one of them may have been there from the beginning. A line along the
    first or the last row is left alone, as it may be that of an arc in another strip of rows. Closed arcs keep three
    vertices. So every polygon keeps an area, and a coverage remains one.

    Args:
        arcs: Their vertices are corners of pixels. Neither their order nor their directions matter.
        tolerance: In pixels. At 0 only vertices that lie straight between their neighbours go.

    Raises:
        GridError: There are vertices between the corners of pixels.
    """
    if not len(arcs):
        return arcs
    arcs = _unbent(arcs)
    pruning = _Pruning(arcs, tolerance)
    pruning.run()
    return _select(arcs, pruning.alive)


def smooth(arcs: Arcs, distance: float) -> Arcs:
    """The arcs with their corners cut, so that even steps of pixels become straight lines.

    A corner gives way to a line between its two edges, from half of each edge or from ``distance``, whichever is
    nearer. Where the triangle that is cut off would hold another vertex, it is cut at a half or a quarter of that, or
    not at all. Ends stay, and so does the first vertex of a closed arc that is no loop.

    Why nothing crosses: no edge ends in a triangle that is cut off, nor crosses the two sides of it that are parts of
    edges; so none enters through the third, as it could not leave again. Two triangles share the middle of an edge at
    most.

    Args:
        arcs: Their vertices are corners of pixels, as from ``simplify``. Neither their order nor their directions
            matter.
        distance: In pixels; nothing moves farther.

    Raises:
        GridError: There are vertices between the corners of pixels.
    """
    if not len(arcs) or distance <= 0:
        return arcs
    arcs = _unbent(arcs)
    xy, first, last = arcs.xy, arcs.start[:-1], arcs.start[1:] - 1
    before, after = np.arange(-1, len(xy) - 1), np.arange(1, len(xy) + 1)
    before[first], after[last] = last - 1, first + 1
    bent = np.ones(len(xy), bool)
    bent[first] = bent[last] = arcs.loop
    corners = np.flatnonzero(bent & (_cross(xy.take(before, 0), xy, xy.take(after, 0)) != 0))
    own = xy.take(corners, 0)
    to, on = xy.take(before[corners], 0) - own, xy.take(after[corners], 0) - own
    back, ahead = np.zeros(len(xy)), np.zeros(len(xy))
    back[corners], ahead[corners] = _legs(xy, own, to, on, distance)
    points = np.stack([xy, xy], axis=1)
    points[corners, 0] += to * back[corners, None]
    points[corners, 1] += on * ahead[corners, None]
    # Two cuts that meet in the middle of an edge have one point there.
    used = np.stack([(back < 0.5) | (ahead[before] < 0.5), ahead > 0], axis=1)
    # A loop begins and ends at one of the two points of its first corner, whichever way it runs.
    loops = np.flatnonzero(arcs.loop & (ahead[first] > 0))
    one, other = points[first[loops], 0], points[first[loops], 1]
    sooner = (one[:, 1] < other[:, 1]) | ((one[:, 1] == other[:, 1]) & (one[:, 0] < other[:, 0]))
    used[first[loops], 0], used[last[loops], 1] = sooner, ~sooner
    ends = np.append(0, np.cumsum(used.sum(axis=1)))
    return _unbent(Arcs(points[used], ends[arcs.start], arcs.loop))


def _legs(xy: Floats, corners: Floats, to: Floats, on: Floats, distance: float) -> tuple[Floats, Floats]:
    """Which part of its two edges each corner loses, at most 0.5; 0 where it stays.

    Args:
        xy: float64 (n, 2), all vertices.
        corners: float64 (k, 2), the corners.
        to: float64 (k, 2), the way to the vertex before each.
        on: float64 (k, 2), the way to the vertex after it.
        distance: In pixels.
    """
    lengths = [np.sqrt((way**2).sum(axis=1)) for way in (to, on)]
    back, ahead = (np.minimum(0.5, distance / length) for length in lengths)
    # With a leg of a pixel along a row or a column, a triangle with a right angle holds no corner of a pixel but those
    # on its other leg.
    narrow = np.minimum(lengths[0] * back, lengths[1] * ahead) <= 1
    asked = np.flatnonzero(~(narrow & (to * on == 0).all(axis=1)))
    x, y = _lattice(xy)
    if not len(asked):
        return back, ahead
    places = Places(x, y)
    for _ in range(3):
        q = corners[asked]
        p, r = q + to[asked] * back[asked, None], q + on[asked] * ahead[asked, None]
        triangles = np.stack([p, q, r])
        asked = asked[places.count(triangles[:, :, 0], triangles[:, :, 1]) > 1]
        back[asked] /= 2
        ahead[asked] /= 2
    back[asked] = ahead[asked] = 0
    return back, ahead


def _unbent(arcs: Arcs) -> Arcs:
    """The arcs without vertices that lie straight between their neighbours."""
    keep = np.ones(len(arcs.xy), bool)
    keep[1:-1] = _cross(arcs.xy[:-2], arcs.xy[1:-1], arcs.xy[2:]) != 0
    keep[arcs.start[:-1]] = keep[arcs.start[1:] - 1] = True
    return _select(arcs, keep)


def _select(arcs: Arcs, keep: Mask) -> Arcs:
    kept = np.append(0, np.cumsum(keep))
    return Arcs(arcs.xy[keep], kept[arcs.start], arcs.loop)


def _lattice(xy: Floats) -> tuple[Ints, Ints]:
    """Columns and rows, as whole numbers."""
    x, y = xy[:, 0].astype(np.int64), xy[:, 1].astype(np.int64)
    if (x != xy[:, 0]).any() or (y != xy[:, 1]).any():
        raise GridError("borders have vertices between the corners of pixels; simplify them before they are smoothed")
    return x, y


def _cross(p: NDArray[Any], q: NDArray[Any], r: NDArray[Any]) -> NDArray[Any]:
    """Twice the area of triangles, with a sign."""
    cross: NDArray[Any] = (p[:, 0] - q[:, 0]) * (r[:, 1] - q[:, 1]) - (r[:, 0] - q[:, 0]) * (p[:, 1] - q[:, 1])
    return cross


class _Pruning:
    """Takes corners off arcs in rounds, those of all arcs at once.

    In each round those go that weigh less than both of their neighbours. Whether a triangle holds a vertex is only
    asked when its turn has come, and not again before a neighbour has gone.
    """

    def __init__(self, arcs: Arcs, tolerance: float) -> None:
        count = len(arcs.xy)
        first, last = arcs.start[:-1], arcs.start[1:] - 1
        # A tolerance that is a whole number but for rounding, as one that was in metres, counts as that number.
        self._limit = min(2 * int(2 * tolerance**2 * (1 + 1e-9)) + 1, _STAYS - 1)
        self._x, self._y = _lattice(arcs.xy)
        self._places = Places(self._x, self._y)
        place = (self._y << 30) + self._x
        self._tie = _hash(place)
        self._arc = np.repeat(np.arange(len(arcs)), last - first + 1)
        self._before, self._after = np.arange(-1, count - 1), np.arange(1, count + 1)
        self._inner = np.ones(count, bool)
        self._inner[first] = self._inner[last] = False
        self._weight = np.full(count, _STAYS)
        self._stamp = np.empty(count, np.int64)
        # How many more corners of each arc may go.
        self._closed = place[first] == place[last]
        self._room = last - first - 1 - np.where(self._closed, 2, np.where(self._may_vanish(place, first, last), 0, 1))
        self.alive = np.ones(count, bool)

    def run(self) -> None:
        """Go on until no corner may go."""
        asked = np.flatnonzero(self._inner)
        self._weigh(asked)
        while len(asked):
            turn = self._lightest(asked)
            holds = self._holds_vertex(turn)
            stuck, gone = turn[holds], self._spared(turn[~holds])
            self._weight[stuck] = _STAYS
            changed = self._remove(gone)
            self._weigh(changed)
            near = [side[corners] for side in (self._before, self._after) for corners in (changed, stuck)]
            asked = self._corners(changed, *near)

    def _may_vanish(self, place: Ints, first: Ints, last: Ints) -> Mask:
        """Whether each arc may become the straight line between its ends, as no other arc is or becomes that line."""
        x, y = self._x, self._y
        low, high = np.minimum(place[first], place[last]), np.maximum(place[first], place[last])
        order = np.lexsort((high, low))
        one, other = order[:-1], order[1:]
        both = (low[one] == low[other]) & (high[one] == high[other])
        alone = np.ones(len(first), bool)
        alone[one[both]] = alone[other[both]] = False
        row, col = y[first] == y[last], x[first] == x[last]
        chosen = ~row & ~col & (self._swept(first, last) * np.sign(place[last] - place[first]) > 0)
        on_rim = row & ((y[first] == y.min()) | (y[first] == y.max()))
        may: Mask = (alone | chosen) & ~on_rim
        return may

    def _swept(self, first: Ints, last: Ints) -> Ints:
        """Twice the area between each arc and the straight line between its ends, with a sign."""
        x, y = self._x, self._y
        cross = np.zeros(len(x), np.int64)
        np.subtract(x[:-1] * y[1:], x[1:] * y[:-1], out=cross[:-1])
        cross[last] = x[last] * y[first] - x[first] * y[last]
        return np.add.reduceat(cross, first)

    def _weigh(self, corners: Ints) -> None:
        """Find what corners weigh; those weigh too much whose triangles are too large.

        A corner weighs four times the area of its triangle, and one more on one side of the border: of even steps those
        on the other side go first, and a straight line is left. The side changes from field to field of a chessboard,
        so that the map as a whole does not move.
        """
        p, r = self._before[corners], self._after[corners]
        x, y = self._x[corners], self._y[corners]
        px, py, rx, ry = self._x[p] - x, self._y[p] - y, self._x[r] - x, self._y[r] - y
        weight = 2 * np.abs(px * ry - rx * py)
        weight += (((py + ry) << 30) + px + rx < 0) ^ ((x ^ y) >> _FIELD_BITS & 1)
        weight[weight > self._limit] = _STAYS
        self._weight[corners] = weight

    def _lightest(self, corners: Ints) -> Ints:
        """Those whose turn it is."""
        weight = self._weight[corners]
        may = np.flatnonzero(weight < _STAYS)
        corners, weight = corners[may], weight[may]
        turn = np.ones(len(corners), bool)
        for side in (self._before, self._after):
            other = side[corners]
            against = self._weight[other]
            turn &= weight <= against
            same = np.flatnonzero(weight == against)
            turn[same] &= self._tie[corners[same]] < self._tie[other[same]]
        corners = corners[turn]
        return corners[self._room[self._arc[corners]] > 0]

    def _holds_vertex(self, corners: Ints) -> Mask:
        """Whether the triangle of a corner holds a vertex that it must not."""
        holds = np.zeros(len(corners), bool)
        # The smallest triangles hold no corner of a pixel but their own three.
        asked = np.flatnonzero(self._weight[corners] > 3)
        q = corners[asked]
        p, r = self._before[q], self._after[q]
        x, y = (np.stack([values[p], values[q], values[r]]) for values in (self._x, self._y))
        # Nor do those between two neighbouring rows or columns, if q is in one with p or r: the edge between is empty.
        flat = (np.ptp(y, axis=0) == 1) & (y[0] != y[2]) | (np.ptp(x, axis=0) == 1) & (x[0] != x[2])
        asked, p, q, r = (corner[~flat] for corner in (asked, p, q, r))
        others = self._places.count(x[:, ~flat], y[:, ~flat]) - 3
        some = np.flatnonzero(others)
        others[some] -= self._own(p[some], q[some], r[some])
        holds[asked] = others > 0
        return holds

    def _own(self, p: Ints, q: Ints, r: Ints) -> Ints:
        """How many vertices of its own arc between p and r lie in each triangle, but q."""
        found = np.zeros(len(p), np.int64)
        x, y = self._x, self._y
        count = r - p - 1
        for part in portions(count):
            each = np.repeat(np.arange(part.start, part.stop), count[part])
            own = ragged(p[part] + 1, count[part])
            sides = []
            for a, b in ((p, q), (q, r), (r, p)):
                dx, dy = x[b] - x[a], y[b] - y[a]
                sides.append(dx[each] * (y[own] - y[a[each]]) - dy[each] * (x[own] - x[a[each]]))
            inside = (np.minimum.reduce(sides) >= 0) | (np.maximum.reduce(sides) <= 0)
            found[part] = np.bincount(each - part.start, inside, part.stop - part.start) - 1
        return found

    def _spared(self, corners: Ints) -> Ints:
        """The same, but of two corners of a closed arc that must keep one of them only the one whose turn is first."""
        arc = self._arc[corners]
        few = np.flatnonzero(self._closed[arc] & (self._room[arc] == 1))
        if not len(few):
            return corners
        few = few[np.lexsort((self._tie[corners[few]], self._weight[corners[few]], arc[few]))]
        later = few[1:][arc[few[1:]] == arc[few[:-1]]]
        spared: Ints = np.delete(corners, later)
        return spared

    def _remove(self, corners: Ints) -> Ints:
        """Take corners away; those that have a new neighbour."""
        self.alive[corners] = False
        before, after = self._before[corners], self._after[corners]
        self._after[before] = after
        self._before[after] = before
        np.subtract.at(self._room, self._arc[corners], 1)
        return self._corners(before, after)

    def _corners(self, *parts: Ints) -> Ints:
        """Each of these once that is no end."""
        some = np.concatenate(parts)
        some = some[self._inner[some]]
        self._stamp[some] = np.arange(len(some))
        once: Ints = some[self._stamp[some] == np.arange(len(some))]
        return once


def _hash(values: Ints) -> Ints:
    """Different numbers for different numbers below 2**60, without order."""
    key = values * np.int64(0x9E3779B1) & np.int64((1 << 60) - 1)
    return key ^ key >> np.int64(29)
