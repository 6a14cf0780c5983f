"""How does a table of a GeoPackage get its spatial index, fast and always the same?

SQLite keeps an R*tree in three tables (https://www.sqlite.org/src/file/ext/rtree/rtree.c describes them): nodes as
blobs, the node of each row, the node above each node. Here these are written as they are to be, from the leaves up,
with boxes sorted into tiles (STR: Leutenegger, Lopez and Edgington 1997, doi:10.1109/ICDE.1997.582015). To insert boxes
one by one takes some seven times as long, and needs an SQLite that was built with R*trees.
"""

from __future__ import annotations

import math
import sqlite3
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CELL = np.dtype([("id", ">i8"), ("box", ">f4", 4)])
_HEAD = 4
_ROOT = 1
# Leaves of a tree that is written while boxes arrive; more would look better sorted, fewer take less memory.
_LEAVES = 256


class RTreeWriter:
    """Fills the empty R*tree of a layer.

    Args:
        database: Open, in a transaction.
        name: Of the tree's virtual table.
    """

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._db = database
        self._node, self._rowid, self._parent = (quoted(f"{name}_{part}") for part in ("node", "rowid", "parent"))
        # All nodes are as large as the root.
        self._size = int(database.execute(f"SELECT length(data) FROM {self._node}").fetchone()[0])
        self._fits = (self._size - _HEAD) // _CELL.itemsize
        self._next = _ROOT + 1
        self._waiting: list[NDArray[np.void]] = []
        self._leaves: list[NDArray[np.void]] = []

    @property
    def room(self) -> int:
        """How many boxes can be added until leaves are written."""
        return self._fits * _LEAVES - sum(map(len, self._waiting))

    def add(self, ids: NDArray[np.int64], bounds: NDArray[np.float64]) -> None:
        """Add boxes.

        Args:
            ids: int64 (n,), of the rows; at most as many as there is room for.
            bounds: float64 (n, 4): left, bottom, right, top.
        """
        cells = np.empty(len(ids), _CELL)
        cells["id"] = ids
        cells["box"][:, ::2] = _single(bounds[:, :2], -np.inf)
        cells["box"][:, 1::2] = _single(bounds[:, 2:], np.inf)
        self._waiting.append(cells)
        if self.room == 0:
            self._leaves.append(self._write(np.concatenate(self._waiting), self._rowid))
            self._waiting = []

    def finish(self) -> None:
        """Write the rest of the leaves, and what is above them."""
        cells = np.concatenate([np.empty(0, _CELL), *self._waiting])
        depth = 0
        if self._leaves or len(cells) > self._fits:
            last = [self._write(cells, self._rowid)] if len(cells) else []
            cells = np.concatenate([*self._leaves, *last])
            depth = 1
        while len(cells) > self._fits:
            cells = self._write(cells, self._parent)
            depth += 1
        self._link(cells, np.full(len(cells), _ROOT), self._parent if depth else self._rowid)
        root = _nodes(cells, np.array([0, len(cells)]), self._size, depth)[0]
        self._db.execute(f"UPDATE {self._node} SET data = ? WHERE nodeno = ?", (root, _ROOT))

    def _write(self, cells: NDArray[np.void], below: str) -> NDArray[np.void]:
        """The cells of the nodes that are written for some cells, which lead to rows or nodes listed in a table."""
        order, ends = _tiles(cells["box"].astype(np.float64), self._fits)
        cells = cells[order]
        made = np.empty(len(ends) - 1, _CELL)
        made["id"] = self._next + np.arange(len(made))
        self._next += len(made)
        for side, extreme in enumerate((np.minimum, np.maximum, np.minimum, np.maximum)):
            made["box"][:, side] = extreme.reduceat(cells["box"][:, side], ends[:-1])
        self._link(cells, np.repeat(made["id"], np.diff(ends)), below)
        rows = zip(made["id"].tolist(), _nodes(cells, ends, self._size), strict=True)
        self._db.executemany(f"INSERT INTO {self._node} VALUES (?, ?)", rows)
        return made

    def _link(self, cells: NDArray[np.void], nodes: NDArray[Any], table: str) -> None:
        """Note the node of each cell, in ascending order, which is the order in which SQLite keeps them."""
        order = np.argsort(cells["id"])
        pairs = zip(cells["id"][order].tolist(), nodes[order].tolist(), strict=True)
        self._db.executemany(f"INSERT INTO {table} VALUES (?, ?)", pairs)


def _single(values: NDArray[np.float64], towards: float) -> NDArray[np.float32]:
    """float32 numbers, rounded in one direction, so that a box never gets smaller."""
    near = values.astype(np.float32)
    wrong = near > values if towards < 0 else near < values
    return np.where(wrong, np.nextafter(near, np.float32(towards)), near)


def _tiles(boxes: NDArray[np.float64], room: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(order of the boxes, index where each group begins and the last ends), groups of at most ``room``."""
    count = -(-len(boxes) // room)
    slabs = math.ceil(math.sqrt(count))
    slab = np.empty(len(boxes), np.int64)
    slab[np.argsort(boxes[:, 0] + boxes[:, 1], kind="stable")] = np.arange(len(boxes)) * slabs // len(boxes)
    order = np.lexsort((boxes[:, 2] + boxes[:, 3], slab))
    return order, np.arange(count + 1) * len(boxes) // count


def _nodes(cells: NDArray[np.void], ends: NDArray[np.int64], size: int, depth: int = 0) -> list[bytes]:
    """The blob of each group of cells: depth (of the root only), number of cells, the cells, zeros."""
    counts = np.diff(ends)
    nodes = np.zeros((len(counts), size), np.uint8)
    nodes[:, :_HEAD] = np.stack([np.full(len(counts), depth), counts], axis=1).astype(">u2").view(np.uint8)
    body = np.zeros((len(counts), (size - _HEAD) // _CELL.itemsize), _CELL)
    group = np.repeat(np.arange(len(counts)), counts)
    body[group, np.arange(len(cells)) - ends[group]] = cells
    nodes[:, _HEAD : _HEAD + body.shape[1] * _CELL.itemsize] = body.view(np.uint8).reshape(len(counts), -1)
    return [node.tobytes() for node in nodes]


def quoted(name: str) -> str:
    """A name as SQL reads it."""
    return '"' + name.replace('"', '""') + '"'
