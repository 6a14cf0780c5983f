"""Chains of links: where they begin, how far along an element is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.polygons import chains
from rs_segment.polygons.chains import ranks


@st.composite
def linked(draw: st.DrawFn) -> tuple[list[tuple[list[int], bool]], np.ndarray, np.ndarray, np.ndarray]:
    """(chains and whether each is closed, before, last, step)."""
    count = draw(st.integers(1, 60))
    elements = draw(st.permutations(range(count)))
    cuts = sorted(draw(st.sets(st.integers(1, count), max_size=count)) | {count})
    step = np.array(draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)))
    before, last, parts, start = np.arange(count), np.zeros(count, bool), [], 0
    for cut in cuts:
        chain, closed = elements[start:cut], draw(st.booleans())
        before[chain[1:]] = chain[:-1]
        if closed:
            before[chain[0]] = chain[-1]
        else:
            last[chain[-1]] = True
        # An element that names itself is the first of an open chain.
        parts.append((chain, closed and len(chain) > 1))
        start = cut
    return parts, before, last, step


@settings(deadline=None, max_examples=300)
@given(linked(), st.sampled_from([0, 3, 2048]))
def test_every_element_knows_its_chain_and_its_distance(
    case: tuple[list[tuple[list[int], bool]], np.ndarray, np.ndarray, np.ndarray], few: int
) -> None:
    parts, before, last, step = case
    usual, chains._FEW = chains._FEW, few
    try:
        stand, distance = ranks(before, last, step)
    finally:
        chains._FEW = usual
    for chain, closed in parts:
        assert len(set(stand[chain])) == 1
        way = np.cumsum([0, *step[chain[1:]]])
        if closed:
            start = way[chain.index(int(stand[chain[0]]))]
            length = int(step[chain].sum())
            assert ((distance[chain] - (way - start)) % max(length, 1) == 0).all()
        else:
            assert stand[chain[0]] == chain[0]
            assert (distance[chain] == way).all()


def test_a_long_chain_and_many_short_ones() -> None:
    count = 100_000
    order = np.random.default_rng(0).permutation(count)
    before, last = np.arange(count), np.zeros(count, bool)
    before[order[1:]], last[order[-1]] = order[:-1], True
    stand, distance = ranks(before, last)
    assert (stand == order[0]).all()
    assert (distance[order] == np.arange(count)).all()
    pairs = np.arange(count) // 2 * 2
    stand, distance = ranks(pairs, np.arange(count) % 2 == 1)
    assert (stand == pairs).all()
    assert (distance == np.arange(count) % 2).all()
