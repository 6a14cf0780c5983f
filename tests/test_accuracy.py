"""Scores against their definitions, counted one pixel at a time; areas against the paper's worked example."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.accuracy import Z95, Confusion, Reliability, estimate_areas
from rs_segment.errors import OptionError, PixelTypeError

NAMES = ("a", "b", "c", "d")
WORKED = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Olofsson et al. (2014), table 8: deforestation, forest gain, stable forest, stable non-forest."""
MAPPED = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HECTARES = 0.09


def maps(most: int = 60) -> Any:
    label = st.sampled_from([0, 1, 2, 3, 254, 255])
    truth = st.sampled_from([0, 1, 2, 3, 255])
    return st.lists(st.tuples(truth, label), max_size=most)


def arrays(pixels: list[tuple[int, int]]) -> tuple[Any, Any]:
    both = np.array(pixels, np.uint8).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def by_hand(pixels: list[tuple[int, int]]) -> dict[str, Any]:
    """All scores, from sets of pixels and exact fractions."""
    counted = [(t, p) for t, p in pixels if t != 255 and p != 255]

    def ratio(part: int, whole: int) -> float:
        return float(Fraction(part, whole)) if whole else math.nan

    found: dict[str, Any] = {"total": len(counted), "accuracy": ratio(sum(t == p for t, p in counted), len(counted))}
    for name in ("iou", "precision", "recall", "f1"):
        found[name] = []
    for c in range(len(NAMES)):
        true = {i for i, (t, _) in enumerate(counted) if t == c}
        said = {i for i, (_, p) in enumerate(counted) if p == c}
        found["iou"].append(ratio(len(true & said), len(true | said)))
        found["precision"].append(ratio(len(true & said), len(said)))
        found["recall"].append(ratio(len(true & said), len(true)))
        found["f1"].append(ratio(2 * len(true & said), len(true) + len(said)))
    return found


@given(maps())
@settings(deadline=None, max_examples=150)
def test_scores_are_those_of_their_definitions(pixels: list[tuple[int, int]]) -> None:
    confusion, wanted = Confusion.of(*arrays(pixels), NAMES), by_hand(pixels)
    assert confusion.total == wanted["total"]
    np.testing.assert_allclose(confusion.accuracy, wanted["accuracy"], rtol=1e-12)
    for name in ("iou", "precision", "recall", "f1"):
        np.testing.assert_allclose(getattr(confusion, name), wanted[name], rtol=1e-12)
    known = [v for v in wanted["iou"] if not math.isnan(v)]
    np.testing.assert_allclose(confusion.mean_iou, sum(known) / len(known) if known else math.nan, rtol=1e-12)


@given(maps(), maps())
@settings(deadline=None, max_examples=60)
def test_counting_parts_and_adding_is_counting_all(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    whole = Confusion.of(*arrays([*one, *other]), NAMES)
    added = Confusion.of(*arrays(one), NAMES) + Confusion.of(*arrays(other), NAMES)
    np.testing.assert_array_equal(added.matrix, whole.matrix)
    np.testing.assert_array_equal(added.reference, whole.reference)
    empty = Confusion.empty(NAMES) + whole
    np.testing.assert_array_equal(empty.reference, whole.reference)


@given(maps())
@settings(deadline=None, max_examples=60)
def test_kappa_is_agreement_beyond_that_of_shuffled_labels(pixels: list[tuple[int, int]]) -> None:
    counted = [(t, p) for t, p in pixels if t != 255 and p != 255]
    confusion = Confusion.of(*arrays(pixels), NAMES)
    if not counted:
        assert math.isnan(confusion.kappa)
        return
    n = len(counted)
    chance = sum(Fraction(t == p, n * n) for t, _ in counted for _, p in counted)
    agree = Fraction(sum(t == p for t, p in counted), n)
    if chance == 1:
        assert math.isnan(confusion.kappa)
    else:
        assert confusion.kappa == pytest.approx(float((agree - chance) / (1 - chance)), abs=1e-9)


def test_unclassified_pixels_count_as_wrong_and_are_no_class() -> None:
    confusion = Confusion.of(np.array([0, 0, 0, 1]), np.array([0, 0, 254, 1]), ("a", "b"))
    assert confusion.accuracy == 0.75
    np.testing.assert_allclose(confusion.iou, [2 / 3, 1])
    np.testing.assert_allclose(confusion.precision, [1, 1])
    assert confusion.to_dict()["unclassified_pixels"] == 1


def test_json_holds_no_nan() -> None:
    import json

    told = Confusion.empty(NAMES).to_dict()
    assert json.loads(json.dumps(told, allow_nan=False))["accuracy"] is None
    json.dumps(Reliability.empty().to_dict(), allow_nan=False)


def test_labels_that_cannot_be_are_refused() -> None:
    with pytest.raises(PixelTypeError, match="labels 0 to 4, but its 4 classes are 0 to 3"):
        Confusion.of(np.array([0, 4]), np.array([0, 0]), NAMES)
    with pytest.raises(PixelTypeError, match="shape"):
        Confusion.of(np.zeros(3, np.uint8), np.zeros(4, np.uint8), NAMES)
    with pytest.raises(OptionError, match="different classes"):
        Confusion.empty(NAMES) + Confusion.empty(("a", "b", "c", "e"))
    with pytest.raises(OptionError, match="does not fit 2 names"):
        Confusion(np.zeros((3, 3), np.int64), ("a", "b"))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80), st.integers(1, 20))
