"""How is a file read ten thousand times, from many threads, without opening it as often?

Each thread has rasters of its own open, the latest few. Images that can only be decoded as a whole, like PNG and JPEG,
stay in memory within a limit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import SceneError
from ..scene import Scene

T = TypeVar("T")
Arrays = tuple[NDArray[Any], ...]

OPEN_FILES = 24
CACHE_BYTES = 1024 * 2**20
_TAIL = 4096
LARGEST = 96 * 2**20
"""Larger images are not kept, in bytes."""


class Files:
    """Rasters that are open, and images that are in memory.

    Args:
        cache_bytes: How much of decoded images is kept; the ones that were not used for longest go first.
    """

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self.cache_bytes = cache_bytes
        self._here = threading.local()
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Arrays] = OrderedDict()
        self._made: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._bytes = 0

    def scene(self, key: Hashable, opener: Callable[[], Scene]) -> Scene:
        """This thread's own scene of a key, opened where it is not open yet."""
        mine: OrderedDict[Hashable, Scene] | None = getattr(self._here, "scenes", None)
        if mine is None:
            mine = self._here.scenes = OrderedDict()
        if key in mine:
            mine.move_to_end(key)
            return mine[key]
        found = mine[key] = opener()
        if len(mine) > OPEN_FILES:
            mine.popitem(last=False)[1].close()
        return found

    def arrays(self, key: Hashable, loader: Callable[[], Arrays]) -> Arrays:
        """What a loader returns, from memory where it was kept; not to be written to."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            found = loader()
            for array in found:
                array.setflags(write=False)
            with self._lock:
                self._keep(key, found)
        return found

    def once(self, key: Hashable, maker: Callable[[], T]) -> T:
        """What a maker returns; it is called once and its result kept for good."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._made:
                self._made[key] = maker()
            found: T = self._made[key]
            return found

    def close(self) -> None:
        """Forget the images that are in memory, and close the files of this thread."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
        for scene in getattr(self._here, "scenes", {}).values():
            scene.close()
        self._here.scenes = OrderedDict()

    def _keep(self, key: Hashable, found: Arrays) -> None:
        self._locks.pop(key, None)
        size = sum(a.nbytes for a in found)
        if size > self.cache_bytes:
            return
        self._kept[key] = found
        self._bytes += size
        while self._bytes > self.cache_bytes:
            self._bytes -= sum(a.nbytes for a in self._kept.popitem(last=False)[1])


def worth_keeping(shape: tuple[int, int], block: tuple[int, int], pixel_bytes: int) -> bool:
    """Whether an image is better kept in memory as a whole than read by window.

    That is where a window costs the decoding of whole rows, and the image is not too large.

    Args:
        shape: (rows, cols) of the image.
        block: (rows, cols) of the file's blocks.
        pixel_bytes: Bytes of a pixel with its labels.
    """
    size = int(np.prod(shape)) * pixel_bytes
    return size <= LARGEST and (block[1] >= shape[1] or size <= LARGEST // 32)


def refuse_cut_off(path: Path) -> None:
    """Raises ``SceneError`` where a PNG lacks its end: GDAL reads what is missing as zeros, and says nothing."""
    if path.suffix.lower() != ".png" or not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        if b"IEND" not in file.read():
            raise SceneError(f"{path} is cut off: the end of the file is missing; copy or download it again")
