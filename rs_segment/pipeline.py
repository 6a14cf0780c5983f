"""How do reading, predicting and writing overlap in time, and stop together?

Threads joined by short queues: ``ahead`` reads what will be needed next, ``Sink`` takes away what is done. The first
error in any of them is the one that is raised where the story is told; the others stop.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")

_WAIT = 0.1


def ahead(function: Callable[[S], T], items: Iterable[S], threads: int, depth: int) -> Generator[T, None, None]:
    """Results of a function in the order of its items, computed up to ``depth`` items ahead in threads."""
    waiting: deque[Future[T]] = deque()
    left = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="rs-segment-read")
    try:
        waiting.extend(pool.submit(function, item) for item in islice(left, depth))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(left, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Sink(Generic[T]):
    """A thread that consumes items one after the other.

    ``put`` waits while ``depth`` items lie in the queue, and raises what went wrong in the thread. Leaving the ``with``
    block waits for what is queued; leaving it by an error, or an interruption while waiting, drops what is queued. In
    every case the thread has ended.
    """

    def __init__(self, consume: Callable[[T], None], depth: int, name: str) -> None:
        self._consume = consume
        self._queue: queue.Queue[T | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._stop, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"rs-segment-{name}", daemon=True)

    def __enter__(self) -> Sink[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._stop.set()
            else:
                self._offer(None)
            self._ended.wait()
        except BaseException:
            self._stop.set()
            self._ended.wait()
            raise
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def put(self, item: T) -> None:
        """Hand an item over."""
        self._offer(item)
        if self._error is not None:
            raise self._error

    def _offer(self, item: T | None) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(item, timeout=_WAIT)
                return
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            self._take()
        finally:
            self._ended.set()

    def _take(self) -> None:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=_WAIT)
            except queue.Empty:
                continue
            if item is None:
                return
            try:
                self._consume(item)
            except BaseException as error:
                self._error = error
                return