@settings(deadline=None, max_examples=80)
def test_calibration_error_is_that_of_its_bins(pixels: list[tuple[float, bool]], bins: int) -> None:
    sure, right = np.array([c for c, _ in pixels]), np.array([h for _, h in pixels])
    found = Reliability.of(sure[:7], right[:7], bins) + Reliability.of(sure[7:], right[7:], bins)
    error = 0.0
    for b in range(bins):
        inside = [(c, h) for c, h in pixels if min(int(c * bins), bins - 1) == b]
        if inside:
            gap = sum(h for _, h in inside) / len(inside) - sum(c for c, _ in inside) / len(inside)
            error += abs(gap) * len(inside) / len(pixels)
    assert found.ece == pytest.approx(error, abs=1e-9)
    assert found.count.sum() == len(pixels)


def test_confidence_that_tells_the_truth_has_no_calibration_error() -> None:
    sure = np.repeat([0.3, 0.5, 0.9], 1000)
    right = np.concatenate([np.arange(1000) < n for n in (300, 500, 900)])
    assert Reliability.of(sure, right).ece == pytest.approx(0, abs=1e-12)
    assert Reliability.of(np.full(1000, 0.9), right[:1000]).ece == pytest.approx(0.6)


def test_areas_are_those_that_the_paper_prints() -> None:
    found = estimate_areas(WORKED, MAPPED * HECTARES, NAMES)
    assert found.area.round().tolist() == [21158, 11686, 285770, 581386]
    assert (Z95 * found.area_error).round().tolist() == [6158, 3756, 15510, 16282]
    assert (round(found.overall, 3), round(Z95 * found.overall_error, 3)) == (0.947, 0.018)
    assert found.user.round(2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert found.producer.round(2).tolist() == [0.75, 0.85, 0.93, 0.96]
    assert found.area.sum() == pytest.approx(MAPPED.sum() * HECTARES)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Samples are drawn again and again from a map whose truth is known: estimates centre on it, errors are theirs."""
    rng = np.random.default_rng(5)
    truth = np.array([[600, 60, 40], [100, 2000, 150], [50, 350, 6650]])
    sizes, drawn = truth.sum(axis=1), (80, 120, 200)
    areas, users, producers, overalls, errors = [], [], [], [], []
    for _ in range(1500):
        counts = np.array([rng.multinomial(n, row / row.sum()) for n, row in zip(drawn, truth, strict=True)])
        found = estimate_areas(counts, sizes, ("a", "b", "c"))
        areas.append(found.area)
        users.append(found.user)
        producers.append(found.producer)
        overalls.append(found.overall)
        errors.append([found.area_error, found.user_error, found.producer_error])
    np.testing.assert_allclose(np.mean(areas, axis=0), truth.sum(axis=0), rtol=0.01)
    np.testing.assert_allclose(np.mean(producers, axis=0), np.diagonal(truth) / truth.sum(axis=0), rtol=0.015)
    assert np.mean(overalls) == pytest.approx(np.trace(truth) / truth.sum(), abs=0.002)
    said = np.sqrt(np.mean(np.square(errors), axis=0))
    for spread, told in zip((areas, users, producers), said, strict=True):
        np.testing.assert_allclose(told, np.std(spread, axis=0), rtol=0.12)
    inside = np.abs(np.array(areas) - truth.sum(axis=0)) <= Z95 * np.array([e[0] for e in errors])
    assert (np.abs(inside.mean(axis=0) - 0.95) < 0.03).all()


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=3, max_size=3), st.data())
@settings(deadline=None, max_examples=60)
def test_estimates_do_not_depend_on_the_order_of_classes_or_the_unit(rows: list[list[int]], data: Any) -> None:
    counts = np.array(rows) + 1
    mapped = np.array(data.draw(st.lists(st.integers(1, 10**6), min_size=3, max_size=3)), np.float64)
    order = np.array(data.draw(st.permutations(range(3))))
    one = estimate_areas(counts, mapped, NAMES[:3])
    other = estimate_areas(counts[np.ix_(order, order)], 7 * mapped[order], [NAMES[i] for i in order])
    np.testing.assert_allclose(other.area, 7 * one.area[order], rtol=1e-9)
    np.testing.assert_allclose(other.area_error, 7 * one.area_error[order], rtol=1e-9)
    np.testing.assert_allclose(other.producer_error, one.producer_error[order], rtol=1e-9)
    assert other.overall == pytest.approx(one.overall)
    assert 0 <= one.overall <= 1


def test_a_class_that_the_map_lacks_has_an_area_and_no_user() -> None:
    found = estimate_areas(np.array([[8, 2, 0], [1, 8, 1], [0, 0, 0]]), [100, 300, 0], ("a", "b", "c"))
    assert found.area.tolist() == pytest.approx([110, 260, 30])
    assert math.isnan(found.user[2])
    assert found.producer[2] == 0


@pytest.mark.parametrize(
    ("counts", "mapped", "said"),
    [
        ([[9, 1], [0, 1]], [100, 300], r"'b' covers 75.00% of the map, but 1 of the reference points lie in it"),
        ([[9, 1], [0, 0]], [100, 300], r"0 of the reference points"),
        ([[9, 1], [2, 3]], [100, 0], r"5 reference points say that the map has class 'b' there, but it has none"),
    ],
)
def test_samples_that_give_no_interval_are_refused(counts: Any, mapped: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        estimate_areas(np.array(counts), mapped, ("a", "b"))
