"""How does a run report itself? A ``Track`` for a terminal, for a program, and for nobody."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TypeVar

from tqdm import tqdm

from rs_segment.types import Outlook, Track, Work, silent

from .command import command_line
from .host import hosted

T = TypeVar("T", bound=Work)
LINES_EVERY_SECONDS = 0.5


def bar(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """A bar on stderr: stage, share, Mpx/s, time left."""
    shape = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}px  {rate_fmt}  {remaining} left"
    with tqdm(total=total, desc=label, unit="px", unit_scale=True, bar_format=shape, leave=False) as shown:
        for item in items:
            yield item
            shown.update(item.work)


def jsonl(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """JSON lines on stderr: done and total in pixels, stage, seconds left."""
    started = told = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += item.work
        now = time.monotonic()
        if now - told >= LINES_EVERY_SECONDS or done == total:
            told = now
            left = (now - started) * (total - done) / max(done, 1)
            line = {"event": "progress", "stage": label, "done": done, "total": total, "eta_s": round(left, 1)}
            print(json.dumps(line), file=sys.stderr, flush=True)


TRACKS: dict[str, Track] = {"bar": bar, "jsonl": jsonl, "none": silent}


def track(kind: str) -> Track:
    """The ``Track`` of a name; "auto" is a bar where stderr is a terminal. A host program hears events instead."""
    if (host := hosted()) is not None:
        return host.track
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "none"
    return TRACKS[kind]


def forecast(outlook: Outlook) -> None:
    """Tell a host program what is known before the work begins."""
    if (host := hosted()) is not None:
        host.say("plan", command=command_line(), **asdict(outlook))
