"""Whatever the split, no pixel is on two sides, blocks keep their distance, and what leaks is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from affine import Affine
from fakes import NORTH_UP, ROTATED
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from rs_segment.dataset import Pair, Part, Split, SplitSpec, make_split, parse_split
from rs_segment.dataset.masks import Legend, MaskFile
from rs_segment.dataset.pair import Image
from rs_segment.dataset.split import touching
from rs_segment.errors import DatasetError, OptionError
from rs_segment.geobox import GeoBox


def pair(name: str, group: str, shape: tuple[int, int] = (300, 400), box: GeoBox | None = None) -> Pair:
    """A pair that is never read."""
    box = box or GeoBox(shape, Affine.identity())
    image = Image(f"{name}.tif", box, (1,), "uint8", (), (16, 16))
    return Pair(name, group, box, image, MaskFile(f"{name}.png", box, "values", 1, (16, 16)), Legend("values", {}, 2))


def grouped(groups: int, parts: int) -> list[Pair]:
    return [pair(f"g{g}/{p}", f"g{g}", (300 + 20 * g, 400)) for g in range(groups) for p in range(parts)]


def drawn(pairs: Sequence[Pair], parts: Sequence[Part]) -> dict[str, np.ndarray]:
    """How often each pixel of each pair is in some part."""
    found = {p.name: np.zeros(p.shape, int) for p in pairs}
    for part in parts:
        rows, cols = part.window.toslices()
        assert found[part.pair.name][rows, cols].size == part.work > 0
        found[part.pair.name][rows, cols] += 1
    return found


SPECS = st.builds(
    SplitSpec,
    kind=st.sampled_from(["group", "blocks", "random"]),
    validation=st.floats(0.05, 0.4),
    test=st.sampled_from([0.0, 0.1, 0.3]),
    block=st.sampled_from([0, 64, 100, 1000]),
    buffer=st.sampled_from([0, 7, 30]),
    seed=st.integers(0, 99),
) | st.builds(lambda f, s: SplitSpec("kfold", fold=f, folds=3, seed=s), st.integers(0, 2), st.integers(0, 99))


@settings(deadline=None, max_examples=80)
@given(SPECS, st.integers(3, 6), st.integers(1, 3))
def test_no_pixel_is_on_two_sides(spec: SplitSpec, groups: int, parts: int) -> None:
    pairs = grouped(groups, parts)
    try:
        split = make_split(pairs, spec)
    except DatasetError as error:
        if "leaves nothing" not in str(error):
            raise
        return
    sides = {name: drawn(pairs, its) for name, its in split.parts}
    for p in pairs:
        total = sum(side[p.name] for side in sides.values())
        assert total.max() <= 1
        if spec.kind != "blocks" or spec.buffer == 0:
            assert total.min() == 1
    assert split.train
    assert split.validation
    again = make_split(pairs, spec)
    assert (again.name, again.train, again.validation, again.test) == (
        split.name,
        split.train,
        split.validation,
        split.test,
    )
    if spec.kind in ("group", "kfold"):
        assert split.leaks is None
        groups_of = [{p.pair.group for p in its} for _, its in split.parts]
        assert not groups_of[0] & (groups_of[1] | groups_of[2])


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 999),
    st.sampled_from([0, 5, 20, 31]),
    st.floats(0.05, 0.5),
    st.integers(100, 500),
    st.integers(100, 500),
)
def test_blocks_keep_their_distance(seed: int, buffer: int, share: float, rows: int, cols: int) -> None:
    only = pair("a", "a", (rows, cols))
    try:
        split = make_split([only], SplitSpec("blocks", share, 0.1, block=64, buffer=buffer, seed=seed))
    except DatasetError as error:
        if "leaves nothing" not in str(error):
            raise
        return
    sides = {name: drawn([only], its)["a"] for name, its in split.parts}
    held = sides["validation"] + sides["test"]
    near = np.pad(held, buffer)
    for shift in (-buffer, buffer):
        for axis in (0, 1):
            near = near | np.roll(near, shift, axis)
    # Blocks are wider than the buffer, so that their corners and edges, moved, reach whatever is too near.
    reach = near[buffer : buffer + rows, buffer : buffer + cols]
    assert not (sides["train"].astype(bool) & reach.astype(bool)).any()
    assert (split.leaks is None) == (buffer > 0)


def test_folds_are_all_pixels_once() -> None:
    pairs = grouped(7, 2)
    held = np.sum([list(_validated(pairs, fold).values()) for fold in range(5)], axis=0)
    assert (held == 1).all()


def _validated(pairs: list[Pair], fold: int) -> dict[str, int]:
    split = make_split(pairs, SplitSpec("kfold", fold=fold, folds=5, seed=3))
    return {p.name: sum(v.pair.name == p.name for v in split.validation) for p in pairs}


def test_groups_are_held_out_by_name() -> None:
    split = make_split(grouped(4, 2), SplitSpec("group", ("g1",), ("g3", "g0")))
    assert {p.pair.group for p in split.validation} == {"g1"}
    assert {p.pair.group for p in split.test} == {"g0", "g3"}
    assert {p.pair.group for p in split.train} == {"g2"}
    assert split.name == "group: g1 validation, g3 g0 test"


def test_a_random_split_of_parts_is_named_as_leaking() -> None:
    split = make_split(grouped(3, 4), SplitSpec("random", 0.3, seed=1))
    assert split.leaks is not None
    assert "are parts of g" in split.leaks
    apart = [pair(str(i), str(i)) for i in range(9)]
    assert "cannot be told" in str(make_split(apart, SplitSpec("random", 0.3)).leaks)
    assert "cannot be told" in str(make_split(apart, SplitSpec("group", 0.3)).leaks)
    assert make_split(apart, SplitSpec("group", ("3",))).leaks is None
    known = [placed(str(i), 200 * i) for i in range(9)]
    assert make_split(known, SplitSpec("random", 0.3)).leaks is None


def test_images_with_world_files_touch_in_one_plane() -> None:
    left, right, far = (placed(n, col, crs=None) for n, col in (("a", 0), ("b", 100), ("c", 5000)))
    assert list(touching([left], [right, far])) == [("a", "b")]
    assert list(touching([left], [placed("d", 100)])) == []


UTM = CRS.from_epsg(32640)


def placed(name: str, col: float, row: float = 0, crs: CRS | None = UTM, grid: Affine = NORTH_UP) -> Pair:
    return pair(name, name, (100, 100), GeoBox((100, 100), grid * Affine.translation(col, row), crs))


@pytest.mark.parametrize(
    ("col", "row", "found"),
    [(100, 0, True), (50, 50, True), (0, 0, True), (100, 100, True), (0, -100, True), (110, 0, False), (0, 200, False)],
)
@pytest.mark.parametrize("grid", [NORTH_UP, ROTATED], ids=["north", "rotated"])
def test_images_that_touch_on_the_ground(col: float, row: float, found: bool, grid: Affine) -> None:
    a, b = placed("a", 0, grid=grid), placed("b", col, row, grid=grid)
    assert list(touching([a], [b])) == ([("a", "b")] if found else [])
    split = Split("x", (Part.of(a),), (Part.of(b),))
    assert (make_split([a, b], SplitSpec("random", 0.5)).leaks is not None) == found
    assert split.leaks is None


def test_images_in_two_coordinate_systems_touch() -> None:
    from rasterio.warp import calculate_default_transform

    a = placed("a", 0)
    there = CRS.from_epsg(4326)
    transform, cols, rows = calculate_default_transform(UTM, there, 100, 100, *a.geobox.bounds)
    b = pair("b", "b", (rows, cols), GeoBox((rows, cols), transform, there))
    far = pair("far", "far", (rows, cols), GeoBox((rows, cols), transform * Affine.translation(500, 0), there))
    assert list(touching([a], [b, far])) == [("a", "b")]
    assert list(touching([a], [pair("plain", "plain")])) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("group", SplitSpec("group")),
        ("group:tile_3", SplitSpec("group", ("tile_3",))),
        ("group:tile_3,tile_7/tile_8", SplitSpec("group", ("tile_3", "tile_7"), ("tile_8",))),
        ("group:0.25", SplitSpec("group", 0.25)),
        ("kfold:2/7", SplitSpec("kfold", fold=2, folds=7)),
        ("blocks:0.2/0.1", SplitSpec("blocks", 0.2, 0.1)),
        ("random:0.1", SplitSpec("random", 0.1)),
    ],
)
def test_a_split_in_a_word(text: str, wanted: SplitSpec) -> None:
    assert parse_split(text) == wanted


@pytest.mark.parametrize("text", ["", "best", "group:", "kfold:a/b", "kfold:9/5", "random:1.5", "random:-0.1", ":"])
def test_what_is_no_split_is_a_sentence(text: str) -> None:
    if text == "group:":
        assert parse_split(text) == SplitSpec("group")
        return
    with pytest.raises(OptionError, match="group:tile_3"):
        parse_split(text)


@pytest.mark.parametrize(
    ("pairs", "spec", "wanted"),
    [
        (grouped(3, 1), {"kind": "group", "validation": ("g9",)}, "no group 'g9'"),
        (grouped(3, 1), {"kind": "group", "validation": ("g1",), "test": ("g1",)}, "at once"),
        (grouped(1, 3), {"kind": "group"}, "leaves nothing to train on"),
        (grouped(3, 1), {"kind": "kfold"}, "3 groups cannot be dealt into 5 folds"),
        (grouped(3, 1), {"kind": "random", "validation": ("g1",)}, "names are for group splits"),
        (grouped(1, 1), {"kind": "random"}, "leaves nothing"),
        (grouped(1, 1), {"kind": "blocks", "block": 64, "buffer": 40}, "too small for a buffer"),
    ],
)
def test_splits_that_cannot_be(pairs: list[Pair], spec: dict[str, Any], wanted: str) -> None:
    with pytest.raises(DatasetError, match=wanted):
        make_split(pairs, SplitSpec(**spec))
