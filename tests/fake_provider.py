"""A package of models that needs no torch, found as any other is: through its entry point, in every process.

``install`` lays it out in a folder, which must be on the path. Its network does as it is told by pixels, so that a
scene can be made that kills whoever looks at it; and by the environment: FAKE_SLOW seconds a tile, FAKE_BROKEN for the
error that loading ends in, or "exit", FAKE_LOUD for one that prints.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from fakes import FakePredictor, make_card

from rs_segment import errors
from rs_segment.card import ModelCard
from rs_segment.types import Compute

KILLS = 251
"""A pixel of this value in all bands, in the first corner of a tile, kills the process."""
PLACE = "FAKE_MODELS"


class Moody(FakePredictor):
    """Slow, or deadly."""

    def scores(self, pixels: Any, *args: Any) -> Any:
        time.sleep(float(os.environ.get("FAKE_SLOW", 0)))
        if (pixels[:, :, 0, 0] == KILLS).all(axis=1).any():
            os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        return super().scores(pixels, *args)

    def with_scaling(self, scaling: Any) -> Moody:
        return self


def install(place: Path) -> Path:
    """The model's folder; ``place`` must be on the path, and FAKE_MODELS name it."""
    told = place / "fake_provider-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-provider\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[rs_segment.models]\nfake = fake_provider\n")
    folder = place / "fake"
    folder.mkdir()
    card = make_card(resolution_limits=(0.01, 10.0), weights_sha256="0" * 64)
    (folder / "model.json").write_text(json.dumps(card.to_item(1)))
    return folder


def folders() -> list[Path]:
    return [Path(os.environ[PLACE]) / "fake"]


def load(folder: Path, compute: Compute, tta: str = "none") -> Moody:
    if loud := os.environ.get("FAKE_LOUD"):
        print(loud)
        os.write(1, loud.encode() + b"\n")
    broken = os.environ.get("FAKE_BROKEN")
    if broken == "exit":
        sys.exit(7)
    if broken:
        raise getattr(errors, broken)("the weights are damaged")
    return Moody(ModelCard.read(folder / "model.json"), batch=1)
