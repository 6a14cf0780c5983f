"""The story: models side by side on the same images."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import html, lettering
from ..card import ClassInfo
from ..dataset import Dataset, Part
from ..errors import OptionError
from ..html import Html
from ..pictures import BLANK, Example, Rgb, colored
from ..types import NODATA, Labels, Predictor, Track, silent
from .models import Scoring, evaluate_model
from .parts import HOW, class_picture, share
from .result import Evaluation

SHOWN = 4
CELL, GAP, DOT = 300, 10, 2
"""Width of a picture in the figure, the space between pictures, and the size of a dot of its letters, in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The result of ``compare_models``.

    Args:
        names: Of the models, each another.
        evaluations: One a model, in their order.
        classes: Of all models; values are positions, which labels of examples have.
        examples: For each image that is shown: one example a model.
    """

    names: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    classes: tuple[ClassInfo, ...]
    examples: tuple[tuple[Example, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {"models": [e.to_dict() | {"name": n} for n, e in zip(self.names, self.evaluations, strict=True)]}


def compare_models(
    models: Sequence[str | Path | Predictor],
    dataset: Dataset,
    parts: Sequence[Part] | None = None,
    scoring: Scoring | None = None,
    track: Track = silent,
) -> Comparison:
    """The scores of some models on the same images, and their maps of a few of these.

    Args:
        models: Names, model folders or predictors of your own.
        dataset: Images with labels.
        parts: What of them is scored; None is all.
        scoring: How; ``examples`` are the images that are shown, None takes four from first to last.
        track: Told of the progress; raises ``CancelledError`` to stop.

    Raises:
        RsSegmentError: As ``evaluate_model``; or an example is none of the images.
    """
    there = list(dict.fromkeys(p.pair.name for p in parts) if parts is not None else [p.name for p in dataset.pairs])
    scoring = scoring or Scoring()
    wanted = scoring.examples
    if wanted is None:
        picked = np.linspace(0, len(there) - 1, min(SHOWN, len(there))).round().astype(int)
        wanted = tuple(there[i] for i in picked)
    for name in wanted:
        if name not in there:
            more = " and more" if len(there) > 9 else ""
            raise OptionError(f"{dataset.name} has no image {name!r} to show; it has {', '.join(there[:9])}{more}")
    scoring = replace(scoring, examples=wanted)
    found = [evaluate_model(model, dataset, parts, scoring, track) for model in models]
    classes = _union(found)
    position = {c.name.casefold(): c.value for c in classes}
    tables = [_table(evaluation.classes, position) for evaluation in found]
    rows = []
    for i in range(len(found[0].examples)):
        row = [
            replace(e.examples[i], reference=table[e.examples[i].reference], predicted=table[e.examples[i].predicted])
            for e, table in zip(found, tables, strict=True)
        ]
        rows.append(tuple(row))
    return Comparison(_names(models, found), tuple(found), classes, tuple(rows))


def compare_figure(found: Comparison) -> Rgb:
    """uint8 (row, col, 3): image, reference and each model's map in class colours, a row an image, with a legend."""
    heads = ("image", "reference", *found.names)
    wide = len(heads) * (CELL + GAP) + GAP
    line = lettering.HEIGHT * DOT
    strips = [_words(wide, line + 2 * GAP, heads, GAP)]
    for row in found.examples:
        first = row[0]
        pictures = [first.image, colored(first.reference, found.classes)]
        pictures += [colored(one.predicted, found.classes) for one in row]
        tall = max(1, round(CELL * first.image.shape[0] / first.image.shape[1]))
        strip = np.full((tall, wide, 3), BLANK, np.uint8)
        for i, picture in enumerate(pictures):
            left = GAP + i * (CELL + GAP)
            strip[:, left : left + CELL] = _fitted(picture, (tall, CELL))
        scores = [f"IoU {share(one.score)}" if one.score is not None else "" for one in row]
        strips += [strip, _words(wide, line + 2 * GAP, (first.name, "", *scores), GAP // 2)]
    key = lettering.legend([(c.rgb, c.name) for c in found.classes], wide - 2 * GAP, DOT)
    strips.append(np.pad(key, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255))
    return np.concatenate(strips)


def compare_page(found: Comparison, command: str) -> str:
    """The page of a comparison: the table, each class, the figure.

    Args:
        found: What came out.
        command: What repeats it.
    """
    first = found.evaluations[0]
    notes = dict.fromkeys(note for e in found.evaluations for note in e.notes)
    matching = dict.fromkeys(e.matching for e in found.evaluations)
    return html.page(
        "Comparison of models",
        html.notes(notes),
        html.facts(
            [("data", first.reference), ("pixels", f"{first.confusion.total:,}"), ("classes", "; ".join(matching))]
        ),
        html.section("Scores", _score_table(found)),
        html.section("IoU of each class", _class_table(found)),
        html.section("Maps", _gallery(found)),
        html.section("How", html.paragraph(HOW), html.code(command)),
        lead=f"on {first.reference}",
    )


def compare_csv(found: Comparison) -> str:
    """The scores of all models, of each class and each image, as CSV."""
    rows = [{"model": n} | row for n, e in zip(found.names, found.evaluations, strict=True) for row in e.rows()]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def compare_text(found: Comparison) -> list[str]:
    """The scores, as lines for a terminal."""
    wide = max(len(name) for name in (*found.names, "model"))
    names = [c.name for c in found.classes]
    heads = [f"{name[:12]:>{max(6, len(name[:12]))}}" for name in names]
    lines = [
        f"  {'model':<{wide}} {'mIoU':>6} {'acc.':>6} {'F1':>6} {'kappa':>6} {'ECE':>6}  IoU of: " + " ".join(heads)
    ]
    for name, e in zip(found.names, found.evaluations, strict=True):
        texts = [f"{share(score):>6}" for score in _scores(e)]
        each = [f"{share(iou):>{len(head)}}" for iou, head in zip(_ious(e, found.classes), heads, strict=True)]
        lines.append(f"  {name:<{wide}} " + " ".join(texts) + "          " + " ".join(each))
    return lines


def _scores(e: Evaluation) -> tuple[float, ...]:
    """Mean IoU, accuracy, mean F1, kappa and calibration error."""
    ece = math.nan if e.reliability is None else e.reliability.ece
    return e.confusion.mean_iou, e.confusion.accuracy, e.confusion.mean_f1, e.confusion.kappa, ece


def _ious(e: Evaluation, classes: Sequence[ClassInfo]) -> list[float]:
    """The IoU of each class, NaN where the model does not know it."""
    known = {c.name.casefold(): float(iou) for c, iou in zip(e.classes, e.confusion.iou, strict=True)}
    return [known.get(c.name.casefold(), math.nan) for c in classes]


def _score_table(found: Comparison) -> Html:
    columns = list(zip(*(_scores(e) for e in found.evaluations), strict=True))
    best = [*(_best(column) for column in columns[:-1]), -_best([-v for v in columns[-1]])]
    rows = [
        (name, *(_marked(share(v), v == b) for v, b in zip(_scores(e), best, strict=True)))
        for name, e in zip(found.names, found.evaluations, strict=True)
    ]
    header = ("model", "mean IoU", "accuracy", "mean F1", "kappa", "calibration error")
    return html.table(header, rows, "the best of each column is bold; a calibration error is best when small")


def _class_table(found: Comparison) -> Html:
    header = ("class", *found.names)
    table = list(zip(*(_ious(e, found.classes) for e in found.evaluations), strict=True))
    rows = [
        (html.joined(html.key(c.color), c.name), *(html.bar(v, c.color) for v in ious))
        for c, ious in zip(found.classes, table, strict=True)
    ]
    return html.table(header, rows)


def _gallery(found: Comparison) -> Html:
    parts = [html.legend(found.classes)]
    for row in found.examples:
        first = row[0]
        wide = min(CELL, max(150, 1040 // (len(row) + 2) - 16))
        pictures = [
            html.picture(first.image, "image", kind="jpeg", width=wide),
            html.picture(class_picture(first.reference, found.classes), "reference", width=wide),
        ]
        for name, one in zip(found.names, row, strict=True):
            told = name if one.score is None else f"{name}, mean IoU {share(one.score)}"
            pictures.append(html.picture(class_picture(one.predicted, found.classes), told, width=wide))
        parts += [html.element("h3", first.name), html.row(*pictures)]
    return html.joined(*parts)


def _best(values: Sequence[float]) -> float:
    """The largest; NaN, which nothing is like, where fewer than two are numbers."""
    known = [v for v in values if math.isfinite(v)]
    return max(known) if len(known) > 1 else math.nan


def _marked(text: str, best: bool) -> Html:
    return html.element("b", text) if best else html.escape(text)


def _union(found: Sequence[Evaluation]) -> tuple[ClassInfo, ...]:
    """All classes by name, those of the first model first, with positions for values."""
    known: dict[str, ClassInfo] = {}
    for evaluation in found:
        for one in evaluation.classes:
            known.setdefault(one.name.casefold(), one)
    return tuple(replace(one, value=i) for i, one in enumerate(known.values()))


def _table(classes: Sequence[ClassInfo], position: dict[str, int]) -> Labels:
    """uint8 (256,), the position of each class."""
    table = np.full(256, NODATA, np.uint8)
    for one in classes:
        table[one.value] = position[one.name.casefold()]
    return table


def _names(models: Sequence[str | Path | Predictor], found: Sequence[Evaluation]) -> tuple[str, ...]:
    """What models are called: as in their cards; where two are alike, by their folders; at last by number."""
    names = [e.subject for e in found]
    for i, model in enumerate(models):
        if [e.subject for e in found].count(names[i]) > 1 and isinstance(model, (str, Path)):
            names[i] = Path(model).name
    return tuple(f"{name} ({i + 1})" if names.count(name) > 1 else name for i, name in enumerate(names))


def _fitted(picture: Rgb, shape: tuple[int, int]) -> Rgb:
    """A picture in (height, width) pixels, by nearest neighbour: no class lies between two others."""
    rows, cols = (np.arange(n) * m // n for n, m in zip(shape, picture.shape, strict=False))
    return picture[np.ix_(rows, cols)]


def _words(width: int, height: int, texts: Sequence[str], top: int) -> Rgb:
    """A strip with words above or under each picture."""
    strip = np.full((height, width, 3), BLANK, np.uint8)
    for i, text in enumerate(texts):
        lettering.write(strip, lettering.shortened(text, CELL, DOT), top, GAP + i * (CELL + GAP), DOT)
    return strip
