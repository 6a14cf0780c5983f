"""What does rs-segment make of each of these files? A process of its own, so that a crash or a hang is nobody else's.

Called with a folder for results and the files; says on stdout, in lines of JSON, what it begins and what came of it.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from click.testing import CliRunner
from fakes import FakePredictor, make_card
from rasterio.windows import Window

from rs_segment import RsSegmentError, Scene, registry
from rs_segment.card import DTYPES, ModelCard
from rs_segment_cli.info import info
from rs_segment_cli.predict import predict

warnings.simplefilter("ignore")
MAX_SECONDS = 60
ENOUGH = 10_000_000
"""Pixels above which only a corner is mapped, and the map is compared by its grid alone."""


def card_for(path: str) -> ModelCard:
    """A model made for whatever the file holds."""
    with contextlib.suppress(RsSegmentError), Scene.open(path) as scene:
        dtype = scene.dtype.name if scene.dtype.name in DTYPES else "uint8"
        return make_card(scene.count, dtype=dtype).replace(bands=tuple(f"b{i}" for i in range(scene.count)))
    return make_card()


def corner(path: str) -> tuple[str, ...]:
    """Options that leave most of a large scene out."""
    with contextlib.suppress(RsSegmentError), Scene.open(path) as scene:
        height, width = scene.geobox.shape
        if height * width > ENOUGH:
            bounds = scene.geobox[Window(0, 0, min(1000, width), min(1000, height))].bounds
            return "--aoi", ",".join(map(repr, map(float, bounds)))
    return ()


def call(command: Any, *options: str) -> dict[str, Any]:
    """What a command of rs-segment ended with: its exit code, and the sentence where it refused."""
    result = CliRunner().invoke(command, options)
    told = result.stderr.strip()
    return {
        "code": result.exit_code,
        "told": told,
        "lines": len(told.splitlines()),
        "traceback": "Traceback" in result.output,
    }


def compare(path: str, made: Path) -> dict[str, Any]:
    """Whether a map lies on its scene's grid, and says nothing where the scene has no data."""
    with Scene.open(path) as scene, rasterio.open(path) as source, rasterio.open(made) as found:
        told = {
            "shape": found.shape == source.shape,
            "transform": found.transform.almost_equals(source.transform, 1e-9),
            "crs": (found.crs or None) == (source.crs or None),
            "nodata": True,
        }
        if source.width * source.height < ENOUGH:
            labels, valid = found.read(1), scene.read(scene.geobox.window).valid
            told["nodata"] = bool(np.array_equal(labels != 255, valid))
        return told


def main(folder: Path, files: list[str]) -> None:
    """Try each file; what is said goes to stdout before and behind."""
    for number, path in enumerate(files):
        started = time.monotonic()
        # Its default action ends the process, wherever it hangs.
        signal.alarm(MAX_SECONDS)
        print(json.dumps({"begin": path}), flush=True)
        card, made = card_for(path), folder / f"{number}.tif"
        registry.find = lambda name, card=card: registry.ModelFolder(Path(), card, shipped=True)  # type: ignore[assignment]
        registry.load = lambda path, compute, tta, card=card: FakePredictor(card, radius=1)  # type: ignore[assignment]
        told: dict[str, Any] = {"info": call(info, "--", path)}
        told["predict"] = call(predict, "--progress", "none", "-o", str(made), *corner(path), "--", path)
        if told["predict"]["code"] == 0:
            told["same"] = compare(path, made)
        told["seconds"] = round(time.monotonic() - started, 2)
        told["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"end": path, **told}), flush=True)
        for left in folder.glob(f"{number}*"):
            if left.is_file():
                left.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
