"""Places of what is seldom true are those that numpy tells."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rs_segment.polygons.seldom import Seldom


@settings(deadline=None, max_examples=60)
@given(size=st.integers(0, 70), share=st.sampled_from([0.0, 0.05, 0.5, 1.0]), seed=st.integers(0, 999))
def test_places_are_those_that_are_true(size: int, share: float, seed: int) -> None:
    flags = np.random.default_rng(seed).random(size) < share
    assert np.array_equal(Seldom(flags).places(), np.flatnonzero(flags))


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 70), share=st.sampled_from([0.02, 0.2, 0.9]), seed=st.integers(0, 999))
def test_the_last_place_is_the_nearest_at_or_before(size: int, share: float, seed: int) -> None:
    flags = np.random.default_rng(seed).random(size) < share
    flags[0] = True
    nearest = np.maximum.accumulate(np.where(flags, np.arange(size), -1))
    assert np.array_equal(Seldom(flags).last(np.arange(size)), nearest)


@pytest.mark.parametrize("before", range(0, 80, 7))
def test_a_word_full_of_truth_is_not_rounded_up(before: int) -> None:
    flags = np.ones(160, bool)
    flags[1:before] = False
    assert np.array_equal(Seldom(flags).last(np.arange(before, 160)), np.arange(before, 160))
