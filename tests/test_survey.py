"""One pass over a training set finds what numpy finds in all of it at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from fakes import NORTH_UP, make_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.windows import Window
from training_sets import patches, png, tif

from rs_segment.dataset import Dataset, Moments, Part, open_dataset
from rs_segment.dataset.survey import take_survey
from rs_segment.errors import DatasetError, SceneError

SHAPES = ((70, 131), (64, 64), (150, 90))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("set")
    for i, shape in enumerate(SHAPES):
        pixels = make_pixels(shape, 2, "uint16", seed=i)
        pixels[:, :9] = 0
        tif(root / f"images/{i}.tif", pixels, nodata=0, transform=NORTH_UP * Affine.translation(1000 * i, 0))
        labels = patches(shape, 4, i)
        labels[40:60, 20:40] = 3
        tif(root / f"masks/{i}.tif", labels, nodata=2, transform=NORTH_UP * Affine.translation(1000 * i, 0))
    return open_dataset(root)


def everything(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(all valid pixels (band, n), all labels)."""
    samples = [p.read(Part.of(p).window) for p in dataset.pairs]
    return (
        np.concatenate([s.pixels[:, s.valid] for s in samples], axis=1).astype(np.float64),
        np.concatenate([s.labels.ravel() for s in samples]),
    )


def test_counts_and_statistics_are_those_of_all_pixels(dataset: Dataset) -> None:
    survey = dataset.survey()
    pixels, labels = everything(dataset)
    assert survey.counts.tolist() == np.bincount(labels, minlength=256)[:3].tolist()
    found = survey.moments
    assert found.count == pixels.shape[1]
    np.testing.assert_allclose(found.mean, pixels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(axis=1), rtol=1e-12)
    assert (found.low == pixels.min(axis=1)).all()
    assert (found.high == pixels.max(axis=1)).all()
    np.testing.assert_allclose(survey.quantiles, np.percentile(pixels, (2, 50, 98), axis=1))
    assert dataset.scaling.kind == "z-score"
    np.testing.assert_allclose(dataset.scaling.a, pixels.mean(axis=1))
    assert sum(p.missing for p in survey.pairs) == sum(9 * cols for _, cols in SHAPES)
    assert sum(p.unlabelled for p in survey.pairs) + survey.counts.sum() == pixels.shape[1]
    for pair, its in zip(dataset.pairs, survey.pairs, strict=True):
        assert (pair.counts() == its.counts).all()
        np.testing.assert_allclose(its.hectares, its.counts * 0.25 / 10_000)


def test_threads_and_repetition_change_nothing(dataset: Dataset) -> None:
    one, two = (take_survey(dataset.pairs, threads) for threads in (1, 3))
    assert one.scaling() == two.scaling() == dataset.survey().scaling()
    assert dataset.survey() is dataset.survey()


def test_a_survey_of_some_pairs(dataset: Dataset) -> None:
    some = dataset.survey().of(dataset.pairs[1:])
    assert some.counts.tolist() == sum(p.counts() for p in dataset.pairs[1:]).tolist()


@pytest.mark.parametrize("value", [0, 1, 2])
def test_places_are_where_the_class_is(dataset: Dataset, value: int) -> None:
    parts = [Part.of(p) for p in dataset.pairs]
    survey = dataset.survey()
    seen = 0
    for index, row, col, pixels in survey.places(value, parts).tolist():
        window = Window(col, row, survey.cell, survey.cell)
        assert (dataset.pairs[index].read(window).labels == value).sum() == pixels > 0
        seen += pixels
    assert seen == survey.counts[value]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 149), st.integers(0, 89), st.integers(1, 150), st.integers(1, 90))
def test_places_of_a_part_have_their_middle_in_it(
    dataset: Dataset, row: int, col: int, height: int, width: int
) -> None:
    height, width = min(height, 150 - row), min(width, 90 - col)
    part = Part(dataset.pairs[2], Window(col, row, width, height))
    for _, top, left, _ in dataset.survey().places(0, [part]).tolist():
        # At the edge of the image a cell is narrower than it says.
        assert top < row + height
        assert left < col + width
        assert top + 32 >= row
        assert left + 32 >= col


def test_balanced_weights(dataset: Dataset) -> None:
    survey = dataset.survey()
    weights = np.array(survey.balanced())
    shares = weights * survey.counts
    np.testing.assert_allclose(shares, shares[0])
    assert shares.sum() == pytest.approx(survey.counts.sum())


VALUES = arrays(np.float32, st.tuples(st.just(2), st.integers(0, 9)), elements=st.floats(-1e4, 1e4, width=32))


@settings(deadline=None, max_examples=100)
@given(st.lists(VALUES, min_size=1, max_size=5))
def test_statistics_of_parts_add_up(parts: list[np.ndarray]) -> None:
    total = Moments.of(parts[0])
    for part in parts[1:]:
        total = total + Moments.of(part)
    values = np.concatenate(parts, axis=1).astype(np.float64)
    assert total.count == values.shape[1]
    if total.count:
        np.testing.assert_allclose(total.mean, values.mean(axis=1), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(total.std, values.std(axis=1), rtol=1e-5, atol=1e-3)
        assert (total.low == values.min(axis=1)).all()


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", make_pixels((30, 30)))
    png(tmp_path / "masks/a.png", np.full((30, 30), 7, np.uint8))
    dataset = open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="all labelled pixels are class 7"):
        dataset.survey().refuse_untrainable(dataset.spec.classes)


def test_an_image_that_breaks_off_is_named(tmp_path: Path) -> None:
    image = tif(tmp_path / "images/a.tif", make_pixels((300, 300)))
    tif(tmp_path / "masks/a.tif", patches((300, 300), 3))
    dataset = open_dataset(tmp_path)
    image.write_bytes(image.read_bytes()[:9000])
    with pytest.raises(SceneError, match="images/a.tif"):
        dataset.survey()
