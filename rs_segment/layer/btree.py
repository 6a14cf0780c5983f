"""How do millions of rows get into a table of an SQLite file as fast as they can be copied?

A table is a B+tree of pages (https://www.sqlite.org/fileformat2.html, section 1.6). Rows that come in ascending order
fill one leaf after the other, so leaves are put at the end of the file as they are to be; what leads to them is written
when all are there. SQLite, told row by row, takes several times as long. A connection of SQLite to the same file may be
open, but in no transaction while pages are put there.
"""

from __future__ import annotations

import sqlite3
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from .records import Buffer, Ints, Records, varint

_LEAF, _INTERIOR = 0x0D, 0x05
_LEAF_HEAD, _INTERIOR_HEAD = 8, 12
_POINTER, _NUMBER = 2, 4
# The page that holds this byte is never used; programs lock it.
_LOCKED = 1 << 30
_LARGEST = 65536
_ENCODINGS = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}


def quoted(name: str) -> str:
    """A name as SQL reads it."""
    return '"' + name.replace('"', '""') + '"'


class Pages:
    """The pages of an SQLite file.

    Args:
        path: A file that SQLite has made, without a write-ahead log. Its free pages are left as they are.

    Attributes:
        size: Bytes of a page.
        usable: Bytes of it that hold something.
        encoding: Of texts.

    Raises:
        RuntimeError: It has auto-vacuum, whose pages tell of others.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(100)
        if any(head[52:56]):
            raise RuntimeError(f"{path.name} has auto-vacuum, so it cannot be written page by page")
        self.size = int.from_bytes(head[16:18], "big")
        self.size = _LARGEST if self.size == 1 else self.size
        self.usable = self.size - head[20]
        self.encoding = _ENCODINGS[int.from_bytes(head[56:60], "big")]
        self._locked = _LOCKED // self.size + 1
        self._file = path.open("r+b", buffering=0)

    def next(self, count: int) -> Ints:
        """int64 (count,), the numbers that the next pages will have."""
        self._file.seek(28)
        first = 1 + int.from_bytes(self._file.read(_NUMBER), "big")
        numbers = first + np.arange(count, dtype=np.int64)
        if first <= self._locked:
            numbers[numbers >= self._locked] += 1
        return numbers

    def append(self, numbers: Ints, data: bytes) -> None:
        """Put pages at the end of the file, under the numbers that ``next`` gave."""
        before = int(np.count_nonzero(numbers < self._locked)) * self.size
        for first, some in ((0, data[:before]), (before, data[before:])):
            if some:
                self._put(int(numbers[first // self.size]), some)
        # It tells how many pages there are, so the file is the same however many come at a time. That it goes down in a
        # file which was changed often does not matter, since SQLite also looks at the number of pages, which grows.
        self._changed(int(numbers[-1]), int(numbers[-1]))

    def replace(self, number: int, page: bytes) -> None:
        """Write a page that is there anew."""
        self._put(number, page)
        self._file.seek(24)
        changes, count = struct.unpack(">II", self._file.read(8))
        self._changed((changes + 1) % (1 << 32), count)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _changed(self, changes: int, count: int) -> None:
        """Note the number of changes, by which SQLite sees that it has to look again, and the number of pages."""
        self._write(24, struct.pack(">II", changes, count))
        self._write(92, struct.pack(">I", changes))

    def _put(self, number: int, data: bytes) -> None:
        self._write((number - 1) * self.size, data)

    def _write(self, at: int, data: bytes) -> None:
        self._file.seek(at)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]


class Table:
    """Fills an empty table; which rows are on which page does not depend on how many come at a time.

    Args:
        pages: Of the file.
        root: The table's page in the table sqlite_master.
    """

    def __init__(self, pages: Pages, root: int) -> None:
        self._pages, self._root = pages, root
        self._waiting = Records.of(np.empty(0, np.int64), None, ())
        self._leaves, self._last = array("q"), array("q")

    @classmethod
    def named(cls, pages: Pages, database: sqlite3.Connection, name: str) -> Table:
        """The table of a name, which nothing but its rows hangs on.

        Raises:
            RuntimeError: There is none, or it is indexed or not empty.
        """
        found = database.execute("SELECT type, rootpage FROM sqlite_master WHERE tbl_name = ?", (name,)).fetchall()
        roots = [root for kind, root in found if kind == "table"]
        if len(roots) != 1 or any(kind == "index" for kind, _ in found):
            raise RuntimeError(f"the table {name} is not one that can be written page by page")
        if database.execute(f"SELECT 1 FROM {quoted(name)} LIMIT 1").fetchone():
            raise RuntimeError(f"the table {name} is not empty")
        return cls(pages, roots[0])

    def add(self, rows: Records) -> None:
        """Add rows, whose numbers ascend."""
        rows = Records.join(self._waiting, rows)
        starts = self._starts(rows)
        self._waiting = rows.rest(starts[-1])
        if len(starts) > 1:
            self._put(rows, starts)

    def finish(self) -> None:
        """Write what is left, and what leads to the leaves."""
        rows = self._waiting
        if not len(rows):
            return
        alone = not self._leaves
        self._put(rows, [0, len(rows)], alone)
        children = list(zip(self._leaves, self._last, strict=True))
        while len(children) > 1:
            children = self._above(children)

    def _starts(self, rows: Records) -> list[int]:
        """Where the rows of each full page begin, and those that do not fill one."""
        room = self._pages.usable - _LEAF_HEAD
        _, _, sizes = self._kept(rows)
        ends = np.cumsum(sizes + _POINTER)
        # The page that begins with a row ends before the first that goes beyond it.
        beyond = np.searchsorted(ends, np.append(0, ends) + room, side="right").tolist()
        starts = [0]
        while (stop := beyond[starts[-1]]) < len(rows):
            starts.append(stop)
        return starts

    def _kept(self, rows: Records) -> tuple[Ints, Ints, Ints]:
        """(bytes of each record that are on its leaf, pages that take the others, bytes of its cell on the leaf)."""
        usable, sizes = self._pages.usable, rows.sizes
        most, least = usable - 35, (usable - 12) * 32 // 255 - 23
        some = least + (sizes - least) % (usable - _NUMBER)
        local = np.where(sizes <= most, sizes, np.where(some <= most, some, least))
        spilled = -((local - sizes) // (usable - _NUMBER))
        return local, spilled, rows.fronts + local + _NUMBER * (spilled > 0)

    def _put(self, rows: Records, starts: list[int], alone: bool = False) -> None:
        """Write leaves, and after each the pages for what it does not hold; a leaf that is alone is the root."""
        local, spilled, sizes = self._kept(rows)
        before = np.append(0, np.cumsum(spilled))[starts]
        leaves = np.arange(len(starts) - 1) + before[:-1]
        numbers = self._pages.next(int(before[-1]) + len(leaves) - alone)
        if alone:
            numbers = np.append(self._root, numbers)
        parts: list[Buffer] = [b""] * (3 * starts[-1])
        parts[::3], parts[1::3], parts[2::3] = (part[: starts[-1]] for part in (rows.heads, rows.blobs, rows.tails))
        after: list[list[Buffer]] = [[] for _ in leaves]
        taken = (leaves + 1).tolist()
        for row in np.flatnonzero(spilled[: starts[-1]]).tolist():
            leaf, kept = bisect_right(starts, row) - 1, int(local[row])
            more = numbers[taken[leaf] :][: int(spilled[row])].tolist()
            taken[leaf] += len(more)
            front, record = rows.whole(row)
            parts[3 * row : 3 * row + 3] = front, record[:kept], more[0].to_bytes(_NUMBER, "big")
            after[leaf] += self._chain(record[kept:], more)
        data = self._drawn(starts, sizes, parts, after)
        if alone:
            self._pages.replace(self._root, data[: self._pages.size])
            data = data[self._pages.size :]
        if data:
            self._pages.append(numbers[int(alone) :], data)
        self._leaves.extend(numbers[leaves].tolist())
        self._last.extend(rows.ids[np.array(starts[1:]) - 1].tolist())

    def _drawn(self, starts: list[int], sizes: Ints, parts: list[Buffer], after: Sequence[list[Buffer]]) -> bytes:
        """Leaves, each with the pages that follow it."""
        size, usable = self._pages.size, self._pages.usable
        ends = np.append(0, np.cumsum(sizes))
        count = np.diff(starts)
        content = usable - np.diff(ends[starts])
        places = ends[: starts[-1]] + np.repeat(content - ends[starts[:-1]], count)
        pointers = places.astype(">u2").tobytes()
        heads = np.zeros((len(count), _LEAF_HEAD), np.uint8)
        heads[:, 0] = _LEAF
        heads[:, 3:7] = np.stack([count, content], axis=1).astype(">u2").view(np.uint8)
        nothing = bytes(size)
        gaps = (content - _LEAF_HEAD - _POINTER * count).tolist()
        data: list[Buffer] = []
        for leaf, (begin, end) in enumerate(pairwise(starts)):
            data += heads[leaf].tobytes(), pointers[2 * begin : 2 * end], nothing[: gaps[leaf]]
            data += parts[3 * begin : 3 * end]
            data += nothing[usable:], *after[leaf]
        return b"".join(data)

    def _chain(self, rest: memoryview, numbers: Sequence[int]) -> Iterator[Buffer]:
        """What the pages that hold the rest of a record are made of: each begins with the number of the next."""
        room = self._pages.usable - _NUMBER
        for at, following in zip(range(0, len(rest), room), (*numbers[1:], 0), strict=True):
            piece = rest[at : at + room]
            yield following.to_bytes(_NUMBER, "big")
            yield piece
            yield bytes(self._pages.size - _NUMBER - len(piece))

    def _above(self, children: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The pages that lead to others; the root if it can lead to all."""
        fits = (self._pages.usable - _INTERIOR_HEAD) // (_NUMBER + 9 + _POINTER) + 1
        count = -(-len(children) // fits)
        cuts = [len(children) * part // count for part in range(count + 1)]
        groups = [children[begin:end] for begin, end in pairwise(cuts)]
        made = [self._interior(group) for group in groups]
        if count == 1:
            self._pages.replace(self._root, made[0])
            return [(self._root, children[-1][1])]
        numbers = self._pages.next(count)
        self._pages.append(numbers, b"".join(made))
        return [(number, group[-1][1]) for number, group in zip(numbers.tolist(), groups, strict=True)]

    def _interior(self, children: list[tuple[int, int]]) -> bytes:
        """A page that leads to others: to the last by its head, to each of the others by a cell with its last row."""
        cells = [number.to_bytes(_NUMBER, "big") + varint(last) for number, last in children[:-1]]
        places = [self._pages.usable - at for at in accumulate(map(len, reversed(cells)))][::-1]
        start = places[0] if places else self._pages.usable
        head = struct.pack(">BHHHBI", _INTERIOR, 0, len(cells), start % _LARGEST, 0, children[-1][0])
        pointers = struct.pack(f">{len(places)}H", *places)
        page = (head + pointers).ljust(start, b"\0") + b"".join(cells)
        return page.ljust(self._pages.size, b"\0")
