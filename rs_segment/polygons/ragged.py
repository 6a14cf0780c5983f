"""Which places do many stretches of different lengths cover, one after the other?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def ragged(begin: Ints, count: Ints, step: Ints | int = 1) -> Ints:
    """int64 (sum of counts,): begin, begin + step, begin + 2 step and so on, ``count`` of each.

    Args:
        begin: int64 (n,).
        count: int64 (n,), not negative.
        step: int64 (n,), or one for all.
    """
    if not count.all():
        some = np.flatnonzero(count)
        begin, count, step = begin[some], count[some], step if isinstance(step, int) else step[some]
    if not len(count):
        return np.empty(0, np.int64)
    # Sums are twice as fast as repetitions, and let other threads go on.
    ends = np.cumsum(count)
    first = ends[:-1]
    if isinstance(step, int):
        index = np.full(ends[-1], step)
    else:
        index = np.zeros(ends[-1], np.int64)
        index[0] = step[0]
        index[first] = step[1:] - step[:-1]
        np.cumsum(index, out=index)
    index[0] = begin[0]
    index[first] = begin[1:] - begin[:-1] - (step * (count - 1))[:-1]
    return np.cumsum(index, out=index)
