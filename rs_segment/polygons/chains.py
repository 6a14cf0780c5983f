"""Where does a chain of links begin, and how far along it is each of its elements?

Borders are chains of edges, and rings are closed chains of borders. Local looks at the raster link them; here they are
put in order, all chains at once (list ranking by contraction: J. Reif (ed.), Synthesis of Parallel Algorithms, 1993).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_FEW = 2048


def ranks(before: Ints, last: NDArray[np.bool_] | None = None, step: Ints | None = None) -> tuple[Ints, Ints]:
    """(a member that stands for the chain, distance from it) of each element.

    Elements whose key is the smallest among their neighbours walk to the next such element, all at once; keys are
    hashed, so that walks are short whatever the order. What is left is a third as long, and is solved in the same way.

    Args:
        before: int64 (n,), the element before each; the first of an open chain names itself. Chains do not branch.
        last: bool (n,), whether an element is the last of an open chain; None where all chains are closed.
        step: int64 (n,), the distance from the element before; None is 1 everywhere.

    Returns:
        Two arrays int64 (n,). For an open chain its first element and the distance from it; for a closed one any
        element and a distance that is right modulo the length of the chain, and may be negative.
    """
    count = len(before)
    self = np.arange(count)
    first = before == self
    if count <= _FEW:
        return _doubled(before, np.ones(count, np.int64) if step is None else step)
    leads = _lowest(before, first)
    if last is not None:
        leads |= last
    leads |= first
    leader = np.flatnonzero(leads)
    owner, back = np.empty(count, np.int64), np.zeros(count, np.int64)
    owner[leader] = np.arange(len(leader))
    to, length = _walk(before, step, leads, leader, first, owner, back)

    done = first[leader[to]]
    rest = np.flatnonzero(~done)
    known = done[to[rest]]
    number = np.empty(len(leader), np.int64)
    number[rest] = np.arange(len(rest))
    inner = np.where(known, number[rest], number[to[rest]])
    above, offset = ranks(inner, None if last is None else last[leader[rest]], length[rest])
    head, distance = to.copy(), length.copy()
    base = np.where(known, length[rest] + length[to[rest]], 0)
    head[rest] = np.where(known, to[to[rest]], rest)[above]
    distance[rest] = offset + base[above]
    return leader[head[owner]], distance[owner] - back


def _doubled(before: Ints, step: Ints) -> tuple[Ints, Ints]:
    """The same for a few elements: everyone looks back twice as far each time."""
    self, rounds = np.arange(len(before)), len(before).bit_length()
    to, lowest = before, self
    for _ in range(rounds):
        lowest, to = np.minimum(lowest, lowest[to]), to[to]
    stand = np.where(before[to] == to, to, lowest)
    first = stand == self
    to, distance = np.where(first, self, before), np.where(first, 0, step)
    for _ in range(rounds):
        distance, to = distance + distance[to], to[to]
    return stand, distance


def _walk(
    before: Ints,
    step: Ints | None,
    leads: NDArray[np.bool_],
    leader: Ints,
    first: NDArray[np.bool_],
    owner: Ints,
    back: Ints,
) -> tuple[Ints, Ints]:
    """(the leader that each leader meets next, the distance to it); notes who passed where, and how far from home."""
    to, length = np.arange(len(leader)), np.zeros(len(leader), np.int64)
    walk = np.flatnonzero(~first[leader])
    place, far = leader[walk], length[walk]
    while len(walk):
        far = far + (1 if step is None else step[place])
        place = before[place]
        # Whatever is picked three times is picked faster by number.
        there = np.flatnonzero(leads[place])
        arrived = walk[there]
        to[arrived], length[arrived] = owner[place[there]], far[there]
        going = np.flatnonzero(~leads[place])
        walk, place, far = walk[going], place[going], far[going]
        owner[place], back[place] = walk, far
    return to, length


def _lowest(before: Ints, first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which elements have a smaller key than both neighbours; keys are the finalizer of MurmurHash3, a bijection."""
    key = np.arange(len(before), dtype=np.uint32)
    key ^= key >> np.uint32(16)
    key *= np.uint32(0x85EBCA6B)
    key ^= key >> np.uint32(13)
    key *= np.uint32(0xC2B2AE35)
    key ^= key >> np.uint32(16)
    down = key < key[before]
    leads = np.ones(len(before), bool)
    inner = np.flatnonzero(~first)
    leads[before[inner]] = ~down[inner]
    leads &= down
    return leads
