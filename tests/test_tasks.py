"""Work is done once, by whoever comes first, and its errors reach who asks for the result."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rs_segment.polygons.tasks import Task


def test_without_an_executor_work_is_done_at_once() -> None:
    done: list[int] = []
    task = Task(None, done.append, 1)
    assert done == [1]
    assert task.result() is None
    assert done == [1]


def test_who_asks_does_what_nobody_has_begun() -> None:
    gate, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert gate.wait(10)

    with ThreadPoolExecutor(1) as pool:
        Task(pool, wait)
        assert begun.wait(10)
        # The only thread is busy until the end, so these can have been done here alone.
        tasks = [Task(pool, threading.get_ident) for _ in range(3)]
        assert [task.result() for task in tasks] == [threading.get_ident()] * 3
        gate.set()


def test_while_another_is_at_it_others_are_done() -> None:
    gate, begun = threading.Event(), threading.Event()

    def wait() -> str:
        begun.set()
        assert gate.wait(10)
        return "waited"

    with ThreadPoolExecutor(1) as pool:
        first = Task(pool, wait)
        assert begun.wait(10)
        # Only if this is done here, while the first is waited for, does the first ever end.
        second = Task(pool, gate.set)
        assert first.result([second]) == "waited"


@pytest.mark.parametrize("threads", [0, 1])
def test_errors_reach_who_asks(threads: int) -> None:
    def fail() -> None:
        raise ValueError("no")

    if threads:
        with ThreadPoolExecutor(threads) as pool, pytest.raises(ValueError, match="no"):
            Task(pool, fail).result()
    else:
        with pytest.raises(ValueError, match="no"):
            Task(None, fail).result()
