"""How do blocks become a GeoTIFF?

A raster is a pyramid: the base, and overviews that halve it until both sides fit into one block. Every level is cut
into blocks of 512 x 512 uint8 pixels, each compressed for itself. A Cloud Optimized GeoTIFF is then nothing but a head
that says where the blocks lie, followed by the blocks, those of the smallest level first. GDAL decides what the head
says about place, colours and names: it writes a raster of one pixel, whose tags are taken over as they are.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from .errors import GridError, OutputError
from .geobox import GeoBox
from .types import NODATA, Labels

BLOCK = 512
"""Side of a block in pixels."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SHORT, _LONG, _LONG8 = 3, 4, 16
_PHOTOMETRIC, _COLORMAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _NODATA = 262, 320, 338, 339, 42113
_EVERY_LEVEL = (_PHOTOMETRIC, _COLORMAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _NODATA)
_BASE_ONLY = (33550, 33922, 34264, 34735, 34736, 34737, 42112)
_CLASSIC_LIMIT = 2**32 - 1
_LEADER = struct.Struct("<I")
_STRIP = 64
_COG = b"LAYOUT=IFDS_BEFORE_DATA\n"
_COG_BLOCKS = b"BLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\nBLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
_COG_EDITION = b"KNOWN_INCOMPATIBLE_EDITION=NO\n "


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry of a TIFF directory.

    Args:
        kind: TIFF field type (3 is SHORT, 4 LONG, 16 LONG8).
        count: Number of values.
        data: The values, little endian.
    """

    kind: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class BlockTable:
    """How large the blocks of one level are.

    Args:
        shape: (height, width) of the level in pixels.
        sizes: uint32, bytes of each block in the order in which they lie in the file: (row of blocks, band, column of
            blocks). 0 is a block that holds nothing but nodata and is not stored.
    """

    shape: tuple[int, int]
    sizes: NDArray[np.uint32]

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of blocks."""
        return -(-self.shape[0] // BLOCK), -(-self.shape[1] // BLOCK)

    @property
    def total(self) -> int:
        """Bytes of all blocks with their frames."""
        return int(framed(self.sizes).sum())

    def in_file_order(self, bands: int, start: int) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """(offsets, sizes) in the order of the TIFF's tables, band by band, when the first frame starts at start."""
        space = framed(self.sizes)
        offsets = np.where(space > 0, space.cumsum() - space + start + _LEADER.size, 0).astype(np.uint64)
        rows, cols = self.grid
        order = np.arange(len(self.sizes)).reshape(rows, bands, cols).transpose(1, 0, 2).ravel()
        return offsets[order], self.sizes[order]


def framed(sizes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Bytes that blocks of these sizes take in the file, with what ``frame`` puts around them."""
    return np.where(sizes > 0, sizes.astype(np.int64) + 2 * _LEADER.size, 0)


def frame(data: bytes) -> bytes:
    """A block with its size before it and its last four bytes again after it; nothing around an empty one.

    So GDAL needs no block tables to read a COG over a network, and sees when another program has moved blocks.
    """
    return _LEADER.pack(len(data)) + data + data[-_LEADER.size :] if data else data


def unframe(data: bytes) -> bytes:
    """The block in a frame.

    Raises:
        OutputError: The frame does not fit its content.
    """
    block = data[_LEADER.size : -_LEADER.size]
    if frame(block) != data:
        raise OutputError(f"a block's frame of {len(data)} bytes does not fit its content")
    return block


def level_shapes(shape: tuple[int, int], overviews: bool) -> tuple[tuple[int, int], ...]:
    """(height, width) of the base and, if wanted, of its overviews, each half of the one before, rounded up.

    They end where both sides fit into a block, or one side is a single pixel, which cannot be halved.
    """
    shapes = [shape]
    while overviews and max(shapes[-1]) > BLOCK and min(shapes[-1]) > 1:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return tuple(shapes)


def mode(rows: Labels) -> Labels:
    """Labels at half the size: the most frequent of each 2 x 2.

    Ties go to the first in row-major order. Nodata wins only where it holds more than half of the pixels; otherwise the
    data decide alone. At an odd edge, the pixels that exist count.

    Args:
        rows: uint8 (row, col).
    """
    return _halve(rows, _mode)


def mean(rows: Labels) -> Labels:
    """Values at half the size: the mean of those of each 2 x 2 that are data, halves rounded up; nodata where none is.

    Args:
        rows: uint8 (row, col).
    """
    return _halve(rows, _mean)


REDUCERS: Mapping[str, Callable[[Labels], Labels]] = {"mode": mode, "mean": mean}
"""How an overview is made of the level above, by name."""


def _halve(rows: Labels, reduce: Callable[[Labels, Labels, Labels, Labels], Labels]) -> Labels:
    height, width = rows.shape
    out = np.empty((-(-height // 2), -(-width // 2)), np.uint8)
    for top in range(0, height, _STRIP):
        strip = rows[top : top + _STRIP]
        # Repeating an edge pixel doubles the weight of all that exist alike, so neither vote nor mean changes.
        if strip.shape[0] % 2 or width % 2:
            strip = np.pad(strip, ((0, strip.shape[0] % 2), (0, width % 2)), mode="edge")
        # Pairs as one number of 16 bits: several times as fast as slices with a step of two.
        pairs = np.ascontiguousarray(strip).view("<u2")
        left, right = pairs.astype(np.uint8), (pairs >> 8).astype(np.uint8)
        out[top // 2 : (top + strip.shape[0]) // 2] = reduce(left[0::2], right[0::2], left[1::2], right[1::2])
    return out


def _mode(a: Labels, b: Labels, c: Labels, d: Labels) -> Labels:
    found = _choose((b == c) | (b == d), b, a)
    found = _choose(c == d, c, found)
    found = _choose((a == b) | (a == c) | (a == d), a, found)
    if found.size and found.max() == NODATA:
        void = [(x == NODATA).view(np.uint8) for x in (a, b, c, d)]
        data = _choose(a != NODATA, a, _choose(b != NODATA, b, c))
        found = _choose((found == NODATA) & (sum(void[1:], start=void[0]) < 3), data, found)
    return found


def _choose(condition: NDArray[np.bool_], yes: Labels, no: Labels) -> Labels:
    """``np.where`` by bit masks, which is several times as fast on bytes."""
    mask = np.negative(condition.view(np.uint8))
    return np.asarray(no ^ ((yes ^ no) & mask))


def _mean(a: Labels, b: Labels, c: Labels, d: Labels) -> Labels:
    quarters = [x.astype(np.uint16) for x in (a, b, c, d)]
    if not any(x.size and x.max() == NODATA for x in (a, b, c, d)):
        return ((sum(quarters[1:], start=quarters[0]) + 2) >> 2).astype(np.uint8)
    valid = [(x != NODATA).astype(np.uint16) for x in quarters]
    count = sum(valid[1:], start=valid[0])
    total = sum((x * v for x, v in zip(quarters, valid, strict=True)), start=np.zeros_like(count))
    average = (total + count // 2) // np.maximum(count, 1)
    return np.where(count > 0, average, NODATA).astype(np.uint8)


def cut(rows: Labels) -> Iterator[Labels]:
    """The blocks of one row of blocks, (512, 512) each, band by band, filled up with nodata beyond the raster.

    Args:
        rows: uint8 (band, row, col), at most 512 rows.
    """
    bands, height, width = rows.shape
    for band in range(bands):
        for left in range(0, width, BLOCK):
            part = rows[band, :, left : left + BLOCK]
            if part.shape == (BLOCK, BLOCK):
                yield part
            else:
                block = np.full((BLOCK, BLOCK), NODATA, np.uint8)
                block[:height, : part.shape[1]] = part
                yield block


def join(blocks: Sequence[Labels], bands: int, height: int, width: int) -> Labels:
    """One row of blocks as pixels, uint8 (band, row, col); undoes ``cut``."""
    cols = len(blocks) // bands
    rows = [np.concatenate(blocks[band * cols : (band + 1) * cols], axis=1)[:height, :width] for band in range(bands)]
    return np.stack(rows)


def encode(block: Labels) -> bytes:
    """A block (512, 512) as a DEFLATE stream; empty when it holds nothing but nodata."""
    if block.min() == NODATA:
        return b""
    # Runs only: on class maps faster than any of zlib's levels and smaller than its levels 1 to 5 (207 Mpx/s and
    # 0.90 MB for a city, where level 1 makes 142 Mpx/s and 1.47 MB, level 6 makes 40 Mpx/s and 0.74 MB).
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 8, zlib.Z_RLE)
    return packer.compress(np.ascontiguousarray(block).data) + packer.flush()


def decode(data: bytes) -> Labels:
    """The block (512, 512) in a DEFLATE stream.

    Raises:
        OutputError: It is not what ``encode`` made.
    """
    if not data:
        return np.full((BLOCK, BLOCK), NODATA, np.uint8)
    try:
        pixels = zlib.decompress(data)
    except zlib.error as error:
        raise OutputError(f"a block of {len(data)} bytes cannot be decompressed: {error}") from None
    if len(pixels) != BLOCK * BLOCK:
        raise OutputError(f"a block of {len(data)} bytes holds {len(pixels)} pixels instead of {BLOCK * BLOCK}")
    return np.frombuffer(pixels, np.uint8).reshape(BLOCK, BLOCK)


def describe(
    geobox: GeoBox, bands: Sequence[str], colors: Mapping[int, tuple[int, int, int]], tags: Mapping[str, str]
) -> dict[int, Tag]:
    """The TIFF tags for place, nodata, colours and names, as GDAL writes them.

    Args:
        geobox: Grid of the raster.
        bands: Description of each band.
        colors: Value to (red, green, blue), 0 to 255; empty for none; one band only.
        tags: GDAL metadata.

    Raises:
        GridError: GeoTIFF has no words for the CRS (a rotated pole, for one).
    """
    options = {"dtype": "uint8", "nodata": NODATA, "photometric": "MINISBLACK", "ENDIANNESS": "LITTLE"}
    options |= {"crs": geobox.crs, "count": len(bands)}
    # Programs draw a raster with an identity transform upside down, one without any as the image that it is.
    options |= {"transform": geobox.transform} if geobox.georeferenced else {}
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="GTiff", width=1, height=1, **options) as dataset:
            dataset.update_tags(**tags)
            for index, name in enumerate(bands, 1):
                dataset.set_band_description(index, name)
            if colors:
                dataset.write_colormap(1, {value: (*rgb, 255) for value, rgb in colors.items()})
        written = bytes(memory.getbuffer())
        # Read from a copy: beside the original GDAL may have put what the TIFF cannot hold.
        with MemoryFile(written) as copy, copy.open() as dataset:
            if dataset.crs != geobox.crs or tuple(dataset.transform) != tuple(geobox.transform):
                raise GridError(
                    f"a GeoTIFF cannot hold this grid: {geobox.crs!s:.100}, {tuple(geobox.transform)[:6]}; "
                    f"warp the scene to an ordinary projected CRS first"
                )
    found = parse(written)
    return {key: found[key] for key in (*_EVERY_LEVEL, *_BASE_ONLY) if key in found}


def parse(tiff: bytes) -> dict[int, Tag]:
    """The tags of the first directory of a classic TIFF, little endian."""
    magic, version, at = struct.unpack_from("<2sHI", tiff)
    if magic != b"II" or version != 42:
        raise OutputError(f"GDAL wrote a TIFF that starts with {tiff[:4]!r}, not a classic one in little endian")
    tags = {}
    for index in range(struct.unpack_from("<H", tiff, at)[0]):
        entry = at + 2 + 12 * index
        key, kind, count = struct.unpack_from("<HHI", tiff, entry)
        size = _SIZES[kind] * count
        start = entry + 8 if size <= 4 else struct.unpack_from("<I", tiff, entry + 8)[0]
        tags[key] = Tag(kind, count, tiff[start : start + size])
    return tags


def head(levels: Sequence[BlockTable], bands: int, tags: Mapping[int, Tag], cog: bool, bigtiff: bool = False) -> bytes:
    """What comes before the blocks in the file: the header and one directory for each level.

    The blocks, each in its ``frame``, must follow at once: level by level from the last to the first, in the order of
    their tables.
    Layout of a COG: https://gdal.org/en/stable/drivers/raster/cog.html, section File format.

    Args:
        levels: The base and its overviews.
        bands: Number of bands; each has blocks of its own.
        tags: From ``describe``.
        cog: Whether to state that the directories come first.
        bigtiff: Force a BigTIFF; without it, one is made when the file would reach over 4 GiB.
    """
    total = sum(level.total for level in levels)
    zeros = _head(levels, bands, tags, cog, bigtiff, [0] * len(levels))
    if not bigtiff and len(zeros) + total > _CLASSIC_LIMIT:
        return head(levels, bands, tags, cog, bigtiff=True)
    starts, start = [0] * len(levels), len(zeros)
    for index in reversed(range(len(levels))):
        starts[index] = start
        start += levels[index].total
    return _head(levels, bands, tags, cog, bigtiff, starts)


def _head(
    levels: Sequence[BlockTable], bands: int, tags: Mapping[int, Tag], cog: bool, big: bool, starts: Sequence[int]
) -> bytes:
    ghost = b""
    if cog:
        # Rows of blocks of several bands alternate, which GDAL has no word for that older versions know.
        facts = _COG + (_COG_BLOCKS if bands == 1 else b"") + _COG_EDITION
        ghost = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(facts) + facts
    first = 16 if big else 8
    first += _even(len(ghost), 2)
    header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)
    parts, at = [(header + ghost).ljust(first, b"\0")], first
    for index, level in enumerate(levels):
        entries = _level_tags(level, bands, big, starts[index], overview=index > 0)
        entries |= {key: tag for key, tag in tags.items() if key in _EVERY_LEVEL or (index == 0 and key in _BASE_ONLY)}
        parts.append(_directory(entries, at, big, last=index == len(levels) - 1))
        at += len(parts[-1])
    return b"".join(parts)


def _level_tags(level: BlockTable, bands: int, big: bool, start: int, overview: bool) -> dict[int, Tag]:
    offsets, sizes = level.in_file_order(bands, start)
    table = offsets.astype("<u8" if big else "<u4").tobytes()

    def short(*values: int) -> Tag:
        return Tag(_SHORT, len(values), struct.pack(f"<{len(values)}H", *values))

    def long(value: int) -> Tag:
        return Tag(_LONG, 1, struct.pack("<I", value))

    tags = {
        256: long(level.shape[1]),
        257: long(level.shape[0]),
        258: short(*[8] * bands),
        259: short(8),
        277: short(bands),
        284: short(2 if bands > 1 else 1),
        322: short(BLOCK),
        323: short(BLOCK),
        324: Tag(_LONG8 if big else _LONG, len(offsets), table),
        325: Tag(_LONG, len(sizes), sizes.astype("<u4").tobytes()),
    }
    return {254: long(1), **tags} if overview else tags


def _directory(tags: Mapping[int, Tag], at: int, big: bool, last: bool) -> bytes:
    """A directory that starts at an offset, with the values that do not fit into its entries, to a multiple of 8."""
    count, entry, pointer, inline = ("<Q", "<HHQ", "<Q", 8) if big else ("<H", "<HHI", "<I", 4)
    values_at = _even(at + struct.calcsize(count) + len(tags) * (struct.calcsize(entry) + inline) + inline, 8)
    entries, values = [struct.pack(count, len(tags))], []
    for key, tag in sorted(tags.items()):
        entries.append(struct.pack(entry, key, tag.kind, tag.count))
        if len(tag.data) <= inline:
            entries.append(tag.data.ljust(inline, b"\0"))
        else:
            entries.append(struct.pack(pointer, values_at))
            values.append(tag.data.ljust(_even(len(tag.data), 8), b"\0"))
            values_at += len(values[-1])
    entries.append(struct.pack(pointer, 0 if last else values_at))
    body = b"".join(entries)
    return body.ljust(_even(at + len(body), 8) - at, b"\0") + b"".join(values)


def _even(value: int, step: int) -> int:
    return -(-value // step) * step
