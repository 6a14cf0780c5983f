"""The story: one scene becomes one map."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path

from . import registry
from .card import ModelCard
from .errors import CancelledError, DeviceError, DiskFullError, OptionError
from .parts import Share, forget, joined, keep, kept
from .pipeline import Sink
from .products import Products, Targets
from .result import Segmentation
from .sight import Sight, fingerprint, provenance, resolve_scaling
from .types import Compute, Outlook, Outputs, Plan, Predictor, Track, View, silent

QUEUE = 1
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
    begin: Callable[[Outlook], None] = lambda outlook: None,
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
        begin: Told what is known before the first pixel is read.

    Raises:
        RsSegmentError: The scene is refused, the result cannot be written, or the device fails; see ``errors``.
    """
    view, plan, compute, outputs = view or View(), plan or Plan(), compute or Compute(), outputs or Outputs()
    targets = Targets.beside(os.fspath(scene), output, outputs)
    with ExitStack() as stack:
        card = _card(model, plan)
        sight = stack.enter_context(Sight.open(scene, card, view, plan))
        whole = sight.whole
        targets.make_room([whole.source, view.aoi if isinstance(view.aoi, (str, Path)) else None], outputs)
        predictor = _load(model, sight, plan, compute)
        started = time.monotonic()
        told = provenance(sight, predictor, plan, outputs)
        decided = told | fingerprint(sight, predictor)
        products = Products(targets, whole.geobox, card.classes, outputs, plan=decided, tags=told)
        try:
            parts = kept(targets.classes, decided) if outputs.resume else ()
            left = [r for r in sight.rows_below(products.rows_done) if not any(r in part.rows for part in parts)]
            begin(outlook(sight, predictor, left))
            fresh = stack.enter_context(closing(sight.predict(predictor, left, compute, outputs, track)))
            with Sink(products.write, QUEUE, "write") as raster, Sink(products.draw, QUEUE, "polygons") as polygons:
                for band in chain(products.replay(), joined(parts, fresh, products.rows_done)):
                    raster.put(band)
                    polygons.put(band)
            products.finish()
            forget(targets.classes)
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
        notes=(*remarks(sight, card, targets, products.tally.nodata), *products.remarks()),
    )


def segment_part(
    scene: str | Path,
    share: Share,
    model: str | Path | Predictor = registry.DEFAULT,
    view: View | None = None,
    plan: Plan | None = None,
    compute: Compute | None = None,
    outputs: Outputs | None = None,
    track: Track = silent,
) -> None:
    """One part of a scene, kept in ``share.folder``, which must be there.

    ``segment`` takes it from there when it is called with the same options, ``Outputs.resume`` and the same kind of
    device. A part that is not there is done by ``segment`` itself.

    Args:
        scene, model, view, plan, compute, outputs, track: As for ``segment``.
        share: Which part.

    Raises:
        RsSegmentError: As for ``segment``; OutputExistsError where another process makes the part, or has put all parts
            together.
    """
    view, plan, compute, outputs = view or View(), plan or Plan(), compute or Compute(), outputs or Outputs()
    with Sight.open(scene, _card(model, plan), view, plan) as sight:
        rows = share.rows(sight.grid.rows)
        predictor = _load(model, sight, plan, compute)
        decided = provenance(sight, predictor, plan, outputs) | fingerprint(sight, predictor)
        done = {row for part in kept(share.target, decided) for row in part.rows}
        if not done.issuperset(rows):
            with closing(sight.predict(predictor, rows, compute, outputs, track)) as bands:
                keep(share, rows, sight.span(rows), bands, decided)


def outlook(sight: Sight, predictor: Predictor, rows: Collection[int]) -> Outlook:
    """What is known of a run over some rows of tiles."""
    height, width = sight.whole.geobox.shape
    tiles, size = len(sight.looked(rows)) * sight.grid.cols, sight.grid.size
    return Outlook(predictor.card.name, predictor.device, predictor.precision, width, height, tiles, size, sight.mode)


def remarks(sight: Sight, card: ModelCard, targets: Targets, nodata: int) -> Iterator[str]:
    """What a careful reader should know of a result."""
    whole, seen = sight.whole, sight.seen
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


def _card(model: str | Path | Predictor, plan: Plan) -> ModelCard:
    if isinstance(model, (str, Path)):
        return registry.find(model).card
    if plan.tta != "none":
        raise OptionError("a predictor of your own does its own test-time augmentation; leave Plan.tta at 'none'")
    return model.card


def _load(model: str | Path | Predictor, sight: Sight, plan: Plan, compute: Compute) -> Predictor:
    found = registry.load(registry.find(model).path, compute, plan.tta) if isinstance(model, (str, Path)) else model
    return found.with_scaling(resolve_scaling(found.card, sight.seen))
