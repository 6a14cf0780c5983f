"""Kills ``polygonize_raster`` between two of its statements, one moment after the other, and tells what is left.

    python kill_each_step.py RASTER TARGET COUNT LAYER     with the files of an older layer in the folder of TARGET

COUNT is the number of moments, of which two thirds are those in which files get their names; 0 takes all of the latter.
The first line that is printed has the digests of the files of the older layer and of a run that is left alone, as JSON;
one more line a moment has the statement, the status, the digests after the kill, and now and then after a second run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from rs_segment.vectorise import polygonize_raster

MODULES = ("vectorise", "workfolder", "layer", "geopackage", "btree", "rtree", "converted")
PUBLISHING = "publish_layer"
AGAIN = 4

Trace = Callable[[FrameType, str, Any], Any]


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest()[:8] for p in sorted(folder.iterdir()) if p.is_file()}


def traced(told: Callable[[FrameType], None]) -> Trace:
    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            told(frame)
        return local

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        path = Path(frame.f_code.co_filename)
        return local if path.parent.name == "rs_segment" and path.stem in MODULES else None

    return enter


def run(raster: Path, target: Path, layer: str, told: Callable[[FrameType], None] | None = None) -> int:
    """The status of a process that writes the layer while ``told`` hears of each statement; 0 where it is done."""
    child = os.fork()
    if not child:
        status = 1
        try:
            if told is not None:
                threading.settrace(traced(told))
                sys.settrace(traced(told))
            polygonize_raster(raster, target, layer=layer or None, overwrite=True)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def statements(raster: Path, target: Path, layer: str) -> list[tuple[str, str]]:
    """(function, statement) of all that a run does."""
    with tempfile.TemporaryFile() as seen:

        def told(frame: FrameType) -> None:
            place = f"{Path(frame.f_code.co_filename).stem}:{frame.f_lineno}"
            os.write(seen.fileno(), f"{frame.f_code.co_name} {place}\n".encode())

        assert run(raster, target, layer, told) == 0
        seen.seek(0)
        return [(function, place) for function, place in (line.split() for line in seen.read().decode().splitlines())]


def main(raster: Path, target: Path, count: int, layer: str) -> None:
    before = {path: path.read_bytes() for path in target.parent.iterdir()}
    old = digests(target.parent)
    seen = statements(raster, target, layer)
    new = digests(target.parent)
    print(json.dumps([old, new]))
    publishing = next(i for i, (function, _) in enumerate(seen) if function == PUBLISHING)
    some = count // 3 or publishing // 10
    early = np.linspace(0, publishing - 1, some)
    late = np.linspace(publishing, len(seen) - 1, count - some if count else len(seen) - publishing)
    for i, moment in enumerate(np.concatenate([early, late]).astype(int).tolist()):
        for path in target.parent.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path, content in before.items():
            path.write_bytes(content)
        left = moment

        def told(frame: FrameType) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        status = run(raster, target, layer, told)
        after = digests(target.parent)
        again = None
        if i % AGAIN == 0 and after != new:
            assert run(raster, target, layer) == 0
            again = digests(target.parent)
        print(json.dumps([seen[moment][1], status, after, again]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
