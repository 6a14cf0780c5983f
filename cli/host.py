"""Who listens to a command? A person at a terminal, or a host program such as QGIS, which hears events."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rs_segment.types import Work

T = TypeVar("T", bound="Work")
PROGRESS_EVERY_SECONDS = 0.2
WARNINGS = ("note:", "warning", "failed", "again", "problem", "error")
"""How lines begin that a host should show as warnings."""


class Host:
    """A program at the other end of a pipe: one event a line, each a JSON object.

    Args:
        file: Takes the lines.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._lock = file, threading.Lock()
        self._told = -PROGRESS_EVERY_SECONDS
        self.stop = threading.Event()
        self.document: Any = None

    def say(self, event: str, **facts: Any) -> None:
        """Tell of an event."""
        self.forward(json.dumps({"event": event, **facts}).encode() + b"\n")

    def forward(self, line: bytes) -> None:
        """Pass a line on as it is."""
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def log(self, line: str) -> None:
        """Tell a line that is for people."""
        level = "warning" if line.lower().startswith(WARNINGS) else "info"
        self.say("log", level=level, message=line)

    def progress(self, stage: str, done: float, total: float, **more: Any) -> None:
        """Tell how far the work is, unless that was told a moment ago.

        Raises:
            CancelledError: The host wants no more of it.
        """
        if self.stop.is_set():
            from rs_segment.errors import CancelledError

            raise CancelledError("stopped")
        now = time.monotonic()
        if now - self._told >= PROGRESS_EVERY_SECONDS:
            self._told = now
            self.say("progress", stage=stage, done=done, total=total, **more)

    def track(self, items: Iterable[T], total: int, label: str) -> Iterator[T]:
        """The ``Track`` that tells the host: pixels, tiles, seconds left."""
        started, done = time.monotonic(), 0
        tiles = label == "segment"
        self.progress(label, 0, total, eta_s=None, **({"tiles_done": 0} if tiles else {}))
        for count, item in enumerate(items, start=1):
            yield item
            done += item.work
            left = (time.monotonic() - started) * (total - done) / max(done, 1)
            more = {"tiles_done": count} if tiles else {"note": item.note} if hasattr(item, "note") else {}
            self.progress(label, done, total, eta_s=round(left, 1), **more)


class Lines(io.TextIOBase):
    """A stream for texts that tells each line to a host."""

    def __init__(self, host: Host) -> None:
        self._host, self._begun, self._lock = host, "", threading.Lock()

    def write(self, text: str) -> int:
        """Tell the lines that the text completes."""
        with self._lock:
            *lines, self._begun = (self._begun + text).replace("\r", "\n").split("\n")
        for line in filter(str.strip, lines):
            self._host.log(line.rstrip())
        return len(text)

    def writable(self) -> bool:
        """Yes."""
        return True


def hosted() -> Host | None:
    """The host of the command that runs; None at a terminal."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.find_object(Host)
