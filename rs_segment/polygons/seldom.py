"""Where is a long array of truth values true, if it seldom is? Eight of them are looked at at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ragged import Ints

_BYTES = 8


class Seldom:
    """Truth values, most of which are false.

    Args:
        flags: bool (n,), one after the other in memory.
    """

    def __init__(self, flags: NDArray[np.bool_]) -> None:
        spare = -len(flags) % _BYTES
        self._flags = np.append(flags, np.zeros(spare, bool)) if spare else flags
        self._words = self._flags.view("<u8")
        self._some = np.flatnonzero(self._words != 0)

    def places(self) -> Ints:
        """int64 (m,), where they are true, as ``flatnonzero`` tells it."""
        within = np.flatnonzero(self._words[self._some].view(np.bool_))
        found: Ints = (_BYTES * self._some)[within // _BYTES]
        found += within % _BYTES
        return found

    def last(self, place: Ints) -> Ints:
        """int64 (k,), the last place up to each of some places where they are true; there has to be one."""
        word = place // _BYTES
        upto = np.uint64(2**64 - 1) >> (8 * (_BYTES - 1 - place % _BYTES)).astype(np.uint64)
        here = np.searchsorted(self._some, word, side="right") - 1
        held = self._words[self._some[here]]
        same = self._some[here] == word
        held = np.where(same, held & upto, held)
        none = held == 0
        here[none] -= 1
        held[none] = self._words[self._some[here[none]]]
        # Bytes are 0 or 1, so no rounding makes the exponent of a sum of them larger.
        highest = (np.frexp(held.astype(np.float64))[1] - 1) // 8
        return np.asarray(_BYTES * self._some[here] + highest, np.int64)
