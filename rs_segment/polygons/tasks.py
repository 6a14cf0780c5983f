"""Who does work whose result is wanted later?

A thread beside the one that asks; and that one too, rather than wait. So two cores are busy with two threads, each of
which has memory of its own that is slow to touch for the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Task(Generic[T]):
    """Some work that somebody will do.

    Args:
        executor: Who may do it; None is nobody but who asks for the result, and it is done at once.
        work, given: The work.
    """

    def __init__(self, executor: Executor | None, work: Callable[..., T], *given: Any) -> None:
        self._work, self._given = work, given
        self._future: Future[T] = Future() if executor is None else executor.submit(work, *given)
        if executor is None:
            self.help()

    def help(self) -> None:
        """Do it here and now, if nobody has begun."""
        if self._future.cancel():
            self._future = Future()
            try:
                self._future.set_result(self._work(*self._given))
            except BaseException as error:
                self._future.set_exception(error)

    def result(self, others: Iterable[Task[Any]] = ()) -> T:
        """What came of it, or the error; while another is at it, ``others`` are done here."""
        self.help()
        for task in others:
            if self._future.done():
                break
            task.help()
        return self._future.result()
