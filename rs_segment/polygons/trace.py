"""Where do the borders of a strip of rows run, and what lies on each side of them?

Corners of pixels where borders bend or meet are nodes. Where a border only bends, two edges meet, a horizontal and a
vertical one, so that a border is a chain of horizontal edges; it ends where three or four edges meet, or where the
strip ends. Such an arc is traced once for both its sides. Seen from its sides, arcs follow each other around the
components (4-connected, of one label): each side has its component on the left, and turns left wherever it can.

Components need no pass over the pixels: the sides around one are cyclic, the outer cycle encloses a positive area, and
a hole belongs to the cycle that is met first to the left of its topmost pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .chains import Ints, ranks
from .ragged import ragged
from .seldom import Seldom

Bools = NDArray[np.bool_]

EAST, SOUTH, WEST, NORTH, DOWN, UP = range(6)
"""How a side leaves the vertex it is named after. What crosses the line between two strips is two sides: one in the
upper strip that ends or begins at the line, and one of length zero in the lower strip, DOWN or UP, which knows where
the way goes on. DOWN is named after the line's vertex and follows what arrives from above; UP precedes what leaves."""

CODES = 8
"""A side's name is ``CODES`` times its vertex, plus how it leaves it."""

EAST_EDGE, _S, WEST_EDGE, _N = 1, 2, 4, 8
_E, _W = EAST_EDGE, WEST_EDGE
_BENDS = np.isin(np.arange(16), [_E | _S, _S | _W, _W | _N, _N | _E])


def _turns() -> Ints:
    """The heading after a node, by (edges at the node, heading before): left if there is an edge, else ahead, right."""
    table = np.full((16, 4), -1, np.int64)
    for edges in range(16):
        for heading in range(4):
            for turn in ((heading + 1) % 4, heading, (heading + 3) % 4):
                if edges >> turn & 1:
                    table[edges, heading] = turn
    return table


