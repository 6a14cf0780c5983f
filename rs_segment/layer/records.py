"""How do many rows become records of an SQLite table at once?

A record is a header, which tells the type of each column, and the columns one after the other
(https://www.sqlite.org/fileformat2.html, section 2.1). Rows whose headers are alike are made together, as one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Buffer = bytes | memoryview

# What a header tells of a column: nothing in it, a float, or, with twice its length added, a blob or a text.
_NULL, _FLOAT, _BLOB, _TEXT = 0, 7, 12, 13
# The same of whole numbers, and their bytes.
_WHOLE = {1: 1, 2: 2, 4: 4, 6: 8}
# A varint has 9 bytes at most; in this base three of their lengths make one number.
_KINDS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """A column of texts of which few are different.

    Args:
        texts: These; None is null.
        which: int64 (n,), the text of each row.
    """

    texts: Sequence[str | None]
    which: Ints

    def part(self, rows: slice) -> Words:
        """Some of the rows."""
        return Words(self.texts, self.which[rows])


Column = Words | Ints | Floats
"""Texts, whole numbers, or floats with NaN for null."""


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Rows as a table has them.

    Args:
        ids: int64 (n,), the numbers of the rows.
        sizes: int64 (n,), bytes of the record.
        fronts: int64 (n,), bytes of what stands before it: its size and the number of the row.
        heads: That and the header.
        blobs: The column after the number, if it is of blobs.
        tails: The other columns.
    """

    ids: Ints
    sizes: Ints
    fronts: Ints
    heads: list[bytes]
    blobs: Sequence[Buffer]
    tails: list[bytes]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls, ids: Ints, blobs: Sequence[Buffer] | None, columns: Sequence[Column], encoding: str = "utf-8"
    ) -> Records:
        """The records of some rows.

        Args:
            ids: int64 (n,), from 0, below 2**56; the table's first column, which records leave out.
            blobs: The second column, if it is of blobs.
            columns: The others, each (n,); twenty at most.
            encoding: Of texts in the file.
        """
        count = len(ids)
        told = [_Told(column, encoding) for column in columns]
        lengths = np.zeros(count, np.int64) if blobs is None else np.fromiter(map(len, blobs), np.int64, count)
        kinds = _BLOB + 2 * lengths
        room = np.full(count, 2, np.int64) if blobs is None else 2 + _digits(kinds)
        sizes = lengths.copy()
        for t in told:
            room += t.room
            sizes += t.size
        sizes += room
        alike = (_digits(kinds) * _KINDS + _digits(sizes)) * _KINDS + _digits(ids)
        for t in told:
            alike = alike * t.codes + t.code
        heads, tails = np.empty(count, object), np.empty(count, object)
        for rows in _groups(alike):
            blob = [] if blobs is None else [_varints(kinds[rows])]
            kind = [np.frombuffer(t.kind(int(rows[0])), np.uint8) for t in told]
            front = [_varints(sizes[rows]), _varints(ids[rows])]
            header = [np.array([room[rows[0]], _NULL], np.uint8), *blob, *kind]
            heads[rows] = _rows([*front, *header], len(rows))
            tails[rows] = _rows([t.values(rows) for t in told], len(rows))
        fronts = _digits(sizes) + _digits(ids)
        return cls(ids, sizes, fronts, heads.tolist(), [b""] * count if blobs is None else blobs, tails.tolist())

    @classmethod
    def join(cls, one: Records, other: Records) -> Records:
        """The rows of both."""
        return cls(
            np.append(one.ids, other.ids),
            np.append(one.sizes, other.sizes),
            np.append(one.fronts, other.fronts),
            one.heads + other.heads,
            [*one.blobs, *other.blobs],
            one.tails + other.tails,
        )

    def rest(self, start: int) -> Records:
        """The rows from one on, which hold on to nothing of the others."""
        ids, sizes, fronts = self.ids[start:].copy(), self.sizes[start:].copy(), self.fronts[start:].copy()
        blobs = [bytes(blob) for blob in self.blobs[start:]]
        return Records(ids, sizes, fronts, self.heads[start:], blobs, self.tails[start:])

    def whole(self, row: int) -> tuple[bytes, memoryview]:
        """(what stands before the record, the record) of a row."""
        head, front = self.heads[row], int(self.fronts[row])
        return head[:front], memoryview(b"".join((head[front:], self.blobs[row], self.tails[row])))


