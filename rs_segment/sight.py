"""What are the labels of some rows of a scene, and what decides them?"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from .area import Area
from .card import ModelCard, Scaling
from .pipeline import ahead
from .scene import Scene
from .stitch import STITCHERS, Band, Look, Wanted, finished
from .tiles import Tile, TileGrid
from .types import NODATA, PROBABILITY_STEPS, UNCLASSIFIED, Compute, Outputs, Plan, Prediction, Predictor, Track, View

FINE_ROWS = 512


@dataclass(frozen=True, slots=True)
class Sight:
    """A scene as a model looks at it.

    Args:
        whole: As it is; its grid is that of the results.
        seen: With the bands and the ground resolution that the model reads.
        view: How that was asked for.
        area: Where labels are wanted, or None.
        mode: "exact" or "blend".
        grid: The tiles that cover ``seen``.
    """

    whole: Scene
    seen: Scene
    view: View
    area: Area | None
    mode: str
    grid: TileGrid

    @classmethod
    @contextmanager
    def open(cls, scene: str | Path, card: ModelCard, view: View, plan: Plan) -> Iterator[Sight]:
        """The scene, open until the end of the ``with`` block.

        Raises:
            RsSegmentError: The scene, the area of interest or the plan is refused.
        """
        with Scene.open(scene, view.nodata) as whole, whole.fit(card, view) as seen:
            area = None if view.aoi is None else Area.of(view.aoi, whole.geobox)
            mode = card.mode if plan.mode == "auto" else plan.mode
            grid = plan_tiles(seen.geobox.shape, card, plan)
            with rasterio.Env(GDAL_CACHEMAX=seen.cache_bytes(grid.size)):
                yield cls(whole, seen, view, area, mode, grid)

    def span(self, rows: range) -> Window:
        """The rows of the scene that some rows of tiles, at least one, give labels of."""
        top = finished(self.mode, self.grid, rows[0]).row_off
        last = finished(self.mode, self.grid, rows[-1])
        ends = np.array([top, last.row_off + last.height])
        if self.seen.warped:
            ends = np.searchsorted(_source_rows(self.seen.geobox.shape[0], self.whole.geobox.shape[0]), ends)
        return Window(0, int(ends[0]), self.whole.geobox.shape[1], int(ends[1] - ends[0]))

    def rows_below(self, done: int) -> range:
        """The rows of tiles that give labels of the scene below its first ``done`` rows."""
        ends = (self.span(range(row + 1)).height for row in range(self.grid.rows))
        return range(sum(end <= done for end in ends), self.grid.rows)

    def looked(self, rows: Collection[int]) -> list[int]:
        """The rows of tiles that are looked at for some: in blend mode the one above passes on what lies under both."""
        above = {row - 1 for row in rows if row > 0} if self.mode == "blend" else set()
        return sorted({*rows, *above})

    def predict(
        self, predictor: Predictor, rows: Collection[int], compute: Compute, outputs: Outputs, track: Track
    ) -> Generator[Band, None, None]:
        """Bands of labels as they are written, on the scene's own grid, of some rows of tiles.

        Args:
            predictor: Gives the scores.
            rows: Which rows of tiles, ascending.
            compute: How many threads read.
            outputs: What is wanted.
            track: Told of the progress.
        """
        probable = bool(outputs.confidence or outputs.polygons or outputs.min_confidence > 0)
        wanted = Wanted(probable, outputs.probabilities)
        looked = self.looked(rows)
        tiles = [self.grid[row, col] for row in looked for col in range(self.grid.cols)]
        looks = ahead(looker(self), tiles, readers(compute, self.seen), depth=2 * predictor.batch + 1)
        with closing(looks):
            counted = track(looks, sum(tile.pixels for tile in tiles), "segment")
            stitched = STITCHERS[self.mode](self.grid, counted, predictor, wanted)
            bands = (band for row, band in zip(looked, stitched, strict=True) if row in rows)
            for band in on_grid(bands, self):
                yield settle(band, self, outputs.min_confidence)


def plan_tiles(shape: tuple[int, int], card: ModelCard, plan: Plan) -> TileGrid:
    """The tiles that cover a grid of (height, width) pixels for a model.

    Without a given size: the smallest of 512, 1024 and 2048 px with which overlaps cost less than 20 % more pixels.
    """
    stride = card.stride
    halo = card.halo if plan.overlap is None else plan.overlap // 2
    if plan.overlap is not None and plan.overlap % 2:
        halo = -1
    sizes = [-(-size // stride) * stride for size in (512, 1024, 2048)]
    fitting = [s for s in sizes if s >= 4 * halo and (s / (s - 2 * halo)) ** 2 <= 1.2]
    large = max(sizes[-1], -(-4 * halo // stride) * stride)
    return TileGrid(shape, plan.tile or (fitting[0] if fitting else large), halo, stride)


def looker(sight: Sight) -> Any:
    """A function from a tile to what is seen through it; where nothing is to be predicted it does not read."""
    area, seen = sight.area, sight.seen
    asked = None if area is None else area.on(sight.whole.geobox, seen.geobox)

    def look(tile: Tile) -> Look:
        if asked is not None and not asked.touches(tile.read):
            return Look(tile)
        chip = seen.read(tile.read)
        return Look(tile, chip.pixels, chip.valid) if chip.valid.any() else Look(tile)

    return look


def on_grid(bands: Iterator[Band], sight: Sight) -> Iterator[Band]:
    """The bands on the scene's own grid; of a warped scene each pixel takes the label that its centre hits."""
    seen, whole = sight.seen, sight.whole
    if not seen.warped:
        yield from bands
        return
    rows = _source_rows(seen.geobox.shape[0], whole.geobox.shape[0])
    cols = _source_rows(seen.geobox.shape[1], whole.geobox.shape[1])
    for band in bands:
        start, stop = np.searchsorted(rows, [band.window.row_off, band.window.row_off + band.window.height])
        if stop > start:
            for top in range(int(start), int(stop), FINE_ROWS):
                end = min(top + FINE_ROWS, int(stop))
                take = np.ix_(rows[top:end] - band.window.row_off, cols)
                yield Band(
                    Window(0, top, whole.geobox.shape[1], end - top),
                    band.prediction.map(lambda values: np.ascontiguousarray(values[(..., *take)])),  # noqa: B023
                )


