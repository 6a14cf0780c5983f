"""What is an arc? A stretch of border between two nodes, which the polygons on both of its sides share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Arcs:
    """Some arcs, one after the other.

    Arcs meet at their ends only, and do not cross or touch themselves.

    Args:
        xy: float64 (n, 2), col and row in pixels of the vertices of all arcs; both ends of an arc are listed, so the
            first and the last vertex of a closed one are the same.
        start: int64 (m + 1,), where each arc begins among the vertices, and their number.
        loop: bool (m,), the arc is closed and nothing else meets it: its first vertex is no node.
    """

    xy: NDArray[np.float64]
    start: NDArray[np.int64]
    loop: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.loop)