class _Told:
    """A column, and what a header tells of it.

    Attributes:
        code: int64 (n,), the same for rows of which it tells the same.
        codes: How many of them there are.
        room: int64 (n,), bytes in the header.
        size: int64 (n,), bytes in the record.
    """

    def __init__(self, column: Column, encoding: str) -> None:
        self._column = column
        if isinstance(column, Words):
            self._texts = [b"" if text is None else text.encode(encoding) for text in column.texts]
            kinds = [_NULL if t is None else _TEXT + 2 * len(e) for t, e in zip(column.texts, self._texts, strict=True)]
            self._kinds, self._of = np.unique(np.array(kinds, np.int64), return_inverse=True)
            self.code = self._of[column.which]
        elif column.dtype.kind == "f":
            self._kinds, self.code = np.array([_FLOAT, _NULL]), np.isnan(column).astype(np.int64)
        else:
            self._kinds, self.code = np.array(list(_WHOLE)), np.zeros(len(column), np.int64)
            for narrow in (np.int8, np.int16, np.int32):
                self.code += column != column.astype(narrow)
        self.codes = max(1, len(self._kinds))
        self.room = _digits(self._kinds)[self.code]
        self.size = np.array([_size(int(kind)) for kind in self._kinds], np.int64)[self.code]

    def kind(self, row: int) -> bytes:
        """What the header tells of a row."""
        return varint(int(self._kinds[self.code[row]]))

    def values(self, rows: Ints) -> Bytes:
        """uint8 (n, bytes), rows of which the header tells the same."""
        code, size = int(self.code[rows[0]]), int(self.size[rows[0]])
        if not size:
            return np.empty((len(rows), 0), np.uint8)
        if isinstance(self._column, Words):
            alike = np.flatnonzero(self._of == code)
            place = np.zeros(len(self._of), np.int64)
            place[alike] = np.arange(len(alike))
            table = np.frombuffer(b"".join(self._texts[i] for i in alike.tolist()), np.uint8).reshape(-1, size)
            return table[place[self._column.which[rows]]]
        kind = f">{self._column.dtype.kind}{size}"
        return self._column[rows].astype(kind).view(np.uint8).reshape(len(rows), size)


def varint(value: int) -> bytes:
    """A number below 2**56 in groups of 7 bits, the highest first; all but the last have their eighth bit set."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))


def _varints(values: Ints) -> Bytes:
    """uint8 (n, bytes), numbers that have as many groups as the first."""
    count = len(varint(int(values[0])))
    groups = values[:, np.newaxis] >> 7 * np.arange(count - 1, -1, -1, dtype=np.int64) & 0x7F
    groups[:, :-1] |= 0x80
    return groups.astype(np.uint8)


def _digits(values: Ints) -> Ints:
    """The number of groups of 7 bits of each number."""
    return 1 + np.searchsorted(1 << 7 * np.arange(1, 9, dtype=np.int64), values, side="right").astype(np.int64)


def _size(kind: int) -> int:
    """Bytes of a column that is no blob."""
    return _WHOLE[kind] if kind in _WHOLE else {_NULL: 0, _FLOAT: 8}.get(kind, (kind - _TEXT) // 2)


def _groups(key: Ints) -> Iterator[Ints]:
    """The rows of each key."""
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    yield from np.split(order, starts[1:]) if len(order) else ()


def _rows(parts: Sequence[Bytes], count: int) -> list[bytes]:
    """The rows of matrices side by side; one without rows of its own is the same in all."""
    if not parts:
        return [b""] * count
    whole = np.concatenate([np.broadcast_to(part, (count, part.shape[-1])) for part in parts], axis=1)
    data, width = whole.tobytes(), whole.shape[1]
    return [data[at : at + width] for at in range(0, count * width, width)] if width else [b""] * count
