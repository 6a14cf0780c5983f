"""Tables that are written as pages: SQLite finds them whole, and in them what went in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.layer.btree import Pages, Table
from rs_segment.layer.records import Records, Words, varint

PAGES = [512, 1024, 4096, 65536]
TEXTS = ("", "a", "Gebäude", None, "z" * 130, "same", "also", "道路")


def made(path: Path, page: int = 4096, encoding: str = "UTF-8") -> int:
    """An SQLite file with an empty table and another that is full; the root of the first."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA page_size = {page}")
        database.execute(f"PRAGMA encoding = '{encoding}'")
        database.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, x)")
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, b BLOB, i, w TEXT, f REAL)")
        database.executemany("INSERT INTO other VALUES (?, ?)", ((i, "x" * i) for i in range(60)))
        return int(database.execute("SELECT rootpage FROM sqlite_master WHERE name = 't'").fetchone()[0])


def rows_of(seed: int, count: int, longest: int, first: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    steps = rng.integers(1, 5, count) if seed % 3 else np.ones(count, np.int64)
    lengths = np.where(rng.random(count) < 0.1, rng.integers(0, longest + 1, count), rng.integers(0, 90, count))
    floats = np.where(rng.random(count) < 0.3, np.nan, rng.normal(size=count))
    return {
        "ids": first + np.cumsum(steps),
        "blobs": [memoryview(rng.bytes(int(n))) for n in lengths],
        "ints": rng.integers(-(2**62), 2**62, count) >> rng.integers(0, 62, count),
        "which": rng.integers(0, len(TEXTS), count),
        "floats": floats,
    }


def records(rows: dict[str, Any], part: slice, encoding: str = "utf-8") -> Records:
    columns = rows["ints"][part], Words(TEXTS, rows["which"][part]), rows["floats"][part]
    return Records.of(rows["ids"][part], rows["blobs"][part], columns, encoding)


def fill(path: Path, root: int, rows: dict[str, Any], step: int) -> None:
    pages = Pages(path)
    table = Table(pages, root)
    for start in range(0, len(rows["ids"]), step):
        table.add(records(rows, slice(start, start + step), pages.encoding))
    table.finish()
    pages.close()


def expected(rows: dict[str, Any]) -> list[tuple[Any, ...]]:
    floats = [None if np.isnan(f) else f for f in rows["floats"].tolist()]
    texts = [TEXTS[i] for i in rows["which"].tolist()]
    blobs = [bytes(b) for b in rows["blobs"]]
    return list(zip(rows["ids"].tolist(), blobs, rows["ints"].tolist(), texts, floats, strict=True))


def check(path: Path, rows: dict[str, Any]) -> None:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT * FROM t").fetchall() == expected(rows)
        assert database.execute("SELECT count(*), sum(length(x)) FROM other").fetchone() == (60, sum(range(60)))
        for index in {0, len(rows["ids"]) // 2, len(rows["ids"]) - 1} if len(rows["ids"]) else ():
            one = database.execute("SELECT i FROM t WHERE id = ?", (int(rows["ids"][index]),)).fetchone()
            assert one == (int(rows["ints"][index]),)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 700),
    page=st.sampled_from(PAGES),
    step=st.integers(1, 800),
    longest=st.sampled_from([100, 700, 5000, 70_000]),
    first=st.sampled_from([0, 100, 16_300, 2**21 - 200, 2**40]),
    encoding=st.sampled_from(["UTF-8", "UTF-16le", "UTF-16be"]),
)
def test_what_goes_in_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    count: int,
    page: int,
    step: int,
    longest: int,
    first: int,
    encoding: str,
) -> None:
    folder = tmp_path_factory.mktemp("table")
    rows = rows_of(seed, count, longest, first)
    root = made(folder / "a.db", page, encoding=encoding)
    fill(folder / "a.db", root, rows, step)
    check(folder / "a.db", rows)
    fill(folder / "b.db", made(folder / "b.db", page, encoding=encoding), rows, 10_000)
    assert (folder / "a.db").read_bytes() == (folder / "b.db").read_bytes()


def test_many_pages_are_three_levels_deep(tmp_path: Path) -> None:
    rows = rows_of(1, 60_000, 100, 0)
    fill(tmp_path / "a.db", made(tmp_path / "a.db", 512), rows, 7000)
    check(tmp_path / "a.db", rows)


def test_sqlite_goes_on_where_pages_were_put(tmp_path: Path) -> None:
    """A connection that is open all the time sees them, and takes pages behind them."""
    path, rows = tmp_path / "a.db", rows_of(2, 900, 3000, 0)
    root = made(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute("SELECT count(*) FROM t").fetchone() == (0,)
        pages = Pages(path)
        table = Table(pages, root)
        for start in range(0, 900, 300):
            table.add(records(rows, slice(start, start + 300)))
            database.execute("INSERT INTO other VALUES (?, ?)", (100 + start, "y" * 20_000))
        table.finish()
        assert database.execute("SELECT * FROM t").fetchall() == expected(rows)
        database.execute("DELETE FROM other WHERE id >= 100")
        database.execute("INSERT INTO t VALUES (NULL, x'00', 1, 'new', 0.5)")
        last = database.execute("SELECT max(id) FROM t").fetchone()[0]
        database.execute("DELETE FROM t WHERE id = ?", (last,))
        pages.close()
    check(path, rows)


def test_sqlite_sees_the_only_page_of_a_table(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.db", rows_of(3, 5, 50, 0)
    root = made(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute("SELECT count(*) FROM t").fetchone() == (0,)
        fill(path, root, rows, 2)
        assert database.execute("SELECT * FROM t").fetchall() == expected(rows)


def test_other_tables_are_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "vacuum.db", isolation_level=None)) as database:
        database.execute("PRAGMA auto_vacuum = FULL")
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with pytest.raises(RuntimeError, match="auto-vacuum"):
        Pages(tmp_path / "vacuum.db")
    made(tmp_path / "a.db")
    pages = Pages(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as database:
        database.execute("CREATE INDEX i ON t (i)")
        for name, says in (("t", "page by page"), ("u", "page by page"), ("other", "not empty")):
            with pytest.raises(RuntimeError, match=says):
                Table.named(pages, database, name)
    pages.close()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, 2**21, 2**35 - 1, 2**56 - 1])
def test_varints_are_read_back(value: int) -> None:
    read = 0
    for byte in (told := varint(value)):
        read = read << 7 | byte & 0x7F
    assert read == value
    assert [byte >> 7 for byte in told] == [1] * (len(told) - 1) + [0]


def test_the_page_that_programs_lock_is_left_out(tmp_path: Path) -> None:
    """Behind a hole of a gigabyte, on a file that says it is that long."""
    rows, size, found = rows_of(5, 300, 20_000, 0), 4096, []
    locked = (1 << 30) // size + 1
    for step in (7, 100, 1000):
        path = tmp_path / f"{step}.db"
        root = made(path)
        with path.open("r+b") as file:
            file.truncate((locked - 4) * size)
            file.seek(28)
            file.write((locked - 4).to_bytes(4, "big"))
        fill(path, root, rows, step)
        with path.open("rb") as file:
            file.seek((locked - 4) * size)
            pages = [*iter(partial(file.read, size), b"")]
        assert [i for i, page in enumerate(pages) if page == bytes(size)] == [3]
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT * FROM t").fetchall() == expected(rows)
            told = [line for (line,) in database.execute("PRAGMA integrity_check(5)")]
            assert all("never used" in line for line in told), told
        path.unlink()
        found.append(pages)
    assert found[0] == found[1] == found[2]