_TURN = _turns()


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Both sides of all arcs, but for those that look at what is outside.

    Args:
        arc: int64 (n,), the arc; -1 for the sides of length zero at the upper end of the strip.
        forward: bool (n,), whether the side runs as the arc is listed.
        node, leaves: int64 (n,), where it begins, as an index of a node, and how it leaves it.
        end, arrives: int64 (n,), where it ends, and with which heading.
    """

    arc: Ints
    forward: Bools
    node: Ints
    leaves: Ints
    end: Ints
    arrives: Ints

    def take(self, which: Any) -> Sides:
        """Some of the sides."""
        return Sides(*(getattr(self, name)[which] for name in self.__slots__))


class Strip:
    """Some rows of labels, and the last row of the strip above.

    Args:
        labels: (rows + 1, width + 2), any integer type; ``outside`` in the first and the last column.
        outside: The label of what is no component.
    """

    def __init__(self, labels: NDArray[Any], outside: int) -> None:
        self.height, self.width = labels.shape[0] - 1, labels.shape[1]
        self.label, self.outside = labels.ravel(), outside
        self._find_nodes()
        self._link_edges()
        self._list_arcs()
        self._list_sides()
        self._encircle()

    def _find_nodes(self) -> None:
        """Nodes in the order of rows; each is named after the pixel to its upper left."""
        width, label = self.width, self.label
        size = self.height * width - 1
        # The ends of rows are outside on both sides, so that rows can be compared end to end without a false border.
        self.beside = label[:-1] != label[1:]
        below = label[:-width] != label[width:]
        north, south = self.beside[:size], self.beside[width : width + size]
        west, east = below[:size], below[1 : size + 1]
        found = north | south
        found &= west | east
        # What crosses the upper line is cut there, and so is what crosses the lower.
        found[:width] |= north[:width]
        inner = Seldom(found).places()
        under = np.flatnonzero(self.beside[size + 1 :]) + size + 1
        self.place = np.concatenate([inner, under])
        edges = east[inner] * np.uint8(_E)
        edges |= south[inner] * np.uint8(_S)
        edges |= west[inner] * np.uint8(_W)
        edges |= north[inner] * np.uint8(_N)
        self.edges = np.concatenate([edges, np.full(len(under), _N, np.uint8)])
        self.line = self.place // width
        self.col = self.place - self.line * width
        self.lower = len(inner)
        upper = int(np.searchsorted(self.place, width))
        self.crossing = np.flatnonzero(self.edges[:upper] & _N)
        self._bends = _BENDS[self.edges]
        self._bends[self.crossing] = False

    def _by_column(self) -> Ints:
        """The nodes in the order of columns, from top to bottom in each."""
        small = self.width <= np.iinfo(np.uint16).max
        return np.argsort(self.col.astype(np.uint16) if small else self.col, kind="stable")

    def _link_edges(self) -> None:
        """Edges with the greater label on their left; the horizontal ones are linked through the vertical ones."""
        label, place, width = self.label, self.place, self.width
        start = np.flatnonzero(self.edges & _E)
        corner = place[start] + 1
        eastward = label[corner] > label[corner + width]
        self._tail, self._head = np.where(eastward, start, start + 1), np.where(eastward, start + 1, start)
        # A bend has one horizontal edge; it is the last that begins at it or before it.
        self._edge = np.cumsum((self.edges & _E).astype(bool)) - 1
        order = self._by_column()
        at = np.flatnonzero(self.edges[order] & _S)
        top, bottom = order[at], order[at + 1]
        corner = place[top] + width
        southward = label[corner + 1] > label[corner]
        source, target = np.where(southward, top, bottom), np.where(southward, bottom, top)
        begins, ends = ~self._bends[source], ~self._bends[target]
        inner = np.flatnonzero(~(begins | ends))
        earlier = self._edge[source[inner]]
        self._before = np.arange(len(start))
        self._before[self._edge[target[inner]]] = earlier
        self._last = np.ones(len(start), bool)
        self._last[earlier] = False
        self._directed = source, target
        self._from_end, self._to_end = np.flatnonzero(begins & ~ends), np.flatnonzero(ends & ~begins)
        self._between_ends = np.flatnonzero(begins & ends)
        self._vertical = top, bottom

    def _list_arcs(self) -> None:
        """The nodes along each arc, both ends included; a closed arc without an end begins at its first node."""
        stand, rank = ranks(self._before, self._last)
        first = self._before == np.arange(len(stand))
        closed = np.flatnonzero(~first[stand])
        # The first edge of a loop in the order of rows begins at its first node.
        opening = np.full(len(stand), -1, np.int64)
        opening[stand[closed[::-1]]] = closed[::-1]
        begin = opening[stand[closed]]
        loops = np.unique(begin)
        heads = np.flatnonzero(first)
        source, target = self._directed
        from_end, to_end, alone = self._from_end, self._to_end, self._between_ends

        arcs = len(heads) + len(loops) + len(alone)
        number = np.empty(len(stand), np.int64)
        number[heads] = np.arange(len(heads))
        number[loops] = np.arange(len(loops)) + len(heads)
        stand[closed] = begin
        arc = number[stand]
        edges = np.bincount(arc, minlength=arcs)
        westward = self._head < self._tail
        rank[closed] = (rank[closed] - rank[begin] - westward[begin]) % edges[arc[closed]]

        ahead, after = np.full(arcs, -1, np.int64), np.full(arcs, -1, np.int64)
        ahead[arc[self._edge[target[from_end]]]] = source[from_end]
        after[arc[self._edge[source[to_end]]]] = target[to_end]
        ahead[arcs - len(alone) :], after[arcs - len(alone) :] = source[alone], target[alone]
        west = westward[loops]
        own = np.arange(len(heads), len(heads) + len(loops))
        ahead[own[west]] = self._head[loops[west]]
        after[own[~west]] = self._tail[loops[~west]]

        extra = ahead >= 0
        self.start = np.zeros(arcs + 1, np.int64)
        np.cumsum(2 * edges + extra + (after >= 0), out=self.start[1:])
        self.path = np.empty(self.start[-1], np.int64)
        at = (self.start[:-1] + extra)[arc] + 2 * rank
        self.path[at], self.path[at + 1] = self._tail, self._head
        self.path[self.start[:-1][extra]] = ahead[extra]
        self.path[self.start[1:][after >= 0] - 1] = after[after >= 0]
        self.loop = np.zeros(arcs, bool)
        self.loop[own] = True
        self._arc = arc
        self._alone = np.full(len(source), -1)
        self._alone[alone] = np.arange(arcs - len(alone), arcs)
        run = self.line[self._tail] * (self.col[self._head] - self.col[self._tail])
        self.area = np.bincount(arc, run, minlength=arcs).astype(np.int64)

    def _list_sides(self) -> None:
        ends = self.path[self.start[:-1]], self.path[self.start[1:] - 1]
        leaves = self._heading(ends[0], self.path[self.start[:-1] + 1])
        arrives = self._heading(self.path[self.start[1:] - 2], ends[1])
        arcs, cut = np.arange(len(leaves)), self.crossing
        none, ways = np.full(len(cut), -1), np.ones(len(cut), np.int64)
        both = Sides(
            np.concatenate([arcs, arcs, none, none]),
            np.repeat([True, False, True, True], [len(arcs), len(arcs), len(cut), len(cut)]),
            np.concatenate([ends[0], ends[1], cut, cut]),
            np.concatenate([leaves, arrives ^ 2, DOWN * ways, UP * ways]),
            np.concatenate([ends[1], ends[0], cut, cut]),
            np.concatenate([arrives, leaves ^ 2, SOUTH * ways, NORTH * ways]),
        )
        width = self.width
        on_left = np.array([1, width + 1, width, 0, 1, 0])
        label = self.label[self.place[both.node] + on_left[both.leaves]]
        inside = np.flatnonzero(label != self.outside)
        self.sides, self.side_label = both.take(inside), label[inside]

    @cached_property
    def ways(self) -> Ints:
        """How the side that follows each side leaves the node between them, in this strip or in one beside it."""
        ways: Ints = _TURN[self.edges[self.sides.end], self.sides.arrives]
        ways[(ways == NORTH) & (self.line[self.sides.end] == 0)] = UP
        ways[self.sides.end >= self.lower] = DOWN
        ways[self.sides.leaves == UP] = NORTH
        return ways

    def meets(self) -> Bools:
        """Whether a side ends where a pixel of its label lies diagonally across the node."""
        sides, width = self.sides, self.width
        corner = np.array([0, 1, width + 1, width])
        crossed = np.flatnonzero((self.edges[sides.end] == _E | _S | _W | _N) & (sides.leaves != UP))
        place, heading = self.place[sides.end[crossed]], sides.arrives[crossed]
        across = self.label[place + corner[heading]] == self.label[place + corner[heading ^ 2]]
        found = np.zeros(len(sides.arc), bool)
        found[crossed[across]] = True
        return found

    def runs(self) -> tuple[Ints, Ints]:
        """(where each run of pixels begins among the labels, its component); -1 outside and above the strip.

        Runs are one after the other, so that each ends where the next begins.
        """
        top, bottom = self._vertical
        first = self.place[top] + self.width + 1
        inside = np.flatnonzero(self.label[first] != self.outside)
        rows = self.line[bottom[inside]] - self.line[top[inside]]
        part = np.full(len(self.label), -1)
        owner = self.component[self._looking_east(inside)]
        part[ragged(first[inside], rows, self.width)] = np.repeat(owner, rows)
        begin = np.append(0, np.flatnonzero(self.beside) + 1)
        return begin, part[begin]

    def _cycles(self) -> tuple[Ints, int]:
        """(cycle of each side, number of cycles), when each run of pixels at an end of the strip is closed there."""
        node, ways = self.sides.end.copy(), self.ways.copy()
        falls = np.flatnonzero(ways == DOWN)
        node[falls], ways[falls] = node[falls] + 1, NORTH
        rises = np.flatnonzero(self.sides.leaves == UP)
        node[rises] = self.crossing[np.searchsorted(self.crossing, node[rises]) - 1]
        ways[rises] = DOWN
        self._named = np.empty(CODES * len(self.place), np.int64)
        count = len(node)
        self._named[CODES * self.sides.node + self.sides.leaves] = np.arange(count)
        stand, _ = ranks(self._named[CODES * node + ways])
        heads = stand == np.arange(count)
        return (np.cumsum(heads) - 1)[stand], int(np.count_nonzero(heads))

    def _encircle(self) -> None:
        """Components from the cycles of sides; each has one outer cycle."""
        cycle, count = self._cycles()
        sides = self.sides
        traced = sides.arc >= 0
        area = np.where(traced, np.where(sides.forward, 1, -1) * self.area[sides.arc], 0)
        falls = np.flatnonzero(sides.end >= self.lower)
        area[falls] += self.height * (self.col[sides.end[falls] + 1] - self.col[sides.end[falls]])
        outer = np.bincount(cycle, area, minlength=count) > 0
        outer[cycle[~traced]] = True
        nearest = np.full(count, len(self.place))
        lowest = np.minimum.reduceat(self.path, self.start[:-1]) if len(self.area) else self.path
        np.minimum.at(nearest, cycle[traced], lowest[sides.arc[traced]])
        within = np.arange(count)
        holes = np.flatnonzero(~outer)
        if len(holes):
            within[holes] = cycle[self._left_of(nearest[holes])]
            while not outer[within].all():
                within = within[within]
        number = np.cumsum(outer) - 1
        self.component, self.count = number[within][cycle], int(np.count_nonzero(outer))
        self.side_area = area
        self.greatest = np.maximum.reduceat(self.path, self.start[:-1]) if len(self.area) else self.path
        self.first_node = nearest[outer]

    def _left_of(self, node: Ints) -> Ints:
        """The sides that look, from the left, at the pixels to the upper right of some nodes."""
        left = Seldom(self.beside).last(self.place[node])
        row = left // self.width
        cut = row == 0
        side = np.empty(len(node), np.int64)
        side[cut] = self._named[CODES * np.searchsorted(self.place, left[cut]) + DOWN]
        top, lines = self._vertical[0], self.height + 1
        col = left - row * self.width
        found = np.searchsorted(self.col[top] * lines + self.line[top], (col * lines + row - 1)[~cut], side="right")
        side[~cut] = self._looking_east(found - 1)
        return side

    def _looking_east(self, vertical: Ints) -> Ints:
        """The sides of some vertical edges that look east."""
        top, bottom = (nodes[vertical] for nodes in self._vertical)
        arc = self._alone[vertical]
        for node in (top, bottom):
            bend = self._bends[node]
            arc[bend] = self._arc[self._edge[node[bend]]]
        east = self.place[top] + self.width + 1
        traced = np.flatnonzero(self.sides.arc >= 0)
        listed = np.empty(2 * len(self.area), np.int64)
        listed[2 * self.sides.arc[traced] + self.sides.forward[traced]] = traced
        found: Ints = listed[2 * arc + (self.label[east] > self.label[east - 1])]
        return found

    def _heading(self, a: Ints, b: Ints) -> Ints:
        """The heading from nodes to their neighbours."""
        level = self.line[a] == self.line[b]
        return np.where(level, np.where(b > a, EAST, WEST), np.where(b > a, SOUTH, NORTH))
