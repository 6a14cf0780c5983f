"""How does a table of a GeoPackage get its spatial index, fast and always the same?

SQLite keeps an R*tree in three tables (https://www.sqlite.org/src/file/ext/rtree/rtree.c describes them): nodes as
blobs, the node of each row, the node above each node. Here these are written as they are to be, from the leaves up,
with boxes sorted into tiles (STR: Leutenegger, Lopez and Edgington 1997, doi:10.1109/ICDE.1997.582015). To insert boxes
one by one takes some seven times as long, and needs an SQLite that was built with R*trees.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .btree import Pages, Table, quoted
from .records import Records

_CELL = np.dtype([("id", ">i8"), ("box", ">f4", 4)])
_HEAD = 4
_ROOT = 1
# Leaves of a tree that is written while boxes arrive; more would look better sorted, fewer take less memory.
_LEAVES = 256


class RTreeWriter:
    """Fills the empty R*tree of a layer.

    Args:
        database: Open, in no transaction.
        pages: Of its file.
        name: Of the tree's virtual table.
    """

    def __init__(self, database: sqlite3.Connection, pages: Pages, name: str) -> None:
        self._db = database
        self._node, self._parent = (quoted(f"{name}_{part}") for part in ("node", "parent"))
        self._rows = Table.named(pages, database, f"{name}_rowid")
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
            self._leaves.append(self._write(np.concatenate(self._waiting), leaves=True))
            self._waiting = []

    def finish(self) -> None:
        """Write the rest of the leaves, and what is above them."""
        cells = np.concatenate([np.empty(0, _CELL), *self._waiting])
        depth = 0
        if self._leaves or len(cells) > self._fits:
            last = [self._write(cells, leaves=True)] if len(cells) else []
            cells = np.concatenate([*self._leaves, *last])
            depth = 1
        while len(cells) > self._fits:
            cells = self._write(cells)
            depth += 1
        self._link(cells, np.full(len(cells), _ROOT), leaves=not depth)
        self._rows.finish()
        root = _nodes(cells, np.array([0, len(cells)]), self._size, depth)[0]
        self._db.execute(f"UPDATE {self._node} SET data = ? WHERE nodeno = ?", (root, _ROOT))

    def _write(self, cells: NDArray[np.void], leaves: bool = False) -> NDArray[np.void]:
        """The cells of the nodes that are written for some cells, which lead to rows or to nodes."""
        order, ends = _tiles(cells["box"].astype(np.float64), self._fits)
        cells = cells[order]
        made = np.empty(len(ends) - 1, _CELL)
        made["id"] = self._next + np.arange(len(made))
        self._next += len(made)
        for side, extreme in enumerate((np.minimum, np.maximum, np.minimum, np.maximum)):
            made["box"][:, side] = extreme.reduceat(cells["box"][:, side], ends[:-1])
        self._link(cells, np.repeat(made["id"], np.diff(ends)), leaves)
        rows = zip(made["id"].tolist(), _nodes(cells, ends, self._size), strict=True)
        self._insert(self._node, rows)
        return made

    def _link(self, cells: NDArray[np.void], nodes: NDArray[Any], leaves: bool) -> None:
        """Note the node of each cell, in ascending order, which is the order in which SQLite keeps them."""
        order = np.argsort(cells["id"])
        ids, nodes = cells["id"][order].astype(np.int64), nodes[order].astype(np.int64)
        if leaves:
            self._rows.add(Records.of(ids, None, (nodes,)))
        else:
            self._insert(self._parent, zip(ids.tolist(), nodes.tolist(), strict=True))

    def _insert(self, table: str, rows: Iterable[tuple[int, Any]]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
        self._db.execute("COMMIT")


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
