"""The story: one scene becomes one map."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from . import registry
from .area import Area
from .card import ModelCard, Scaling
from .errors import CancelledError, DeviceError, DiskFullError, OptionError
from .pipeline import Sink, ahead
from .products import Products, Targets
from .result import Segmentation
from .scene import Scene
from .stitch import STITCHERS, Band, Look, Wanted
from .tiles import Tile, TileGrid
from .types import (
    NODATA,
    PROBABILITY_STEPS,
    UNCLASSIFIED,
    Compute,
    Outputs,
    Plan,
    Prediction,
    Predictor,
    Track,
    View,
    silent,
)

QUEUE = 1
FINE_ROWS = 512
RESUMABLE = (CancelledError, DiskFullError, DeviceError)


def segment(
    scene: str | Path,
    output: str | Path | None = None,
    model: str | Path | Predictor = registry.DEFAULT,
    view: View | None = None,
    plan: Plan | None = None,
    compute: Compute | None = None,
    outputs: Outputs | None = None,
    track: Track = silent,
) -> Segmentation:
    """The class map of a scene, written as a GeoTIFF with polygons beside it.

    Args:
        scene: What rasterio opens: a file, a ``/vsi`` path, an http(s) or s3 address.
        output: A ``.tif`` file or a folder; None writes ``NAME_classes.tif`` beside the scene.
        model: Name of a model, a model folder, or a predictor of your own.
        view: Which pixels are looked at.
        plan: How the scene is cut and put together.
        compute: What computes; a predictor of your own has its own device.
        outputs: What is written.
        track: Told of the progress; raises ``CancelledError`` to stop.

    Raises:
        RsSegmentError: The scene is refused, the result cannot be written, or the device fails; see ``errors``.
    """
    view, plan, compute, outputs = view or View(), plan or Plan(), compute or Compute(), outputs or Outputs()
    targets = Targets.beside(os.fspath(scene), output, outputs)
    if not isinstance(model, (str, Path)) and plan.tta != "none":
        raise OptionError("a predictor of your own does its own test-time augmentation; leave Plan.tta at 'none'")
    card = registry.find(model).card if isinstance(model, (str, Path)) else model.card
    with ExitStack() as stack:
        whole = stack.enter_context(Scene.open(scene, view.nodata))
        seen = stack.enter_context(whole.fit(card, view))
        area = None if view.aoi is None else Area.of(view.aoi, whole.geobox)
        mode = card.mode if plan.mode == "auto" else plan.mode
        grid = plan_tiles(seen.geobox.shape, card, plan)
        targets.make_room([whole.source, view.aoi if isinstance(view.aoi, (str, Path)) else None], outputs)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=seen.cache_bytes(grid.size)))
        predictor = (
            registry.load(registry.find(model).path, compute, plan.tta) if isinstance(model, (str, Path)) else model
        ).with_scaling(resolve_scaling(card, seen))
        started = time.monotonic()
        wanted = Wanted(
            outputs.confidence or outputs.polygons or outputs.min_confidence > 0, probabilities=outputs.probabilities
        )
        told = provenance(whole, seen, predictor, view, plan, outputs, grid, mode)
        decided = told | fingerprint(whole, predictor, area)
        products = Products(targets, whole.geobox, card.classes, outputs, plan=decided, tags=told)
        try:
            first = first_row(grid, mode, seen, products.rows_done)
            tiles = [grid[row, col] for row in range(first, grid.rows) for col in range(grid.cols)]
            looks = ahead(looker(seen, area, whole), tiles, readers(compute, seen), depth=2 * predictor.batch + 1)
            stack.enter_context(closing(looks))
            counted = track(looks, sum(tile.pixels for tile in tiles), "segment")
            bands = on_grid(STITCHERS[mode](grid, counted, predictor, wanted), seen, whole)
            with Sink(products.write, QUEUE, "write") as raster, Sink(products.draw, QUEUE, "polygons") as polygons:
                for band in products.replay():
                    raster.put(band)
                    polygons.put(band)
                for band in bands:
                    if (fresh := band.below(products.rows_done)) is not None:
                        settled = settle(fresh, area, whole if seen.warped else None, outputs.min_confidence)
                        raster.put(settled)
                        polygons.put(settled)
            products.finish()
        except BaseException as error:
            resumable = isinstance(error, RESUMABLE) or not isinstance(error, Exception)
            vars(error)["kept"] = products.abandon(keep=resumable)
            raise
    return Segmentation(
        scene=whole.source,
        model=card.name,
        classes=targets.classes,
        confidence=targets.confidence,
        probabilities=targets.probabilities,
        polygons=targets.polygons,
        geobox=whole.geobox,
        areas=products.tally.areas,
        nodata_pixels=products.tally.nodata,
        seconds=time.monotonic() - started,
        device=predictor.device,
        precision=predictor.precision,
        notes=(*remarks(whole, seen, card, targets, products.tally.nodata), *products.remarks()),
    )


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


def first_row(grid: TileGrid, mode: str, seen: Scene, rows_done: int) -> int:
    """The row of tiles to begin with when some rows of the scene are done."""
    if rows_done == 0:
        return 0
    if rows_done >= seen.source_box.shape[0]:
        return grid.rows
    done = _source_rows(seen.geobox.shape[0], seen.source_box.shape[0])[rows_done]
    for row in range(grid.rows):
        end = (row + 1) * grid.step + (0 if mode == "blend" else grid.halo)
        if row == grid.rows - 1 or end > done:
            # In blend mode the row above passes on what lies under both.
            return max(0, row - 1) if mode == "blend" else row
    return 0


def looker(seen: Scene, area: Area | None, whole: Scene) -> Any:
    """A function from a tile to what is seen through it; where nothing is to be predicted it does not read."""
    asked = None if area is None else area.on(whole.geobox, seen.geobox)

    def look(tile: Tile) -> Look:
        if asked is not None and not asked.touches(tile.read):
            return Look(tile)
        chip = seen.read(tile.read)
        return Look(tile, chip.pixels, chip.valid) if chip.valid.any() else Look(tile)

    return look


def on_grid(bands: Iterator[Band], seen: Scene, whole: Scene) -> Iterator[Band]:
    """The bands on the scene's own grid; of a warped scene each pixel takes the label that its centre hits."""
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


