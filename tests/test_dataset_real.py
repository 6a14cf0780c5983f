"""The Dubai set, as it circulates, is found without a word about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rs_segment.dataset import Part, open_dataset

pytestmark = [pytest.mark.data, pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")]
COLORS = {"#3C1098", "#8429F6", "#6EC1E4", "#FEDD3A", "#E2A929", "#9B9B9B"}


def test_dubai_is_seven_groups_of_nine_in_six_colours(data: Path) -> None:
    dataset = open_dataset(data / "dubai")
    assert dataset.groups == tuple(f"tile_{i}" for i in range(2, 9))
    assert len(dataset.pairs) == 63
    assert {c.name for c in dataset.classes} == COLORS
    assert dataset.spec.labels.ignore == ("#000000",)
    assert dataset.split("group:tile_3").leaks is None
    assert "are parts of tile_" in (dataset.split("random:0.1").leaks or "")


def test_masks_with_palettes_are_the_stitched_labels(data: Path) -> None:
    """Tile 4 has palettes; its parts, row by row, are the label raster that others made of it."""
    parts = [p for p in open_dataset(data / "dubai").pairs if p.group == "tile_4"]
    order = ["#3C1098", "#8429F6", "#6EC1E4", "#FEDD3A", "#E2A929", "#9B9B9B"]
    values = np.full(256, 255, np.uint8)
    for place, color in enumerate(sorted(COLORS)):
        values[place] = order.index(color)
    tiles = [values[p.read(Part.of(p).window).labels] for p in parts]
    rows = [np.concatenate(tiles[i : i + 3], axis=1) for i in (0, 3, 6)]
    stitched = np.concatenate([row[:, : min(r.shape[1] for r in rows)] for row in rows])
    whole = open_dataset(data / "dubai_scenes").pairs[1]
    labels = whole.read(Part.of(whole).window).labels
    rows_, cols_ = (min(a, b) for a, b in zip(stitched.shape, labels.shape, strict=True))
    assert (stitched[:rows_, :cols_] == labels[:rows_, :cols_]).mean() > 0.99
