"""Laws of blocks, overviews and the head of a TIFF."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.crs import CRS
from rasterio.io import MemoryFile

from rs_segment import tiff
from rs_segment.errors import GridError, OutputError
from rs_segment.geobox import GeoBox
from rs_segment.types import NODATA, Labels

VALUES = st.sampled_from([0, 1, 2, 254, NODATA])
SHAPES = st.tuples(st.integers(1, 140), st.integers(1, 9))


def windows(rows: Labels) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """The pixels under each pixel of the next level, in row-major order."""
    height, width = rows.shape
    for row, col in product(range(0, height, 2), range(0, width, 2)):
        yield (row // 2, col // 2), [int(x) for x in rows[row : row + 2, col : col + 2].ravel()]


def slow_mode(pixels: list[int]) -> int:
    data = [p for p in pixels if p != NODATA]
    if 2 * len(data) < len(pixels):
        return NODATA
    counts = Counter(data)
    return max(data, key=lambda p: (counts[p], -data.index(p)))


def slow_mean(pixels: list[int]) -> int:
    data = [p for p in pixels if p != NODATA]
    return (2 * sum(data) + len(data)) // (2 * len(data)) if data else NODATA


@pytest.mark.parametrize(("fast", "slow"), [(tiff.mode, slow_mode), (tiff.mean, slow_mean)])
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_an_overview_pixel_depends_on_the_pixels_under_it_only(
    fast: Callable[[Labels], Labels], slow: Callable[[list[int]], int], data: st.DataObject
) -> None:
    rows = data.draw(arrays(np.uint8, SHAPES, elements=VALUES | st.integers(0, 255)))
    small = fast(rows)
    assert small.shape == tuple(-(-n // 2) for n in rows.shape)
    for at, pixels in windows(rows):
        assert small[at] == slow(pixels), pixels


def test_every_pattern_of_four_pixels() -> None:
    patterns = np.array(list(product([0, 1, 2, 3, NODATA], repeat=4)), np.uint8).reshape(-1, 2, 2)
    rows = np.concatenate(list(patterns), axis=1)
    assert tiff.mode(rows)[0].tolist() == [slow_mode(p.ravel().tolist()) for p in patterns]
    assert tiff.mean(rows)[0].tolist() == [slow_mean(p.ravel().tolist()) for p in patterns]


@given(st.tuples(st.integers(1, 200_000), st.integers(1, 200_000)))
@settings(deadline=None)
def test_levels_halve_until_they_fit_into_a_block(shape: tuple[int, int]) -> None:
    shapes = tiff.level_shapes(shape, overviews=True)
    assert shapes[0] == shape
    assert max(shapes[-1]) <= tiff.BLOCK or min(shapes[-1]) == 1
    halved = zip(shapes, shapes[1:], strict=False)
    assert all(b == (-(-a[0] // 2), -(-a[1] // 2)) and max(a) > tiff.BLOCK for a, b in halved)
    assert tiff.level_shapes(shape, overviews=False) == (shape,)


@given(st.integers(1, 512), st.integers(1, 1100), st.integers(1, 3), st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_blocks_come_back(height: int, width: int, bands: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(250, 256, (bands, height, width), dtype=np.uint8)
    rows[:, :, :600] = NODATA
    frames = [tiff.frame(tiff.encode(block)) for block in tiff.cut(rows)]
    back = tiff.join([tiff.decode(tiff.unframe(f)) for f in frames], bands, height, width)
    np.testing.assert_array_equal(back, rows)
    sizes = np.array([len(tiff.unframe(f)) for f in frames], np.uint32)
    assert tiff.framed(sizes).sum() == sum(map(len, frames))


def test_a_block_without_data_takes_no_room() -> None:
    assert tiff.frame(tiff.encode(np.full((512, 512), NODATA, np.uint8))) == b""


@pytest.mark.parametrize("damage", [lambda f: f[:-1], lambda f: b"\1" + f[1:], lambda f: f[:-1] + b"\xee"])
def test_a_damaged_frame_is_noticed(damage: Callable[[bytes], bytes]) -> None:
    good = tiff.frame(tiff.encode(np.zeros((512, 512), np.uint8)))
    with pytest.raises(OutputError, match="frame"):
        tiff.unframe(damage(good))


def test_a_damaged_block_is_noticed() -> None:
    with pytest.raises(OutputError, match="decompressed"):
        tiff.decode(b"no deflate")
    with pytest.raises(OutputError, match="pixels instead of"):
        tiff.decode(zlib.compress(b"short"))


@pytest.mark.parametrize(("bands", "cog"), [(1, True), (1, False), (3, True)])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_gdal_reads_a_head_with_its_blocks(bands: int, cog: bool, bigtiff: bool) -> None:
    box = GeoBox((600, 700), Affine(2, 0.5, 10, 0.25, -2, 20), CRS.from_epsg(32640))
    rows = np.random.default_rng(0).integers(0, 5, (bands, 600, 700), dtype=np.uint8)
    frames = [tiff.frame(tiff.encode(b)) for top in (0, 512) for b in tiff.cut(rows[:, top : top + 512])]
    table = tiff.BlockTable((600, 700), np.array([len(f) - 8 for f in frames], np.uint32))
    tags = tiff.describe(box, [f"b{i}" for i in range(bands)], {}, {"KEY": "a < b & c", "Ü": "ß"})
    file = tiff.head([table], bands, tags, cog, bigtiff) + b"".join(frames)
    assert file[2] == (43 if bigtiff else 42)
    with MemoryFile(file) as memory, memory.open() as dataset:
        np.testing.assert_array_equal(dataset.read(), rows)
        assert dataset.tags()["KEY"] == "a < b & c"
        assert dataset.tags()["Ü"] == "ß"
        assert dataset.descriptions == tuple(f"b{i}" for i in range(bands))
        assert (dataset.crs, tuple(dataset.transform), dataset.nodata) == (box.crs, tuple(box.transform), NODATA)
        assert (dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG") == (cog and bands == 1)


def test_a_file_over_4_gib_becomes_a_bigtiff_and_none_below() -> None:
    tags = tiff.describe(GeoBox((512, 512 * 4), Affine.identity()), ["x"], {}, {})

    def version(sizes: list[int]) -> int:
        table = tiff.BlockTable((512, 512 * 4), np.array(sizes, np.uint32))
        return tiff.head([table], 1, tags, cog=True)[2]

    length = len(tiff.head([tiff.BlockTable((512, 512 * 4), np.zeros(4, np.uint32))], 1, tags, cog=True))
    most = 2**32 - 1 - length - 4 * 8
    assert version([1, 1, 1, most - 3]) == 42
    assert version([1, 1, 1, most - 2]) == 43


def test_offsets_beyond_4_gib_are_right() -> None:
    table = tiff.BlockTable((512, 512 * 3), np.array([2**32 - 1, 0, 2**32 - 1], np.uint32))
    offsets, sizes = table.in_file_order(1, 1000)
    assert offsets.tolist() == [1004, 0, 1004 + 2**32 - 1 + 8]
    assert sizes.tolist() == [2**32 - 1, 0, 2**32 - 1]
    assert table.total == 2 * (2**32 - 1 + 8)


def test_a_crs_that_geotiff_cannot_hold_is_refused_at_once() -> None:
    pole = "+proj=ob_tran +o_proj=longlat +o_lon_p=-162 +o_lat_p=39.25 +lon_0=180 +to_meter=0.0174532925199433"
    with pytest.raises(GridError, match="cannot hold"):
        tiff.describe(GeoBox((5, 5), Affine.scale(2), CRS.from_proj4(pole)), ["x"], {}, {})
