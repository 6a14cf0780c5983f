"""Tiled equals whole; blending weights are a partition of unity; nothing depends on batches or skipped tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import FakePredictor, make_card, make_pixels, one_pass
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rs_segment.stitch import STITCHERS, Band, Look, Wanted
from rs_segment.tiles import Tile, TileGrid
from rs_segment.types import NODATA, PROBABILITY_STEPS, Prediction


class Constant(FakePredictor):
    """A network that gives every class the same fixed probability, whatever it sees."""

    def scores(self, pixels: NDArray[Any], valid: NDArray[np.bool_], probs: bool) -> NDArray[np.float32]:
        shares = np.linspace(1, 2, len(self.card.classes), dtype=np.float32)
        shares /= shares.sum()
        return np.broadcast_to(shares[None, :, None, None], (len(pixels), len(shares), *pixels.shape[2:])).copy()


def stitched(
    mode: str,
    predictor: FakePredictor,
    grid: TileGrid,
    pixels: NDArray[Any],
    valid: NDArray[np.bool_],
    wanted: Wanted | None = None,
    tiles: list[Tile] | None = None,
) -> tuple[NDArray[np.uint8], list[Band]]:
    """The labels (row, col) that a mode gives, and its bands; tiles without a valid pixel are skipped."""
    height, width = valid.shape
    padded = np.pad(pixels, ((0, 0), (0, grid.stride), (0, grid.stride)))
    known = np.pad(valid, ((0, grid.stride), (0, grid.stride)))

    def looks() -> Any:
        for tile in list(grid) if tiles is None else tiles:
            r = tile.read
            rows, cols = slice(r.row_off, r.row_off + r.height), slice(r.col_off, r.col_off + r.width)
            if known[rows, cols].any():
                yield Look(tile, padded[:, rows, cols], known[rows, cols])
            else:
                yield Look(tile)

    bands = list(STITCHERS[mode](grid, looks(), predictor, wanted or Wanted()))
    labels = np.full((height, width), 77, np.uint8)
    for band in bands:
        labels[band.window.row_off : band.window.row_off + band.window.height] = band.prediction.labels
    return labels, bands


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[np.bool_], TileGrid, FakePredictor]:
    shape = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    predictor = FakePredictor(make_card(), radius=draw(st.integers(0, 4)), batch=draw(st.integers(1, 5)))
    halo = predictor.halo
    size = 4 * halo + 4 * draw(st.integers(0, 6))
    pixels = make_pixels(shape, seed=draw(st.integers(0, 99)))
    valid = np.ones(shape, np.bool_)
    if draw(st.booleans()):
        valid[: draw(st.integers(0, shape[0])), : draw(st.integers(0, shape[1]))] = False
    return pixels, valid, TileGrid(shape, size, halo, 4), predictor


@settings(deadline=None, max_examples=60)
@given(cases())
def test_exact_tiles_give_the_labels_of_one_pass(case: Any) -> None:
    pixels, valid, grid, predictor = case
    labels, _ = stitched("exact", predictor, grid, pixels, valid)
    np.testing.assert_array_equal(labels, one_pass(predictor, pixels, valid))


@settings(deadline=None, max_examples=60)
@given(cases())
def test_blending_a_constant_gives_the_constant(case: Any) -> None:
    pixels, valid, grid, _ = case
    predictor = Constant(make_card(), batch=2)
    labels, bands = stitched("blend", predictor, grid, pixels, valid, Wanted(confidence=True))
    assert (labels[valid] == 3).all()
    confidence = np.concatenate([band.prediction.confidence for band in bands])
    assert (confidence[valid] == round(2 / 6 * PROBABILITY_STEPS)).all()
    assert (labels[~valid] == NODATA).all()


@settings(deadline=None, max_examples=30)
@given(cases())
def test_a_pointwise_network_is_the_same_in_both_modes(case: Any) -> None:
    pixels, valid, grid, _ = case
    predictor = FakePredictor(make_card(stride=1), radius=0)
    grid = TileGrid(grid.shape, grid.size, grid.halo, 1)
    exact, _ = stitched("exact", predictor, grid, pixels, valid)
    blended, _ = stitched("blend", predictor, grid, pixels, valid)
    assert (exact != blended).mean() < 0.001  # sums of two weighted halves may move a tie


@settings(deadline=None, max_examples=30)
@given(cases(), st.sampled_from(["exact", "blend"]), st.data())
def test_neither_batches_nor_a_later_start_change_anything(case: Any, mode: str, data: st.DataObject) -> None:
    pixels, valid, grid, predictor = case
    wanted = Wanted(confidence=True, probabilities=True)
    one, bands = stitched(mode, FakePredictor(predictor.card, predictor.radius, 1), grid, pixels, valid, wanted)
    many, _ = stitched(mode, FakePredictor(predictor.card, predictor.radius, 4), grid, pixels, valid, wanted)
    np.testing.assert_array_equal(one, many)
    row = data.draw(st.integers(0, grid.rows - 1))
    begin = max(0, row - 1) if mode == "blend" else row
    tiles = [grid[r, c] for r in range(begin, grid.rows) for c in range(grid.cols)]
    _, rest = stitched(mode, predictor, grid, pixels, valid, wanted, tiles)
    for before, after in zip(bands[row:], rest[row - begin :], strict=True):
        assert before.window == after.window
        np.testing.assert_array_equal(before.prediction.labels, after.prediction.labels)
        np.testing.assert_array_equal(before.prediction.confidence, after.prediction.confidence)
        np.testing.assert_array_equal(before.prediction.probabilities, after.prediction.probabilities)


def test_bands_cover_the_rows_in_order_and_know_what_is_wanted() -> None:
    predictor = FakePredictor(make_card())
    grid = TileGrid((61, 47), 32, 8, 4)
    pixels, valid = make_pixels((61, 47)), np.ones((61, 47), np.bool_)
    valid[40:, 20:] = False
    for mode in STITCHERS:
        _, bands = stitched(mode, predictor, grid, pixels, valid, Wanted(True, True))
        assert [b.window.row_off for b in bands] == list(np.cumsum([0, *(b.window.height for b in bands[:-1])]))
        found = np.concatenate([b.prediction.probabilities for b in bands], axis=1)
        sure = np.concatenate([b.prediction.confidence for b in bands])
        assert found.shape == (4, 61, 47)
        assert (sure[~valid] == NODATA).all()
        assert (found[:, ~valid] == NODATA).all()
        np.testing.assert_array_equal(found.max(0)[valid], sure[valid])
        assert np.abs(found[:, valid].sum(0, dtype=int) - 254).max() <= 2


def test_tiles_without_data_never_reach_the_network() -> None:
    predictor = FakePredictor(make_card(), batch=1)
    grid = TileGrid((96, 96), 32, 8, 4)
    valid = np.zeros((96, 96), np.bool_)
    valid[:10, :10] = True
    stitched("exact", predictor, grid, make_pixels((96, 96)), valid)
    assert len(predictor.seen) == 1


@pytest.mark.parametrize("row", [0, 3, 9, 10, 12])
def test_the_rest_of_a_band(row: int) -> None:
    from rasterio.windows import Window

    labels = np.arange(10, dtype=np.uint8).repeat(4).reshape(10, 4)
    rest = Band(Window(0, 2, 4, 10), Prediction(labels)).below(row)
    if row >= 12:
        assert rest is None
    else:
        assert rest is not None
        assert rest.window.row_off == max(2, row)
        np.testing.assert_array_equal(rest.prediction.labels, labels[max(0, row - 2) :])
