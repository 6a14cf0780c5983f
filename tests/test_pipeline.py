"""Threads hand things on in order, and stop together."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from rs_segment.pipeline import Sink, ahead


def alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("rs-segment")]


@pytest.mark.parametrize("threads", [1, 4])
def test_results_come_in_order_and_not_too_far_ahead(threads: int) -> None:
    begun: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        time.sleep(0.001 * (n % 3))
        return n * n

    results = ahead(work, range(30), threads, depth=5)
    assert next(results) == 0
    assert len(begun) <= 6
    assert list(results) == [n * n for n in range(1, 30)]
    assert not alive()


def test_an_error_in_a_reader_is_raised_and_the_rest_is_dropped() -> None:
    def work(n: int) -> int:
        if n == 3:
            raise OSError("block 3 is broken")
        return n

    results = ahead(work, range(1000), 2, depth=4)
    with pytest.raises(OSError, match="block 3"):
        list(results)
    assert not alive()


def test_a_sink_takes_everything_in_order_before_it_is_left() -> None:
    taken: list[int] = []
    with Sink(lambda n: (time.sleep(0.001), taken.append(n))[1], 2, "test") as sink:
        for n in range(50):
            sink.put(n)
    assert taken == list(range(50))
    assert not alive()


def test_an_error_in_a_sink_reaches_the_one_who_puts() -> None:
    def consume(n: int) -> None:
        if n == 2:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"), Sink(consume, 2, "test") as sink:
        for n in range(1000):
            sink.put(n)
    assert not alive()


def test_an_error_on_the_last_item_is_not_lost() -> None:
    def consume(n: int) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"), Sink(consume, 2, "test") as sink:
        sink.put(1)


def test_an_error_outside_stops_a_sink_and_is_the_one_reported() -> None:
    taken: list[int] = []

    def consume(n: int) -> None:
        time.sleep(0.05)
        taken.append(n)

    with pytest.raises(KeyError, match="outside"), Sink(consume, 50, "test") as sink:
        for n in range(40):
            sink.put(n)
        raise KeyError("outside")
    assert len(taken) < 40
    assert not alive()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interruption_while_a_sink_is_left_waits_for_its_thread() -> None:
    taken: list[int] = []

    def consume(n: int) -> None:
        time.sleep(0.4)
        taken.append(n)

    main = threading.main_thread().ident
    assert main is not None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt), Sink(consume, 9, "test") as sink:
            for n in range(5):
                sink.put(n)
            interrupt.start()
        assert taken == [0]
        assert not alive()
    finally:
        interrupt.join()
        signal.signal(signal.SIGINT, before)
