"""The plan covers every pixel once, in phase, with context."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.errors import OptionError
from rs_segment.tiles import TileGrid, round_up


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    halo = draw(st.integers(0, 4)) * stride
    size = draw(st.integers(2 * halo // stride + 1, 20)) * stride
    return TileGrid((draw(st.integers(1, 150)), draw(st.integers(1, 150))), size, halo, stride)


@settings(deadline=None)
@given(grids())
def test_every_pixel_lies_in_exactly_one_core(grid: TileGrid) -> None:
    hits = np.zeros(grid.shape, int)
    for tile in grid:
        c = tile.core
        assert c.height > 0
        assert c.width > 0
        hits[c.row_off : c.row_off + c.height, c.col_off : c.col_off + c.width] += 1
    assert (hits == 1).all()
    assert len(list(grid)) == len(grid)


@settings(deadline=None)
@given(grids())
def test_tiles_are_in_phase_and_hold_their_core_and_halo(grid: TileGrid) -> None:
    for tile in grid:
        r, c = tile.read, tile.core
        assert r.row_off % grid.stride == r.col_off % grid.stride == 0
        assert r.height % grid.stride == r.width % grid.stride == 0
        assert r.height <= grid.size
        assert r.width <= grid.size
        for start, length, core, core_length, end in (
            (r.row_off, r.height, c.row_off, c.height, grid.shape[0]),
            (r.col_off, r.width, c.col_off, c.width, grid.shape[1]),
        ):
            assert start <= max(0, core - grid.halo)
            assert start + length >= min(round_up(end, grid.stride), core + core_length + grid.halo)
            assert start + length <= round_up(end, grid.stride)
        rows, cols = tile.crop
        assert (rows.stop - rows.start, cols.stop - cols.start) == (c.height, c.width)


@settings(deadline=None)
@given(grids())
def test_bands_are_the_rows_of_cores(grid: TileGrid) -> None:
    tops = [grid.band(row) for row in range(grid.rows)]
    assert [w.row_off for w in tops] == list(np.cumsum([0, *(w.height for w in tops[:-1])]))
    assert sum(w.height for w in tops) == grid.shape[0]
    assert all(grid[row, 0].core.row_off == w.row_off for row, w in enumerate(tops))


def test_tax_counts_what_the_network_sees() -> None:
    assert TileGrid((512, 512), 512, 64, 32).tax == 1
    assert TileGrid((1024, 512), 512, 64, 32).tax == (512 + 512 + 256) / 1024


@pytest.mark.parametrize(("size", "halo"), [(500, 64), (512, 50), (128, 64), (0, 0), (512, -32)])
def test_a_plan_that_cannot_work_is_refused_with_one_that_does(size: int, halo: int) -> None:
    with pytest.raises(OptionError, match="overlap"):
        TileGrid((100, 100), size, halo, 32)
