"""Laws of the sieve: it does what its rule says, however the rows arrive and whatever the classes are called."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rs_segment.errors import GridError, OptionError, PixelTypeError
from rs_segment.polygons.sieve import Sieve, sieve

Raster = NDArray[Any]
Weights = NDArray[np.float64]
Pixel = tuple[int, int]
LAW = settings(deadline=None, max_examples=120)
NODATA = 255


class Reference:
    """The rule, read aloud: one step after the other over the whole raster, pixel by pixel."""

    def __init__(self, labels: Raster, smallest: float, weights: Weights | None = None, nodata: int = NODATA) -> None:
        height, width = labels.shape
        self.label = {(r, c): int(labels[r, c]) for r in range(height) for c in range(width)}
        self.nodata, self.smallest = nodata, Fraction(smallest)
        self.weight = [Fraction(1 if weights is None else float(weights[r])) for r in range(height)]
        self.shape = labels.shape

    def patches(self) -> list[list[Pixel]]:
        """Pixels of each patch, in the order in which they begin."""
        seen: set[Pixel] = set()
        found = []
        for pixel, label in self.label.items():
            if pixel in seen or label == self.nodata:
                continue
            seen.add(pixel)
            patch = [pixel]
            for r, c in patch:
                for near in ((r, c + 1), (r + 1, c), (r, c - 1), (r - 1, c)):
                    if near not in seen and self.label.get(near) == label:
                        seen.add(near)
                        patch.append(near)
            found.append(patch)
        return found

    def weigh(self, patch: Iterable[Pixel]) -> Fraction:
        return sum((self.weight[r] for r, _ in patch), Fraction(0))

    def round(self) -> bool:
        """Whether any patch gave way."""
        patches = self.patches()
        owner = {pixel: number for number, patch in enumerate(patches) for pixel in patch}
        weight = [self.weigh(patch) for patch in patches]
        label = [self.label[patch[0]] for patch in patches]
        borders: dict[int, dict[tuple[str, int], list[tuple[int, int, int]]]] = {}
        for r, c in owner:
            for place, near in ((0, (r, c + 1)), (1, (r + 1, c))):
                if near in owner and owner[near] != owner[r, c]:
                    for mine, other in ((owner[r, c], owner[near]), (owner[near], owner[r, c])):
                        if weight[mine] < self.smallest:
                            large = weight[other] >= self.smallest
                            key = ("class", label[other]) if large else ("patch", other)
                            borders.setdefault(mine, {}).setdefault(key, []).append((r, c, place))
        choice = {}
        for mine, shared in borders.items():
            choice[mine] = min(shared, key=lambda key: (-len(shared[key]), min(shared[key])))
        becomes = {}
        for mine in choice:
            at = mine
            while True:
                kind, to = choice[at]
                if kind == "class":
                    becomes[mine] = to
                    break
                if choice[to] == ("patch", at):
                    remains = min((at, to), key=lambda patch: (-weight[patch], patch))
                    becomes[mine] = label[remains]
                    break
                at = to
        for number, value in becomes.items():
            for pixel in patches[number]:
                self.label[pixel] = value
        return bool(becomes)

    def result(self, dtype: Any = np.uint8) -> Raster:
        while self.round():
            pass
        return np.array(list(self.label.values()), dtype).reshape(self.shape)

    def stuck(self) -> list[list[Pixel]]:
        """Small patches with a neighbour that is not nodata."""
        found = []
        for patch in self.patches():
            near = {(r + i, c + j) for r, c in patch for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0))} - set(patch)
            if self.weigh(patch) < self.smallest and any(self.label.get(p, self.nodata) != self.nodata for p in near):
                found.append(patch)
        return found


@st.composite
def rasters(draw: st.DrawFn, side: int = 8) -> Raster:
    """Noise, blobs, stripes or a checkerboard of one to five classes, some with nodata."""
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    classes = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["noise", "speckled", "blobs", "stripes", "checkerboard"]))
    if kind == "noise":
        raster = rng.integers(0, classes, (height, width))
    elif kind == "speckled":
        raster = np.where(rng.random((height, width)) < 0.25, rng.integers(0, classes, (height, width)), 0)
    elif kind == "blobs":
        step = draw(st.integers(2, 4))
        coarse = rng.integers(0, classes, (height // step + 1, width // step + 1))
        raster = np.repeat(np.repeat(coarse, step, axis=0), step, axis=1)[:height, :width]
    elif kind == "stripes":
        raster = np.add.outer(np.zeros(height, np.int64), np.arange(width)) % classes
        raster = raster if draw(st.booleans()) else raster[:, ::-1]
    else:
        raster = np.add.outer(np.arange(height), np.arange(width)) % classes
    holes = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5]))
    return np.where(rng.random((height, width)) < holes, NODATA, raster).astype(np.uint8)


limits = st.integers(0, 30) | st.floats(0, 30)
weight_lists = st.none() | st.lists(st.integers(0, 12).map(lambda eighths: eighths / 8), min_size=8, max_size=8)


def streamed(
    raster: Raster,
    smallest: float,
    heights: list[int],
    block: int,
    weights: Weights | None = None,
    nodata: int = NODATA,
) -> Raster:
    sift = Sieve(raster.shape, smallest, weights, nodata, block=block)
    parts, top = [], 0
    for height in heights:
        band = raster[top : top + height].copy()
        parts.append(sift.feed(band))
        band[:] = 77
        top += height
    parts += [sift.feed(raster[top:]), sift.finish()]
    return np.concatenate(parts)


@settings(deadline=None, max_examples=600)
@given(rasters(), limits, weight_lists, st.lists(st.integers(0, 5), max_size=8), st.integers(1, 60))
def test_the_rule_at_any_height_of_bands(
    raster: Raster, smallest: float, weight_list: list[float] | None, heights: list[int], block: int
) -> None:
    weights = None if weight_list is None else np.array(weight_list[: len(raster)])
    expected = Reference(raster, smallest, weights).result()
    assert np.array_equal(streamed(raster, smallest, heights, block, weights), expected)
    assert np.array_equal(sieve(raster, smallest, weights), expected)


@LAW
@given(rasters(), limits, st.permutations(range(5)))
def test_the_numbers_of_classes_do_not_matter(raster: Raster, smallest: float, order: list[int]) -> None:
    table = np.arange(256, dtype=np.uint8)
    table[:5] = order
    assert np.array_equal(sieve(table[raster], smallest), table[sieve(raster, smallest)])


@LAW
@given(rasters(), limits)
def test_what_stays_and_what_is_left(raster: Raster, smallest: float) -> None:
    result = sieve(raster, smallest)
    before, after = Reference(raster, smallest), Reference(result, smallest)
    assert np.array_equal(result == NODATA, raster == NODATA)
    for patch in before.patches():
        if len(patch) >= smallest:
            assert all(after.label[pixel] == before.label[pixel] for pixel in patch)
    assert not after.stuck()
    assert np.array_equal(sieve(result, smallest), result)


@LAW
@given(rasters(), st.floats(0, 1))
def test_a_limit_of_one_pixel_changes_nothing(raster: Raster, smallest: float) -> None:
    sift = Sieve(raster.shape, smallest)
    assert np.array_equal(sift.feed(raster), raster)
    assert sift.finish().shape == (0, raster.shape[1])


@LAW
@given(rasters(), st.lists(st.integers(0, 5), max_size=8), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_bands_do_not_show_where_weights_are_no_round_numbers(
    raster: Raster, heights: list[int], block: int, seed: int
) -> None:
    weights = np.random.default_rng(seed).uniform(0.1, 1.3, len(raster)) / 3
    for smallest in (weights[0] * 3, weights.sum(), 1e-9 * weights[0], 1.7):
        assert np.array_equal(streamed(raster, smallest, heights, block, weights), sieve(raster, smallest, weights))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "uint64"])
def test_any_integers_are_labels(dtype: str) -> None:
    raster = np.random.default_rng(0).integers(0, 4, (30, 20)).astype(dtype)
    expected = sieve(raster.astype(np.uint8), 6)
    raster *= 31
    result = sieve(raster, 6, nodata=-7)
    assert result.dtype == np.dtype(dtype)
    assert np.array_equal(result, expected * raster.dtype.type(31))
    assert np.array_equal(sieve(raster, 6, nodata=31) == 31, raster == 31)


def after(text: str, smallest: float, weights: list[float] | None = None) -> str:
    """What becomes of a drawing; dots are nodata."""
    drawing = np.array([[NODATA if c == "." else int(c) for c in line] for line in text.split()], np.uint8)
    result = sieve(drawing, smallest, None if weights is None else np.array(weights))
    return " ".join("".join("." if v == NODATA else str(v) for v in row) for row in result)


@pytest.mark.parametrize(
    ("before", "smallest", "expected"),
    [
        ("11111 11211 11111", 2, "11111 11111 11111"),
        # Two pieces of class 1 have two edges each, and so together more than the three of class 3.
        ("1333..1 1333..1 1333..1 1222221 11...11", 6, "1333..1 1333..1 1333..1 1111111 11...11"),
        # Of equal borders, the one that comes first in the raster.
        ("1121133 1111133", 2, "1111133 1111133"),
        ("111 323 333", 2, "111 333 333"),
        ("11233", 2, "11133"),
        # Two that have only each other: the heavier, then the one that begins first.
        (".12.", 9, ".11."),
        (".122.", 9, ".222."),
        # Nodata and the frame are no neighbours.
        ("1.2 ... 3.4", 9, "1.2 ... 3.4"),
        ("7", 9, "7"),
        # Small ones that grow together are large enough to stay, or are not.
        ("11111122322 111...22322 111........", 5, "11111122222 111...22222 111........"),
        ("11111122322 111...22322 111........", 11, "11111111111 111...11111 111........"),
        # In one round, all choose the first edge that they have, and become what the first two become.
        ("12 21", 9, "11 11"),
    ],
)
def test_drawings(before: str, smallest: float, expected: str) -> None:
    assert after(before, smallest) == expected


def test_rows_have_their_own_weights() -> None:
    assert after("1111 1221 1111 1331 1111", 1, [9, 0.4, 9, 0.5, 9]) == "1111 1111 1111 1331 1111"
    assert after("1111 1221 1111 1331 1111", 1, [9, float("nan"), 9, 0.6, 9]) == "1111 1111 1111 1331 1111"


def test_sums_of_rounded_areas_reach_what_they_are_meant_to_reach() -> None:
    side = 0.3
    raster = np.zeros((20, 20), np.uint8)
    raster[2:12, 2:12] = 1
    for smallest, kept in ((100 * 0.09, True), (100 * 0.09 * (1 + 1e-6), False)):
        result = sieve(raster, smallest, np.full(20, side * side))
        assert np.array_equal(result, raster) is kept


def test_rows_go_out_while_rows_come_in() -> None:
    rng = np.random.default_rng(0)
    raster = np.where(np.add.outer(np.arange(3000) // 500, np.arange(80) // 40) % 2, 1, 0).astype(np.uint8)
    specks = rng.integers(0, len(raster) - 4, 300), rng.integers(0, 76, 300)
    for r, c in zip(*specks, strict=True):
        raster[r : r + 3, c : c + 3] = rng.integers(0, 4)
    sift, out, most = Sieve(raster.shape, 20, block=800), 0, 0
    for top in range(0, len(raster), 7):
        out += len(sift.feed(raster[top : top + 7]))
        most = max(most, min(top + 7, len(raster)) - out)
    assert 0 < most < 60
    assert out + len(sift.finish()) == len(raster)


def test_a_large_patch_is_known_before_it_ends() -> None:
    raster = np.zeros((1000, 8), np.uint8)
    raster[:, 4:] = 1
    raster[5, 2] = 2
    sift = Sieve(raster.shape, 10, block=1)
    assert [len(sift.feed(row[None])) for row in raster[:40]][20:] == [1] * 20


def test_an_open_small_patch_holds_its_cluster_back() -> None:
    raster = np.zeros((300, 9), np.uint8)
    raster[10:200, 4] = 1
    raster[10, 5] = 2
    sift = Sieve(raster.shape, 500, block=1)
    parts = [sift.feed(row[None]) for row in raster]
    assert sum(map(len, parts[56:200])) <= 1 + 56
    parts.append(sift.finish())
    assert not np.concatenate(parts).any()


def test_rows_that_were_handed_out_are_the_callers() -> None:
    raster = np.random.default_rng(1).integers(0, 3, (60, 12)).astype(np.uint8)
    sift, parts = Sieve(raster.shape, 4, block=30), []
    for row in raster:
        part = sift.feed(row[None])
        parts.append(part.copy())
        part[:] = 99
    parts.append(sift.finish())
    assert np.array_equal(np.concatenate(parts), sieve(raster, 4))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_rasters_without_pixels(shape: tuple[int, int]) -> None:
    assert sieve(np.zeros(shape, np.uint16), 5).shape == shape


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(OptionError, match="-1"):
        Sieve((4, 4), -1)
    with pytest.raises(OptionError, match="nan"):
        Sieve((4, 4), float("nan"))
    with pytest.raises(OptionError, match="inf"):
        Sieve((4, 4), float("inf"))
    with pytest.raises(OptionError, match="negative"):
        Sieve((2, 4), 5, np.array([1.0, -1.0]))
    with pytest.raises(GridError, match="4 rows"):
        Sieve((4, 4), 5, np.ones(3))
    with pytest.raises(GridError, match="no raster"):
        sieve(np.zeros(4, np.uint8), 5)
    sift = Sieve((4, 4), 5)
    with pytest.raises(PixelTypeError, match="float32"):
        sift.feed(np.zeros((1, 4), np.float32))
    with pytest.raises(GridError, match="row 0"):
        sift.feed(np.zeros((1, 5), np.uint8))
    sift.feed(np.zeros((3, 4), np.uint8))
    with pytest.raises(PixelTypeError, match="uint8"):
        sift.feed(np.zeros((1, 4), np.int16))
    with pytest.raises(GridError, match="row 3"):
        sift.feed(np.zeros((2, 4), np.uint8))
    with pytest.raises(GridError, match="only 3 of 4"):
        sift.finish()
