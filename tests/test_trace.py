"""Borders in a strip of rows: every edge once, the greater label on the left, components as a walk would find them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from rs_segment.polygons.ragged import ragged
from rs_segment.polygons.trace import Strip

OUTSIDE = 255
RASTERS = hnp.arrays(
    np.uint8, st.tuples(st.integers(2, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2, OUTSIDE])
)


def strip_of(raster: NDArray[np.uint8]) -> Strip:
    """The rows below the first, which is the last one of the strip above."""
    return Strip(np.pad(raster, ((0, 0), (1, 1)), constant_values=OUTSIDE), OUTSIDE)


def flooded(raster: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """(component of each pixel, -1 outside; their number), by filling one after the other."""
    found, count = np.full(raster.shape, -1), 0
    for seed in zip(*np.nonzero(raster != OUTSIDE), strict=True):
        if found[seed] >= 0:
            continue
        wave = [seed]
        while wave:
            row, col = wave.pop()
            if found[row, col] >= 0:
                continue
            found[row, col] = count
            for r, c in ((row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)):
                if 0 <= r < raster.shape[0] and 0 <= c < raster.shape[1] and raster[r, c] == raster[seed]:
                    wave.append((r, c))
        count += 1
    return found, count


@settings(deadline=None, max_examples=300)
@given(RASTERS)
def test_every_edge_is_in_one_arc_with_the_greater_label_on_its_left(raster: NDArray[np.uint8]) -> None:
    strip = strip_of(raster)
    framed = np.pad(raster, 1, constant_values=OUTSIDE)
    seen = set()
    for first, stop in zip(strip.start[:-1], strip.start[1:], strict=True):
        nodes = strip.path[first:stop]
        corners = list(zip(strip.line[nodes].tolist(), strip.col[nodes].tolist(), strict=True))
        for (line, col), (to_line, to_col) in zip(corners[:-1], corners[1:], strict=True):
            down, right = np.sign(to_line - line), np.sign(to_col - col)
            assert abs(down) + abs(right) == 1
            while (line, col) != (to_line, to_col):
                # Line 0 is below the first row; framed has one row and one column more at its start.
                row, left = line + 1 + (down > 0), col + (right > 0)
                if right:
                    above, below = framed[row, left], framed[row + 1, left]
                    on_left, on_right = (above, below) if right > 0 else (below, above)
                else:
                    west, east = framed[row + (down == 0), left], framed[row + (down == 0), left + 1]
                    on_left, on_right = (east, west) if down > 0 else (west, east)
                assert on_left > on_right
                edge = (min(line, line + down), min(col, col + right), bool(right))
                assert edge not in seen
                seen.add(edge)
                line, col = line + down, col + right
    across = np.count_nonzero(framed[1:-2] != framed[2:-1])
    along = np.count_nonzero(framed[2:-1, :-1] != framed[2:-1, 1:])
    assert len(seen) == across + along


@settings(deadline=None, max_examples=300)
@given(RASTERS)
def test_components_and_their_pixels_are_those_of_a_walk(raster: NDArray[np.uint8]) -> None:
    strip = strip_of(raster)
    expected, count = flooded(raster)
    assert strip.count == count
    begin, part = strip.runs()
    length = np.diff(begin, append=len(strip.label))
    found = np.repeat(part, length).reshape(raster.shape[0], -1)[1:, 1:-1]
    assert ((found >= 0) == (raster[1:] != OUTSIDE)).all()
    pairs = np.unique(np.stack([found[found >= 0], expected[1:][found >= 0]]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    pixels = np.bincount(strip.component, strip.side_area, minlength=count)
    assert (pixels == np.bincount(found[found >= 0], minlength=count)).all()


def test_ragged_stretches() -> None:
    begin, count = np.array([5, 0, 9]), np.array([3, 0, 2])
    assert ragged(begin, count).tolist() == [5, 6, 7, 9, 10]
    assert ragged(begin, count, np.array([-1, 1, 4])).tolist() == [5, 4, 3, 9, 13]
    assert ragged(begin, count, 10).tolist() == [5, 15, 25, 9, 19]
    assert ragged(begin[:0], count[:0]).tolist() == []
