"""Laws of components: those of a search from thing to thing, numbered by their first things."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.polygons.unionfind import components, roots


def searched(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    near: list[set[int]] = [set() for _ in range(count)]
    for a, b in pairs:
        near[a].add(b)
        near[b].add(a)
    found, number = [-1] * count, 0
    for first in range(count):
        if found[first] >= 0:
            continue
        left = [first]
        while left:
            thing = left.pop()
            if found[thing] < 0:
                found[thing] = number
                left += near[thing]
        number += 1
    return found


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 40))
    thing = st.integers(0, count - 1)
    return count, draw(st.lists(st.tuples(thing, thing), max_size=60))


def found(count: int, pairs: list[tuple[int, int]]) -> tuple[list[int], int]:
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    component, components_found = components(count, a, b)
    return component.tolist(), components_found


@settings(deadline=None, max_examples=300)
@given(graphs())
def test_components_are_those_of_a_search(graph: tuple[int, list[tuple[int, int]]]) -> None:
    expected = searched(*graph)
    assert found(*graph) == (expected, max(expected) + 1)


def test_nothing_hangs_together_with_nothing() -> None:
    assert found(0, []) == ([], 0)
    assert found(3, []) == ([0, 1, 2], 3)


def test_long_chains_in_any_order_are_one() -> None:
    for order in (np.arange(20_000), np.arange(20_000)[::-1], np.random.default_rng(0).permutation(20_000)):
        component, count = components(20_000, order[:-1], order[1:])
        assert count == 1
        assert not component.any()


def test_the_ends_of_paths() -> None:
    assert roots(np.array([0, 0, 1, 3, 2, 3])).tolist() == [0, 0, 0, 3, 0, 3]
