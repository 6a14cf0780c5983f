"""The story: what a model says of a training set's images is compared with their labels.

Images go through the tiles, the stitching and the scaling that ``segment`` uses: the score is of what ``predict`` does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from .. import registry
from ..accuracy import Confusion, Reliability
from ..dataset import Dataset, Pair, Part
from ..errors import OptionError
from ..pictures import Example
from ..pipeline import ahead
from ..result import without_secrets
from ..sight import Sight, on_grid, readers, resolve_scaling
from ..stitch import STITCHERS, Band, Look, Wanted
from ..tiles import Tile
from ..types import NODATA, PROBABILITY_STEPS, Compute, Labels, Mask, Plan, Predictor, Track, View, silent
from .matching import Matching, Pairs
from .overview import Overview, Thumbnail
from .result import Evaluation, ImageScore

EXAMPLES = 3
_SIDE = 420
_HECTARE = 10_000.0


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a model is scored.

    Args:
        plan: How images are cut and put together.
        compute: What computes; a predictor of your own has its own device.
        pairs: Which class of the model is meant by a class of the data.
        examples: Names of the images that are kept to look at; None keeps the worst and the best.
    """

    plan: Plan = field(default_factory=Plan)
    compute: Compute = field(default_factory=Compute)
    pairs: Pairs = Pairs()
    examples: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What came of one image."""

    pair: Pair
    confusion: Confusion
    reliability: Reliability
    square_metres: NDArray[np.float64]
    example: Example


@dataclass(frozen=True, slots=True)
class Finished:
    """Some rows of an image, compared."""

    work: int


def evaluate_model(
    model: str | Path | Predictor,
    dataset: Dataset,
    parts: Sequence[Part] | None = None,
    scoring: Scoring | None = None,
    track: Track = silent,
) -> Evaluation:
    """How well a model's maps of some images agree with their labels.

    Args:
        model: Name of a model, a model folder, or a predictor of your own.
        dataset: Images with labels.
        parts: What of them is scored; None is all.
        scoring: How.
        track: Told of the progress; raises ``CancelledError`` to stop.

    Raises:
        RsSegmentError: The model does not fit the images, or a class of the data is none of the model's.
    """
    scoring, started = scoring or Scoring(), time.monotonic()
    if isinstance(model, (str, Path)):
        predictor = registry.load(registry.find(model).path, scoring.compute, scoring.plan.tta)
    elif scoring.plan.tta != "none":
        raise OptionError("a predictor of your own does its own test-time augmentation; leave Plan.tta at 'none'")
    else:
        predictor = model
    chosen = tuple(Part.of(pair) for pair in dataset.pairs) if parts is None else tuple(parts)
    matching = Matching.of(
        (dataset.name, {c.value: c.name for c in dataset.classes}),
        (predictor.card.name, {c.value: c.name for c in predictor.card.classes}),
        scoring.pairs,
    )
    scores = score_images(predictor, dataset, chosen, matching, scoring, track)
    found = gather(predictor, scores, scoring.examples)
    notes = list(_remarks(predictor, parts is None))
    return replace(
        found,
        reference=f"{without_secrets(str(dataset.source))}, {len(found.images)} images",
        grid="the pixels of the images",
        matching=matching.sentence(),
        seconds=time.monotonic() - started,
        notes=(*found.notes, *notes),
    )


def score_images(
    predictor: Predictor,
    dataset: Dataset,
    parts: Sequence[Part],
    matching: Matching,
    scoring: Scoring,
    track: Track = silent,
) -> Iterator[Score]:
    """What came of each image that has a part, in their order.

    Args:
        predictor: The model.
        dataset: Whose images they are.
        parts: What is scored; parts of one image are seen together.
        matching: Of the data's classes with the model's.
        scoring: How.
        track: Told of the progress, in pixels of the parts.

    Raises:
        RsSegmentError: As ``evaluate_model``.
    """
    table = np.full(256, NODATA, np.uint8)
    for info in dataset.classes:
        target = matching.target(info.value)
        if target is not None and not 0 <= target < len(predictor.card.classes):
            there = ", ".join(f"{c.value} {c.name}" for c in predictor.card.classes[:30])
            raise OptionError(f"{predictor.card.name} has no class {target}; it has {there}")
        table[info.value] = NODATA if target is None else target
    by_pair: dict[str, list[Part]] = {}
    for part in parts:
        by_pair.setdefault(part.pair.name, []).append(part)
    scores: list[Score] = []

    def steps() -> Iterator[Finished]:
        for together in by_pair.values():
            image = ImageScorer(predictor, dataset, together, table, scoring)
            yield from image.steps()
            scores.append(image.score())

    for _ in track(steps(), sum(part.work for part in parts), "evaluate"):
        yield from scores
        scores.clear()
    yield from scores


class ImageScorer:
    """Compares what a model says of one image with its labels.

    Args:
        predictor: The model.
        dataset: Whose image it is.
        parts: Of the image.
        table: uint8 (256,), the model's class for each label; 255 leaves it out.
        scoring: How.
    """

    def __init__(
        self, predictor: Predictor, dataset: Dataset, parts: Sequence[Part], table: Labels, scoring: Scoring
    ) -> None:
        self._pair, self._windows = parts[0].pair, [part.window for part in parts]
        self._predictor, self._dataset, self._table, self._scoring = predictor, dataset, table, scoring
        self._names = tuple(c.name for c in predictor.card.classes)
        self._confusion, self._reliability = Confusion.empty(self._names), Reliability.empty()
        self._square_metres = np.zeros((len(self._names), len(self._names) + 1))
        self._overview = Overview(self._pair.geobox.window, _SIDE)
        self._image: Thumbnail | None = None

    def steps(self) -> Iterator[Finished]:
        """Do the work, some rows at a time."""
        card, plan, pair = self._predictor.card, self._scoring.plan, self._pair
        # A palette that is read as colours is chosen by the model's bands.
        bands = None if pair.image.palette is not None else pair.image.indexes
        asked = View(bands, resolution=self._dataset.spec.images.resolution, nodata=pair.image.nodata)
        with ExitStack() as stack:
            sight = stack.enter_context(Sight.open(pair.image.path, card, asked, plan))
            seen, grid = sight.seen, sight.grid
            self._image = Thumbnail(seen.geobox.shape, seen.count, seen.dtype, _SIDE)
            predictor = self._predictor.with_scaling(resolve_scaling(card, seen))
            looks = ahead(
                lambda tile: self._look(tile, sight),
                list(self._tiles(sight)),
                readers(self._scoring.compute, seen),
                2 * predictor.batch + 1,
            )
            stack.enter_context(closing(looks))
            for band in on_grid(STITCHERS[sight.mode](grid, looks, predictor, Wanted(confidence=True)), sight):
                yield Finished(self._compare(band))

    def score(self) -> Score:
        """What came out."""
        view = self._overview.view(self._pair.name)
        assert self._image is not None
        image = self._image.picture((view.wrong.shape[0], view.wrong.shape[1]))
        example = Example(self._pair.name, image, view.reference, view.predicted, self._confusion.mean_iou)
        return Score(self._pair, self._confusion, self._reliability, self._square_metres, example)

    def _tiles(self, sight: Sight) -> Iterator[Tile]:
        """The tiles of all rows from the first that is wanted to the last."""
        grid = sight.grid
        rows = [row for row in range(grid.rows) if any(self._wanted(grid[row, c], sight) for c in range(grid.cols))]
        for row in range(rows[0], rows[-1] + 1):
            yield from (grid[row, col] for col in range(grid.cols))

    def _look(self, tile: Tile, sight: Sight) -> Look:
        if not self._wanted(tile, sight):
            return Look(tile)
        chip = sight.seen.read(tile.read)
        rows, cols = tile.crop
        assert self._image is not None
        self._image.add(tile.core, chip.pixels[:, rows, cols], chip.valid[rows, cols])
        return Look(tile, chip.pixels, chip.valid) if chip.valid.any() else Look(tile)

    def _wanted(self, tile: Tile, sight: Sight) -> bool:
        """Whether a pixel that is scored is seen through a tile; where tiles are blended, all of these decide it."""
        down, across = (w / s for w, s in zip(sight.whole.geobox.shape, sight.seen.geobox.shape, strict=True))
        top, bottom = tile.read.row_off * down, (tile.read.row_off + tile.read.height) * down
        left, right = tile.read.col_off * across, (tile.read.col_off + tile.read.width) * across
        return any(
            top < w.row_off + w.height and w.row_off < bottom and left < w.col_off + w.width and w.col_off < right
            for w in self._windows
        )

    def _compare(self, band: Band) -> int:
        """Count some rows of the map; gives the number of pixels in the parts."""
        rows, cols = self._pair.shape
        top, bottom = band.window.row_off, min(band.window.row_off + band.window.height, rows)
        wanted = self._inside(top, bottom, cols)
        if bottom <= top or not wanted.any():
            return 0
        window = Window(0, top, cols, bottom - top)
        truth = self._table[self._pair.read(window).labels]
        truth[~wanted] = NODATA
        said = band.prediction.labels[: bottom - top, :cols]
        self._confusion += (found := Confusion.of(truth, said, self._names))
        compared = (truth != NODATA) & (said != NODATA)
        assert band.prediction.confidence is not None
        sure = band.prediction.confidence[: bottom - top, :cols][compared]
        self._reliability += Reliability.of(sure / PROBABILITY_STEPS, (truth == said)[compared])
        self._square_metres += self._areas(range(top, bottom), truth, said, found)
        self._overview.add(window, truth, said, compared, compared & (truth != said))
        return int(wanted.sum())

    def _inside(self, top: int, bottom: int, cols: int) -> Mask:
        """bool (row, col), the pixels of some rows that lie in a part."""
        inside = np.zeros((max(0, bottom - top), cols), np.bool_)
        for w in self._windows:
            inside[max(0, w.row_off - top) : max(0, w.row_off + w.height - top), w.col_off : w.col_off + w.width] = True
        return inside

    def _areas(self, rows: range, truth: Labels, said: Labels, found: Confusion) -> NDArray[np.float64]:
        """float64 (class, class or none), square metres of what was counted in some rows; NaN where unknown."""
        areas = self._pair.geobox.row_areas(rows)
        table = np.column_stack([found.matrix, found.reference - found.matrix.sum(axis=1)]).astype(np.float64)
        if areas is None:
            return np.full(table.shape, np.nan)
        if np.all(areas == areas[0]):
            return np.asarray(table * areas[0])
        total = np.zeros(table.shape)
        for row, area in enumerate(areas):
            one = Confusion.of(truth[row], said[row], self._names)
            total += np.nan_to_num(area) * np.column_stack([one.matrix, one.reference - one.matrix.sum(axis=1)])
        return total


def gather(predictor: Predictor, scores: Iterator[Score], wanted: Sequence[str] | None) -> Evaluation:
    """The scores of images, put together.

    Args:
        predictor: The model.
        scores: One each.
        wanted: Names of the images that are kept to look at; None keeps the worst and the best.

    Raises:
        OptionError: No pixel was compared.
    """
    classes = predictor.card.classes
    confusion, reliability = Confusion.empty([c.name for c in classes]), Reliability.empty()
    square_metres = np.zeros((len(classes), len(classes) + 1))
    images: list[ImageScore] = []
    kept: list[Score] = []
    for score in scores:
        confusion, reliability = confusion + score.confusion, reliability + score.reliability
        square_metres = square_metres + score.square_metres
        images.append(ImageScore(score.pair.name, score.pair.group, score.confusion))
        if wanted is None and score.confusion.total:
            kept = sorted([*kept, score], key=lambda s: (s.confusion.mean_iou, s.pair.name))
            kept = [*kept[:EXAMPLES], *kept[max(EXAMPLES, len(kept) - EXAMPLES) :]]
        elif wanted is not None and score.pair.name in wanted:
            kept.append(score)
    if not confusion.total:
        raise OptionError("no pixel of the images that were chosen has a label; choose others with --split")
    return Evaluation(
        subject=predictor.card.name,
        reference="",
        grid="",
        matching="",
        classes=classes,
        confusion=confusion,
        hectares=None if np.isnan(square_metres).any() else square_metres / _HECTARE,
        images=tuple(images),
        reliability=reliability,
        examples=tuple(score.example for score in kept),
    )


def _remarks(predictor: Predictor, everything: bool) -> Iterator[str]:
    training: Mapping[str, Any] = predictor.card.training
    if everything and training:
        yield (
            f"all images are scored; if {predictor.card.name} was trained on some of them, it looks better here than "
            "it is: choose what it has not seen with --split"
        )
