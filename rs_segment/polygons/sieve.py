"""What is a class raster without its small patches?

A patch is one 4-connected component of one label, and small if it weighs less than a limit. Small patches give way to
their neighbours, in rounds:

1. Every small patch chooses the neighbour with which it shares the longest border, counted in pixel edges; of borders
   of one length, that whose first pixel edge comes first in the raster. Small neighbours count one by one; neighbours
   that are not small count by class, their borders added up. Nodata is nobody's neighbour.
2. Borders are thus ordered without ties, so that following the choices ends either at a class or at two small patches
   that chose each other (Boruvka 1926). Of these two the heavier remains, of equal ones that which begins first. All
   patches on the way take the class at the end.
3. Patches of one class that now touch are one patch, which may be small no longer. Rounds go on until no small patch
   has a neighbour.

So a small patch is left only where nodata or the frame is all around it, patches that are not small keep their class,
and classes are only ever compared for being equal: their numbers do not matter.

``Sieve`` decides while rows stream by, and decides what a single pass over the whole raster decides. Small patches that
touch are a cluster, and clusters do not touch each other. What becomes of one depends on its own patches and on the
classes of the large ones around it; which of these hang together elsewhere is of no account, as they count by class. A
patch is known to be large as soon as the rows read so far say so, and stays large whatever joins it. Hence a cluster
is decided once all its patches have ended, and rows go out once nothing in them waits.

Memory and lag follow the height of the tallest cluster: at most twice this and a block of rows. Clusters of real maps
are some tens of rows high with a limit of 100 pixels, and up to some hundreds with 1000. Where nearly all patches are
small, as in noise or with a limit beyond most patches, it is the whole raster, and a pixel that is a patch takes some
200 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import GridError, OptionError, PixelTypeError
from ..types import NODATA, Mask, Pixels
from .unionfind import components, roots

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_BLOCK_PIXELS = 1 << 20
_SLACK = 1e-9


class Sieve:
    """Takes small patches off a class raster while its rows stream by.

    Args:
        shape: (height, width) of the whole raster.
        smallest: Patches that weigh less than this give way; 0 and above.
        weights: float64 (height,), the weight of one pixel in each row, such as its area in m2 from
            ``GeoBox.row_areas``; NaN weighs nothing; None counts pixels. A patch whose weight lacks less than a
            billionth of ``smallest`` is not small, so that sums of rounded areas do what they are meant to do.
        nodata: Label of pixels that are no patch and keep their label.
        block: Pixels that are worked on at a time; memory for speed, the result is the same.

    Raises:
        OptionError: ``smallest`` or a weight is negative or infinite, or ``smallest`` is NaN.
        GridError: There is not one weight for each row.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        smallest: float,
        weights: Floats | None = None,
        nodata: int = NODATA,
        block: int = _BLOCK_PIXELS,
    ) -> None:
        height, width = shape
        if not (0 <= smallest < math.inf):
            raise OptionError(f"the smallest patch to keep is {smallest}; give a finite number, 0 or more")
        if weights is not None and np.shape(weights) != (height,):
            raise GridError(
                f"weights of shape {np.shape(weights)} do not fit a raster of {height} rows; give one a row"
            )
        weight = np.ones(height) if weights is None else np.nan_to_num(weights, nan=0.0, posinf=math.inf)
        if ((weight < 0) | (weight == math.inf)).any():
            raise OptionError("a row has a negative or infinite weight; give the area of one of its pixels")
        self._shape, self._nodata = (height, width), nodata
        self._weight = weight
        self._enough = smallest if weights is None else smallest * (1 - _SLACK)
        self._idle = width == 0 or not (self._weight < self._enough).any()
        self._rows = max(1, block // max(width, 1))
        self._dtype: np.dtype[np.generic] | None = None
        # If ``_settled`` is 1, the first of the waiting rows has gone out; it shows what lies above the others.
        self._waiting: list[Pixels] = []
        self._settled = 0
        self._read = self._fresh = 0
        self._wanted = self._rows

    def feed(self, labels: Pixels) -> Pixels:
        """The next rows of the result that are decided after some more rows: (k, width), from none to all that wait.

        Args:
            labels: (row, col) of any integer type, the next rows of the raster, any number of them; not changed.

        Raises:
            GridError: The rows are not as wide as the raster, or more than it has.
            PixelTypeError: The labels are not integers, or of another type than those before.
        """
        height, width = self._shape
        if labels.dtype.kind not in "iu" or self._dtype not in (None, labels.dtype):
            wanted = "integers are" if self._dtype is None else f"{self._dtype} is"
            raise PixelTypeError(f"labels are {labels.dtype}, but {wanted} what can be sieved here; convert them first")
        if labels.ndim != 2 or labels.shape[1] != width or self._read + len(labels) > height:
            raise GridError(
                f"labels of shape {labels.shape} do not fit under row {self._read} of a raster of {height} rows and "
                f"{width} columns"
            )
        self._dtype = labels.dtype
        return np.concatenate([labels[:0], *self._decided(labels)])

    def finish(self) -> Pixels:
        """The rows of the result that are left once all rows are fed.

        Raises:
            GridError: Rows are missing.
        """
        height, width = self._shape
        if self._read != height:
            raise GridError(f"only {self._read} of {height} rows were fed; the patches are not complete")
        if not self._waiting:
            return np.empty((0, width), self._dtype or np.uint8)
        return self._work(ended=True)

    def _decided(self, labels: Pixels) -> Iterator[Pixels]:
        """Rows of the result, as more rows are taken in."""
        if self._idle:
            self._read += len(labels)
            yield labels
            return
        start = 0
        while start < len(labels):
            count = min(self._wanted - self._fresh, len(labels) - start)
            self._waiting.append(labels[start : start + count].copy())
            start += count
            self._read, self._fresh = self._read + count, self._fresh + count
            if self._fresh == self._wanted and self._read < self._shape[0]:
                yield self._work(ended=False)

    def _work(self, ended: bool) -> Pixels:
        """The rows that are decided; the others go on waiting."""
        rows = np.concatenate(self._waiting)
        weight = self._weight[self._read - len(rows) : self._read]
        cut = _decide(rows, weight, self._enough, self._nodata, self._settled, ended)
        decided = rows[self._settled : cut]
        self._settled = min(cut, 1)
        self._waiting = [rows[cut - self._settled :].copy()]
        # Rows that wait are looked at again only with as many new ones, so that the whole is looked at twice at most.
        self._fresh, self._wanted = 0, max(self._rows, len(rows) - cut)
        return decided


def sieve(labels: Pixels, smallest: float, weights: Floats | None = None, nodata: int = NODATA) -> Pixels:
    """The labels of a raster that is in memory, without its small patches; see the head of this module for the rule.

    Args:
        labels: (row, col) of any integer type; not changed.
        smallest: Patches that weigh less than this give way.
        weights: float64 (height,), the weight of one pixel in each row; None counts pixels.
        nodata: Label of pixels that are no patch and keep their label.

    Raises:
        OptionError: ``smallest`` or a weight is negative or infinite, or ``smallest`` is NaN.
        GridError: The labels are no raster, or there is not one weight for each row.
        PixelTypeError: The labels are not integers.
    """
    if labels.ndim != 2:
        raise GridError(f"labels of shape {labels.shape} are no raster; give (row, col)")
    sieve = Sieve((labels.shape[0], labels.shape[1]), smallest, weights, nodata)
    return np.concatenate([sieve.feed(labels), sieve.finish()])


@dataclass(frozen=True, slots=True, eq=False)
class _Borders:
    """Borders as columns: the two sides, the length in pixel edges, and the first of these in raster order."""

    one: Ints
    other: Ints
    length: Ints
    first: Ints

    def between(self, node: Ints, limit: int) -> _Borders:
        """The borders of what the sides are now part of: each once, with a side below ``limit``, which comes first."""
        nodes = int(node.max(initial=0)) + 1
        a, b = node[self.one], node[self.other]
        key = np.minimum(a, b) * nodes
        key += np.maximum(a, b)
        use = np.flatnonzero((a != b) & (key < limit * nodes))
        if not len(use):
            return _Borders(use, use, use, use)
        del a, b
        key = key[use]
        # Patches are numbered from the top, so that keys are nearly in order, which this sort makes use of.
        order = np.argsort(key, kind="stable")
        key, use = key[order], use[order]
        begin = np.flatnonzero(np.diff(key, prepend=-1))
        one, other = np.divmod(key[begin], nodes)
        return _Borders(
            one, other, np.add.reduceat(self.length[use], begin), np.minimum.reduceat(self.first[use], begin)
        )


class _Patches:
    """The patches of some rows, numbered in the order in which they begin.

    Attributes:
        start: int64 (n,), where each run of one label begins, as an index of the flat rows.
        patch: int64 (n,), the patch of each run.
        label: Of each patch.
        weight: float64, of each patch; of those that reach a settled row at least what is enough.
        small: bool, of each patch.
        borders: Of small patches, in pieces.
    """

    def __init__(self, rows: Pixels, weight: Floats, enough: float, nodata: int, settled: int) -> None:
        width, flat = rows.shape[1], rows.ravel()
        starts = np.ones(rows.shape, bool)
        np.not_equal(rows[:, 1:], rows[:, :-1], out=starts[:, 1:])
        begins = starts.ravel()
        self.start = np.flatnonzero(begins)
        # Lines between two rows, in pieces that lie between one run and another; every run of either row begins at a
        # piece, so that counting beginnings tells the runs.
        place = np.flatnonzero(begins[:-width] | begins[width:])
        upper = np.cumsum(begins[place]) - 1
        lower = np.cumsum(begins[place + width]) - 1 + np.count_nonzero(starts[:1])
        same = flat[place] == flat[place + width]
        self.patch, count = components(len(self.start), upper[same], lower[same])
        self.label = np.empty(count, rows.dtype)
        self.label[self.patch] = flat[self.start]
        # A patch is added up in raster order and from its first row, so that bands do not change how sums are rounded.
        weights = self._lengths(rows) * weight[self.start // width]
        self.weight: Floats = np.asarray(np.bincount(self.patch, weights, count), np.float64)
        self.weight[self.patch[: np.searchsorted(self.start, settled * width)]] = enough
        data = self.label != nodata
        self.small = data & (self.weight < enough)

        # Of two factors that are neither 0 nor both 1, one is a small patch and none is nodata.
        sort = (data + self.small.astype(np.uint8))[self.patch]
        down = np.flatnonzero((sort[upper] * sort[lower] > 1) & ~same)
        right = np.flatnonzero((sort[:-1] * sort[1:] > 1) & (self.start[1:] % width > 0))
        overlap = np.diff(place, append=len(flat) - width)[down]
        self.borders = _Borders(
            np.concatenate([self.patch[upper[down]], self.patch[right]]),
            np.concatenate([self.patch[lower[down]], self.patch[right + 1]]),
            np.concatenate([overlap, np.ones_like(right)]),
            np.concatenate([2 * place[down] + 1, 2 * (self.start[right + 1] - 1)]),
        )

    def _lengths(self, rows: Pixels) -> Ints:
        return np.diff(self.start, append=rows.size)

    def touching(self, begin: int) -> Mask:
        """Of each small patch, and of none other, whether its cluster reaches the pixels from an index onwards."""
        both = self.small[self.borders.one] & self.small[self.borders.other]
        cluster, clusters = components(len(self.label), self.borders.one[both], self.borders.other[both])
        last = self.patch[np.searchsorted(self.start, begin) :]
        reaches = np.zeros(clusters, bool)
        reaches[cluster[last]] = True
        found: Mask = self.small & reaches[cluster]
        return found

    def paint(self, rows: Pixels, which: Mask) -> None:
        """Put the labels of some patches into the rows."""
        runs = np.flatnonzero(which[self.patch])
        start, length = self.start[runs], self._lengths(rows)[runs]
        before = np.cumsum(length) - length
        place = np.arange(length.sum()) + np.repeat(start - before, length)
        rows.reshape(-1)[place] = np.repeat(self.label[self.patch[runs]], length)


def _decide(rows: Pixels, weight: Floats, enough: float, nodata: int, settled: int, ended: bool) -> int:
    """Number of rows, from the top, that are decided; the small patches that are decided give way, in place.

    Args:
        rows: (row, col), labels, with no gap between rows in memory.
        weight: float64 (row,), of one pixel.
        enough: What a patch weighs that is not small.
        nodata: The label that is none.
        settled: Rows at the top, 0 or 1, in which all patches are large, or have no neighbour.
        ended: Whether the raster ends below the rows.
    """
    found = _Patches(rows, weight, enough, nodata, settled)
    if not found.small.any():
        return len(rows)
    width = rows.shape[1]
    waits = np.zeros_like(found.small) if ended else found.touching((len(rows) - 1) * width)
    ready = found.small & ~waits
    if ready.any():
        _give_way(found, ready, enough)
        found.paint(rows, ready)
    return int(found.start[np.argmax(waits[found.patch])]) // width if waits.any() else len(rows)


def _give_way(found: _Patches, ready: Mask, enough: float) -> None:
    """Give some small patches the labels that they have in the end; those that they touch are among them or large."""
    # Nodes are the small patches, 0 to small - 1, and behind them the classes, for all that is large.
    classes, kind = np.unique(found.label, return_inverse=True)
    weight = found.weight[ready]
    small = len(weight)
    node = small + kind
    node[ready] = part = np.arange(small)
    kind = np.concatenate([kind[ready], np.arange(len(classes))])
    borders = found.borders.between(node, small)
    while len(borders.one):
        kind = kind[roots(_choices(borders, weight, len(kind)))]
        alike = kind[borders.one] == kind[borders.other]
        group, groups = components(len(kind), borders.one[alike], borders.other[alike])
        group_weight = np.asarray(np.bincount(group[:small], weight, groups), np.float64)
        large = group_weight >= enough
        large[group[small:]] = True
        left = np.flatnonzero(~large)
        group_kind = np.empty(groups, np.int64)
        group_kind[group] = kind
        small, weight = len(left), group_weight[left]
        now = small + group_kind
        now[left] = np.arange(small)
        part = now[group[part]]
        borders = borders.between(now[group], small)
        kind = np.concatenate([group_kind[left], np.arange(len(classes))])
    found.label[ready] = classes[kind[part]]


def _choices(borders: _Borders, weight: Floats, nodes: int) -> Ints:
    """int64 (nodes,), the node that each small patch chooses; itself where it remains, as classes do.

    Args:
        borders: Each once, with the small patch first.
        weight: Of each small patch.
        nodes: Number of small patches and classes.
    """
    sides = (borders.one, borders.other), (borders.other, borders.one)
    longest = np.zeros(nodes, np.int64)
    earliest = np.full(nodes, np.iinfo(np.int64).max)
    for mine, _ in sides:
        np.maximum.at(longest, mine, borders.length)
    for mine, _ in sides:
        among = borders.length == longest[mine]
        np.minimum.at(earliest, mine[among], borders.first[among])
    node = np.arange(nodes)
    choice = node.copy()
    for mine, other in sides:
        best = borders.first == earliest[mine]
        choice[mine[best]] = other[best]
    small = len(weight)
    choice[small:] = node[small:]
    a = np.flatnonzero((choice[choice] == node) & (choice > node))
    b = choice[a]
    remains = np.where(weight[a] >= weight[b], a, b)
    choice[remains] = remains
    return choice
