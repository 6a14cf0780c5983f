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
    ends = np.cumsum(count)
    index = np.arange(ends[-1] if len(ends) else 0)
    if not isinstance(step, int):
        index *= np.repeat(step, count)
    elif step != 1:
        index *= step
    index += np.repeat(begin - step * (ends - count), count)
    return index
