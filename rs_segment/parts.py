"""How is a large scene done by several processes? Rows of tiles are done apart, kept beside the target, put together.

A part is a file with the labels of some rows, and with what decided them. Whoever makes the result takes the parts that
were decided alike and does the rest himself: so the result has the same bytes with all, some or none of them.
"""

from __future__ import annotations

import heapq
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.windows import Window

from .errors import OutputExistsError
from .geobox import GeoBox
from .stitch import Band
from .types import Labels, Prediction
from .workfolder import WorkFolder, publish
from .writer import RasterSpec, RasterWriter

TAG = "RS_SEGMENT_PART"
ROWS_AT_A_TIME = 512
# Where a part lies on Earth is of no interest, but readers would warn of a raster that lies nowhere.
_NOWHERE = Affine(2, 0, 0, 0, -2, 0)


@dataclass(frozen=True, slots=True)
class Share:
    """A part that is to be done.

    Args:
        target: The class raster that it will be part of.
        index: Which part, 1 to ``count``.
        count: Of how many.
    """

    target: Path
    index: int
    count: int

    @property
    def folder(self) -> Path:
        """Where the parts of the target are kept."""
        return folder_of(self.target)

    def rows(self, tiles: int) -> range:
        """The rows of tiles among ``tiles`` of them; none where there are fewer rows than parts."""
        return range(tiles * (self.index - 1) // self.count, tiles * self.index // self.count)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is done.

    Args:
        path: The file that holds it.
        rows: Its rows of tiles.
        top: Its first row in the scene.
        height: How many there are.
        confidence: Whether the second band of the file is the confidence; the first are the labels, those that are left
            are probabilities.
    """

    path: Path
    rows: range
    top: int
    height: int
    confidence: bool

    def bands(self) -> Iterator[Band]:
        """What it holds, from top to bottom."""
        with rasterio.open(self.path) as dataset:
            for start in range(0, self.height, ROWS_AT_A_TIME):
                tall = min(ROWS_AT_A_TIME, self.height - start)
                labels, *others = dataset.read(window=Window(0, start, dataset.width, tall))
                confidence = others.pop(0) if self.confidence else None
                probabilities = np.stack(others) if others else None
                where = Window(0, self.top + start, dataset.width, tall)
                yield Band(where, Prediction(labels, confidence, probabilities))


def folder_of(target: Path) -> Path:
    """Where the parts of a class raster are kept."""
    return target.with_name(f".{target.name}.parts")


def keep(share: Share, rows: range, span: Window, bands: Iterable[Band], plan: Mapping[str, Any]) -> None:
    """Write a part; it is there as a whole, or not at all.

    Args:
        share: Which; its folder must be there.
        rows: Its rows of tiles.
        span: Its rows in the scene.
        bands: Their labels, from top to bottom.
        plan: Everything that decides the labels.

    Raises:
        OutputExistsError: Another process makes it, or has put all parts together.
        DiskFullError, OutputError: It cannot be written.
    """
    if not share.folder.is_dir():
        raise OutputExistsError(f"another process has put the parts of {share.target} together")
    final = share.folder / f"{rows.start:06}-{rows.stop:06}.tif"
    told = {"plan": plan, "rows": [rows.start, rows.stop], "top": span.row_off}
    folder = WorkFolder.open(final, plan)
    try:
        writer = None
        for band in bands:
            if writer is None:
                told["confidence"] = band.prediction.confidence is not None
                writer = _writer(folder, span, len(_layers(band)), json.dumps(told))
            writer.write(_layers(band))
        if writer is not None:
            publish([(writer.finish(), final)], overwrite=True)
    finally:
        folder.close(keep=False)


def kept(target: Path, plan: Mapping[str, Any]) -> tuple[Part, ...]:
    """The parts of a class raster that were decided as this plan says, from top to bottom."""
    found: list[Part] = []
    for path in sorted(folder_of(target).glob("*.tif")):
        try:
            with rasterio.open(path) as dataset:
                told = json.loads(dataset.tags()[TAG])
                height = dataset.height
        except (RasterioError, KeyError, ValueError):
            continue
        part = Part(path, range(*told["rows"]), told["top"], height, told["confidence"])
        # Those of an earlier run may be of other sizes; the first one wins.
        apart = not found or part.top >= found[-1].top + found[-1].height
        if apart and told["plan"] == json.loads(json.dumps(plan)):
            found.append(part)
    return tuple(found)


def joined(parts: Sequence[Part], fresh: Iterable[Band], row: int) -> Iterator[Band]:
    """The bands of parts, and others, from a row of the scene on, each row once."""
    known = (band for part in parts for band in part.bands())
    for band in heapq.merge(known, fresh, key=lambda band: band.window.row_off):
        if (rest := band.below(row)) is not None:
            yield rest
            row = rest.window.row_off + rest.window.height


def forget(target: Path) -> None:
    """Remove the parts of a class raster."""
    shutil.rmtree(folder_of(target), ignore_errors=True)


def _layers(band: Band) -> Labels:
    """All that is known in a band, uint8 (layer, row, col)."""
    found = band.prediction
    confidence = () if found.confidence is None else (found.confidence,)
    return np.stack((found.labels, *confidence, *(() if found.probabilities is None else found.probabilities)))


def _writer(folder: WorkFolder, span: Window, layers: int, told: str) -> RasterWriter:
    box = GeoBox((int(span.height), int(span.width)), _NOWHERE, None)
    names = tuple(f"layer {index}" for index in range(layers))
    return RasterWriter(folder, "part", RasterSpec(box, names, "mean", tags={TAG: told}, format="gtiff"))
