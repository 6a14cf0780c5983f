"""How does a raster come to be whole, or not at all?

It is made in a work folder. Rows of pixels become compressed blocks at once, those of the overviews too, and go to the
end of one spool file a level; a journal says up to where the spools are on the disk and which pixels they hold. When
all rows are there, the blocks are laid out as a GeoTIFF, which is read back and compared before it gets its final name.
A process that dies leaves the final name as it was, and a work folder from which the next one can go on.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from . import styles, tiff
from .card import ClassInfo
from .errors import DiskFullError, OptionError, OutputError
from .geobox import GeoBox
from .types import NODATA, Labels
from .workfolder import WorkFolder, disk_errors, publish, refuse_existing, sidecars, sync, sync_folder, write_whole

__all__ = [
    "RasterSpec",
    "RasterWriter",
    "WorkFolder",
    "publish",
    "refuse_existing",
    "sidecars",
    "write_confidence_style",
    "write_styles",
]


@dataclass(frozen=True, slots=True)
class RasterSpec:
    """What a raster of uint8 is to be.

    Args:
        geobox: Where it lies.
        bands: Description of each band.
        reducer: How overviews are made: "mode" for classes, "mean" for probabilities.
        nodata: Always 255; overviews and sparse blocks count on it.
        colors: Value to (red, green, blue), for a raster of one band; empty for none.
        names: Value to name of the class; kept as the tag CLASS_NAMES, a JSON object, for readers without the sidecar.
        tags: GDAL metadata; nothing that differs between two equal runs, or their bytes will.
        format: "cog" has overviews, "gtiff" has none.
    """

    geobox: GeoBox
    bands: tuple[str, ...]
    reducer: Literal["mode", "mean"] = "mode"
    nodata: int = NODATA
    colors: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    format: Literal["cog", "gtiff"] = "cog"

    def __post_init__(self) -> None:
        if self.nodata != NODATA or self.reducer not in tiff.REDUCERS or self.format not in ("cog", "gtiff"):
            raise OptionError(
                f"nodata {self.nodata}, reducer {self.reducer!r} and format {self.format!r} do not all work: "
                f"nodata is {NODATA}, reducers are {', '.join(tiff.REDUCERS)}, formats are cog and gtiff"
            )
        if self.colors and len(self.bands) != 1:
            raise OptionError(f"a colour table needs a raster of one band, not {len(self.bands)}")

    @property
    def all_tags(self) -> dict[str, str]:
        """The tags, with the names of the classes among them."""
        if not self.names:
            return dict(self.tags)
        return {**self.tags, "CLASS_NAMES": json.dumps({str(k): v for k, v in sorted(self.names.items())})}


class _Level:
    """One level of the pyramid: where its blocks lie in its spool, and the rows that wait for their block."""

    __slots__ = ("bands", "crcs", "file", "journaled", "path", "pending", "shape", "sizes", "total")

    def __init__(self, path: Path, shape: tuple[int, int], bands: int) -> None:
        self.path, self.shape, self.bands = path, shape, bands
        self.sizes = array("I")
        self.crcs = array("I")
        self.total = 0
        self.journaled = 0
        self.pending: Labels | None = None
        self.file: IO[bytes] | None = None

    @property
    def across(self) -> int:
        """Blocks in one row of blocks, those of all bands."""
        return self.bands * -(-self.shape[1] // tiff.BLOCK)

    @property
    def rows(self) -> int:
        """Rows of pixels that are in the spool."""
        return min(len(self.crcs) * tiff.BLOCK, self.shape[0])

    @property
    def table(self) -> tiff.BlockTable:
        return tiff.BlockTable(self.shape, np.asarray(self.sizes, np.uint32))

    def extend(self, sizes: Sequence[int], crcs: Sequence[int]) -> None:
        """Take note of rows of blocks that are in the spool."""
        self.sizes.extend(sizes)
        self.crcs.extend(crcs)
        self.total += _space(sizes)

    def news(self) -> dict[str, list[int]]:
        """What was spooled since the journal was last written."""
        return {
            "sizes": self.sizes[self.journaled * self.across :].tolist(),
            "crcs": self.crcs[self.journaled :].tolist(),
        }


class RasterWriter:
    """Takes the rows of a raster from top to bottom and makes a GeoTIFF of them.

    Memory: the rows of one block row at full width, and as much again for all overviews.

    Args:
        folder: Where to work. If it was resumed, the writer goes on after the last ``commit``, see ``rows_done``.
        name: Of the raster within the folder.
        spec: What it is to be.
        threads: For compression; None takes up to four.

    Raises:
        GridError: GeoTIFF has no words for the CRS.
        OutputError: The folder cannot be written to, or what it holds is damaged.
    """

    def __init__(self, folder: WorkFolder, name: str, spec: RasterSpec, threads: int | None = None) -> None:
        self._folder, self._name, self._spec = folder.path, name, spec
        self._threads = threads or min(4, os.cpu_count() or 1)
        self._reduce = tiff.REDUCERS[spec.reducer]
        self._tags = tiff.describe(spec.geobox, spec.bands, spec.colors, spec.all_tags)
        shapes = tiff.level_shapes(spec.geobox.shape, overviews=spec.format == "cog")
        self._levels = [
            _Level(self._folder / f"{name}.{i}.blocks", shape, len(spec.bands)) for i, shape in enumerate(shapes)
        ]
        self._buffer: Labels | None = None
        self._filled = 0
        self._broken = False
        self._pool: ThreadPoolExecutor | None = None
        self._journal: IO[bytes] | None = None
        folder.resources.callback(self.close)
        with disk_errors(self._folder):
            good = self._load()
            for level in self._levels:
                level.file = open(level.path, "r+b" if good else "wb")  # noqa: SIM115
                level.file.truncate(level.total)
                level.file.seek(level.total)
            self._start_journal(good)
            self._refill()

    @property
    def rows_done(self) -> int:
        """Rows, from the top, that need not be written again: after a resume, those that were committed."""
        return self._levels[0].rows + self._filled

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._spec.geobox.shape

    def write(self, rows: Labels) -> None:
        """Append rows; any number.

        Args:
            rows: uint8 (row, col), or (band, row, col).

        Raises:
            OptionError: The rows do not fit the raster.
            DiskFullError, OutputError: They cannot be written.
        """
        rows = rows[np.newaxis] if rows.ndim == 2 else rows
        height, width = self.shape
        if rows.dtype != np.uint8 or rows.ndim != 3 or rows.shape[::2] != (len(self._spec.bands), width):
            wanted = f"uint8 ({len(self._spec.bands)}, n, {width})"
            raise OptionError(f"rows of {rows.dtype} {rows.shape} do not fit {self._name}, which takes {wanted}")
        if self.rows_done + rows.shape[1] > height:
            raise OptionError(f"{rows.shape[1]} rows after {self.rows_done} are too many for {self._name}: {height}")
        at = 0
        while at < rows.shape[1]:
            full = min(tiff.BLOCK, height - self._levels[0].rows)
            taken = rows[:, at : at + full - self._filled]
            at += taken.shape[1]
            if taken.shape[1] == full:
                self._spool(taken)
                continue
            if self._buffer is None:
                self._buffer = np.empty((len(self._spec.bands), tiff.BLOCK, width), np.uint8)
            self._buffer[:, self._filled : self._filled + taken.shape[1]] = taken
            self._filled += taken.shape[1]
            if self._filled == full:
                self._filled = 0
                self._spool(self._buffer[:, :full])

    def commit(self) -> None:
        """Make all whole rows of blocks durable: a later resume goes on after them.

        Raises:
            DiskFullError, OutputError: They cannot be written.
        """
        self._refuse_broken()
        if self._journal is None or self._journal.closed:
            raise OutputError(f"{self._name} is closed")
        news = [level.news() for level in self._levels]
        if not news[0]["crcs"]:
            return
        with disk_errors(self._folder):
            for level, new in zip(self._levels, news, strict=True):
                if new["crcs"]:
                    sync(_handle(level))
            _append(self._journal, news)
            for level in self._levels:
                level.journaled = len(level.crcs)

    def read_back(self, start: int, stop: int) -> Labels:
        """The rows from start to stop again, uint8 (band, row, col). Fastest in multiples of 512.

        Args:
            start: First row.
            stop: Row after the last; at most what ``rows_done`` was after a resume or a commit.

        Raises:
            OutputError: What the disk holds is not what was written.
        """
        if not 0 <= start <= stop <= self._levels[0].rows:
            raise OptionError(f"rows {start} to {stop} of {self._name} are not there, only {self._levels[0].rows}")
        with disk_errors(self._folder):
            _handle(self._levels[0]).flush()
        parts = [np.empty((len(self._spec.bands), 0, self.shape[1]), np.uint8)]
        for index in range(start // tiff.BLOCK, -(-stop // tiff.BLOCK)):
            top = index * tiff.BLOCK
            parts.append(self._read(self._levels[0], index)[:, max(start - top, 0) : stop - top])
        return np.concatenate(parts, axis=1)

    def finish(self, bigtiff: bool = False) -> Path:
        """The complete GeoTIFF, still in the work folder, read back and compared; the writer is closed.

        While it runs, the disk holds the compressed blocks twice: in the spools and in the file.

        Args:
            bigtiff: Force a BigTIFF; otherwise it becomes one only when it is too large for an ordinary TIFF.

        Raises:
            DiskFullError, OutputError: It cannot be written, or does not read back the same.
        """
        if self.rows_done != self.shape[0]:
            raise OutputError(f"{self._name} has {self.rows_done} of {self.shape[0]} rows; write the others first")
        self.commit()
        path = self._folder / f"{self._name}.tif"
        tables = [level.table for level in self._levels]
        cog = self._spec.format == "cog"
        try:
            with disk_errors(self._folder), open(path, "wb") as out:
                out.write(tiff.head(tables, len(self._spec.bands), self._tags, cog, bigtiff))
                for level in reversed(self._levels):
                    with open(level.path, "rb") as spool:
                        shutil.copyfileobj(spool, out, 1 << 20)
                sync(out)
        except DiskFullError:
            path.unlink(missing_ok=True)
            raise
        self.close()
        try:
            self._verify(path)
        except RasterioError as error:
            raise self._damaged(f"{path} cannot be read: {error.__cause__ or error}") from error
        return path

    def close(self) -> None:
        """Release files and threads; what was not committed is lost."""
        for level in self._levels:
            if level.file is not None:
                with suppress(OSError):
                    level.file.close()
        if self._journal is not None:
            self._journal.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> RasterWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spool(self, rows: Labels) -> None:
        self._refuse_broken()
        self._broken = True
        with disk_errors(self._folder):
            self._emit(0, rows)
        self._broken = False

    def _refuse_broken(self) -> None:
        if self._broken:
            raise OutputError(f"{self._name} failed before; open it again to go on from the last commit")

    def _emit(self, index: int, rows: Labels) -> None:
        """Spool one row of blocks of a level, and hand its half to the next level.

        A row of blocks has 512 rows, or ends the level. So the next level gets 256 at a time, and whether it has rows
        waiting follows from how many rows of blocks this one has: nothing about them needs to be journaled.
        """
        level = self._levels[index]
        packed = self._encode(rows)
        half = self._half(rows) if index + 1 < len(self._levels) else None
        sizes = []
        for data in packed:
            _handle(level).write(tiff.frame(data))
            sizes.append(len(data))
        level.extend(sizes, [zlib.crc32(np.ascontiguousarray(rows).data)])
        if half is None:
            return
        below = self._levels[index + 1]
        pending = half if below.pending is None else np.concatenate([below.pending, half], axis=1)
        whole = pending.shape[1] == tiff.BLOCK or below.rows + pending.shape[1] == below.shape[0]
        below.pending = None if whole else pending
        if whole:
            self._emit(index + 1, pending)

    def _half(self, rows: Labels) -> Labels:
        return np.stack([self._reduce(band) for band in rows])

    def _encode(self, rows: Labels) -> Iterable[bytes]:
        if self._threads == 1:
            return map(tiff.encode, tiff.cut(rows))
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "compress")
        return self._pool.map(tiff.encode, tiff.cut(rows))

    def _read(self, level: _Level, index: int) -> Labels:
        """One row of blocks from a spool, uint8 (band, row, col)."""
        first = index * level.across
        sizes = level.sizes[first : first + level.across]
        with disk_errors(self._folder), open(level.path, "rb") as spool:
            spool.seek(_space(level.sizes[:first]))
            frames = [spool.read(_space([size])) for size in sizes]
        try:
            blocks = [tiff.decode(tiff.unframe(part)) for part in frames]
            height = min(tiff.BLOCK, level.shape[0] - index * tiff.BLOCK)
            rows = tiff.join(blocks, level.bands, height, level.shape[1])
            if zlib.crc32(rows.data) != level.crcs[index]:
                raise OutputError("its checksum is wrong")
        except OutputError as error:
            raise self._damaged(f"row {index} of blocks in {level.path}: {error}") from None
        return rows

    def _damaged(self, what: str) -> OutputError:
        """The error for content that is not what was written; it can not be resumed from either."""
        self.close()
        (self._folder / f"{self._name}.journal").unlink(missing_ok=True)
        return OutputError(f"{what}; the disk does not hold what was written to it. The run starts afresh next time")

    def _verify(self, path: Path) -> None:
        """Read a finished file with GDAL and compare every pixel of every level, by checksum."""
        box = self._spec.geobox
        for index, level in enumerate(self._levels):
            which = {"overview_level": index - 1} if index else {}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = rasterio.open(path, **which)
            with dataset:
                found = (dataset.shape, dataset.count, dataset.nodata, set(dataset.dtypes))
                if found != (level.shape, level.bands, NODATA, {"uint8"}):
                    raise self._damaged(f"{path}, level {index}, reads as {found}")
                if index == 0 and (dataset.crs != box.crs or tuple(dataset.transform) != tuple(box.transform)):
                    raise self._damaged(f"{path} lies at {dataset.crs}, {tuple(dataset.transform)[:6]}")
                for row, crc in enumerate(level.crcs):
                    top = row * tiff.BLOCK
                    height = min(tiff.BLOCK, level.shape[0] - top)
                    rows = dataset.read(window=Window(0, top, level.shape[1], height))
                    if zlib.crc32(rows.data) != crc:
                        raise self._damaged(f"{path}, level {index}, rows {top} to {top + height}")

    def _facts(self) -> dict[str, Any]:
        return {
            "version": 1,
            "shape": list(self.shape),
            "bands": len(self._spec.bands),
            "reducer": self._spec.reducer,
            "levels": len(self._levels),
        }

    def _load(self) -> int:
        """Take over what the journal vouches for; returns how many of its bytes are good."""
        try:
            lines = (self._folder / f"{self._name}.journal").read_bytes().splitlines(keepends=True)
            lengths = [level.path.stat().st_size for level in self._levels]
        except FileNotFoundError:
            return 0
        good = 0
        for index, line in enumerate(lines):
            entry = _parse(line)
            if index == 0:
                if entry != self._facts():
                    return 0
            else:
                if entry is None:
                    break
                ends = [level.total + _space(new["sizes"]) for level, new in zip(self._levels, entry, strict=True)]
                if any(end > length for end, length in zip(ends, lengths, strict=True)):
                    break
                for level, new in zip(self._levels, entry, strict=True):
                    level.extend(new["sizes"], new["crcs"])
                    level.journaled = len(level.crcs)
            good += len(line)
        return good

    def _start_journal(self, good: int) -> None:
        """Open the journal for appending, without what follows its good bytes."""
        journal = open(self._folder / f"{self._name}.journal", "ab")  # noqa: SIM115
        self._journal = journal
        journal.truncate(good)
        if not good:
            _append(journal, self._facts())
            sync_folder(self._folder)

    def _refill(self) -> None:
        """After a resume, make again the rows that wait in each overview."""
        for level, below in zip(self._levels, self._levels[1:], strict=False):
            if len(level.crcs) % 2 and level.rows < level.shape[0]:
                below.pending = self._half(self._read(level, len(level.crcs) - 1))


def _space(sizes: Sequence[int]) -> int:
    """Bytes that blocks take in a spool."""
    return int(tiff.framed(np.asarray(sizes, np.uint32)).sum())


def _handle(level: _Level) -> IO[bytes]:
    if level.file is None or level.file.closed:
        raise OutputError(f"{level.path} is closed")
    return level.file


def _append(journal: IO[bytes], entry: object) -> None:
    """Add a line to a journal, durably; a line that a crash tears is told by its checksum."""
    text = json.dumps(entry, separators=(",", ":")).encode()
    journal.write(b"%08x %s\n" % (zlib.crc32(text), text))
    sync(journal)


def _parse(line: bytes) -> Any:
    """The entry in a line of a journal; None if it is torn."""
    crc, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
        return None
    return json.loads(text)


def write_styles(final: Path, classes: Sequence[ClassInfo]) -> tuple[Path, Path]:
    """Write names and colours beside a class raster: ``x.tif.aux.xml`` for GDAL, ``x.qml`` for QGIS.

    Args:
        final: The raster.
        classes: Each value that a legend is to show, ascending; with the unclassified pixels where there may be any.

    Returns:
        The two paths.
    """
    paths = final.with_name(f"{final.name}.aux.xml"), final.with_suffix(".qml")
    with disk_errors(final.parent):
        for path, text in zip(paths, (styles.pam(classes), styles.palette(classes)), strict=True):
            write_whole(path, text)
        sync_folder(final.parent)
    return paths


def write_confidence_style(final: Path, band: int = 1) -> Path:
    """Write the QGIS style of a raster of probabilities, ``x.qml``; returns its path."""
    path = final.with_suffix(".qml")
    with disk_errors(final.parent):
        write_whole(path, styles.gray(band))
        sync_folder(final.parent)
    return path
