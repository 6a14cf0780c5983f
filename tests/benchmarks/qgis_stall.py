"""For how long the windows of QGIS do not answer while an algorithm runs, printed as a table.

    python tests/benchmarks/qgis_stall.py [--rounds 3] [--side 600]

From the click on Run to the last layer on the canvas a timer beats every 5 ms in the GUI thread; a stall is the gap
between two beats, less the time for which that thread was ready and had no core. Beside ``rssegment:predict``, with a
network that costs 0.1 s a tile, an algorithm of QGIS itself that makes a raster: what its dialog costs in any case.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fakes import make_scene
from qgis_desktop import desk, engine, screen

NATIVE = "native:reclassifybytable"
PREDICT = "rssegment:predict"


def orders(scene: Path, rounds: int) -> list[dict[str, Any]]:
    """Runs of both, in turn."""
    table = {"RASTER_BAND": 1, "TABLE": ["0", "100", "1", "100", "255", "2"]}
    given = {
        NATIVE: {"INPUT_RASTER": str(scene), **table},
        PREDICT: {"INPUT": str(scene), "MODEL": "fake", "TILE": 128, "OVERLAP": 16, "POLYGONS": "TEMPORARY_OUTPUT"},
    }
    return [
        {"do": "dialog", "algorithm": a, "parameters": p, "settle": 1} for _ in range(rounds) for a, p in given.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=600)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, screen() as display:
        home = Path(place)
        todo = orders(make_scene(home / "scene.tif", (given.side, given.side)), given.rounds)
        with desk(home / "home", display, todo, engine(home, slow=0.1)) as at:
            told = at.answers(len(todo))
    print(f"{'algorithm':<26} {'ok':<5} {'longest stalls, ms (at ms)'}")
    for order, answer in zip(todo, told, strict=True):
        stalls = ", ".join(f"{s['ms']} ({s['at_ms']})" for s in answer["stalls"][:4])
        print(f"{order['algorithm']:<26} {answer['ok']!s:<5} {stalls}")


if __name__ == "__main__":
    main()