def settle(band: Band, area: Area | None, whole: Scene | None, min_confidence: float) -> Band:
    """The band as it is written: nothing outside the area or without data, and no class where confidence is too low.

    Args:
        band: On the scene's grid; changed in place.
        area: The area of interest, or None.
        whole: The scene whose own validity counts, or None where the labels know it already.
        min_confidence: 0 to 1.
    """
    found: Prediction = band.prediction
    if min_confidence > 0 and found.confidence is not None:
        unsure = (found.confidence < min_confidence * PROBABILITY_STEPS) & (found.labels != NODATA)
        found.labels[unsure] = UNCLASSIFIED
    if whole is not None:
        for col in range(0, band.window.width, 1024):
            wide = min(1024, band.window.width - col)
            valid = whole.read(Window(col, band.window.row_off, wide, band.window.height)).valid
            found.forget(slice(col, col + wide), ~valid)
    if area is not None:
        found.forget(slice(None), ~area.mask(band.window))
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


def provenance(
    whole: Scene,
    seen: Scene,
    predictor: Predictor,
    view: View,
    plan: Plan,
    outputs: Outputs,
    grid: TileGrid,
    mode: str,
) -> dict[str, Any]:
    """Everything that decides the result: written into it, and compared before a run is resumed."""
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
        "bands": list(seen.indexes),
        "rescale": view.rescale,
        "resolution": view.resolution,
        "nodata": view.nodata,
        "aoi": None if view.aoi is None else str(view.aoi),
        "mode": mode,
        "tile": grid.size,
        "overlap": 2 * grid.halo,
        "tta": plan.tta,
        "precision": predictor.precision,
        **written,
    }


def fingerprint(whole: Scene, predictor: Predictor, area: Area | None) -> dict[str, Any]:
    """What else decides the result; compared before a run is resumed, not told in it, as it differs by machine."""
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


def remarks(whole: Scene, seen: Scene, card: ModelCard, targets: Targets, nodata: int) -> Iterator[str]:
    """What a careful reader should know of a result."""
    if not whole.geobox.georeferenced:
        yield "the scene has no CRS and no transform: results are on its pixel grid, areas are unknown"
    elif whole.geobox.crs is None:
        yield "the scene has no CRS: results keep its transform, areas are unknown"
    ground, usual = seen.geobox.ground_resolution, card.resolution_expected
    if ground and usual and not (usual[0] <= min(ground) and max(ground) <= usual[1]):
        yield (
            f"the scene's pixels are {ground[0]:.3g} m wide, but {card.name} was trained on imagery between "
            f"{usual[0]:g} and {usual[1]:g} m: compare the map with the image before you use it"
        )
    if seen.warped:
        yield "the scene was warped to the model's ground resolution" + (f", {ground[0]:.3g} m" if ground else "")
    if targets.others:
        names = ", ".join(path.name for path in targets.others)
        yield f"{names} beside the result come from another run, and may not agree with it"
    if nodata == whole.geobox.shape[0] * whole.geobox.shape[1]:
        yield f"no pixel of the scene holds data ({whole.validity}), or none lies in the area of interest"


def _source_rows(source: int, target: int) -> Any:
    """int64 (target,): the row of the source that the middle of each row of the target falls on."""
    return np.minimum(((np.arange(target) + 0.5) * source / target).astype(np.int64), source - 1)


def _version() -> str:
    try:
        return version("rs-segment")
    except PackageNotFoundError:
        return "unknown"
