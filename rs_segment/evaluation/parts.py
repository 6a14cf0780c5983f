"""What do several reports show alike? Scores, matrices, maps of errors, calibration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .. import html
from ..accuracy import Confusion, Reliability
from ..card import ClassInfo
from ..html import Html
from ..pictures import Example, Rgb, colored, transparent
from ..types import NODATA, UNCLASSIFIED, Labels
from .overview import View
from .result import class_scores

RIGHT, WRONG = (128, 134, 142, 84), (208, 28, 49, 255)
"""Red, green, blue and alpha: through what is right the page shows, light or dark."""
UNCLASSIFIED_CLASS = ClassInfo(UNCLASSIFIED, "unclassified", "#D33BD6")
HOW = (
    "Accuracy is the share of pixels that are right; IoU (Jaccard) the pixels of a class in both maps by those in "
    "either; precision (user's accuracy) the share of a class's pixels in the map that are right; recall (producer's "
    "accuracy) the share of its pixels in the reference that were found; F1 their harmonic mean (Dice). Means are over "
    "the classes that occur in the reference or the map. Kappa: Cohen 1960. Congalton 1991, Remote Sensing of "
    "Environment 37, 35-46."
)


def share(value: float, digits: int = 3) -> str:
    """A score, for people; a dash where it is not defined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def score_cards(confusion: Confusion, more: Iterable[tuple[str, str]] = ()) -> Html:
    """The scores that matter most."""
    return html.cards(
        [
            ("accuracy", share(confusion.accuracy)),
            ("mean IoU", share(confusion.mean_iou)),
            ("mean F1", share(confusion.mean_f1)),
            ("kappa", share(confusion.kappa)),
            *more,
        ]
    )


def class_table(classes: Sequence[ClassInfo], confusion: Confusion, hectares: NDArray[np.float64] | None) -> Html:
    """Scores of each class, with bars, and how much of it there is."""
    iou, precision, recall, f1 = class_scores(confusion)
    unit = "px" if hectares is None else "ha"
    header = ("class", "IoU", "precision", "recall", "F1", f"reference, {unit}", f"map, {unit}")
    rows = []
    for i, info in enumerate(classes):
        sizes = [f"{confusion.reference[i]:,}", f"{confusion.predicted[i]:,}"]
        if hectares is not None:
            sizes = [f"{hectares[i].sum():,.2f}", f"{hectares[:, i].sum():,.2f}"]
        bars = [html.bar(float(v[i]), info.color) for v in (iou, precision, recall, f1)]
        rows.append((html.joined(html.key(info.color), info.name), *bars, *sizes))
    return html.table(header, rows)


def confusion_table(
    names: Sequence[str], values: NDArray[np.float64], digits: int, corner: str = "reference ↓  map →"
) -> Html:
    """A confusion matrix (reference, predicted), whose columns may end with "unclassified"."""
    columns = [*names, *(["unclassified"] if values.shape[1] > len(names) else [])]
    shown = [[f"{v:,.{digits}f}" for v in row] for row in values]
    return html.matrix(names, values, shown, columns, corner)


def with_unclassified(confusion: Confusion) -> NDArray[np.float64]:
    """float64 (reference, predicted), with a last column for what the map gives no class, where there is any."""
    missed = confusion.reference - confusion.matrix.sum(axis=1)
    table = np.column_stack([confusion.matrix, missed]) if missed.any() else confusion.matrix
    return table.astype(np.float64)


def class_picture(labels: Labels, classes: Sequence[ClassInfo]) -> Rgb:
    """uint8 (row, col, 4): labels, which are positions, in colour; the page shows where there is none."""
    return transparent(colored(labels, [*classes, UNCLASSIFIED_CLASS]), labels == NODATA)


def error_picture(wrong: NDArray[np.float32]) -> Rgb:
    """uint8 (row, col, 4): red where pixels differ, the more of them the stronger; grey where all are right."""
    part = np.nan_to_num(wrong)[..., None]
    mixed = np.rint(np.array(RIGHT) * (1 - part) + np.array(WRONG) * part).astype(np.uint8)
    mixed[np.isnan(wrong)] = 0
    return mixed


def maps(view: View, classes: Sequence[ClassInfo]) -> Html:
    """Reference, map and errors of a view, the errors largest."""
    cell = "" if view.step == 1 else f"; one pixel here is {view.step} x {view.step} px"
    wide, tall = view.wrong.shape[1], view.wrong.shape[0]
    large, small = _width(wide, tall, 1040, 760), _width(wide, tall, 510, 420)
    pair = [
        html.picture(class_picture(labels, classes), caption, width=small)
        for labels, caption in ((view.reference, "reference"), (view.predicted, "map"))
    ]
    errors = html.picture(
        error_picture(view.wrong),
        f"errors: red where map and reference differ, grey where they agree, empty where they cannot be compared{cell}",
        "map of errors",
        width=large,
    )
    there = [UNCLASSIFIED_CLASS] if (view.predicted == UNCLASSIFIED).any() else []
    return html.joined(html.legend([*classes, *there]), html.row(*pair), errors)


def examples(found: Sequence[Example], classes: Sequence[ClassInfo]) -> Html:
    """Image, reference, map and errors of some examples, one below the other."""
    parts = [html.legend(classes)] if found else []
    for one in found:
        both = (one.reference != NODATA) & (one.predicted != NODATA)
        wrong = np.where(both, one.reference != one.predicted, np.nan).astype(np.float32)
        score = "" if one.score is None or not math.isfinite(one.score) else f", mean IoU {one.score:.3f}"
        wide = _width(one.image.shape[1], one.image.shape[0], 248, 320)
        pictures = [
            html.picture(one.image, "image", kind="jpeg", width=wide),
            html.picture(class_picture(one.reference, classes), "reference", width=wide),
            html.picture(class_picture(one.predicted, classes), "map", width=wide),
            html.picture(error_picture(wrong), "errors", width=wide),
        ]
        parts += [html.element("h3", one.name + score), html.row(*pictures)]
    return html.joined(*parts)


def calibration(reliability: Reliability) -> Html:
    """Confidence against accuracy, and how many pixels have which confidence."""
    known = reliability.count > 0
    sure, right = reliability.mean_confidence[known].tolist(), reliability.accuracy[known].tolist()
    lines = [html.Line("as confident as right", [0, 1], [0, 1], dashed=True), html.Line("this model", sure, right)]
    counts = reliability.count / max(1, int(reliability.count.sum()))
    middle = ((np.arange(len(counts)) + 0.5) / len(counts)).tolist()
    return html.joined(
        html.paragraph(
            f"Expected calibration error {share(reliability.ece, 4)} (Guo et al. 2017): by so much, on average, "
            "confidence and accuracy differ. Below the dashed line the model is surer than it should be."
        ),
        html.row(
            html.chart("Accuracy by confidence", lines, "confidence", (0.0, 1.0)),
            html.chart("Share of pixels by confidence", [html.Line("pixels", middle, counts.tolist())], "confidence"),
        ),
    )


def _width(wide: int, tall: int, most: int, highest: int) -> int:
    """The width in which a picture is neither too wide nor too high."""
    return max(1, round(min(most, highest * wide / tall)))
