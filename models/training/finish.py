"""How does a trained network become a model folder? It is measured, calibrated, scored and described."""

from __future__ import annotations

import csv
import io
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import nn

from rs_segment.accuracy import number
from rs_segment.card import ModelCard, Scaling
from rs_segment.dataset import Dataset, Part, Split
from rs_segment.evaluation import Scoring, evaluate_model, training_report
from rs_segment.evaluation.result import Evaluation
from rs_segment.types import Compute, Labels, Pixels, Plan, Track
from rs_segment.workfolder import disk_errors, write_whole

from .. import device as devices
from .. import folder as folders
from ..measure import Halo, measured_halo, precision_agreement, shift_test, stride_of, whole_labels
from ..predictor import TorchPredictor
from . import validate
from .calibrate import Calibration, calibrate
from .checkpoint import Progress
from .loop import validation_side
from .recipe import Recipe

HISTORY, REPORT = "history.csv", "report.html"
MEASURE_SECONDS, MEASURE_SHARE, LOOKS = 90.0, 0.25, 10
"""About how long a halo may take to be found, also as a share of the training, and how often the same imagery is looked
at meanwhile."""
_PROBE, _LEAST, _MOST = 512, 768, 2048
_TILES, _USUAL = (1024, 512, 256), 128
_LARGE, _PIECES = 4, 64
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{1,98}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a network for its card.

    Args:
        card: With stride, halo, mode, temperature and precisions.
        halo: How the halo was found; None where the tiles of no size suit the stride.
        calibration: Of the validation windows.
        shift: Largest difference of a logit after a shift by the stride, in standard deviations.
        quilted: Whether images were too small for tiles, so that some were put side by side.
    """

    card: ModelCard
    halo: Halo | None
    calibration: Calibration
    shift: float
    quilted: bool


def card_of(dataset: Dataset, recipe: Recipe, scaling: Scaling, name: str) -> ModelCard:
    """The card of a network before anything is measured.

    Raises:
        ModelError: The data set cannot be put into one.
    """
    stride = 1
    return ModelCard(
        name=name if _NAME.fullmatch(name) else f"model-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-') or 'x'}",
        bands=tuple(dataset.band_names),
        classes=dataset.classes,
        dtype=dataset.dtype,
        scaling=scaling,
        value_range=_range(dataset),
        resolution=dataset.resolution,
        stride=stride,
        halo=0,
        network=dict(recipe.network),
        description=f"{', '.join(c.name for c in dataset.classes[:8])} from imagery like that of {dataset.name}.",
    )


def measure(net: nn.Module, card: ModelCard, split: Split, recipe: Recipe, trained: float) -> Measured:
    """The card with what a network was measured to need and to cost, on images that it did not learn from.

    Args:
        net: With its final weights, in fp32, on its device.
        card: As ``card_of`` made it.
        split: Its validation images are measured on, or the largest of training where those are too small, or small
            ones put side by side.
        recipe: Whose windows the temperature is fitted on.
        trained: Seconds that the training took; a short one is measured on less imagery.
    """
    device = next(net.parameters()).device
    stride = stride_of(net)
    card = card.replace(stride=stride, halo=0)
    side = 512 if stride <= 16 else 1024
    shift = shift_test(net, stride, side)
    full = TorchPredictor(net, card, Compute(str(device), "fp32", 1))
    images, truths = _images(full, split, min(MEASURE_SECONDS, MEASURE_SHARE * trained))
    if quilted := not any(map(_holds_two, images)):
        images, truths = [_quilt(images, side)], [_quilt(truths, side)]
    halo = _halo(full, images, stride)
    width = halo.halo if halo is not None and halo.halo is not None else usual_halo(recipe, halo)
    width = max(stride, -(-width // stride) * stride)
    # A network that fails still says nearly the same on the grid of its stride if its labels agree there.
    exact = shift.passed or (halo is not None and halo.halo is not None)
    windows = validate.chosen(split.validation, validation_side(recipe.size), 64 * validation_side(recipe.size) ** 2)
    calibration = calibrate(net, validate.chips(windows, validation_side(recipe.size), card.scaling))
    card = card.replace(halo=width, mode="exact" if exact else "blend", temperature=calibration.temperature)
    if images and (fast := devices.fast_in(device)):
        short = {p: TorchPredictor(net, card, Compute(str(device), p, 1)) for p in fast}
        card = card.replace(precisions={p: precision_agreement(full, s, images, truths) for p, s in short.items()})
    return Measured(card, halo, calibration, shift.by_stride, quilted)


def score(net: nn.Module, card: ModelCard, dataset: Dataset, parts: Sequence[Part], track: Track) -> Evaluation:
    """What ``predict`` would score on parts of the data, in fp32, in tiles as it cuts them."""
    device = next(net.parameters()).device
    predictor = TorchPredictor(net, card, Compute(str(device), "fp32"))
    return evaluate_model(predictor, dataset, parts, Scoring(Plan()), track)


def story(
    recipe: Recipe,
    origin: Mapping[str, Any],
    split: Split,
    progress: Progress,
    measured: Measured,
    scores: Mapping[str, Evaluation],
    command: str,
) -> dict[str, Any]:
    """What a card says of its training: data, splits, scores, calibration, how the context was found, the command."""
    halo, calibration = measured.halo, measured.calibration
    told: dict[str, Any] = {
        "data": f"{len({p.pair.name for p in split.train})} images for training",
        "split": split.name,
        **({"leaks": split.leaks} if split.leaks else {}),
        "recipe": recipe.sentence(),
        "encoder_weights": Path(recipe.encoder_weights).name,
        **({"fine_tuned_from": origin} if origin else {}),
        "epochs": f"{progress.epoch}, the best was {progress.best_epoch}",
        "minutes": round(progress.seconds / 60, 2),
        "scores": {f"{name}, {_images_of(split, name)}": _scores(found) for name, found in scores.items()},
        "calibration": {
            "temperature": calibration.temperature,
            "ece_before": round(calibration.before, 4),
            "ece_after": round(calibration.after, 4),
            "pixels": calibration.pixels,
            "of": "validation windows, which the temperature was fitted to",
        },
        "context": _context(measured),
    }
    if halo is not None:
        told["halo_agreement"] = {str(k): round(v, 5) for k, v in halo.edge.items()}
    return told | ({"command": command} if command else {})


def write(
    folder: Path, net: nn.Module, card: ModelCard, recipe: Recipe, progress: Progress, report: str, half: bool
) -> ModelCard:
    """Writes a model folder with its history and its report; returns the card as written.

    Raises:
        DiskFullError, OutputError: It cannot be written.
    """
    with disk_errors(folder.parent):
        card = folders.save(folder, net, card, half)
        lines = io.StringIO()
        names = list(dict.fromkeys(name for row in progress.history for name in row))
        writer = csv.DictWriter(lines, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dict(row) for row in progress.history)
        write_whole(folder / HISTORY, lines.getvalue())
        write_whole(folder / REPORT, report)
    return card


def page(card: ModelCard, progress: Progress, found: Evaluation, what: str, split: Split, command: str) -> str:
    """The report of a training as one page."""
    facts = [
        ("data", str(card.training.get("data", ""))),
        ("split", split.name),
        ("scores are of", f"{what}: {_images_of(split, what)}"),
        ("recipe", str(card.training.get("recipe", ""))),
        ("epochs", str(card.training.get("epochs", ""))),
        ("time", f"{progress.seconds / 60:.1f} min"),
        ("temperature", f"{card.temperature:g}"),
    ]
    notes = [*([split.leaks] if split.leaks else []), *found.notes]
    samples = sorted(found.examples, key=lambda e: -(e.score if e.score is not None else 0.0))
    return training_report(progress.history, found.confusion, found.reliability, samples, card, command, facts, notes)


def halved(net: nn.Module) -> None:
    """Rounds weights to what 16 bits hold, in place, so that what is measured is what is stored."""
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor.copy_(tensor.half())


def _range(dataset: Dataset) -> tuple[float, float] | None:
    """(low, high) of the pixel values, where they need not fill the pixel type."""
    if dataset.dtype == "uint8":
        return None
    found = dataset.survey().moments
    low, high = float(found.low.min()), float(found.high.max())
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _images(full: TorchPredictor, split: Split, seconds: float) -> tuple[list[Pixels], list[Labels]]:
    """Large pieces of imagery to measure on, as many as there is time for."""
    parts = sorted(split.validation, key=_smallest_side, reverse=True)
    if not parts or _smallest_side(parts[0]) < 2 * _TILES[-1]:
        parts = [*parts, *sorted(split.train, key=_smallest_side, reverse=True)]
        parts.sort(key=_smallest_side, reverse=True)
    room = _affordable(full, parts[0], seconds)
    side = max(_LEAST, min(_MOST, math.isqrt(room)))
    images: list[Pixels] = []
    truths: list[Labels] = []
    for part in parts[:_PIECES]:
        sample = part.pair.read(_corner(part, side))
        images.append(sample.pixels)
        truths.append(sample.labels)
        room -= sample.labels.size
        if room <= 0 or (len(images) >= _LARGE and any(map(_holds_two, images))):
            break
    return images, truths


def _affordable(full: TorchPredictor, part: Part, seconds: float) -> int:
    """How many pixels can be looked at in that time, as often as a halo takes."""
    pixels = part.pair.read(_corner(part, _PROBE)).pixels
    began = time.monotonic()
    whole_labels(full, pixels)
    return int(pixels[0].size * seconds / LOOKS / max(time.monotonic() - began, 1e-6))


def _corner(part: Part, side: int) -> Window:
    """Its upper left, no larger than that."""
    w = part.window
    return Window(w.col_off, w.row_off, min(w.width, side), min(w.height, side))


def _quilt(pieces: Sequence[NDArray[Any]], width: int) -> NDArray[Any]:
    """One array of many, at least that wide and half as high: cut to the smallest of them, side by side, in rows."""
    rows, cols = (min(piece.shape[axis] for piece in pieces) for axis in (-2, -1))
    down, across = math.ceil(width / 2 / rows), math.ceil(width / cols)
    cells = [pieces[i % len(pieces)][..., :rows, :cols] for i in range(down * across)]
    return np.concatenate(
        [np.concatenate(cells[i * across : (i + 1) * across], axis=-1) for i in range(down)],
        axis=-2,
    )


def _holds_two(image: Pixels, tile: int = _TILES[-1]) -> bool:
    """Whether an image is large enough for two tiles, and so has an edge between them."""
    return bool(max(image.shape[1:]) > tile * 3 // 2)


def _halo(full: TorchPredictor, images: Sequence[Pixels], stride: int) -> Halo | None:
    """The halo by the largest tile that the images hold two of; None where no tile suits the stride."""
    found: Halo | None = None
    for tile in sorted(_TILES):
        large = [image for image in images if _holds_two(image, tile)]
        if large and tile % stride == 0:
            found = measured_halo(full, large, stride, tile, tried=found)
            if found.halo is not None:
                return found
    return found


def usual_halo(recipe: Recipe, tried: Halo | None = None) -> int:
    """A halo in pixels where none was enough: the largest tried, and no less than that of the model it began with."""
    begun = ModelCard.read(Path(recipe.fine_tune) / folders.CARD).halo if recipe.fine_tune else 0
    return max(_USUAL, begun, *(tried.edge if tried else ()))


def _smallest_side(part: Part) -> int:
    return int(min(part.window.width, part.window.height))


def _context(measured: Measured) -> str:
    halo, card = measured.halo, measured.card
    shift = f"after a shift by the stride logits differ by {measured.shift:.2g} standard deviations at most"
    if halo is None:
        return f"the halo of a stride of {card.stride} px cannot be measured, {card.halo} px is a guess; {shift}"
    if halo.halo is None:
        return f"no halo up to {max(halo.edge)} px gave 99.9 %, so {card.halo} px is a guess; {shift}"
    share = halo.edge[halo.halo]
    whole = "small images put side by side" if measured.quilted else "the whole image"
    return (
        f"with a halo of {halo.halo} px {share:.2%} of the labels along the edges of tiles agree with one pass over "
        f"{whole}; {shift}"
    )


def _images_of(split: Split, name: str) -> str:
    parts = split.test if name == "test" else split.validation
    groups = sorted({p.pair.group for p in parts})
    listed = ", ".join(groups[:8]) + (f" and {len(groups) - 8} more" if len(groups) > 8 else "")
    return f"{len({p.pair.name for p in parts})} images of {listed}"


def _scores(found: Evaluation) -> dict[str, Any]:
    confusion, reliability = found.confusion, found.reliability
    per_class = {
        name: {"iou": number(confusion.iou[i]), "f1": number(confusion.f1[i]), "recall": number(confusion.recall[i])}
        for i, name in enumerate(confusion.names)
    }
    means = {"accuracy": number(confusion.accuracy), "mean_iou": number(confusion.mean_iou)}
    return means | ({} if reliability is None else {"ece": number(reliability.ece)}) | {"classes": per_class}
