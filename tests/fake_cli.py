"""The real command line with one more model, "fake", that needs no torch: fake_cli.py [--slow SECONDS] ARGS..."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from fakes import FakePredictor, make_card

from rs_segment import products, registry
from rs_segment.types import Compute, Predictor
from rs_segment_cli import main

CARD = make_card(resolution_limits=(0.01, 10.0))


class Slow(FakePredictor):
    """Takes its time over every batch, so that a signal finds it at work."""

    seconds = 0.0

    def scores(self, *args: Any) -> Any:
        time.sleep(self.seconds)
        return super().scores(*args)


find = registry.find


def find_fake(name: str | Path) -> registry.ModelFolder:
    return registry.ModelFolder(Path("fake"), CARD, shipped=True) if str(name) == "fake" else find(name)


def load_fake(folder: Path, compute: Compute, tta: str = "none") -> Predictor:
    return Slow(CARD, batch=1)


if __name__ == "__main__":
    registry.find, registry.load = find_fake, load_fake
    if sys.argv[1] == "--slow":
        Slow.seconds = float(sys.argv[2])
        products.COMMIT_SECONDS = 0.0
        del sys.argv[1:3]
    main(prog_name="rs-segment")
