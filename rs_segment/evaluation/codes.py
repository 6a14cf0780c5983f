"""How are classes of any value counted in one small table?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PixelTypeError
from ..types import NODATA, Labels

MOST = 254
_SMALL = 1 << 16


class Codes:
    """Numbers 0, 1, 2 and so on for the values of classes, in the order in which they are met.

    Args:
        name: Whose classes they are, for people.
        blank: The value that is no class; its code is 255.
        met: Called with each value when it is met first.
    """

    def __init__(self, name: str, blank: int, met: Callable[[int], None] = lambda value: None) -> None:
        self.values: list[int] = []
        self._name, self._blank, self._met = name, blank, met
        self._codes: dict[int, int] = {}

    def of(self, value: int) -> int:
        """The code of a value.

        Raises:
            PixelTypeError: There are too many classes.
        """
        if value == self._blank:
            return NODATA
        if value not in self._codes:
            if len(self.values) == MOST:
                raise PixelTypeError(
                    f"{self._name} has more than {MOST} classes, the most that can be compared; is this a class map?"
                )
            self._codes[value] = len(self.values)
            self.values.append(value)
            self._met(value)
        return self._codes[value]

    def encode(self, labels: NDArray[Any]) -> Labels:
        """uint8 codes of labels of any integer type and any shape."""
        if labels.size == 0:
            return np.zeros(labels.shape, np.uint8)
        low = int(np.iinfo(labels.dtype).min) if labels.dtype.itemsize <= 2 else int(labels.min())
        span = _SMALL if labels.dtype.itemsize <= 2 else int(labels.max()) - low + 1
        if span > _SMALL:
            values, inverse = np.unique(labels, return_inverse=True)
            return np.array([self.of(int(v)) for v in values], np.uint8)[inverse].reshape(labels.shape)
        place = labels if low == 0 else labels.astype(np.int64) - low
        table = np.full(span, NODATA, np.uint8)
        for there in np.flatnonzero(np.bincount(place.ravel(), minlength=1)).tolist():
            table[there] = self.of(there + low)
        return np.asarray(table[place])
