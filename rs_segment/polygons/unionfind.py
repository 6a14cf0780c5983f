"""Which things hang together, when it is known which pairs touch?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def components(count: int, a: Ints, b: Ints) -> tuple[Ints, int]:
    """(component of each thing, number of components); components are numbered by their first things.

    Roots hook onto the smallest root that they touch, all at once, and paths are halved until all point at roots. Two
    rounds leave at most half of the roots that touch others: the neighbour of a root that did not hook has either
    hooked onto it, or onto a smaller one, onto which it hooks next (after Shiloach & Vishkin 1982, An O(log n) parallel
    connectivity algorithm).

    Args:
        count: How many things there are.
        a: int64 (n,), one thing of each pair, 0 to count - 1.
        b: int64 (n,), the other.
    """
    parent = np.arange(count)
    while True:
        a, b = parent[a], parent[b]
        apart = a != b
        if not apart.any():
            break
        a, b = a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        parent = roots(parent)
    root = parent == np.arange(count)
    return (np.cumsum(root) - 1)[parent], int(np.count_nonzero(root))


def roots(parent: Ints) -> Ints:
    """int64 (n,), where the path from each thing ends, given the next thing on it; the last one is its own next."""
    while True:
        higher = parent[parent]
        if np.array_equal(higher, parent):
            return higher
        parent = higher