def settle(band: Band, sight: Sight, min_confidence: float) -> Band:
    """The band as it is written: nothing outside the area or without data, and no class where confidence is too low.

    Args:
        band: On the scene's grid; changed in place.
        sight: Which scene. Where it was warped, its own validity counts.
        min_confidence: 0 to 1.
    """
    found: Prediction = band.prediction
    if min_confidence > 0 and found.confidence is not None:
        unsure = (found.confidence < min_confidence * PROBABILITY_STEPS) & (found.labels != NODATA)
        found.labels[unsure] = UNCLASSIFIED
    if sight.seen.warped:
        for col in range(0, band.window.width, 1024):
            wide = min(1024, band.window.width - col)
            valid = sight.whole.read(Window(col, band.window.row_off, wide, band.window.height)).valid
            found.forget(slice(col, col + wide), ~valid)
    if sight.area is not None:
        found.forget(slice(None), ~sight.area.mask(band.window))
    return band


def resolve_scaling(card: ModelCard, seen: Scene) -> Scaling:
    """The card's scaling, with percentiles replaced by what they are in this scene."""
    if card.scaling.kind != "percentile":
        return card.scaling
    return card.scaling.resolve(*seen.percentiles(card.scaling.a[0], card.scaling.b[0]))


def readers(compute: Compute, seen: Scene) -> int:
    """Threads that read: as asked; else one a core, up to four, and one where blocks are as wide as the scene.

    Each thread decodes for itself, and a row of tiles meets the same wide blocks over and over.
    """
    wide = seen.block[1] >= seen.source_box.shape[1] > seen.block[0]
    return compute.readers or (1 if wide else min(4, os.cpu_count() or 1))


def provenance(sight: Sight, predictor: Predictor, plan: Plan, outputs: Outputs) -> dict[str, Any]:
    """Everything that decides the result: written into it, and compared before a run is resumed."""
    whole, view, grid = sight.whole, sight.view, sight.grid
    path = Path(whole.source)
    stat = path.stat() if path.is_file() else None
    written = {k: v for k, v in asdict(outputs).items() if k not in ("overwrite", "resume")}
    return {
        "software": f"rs-segment {_version()}",
        "model": predictor.card.name,
        "model_sha256": predictor.card.weights_sha256,
        "scene": whole.name,
        "scene_bytes": None if stat is None else stat.st_size,
        "shape": list(whole.geobox.shape),
        "bands": list(sight.seen.indexes),
        "rescale": view.rescale,
        "resolution": view.resolution,
        "nodata": view.nodata,
        "aoi": None if view.aoi is None else str(view.aoi),
        "mode": sight.mode,
        "tile": grid.size,
        "overlap": 2 * grid.halo,
        "tta": plan.tta,
        "precision": predictor.precision,
        **written,
        # Under which names is no matter.
        "confidence": bool(outputs.confidence),
        "polygons": bool(outputs.polygons),
    }


def fingerprint(sight: Sight, predictor: Predictor) -> dict[str, Any]:
    """What else decides the result; compared before a run is resumed, not told in it, as it differs by machine."""
    whole, area = sight.whole, sight.area
    path = Path(whole.source)
    card = json.dumps(predictor.card.to_item(), sort_keys=True, default=str)
    return {
        "scene_path": str(path.resolve()) if path.exists() else whole.source,
        "scene_modified": path.stat().st_mtime_ns if path.is_file() else None,
        "grid": [*whole.geobox.transform][:6] + [whole.geobox.crs.to_wkt() if whole.geobox.crs else None],
        "card": hashlib.sha256(card.encode()).hexdigest(),
        "area": None if area is None else hashlib.sha256(area.geometry.wkb).hexdigest(),
        "device": predictor.device,
    }


def _source_rows(source: int, target: int) -> Any:
    """int64 (target,): the row of the source that the middle of each row of the target falls on."""
    return np.minimum(((np.arange(target) + 0.5) * source / target).astype(np.int64), source - 1)


def _version() -> str:
    try:
        return version("rs-segment")
    except PackageNotFoundError:
        return "unknown"
