"""How is an evaluation told: as a page, as a table, in a few lines?"""

from __future__ import annotations

import csv
import io

from .. import html
from ..html import Html
from .parts import (
    HOW,
    calibration,
    class_table,
    confusion_table,
    examples,
    maps,
    score_cards,
    share,
    with_unclassified,
)
from .result import Evaluation

MOST_ROWS = 300


def evaluation_page(found: Evaluation, command: str) -> str:
    """The page of an evaluation: scores, per-class bars, confusion matrix, map of errors, images.

    Args:
        found: What came out.
        command: What repeats it.
    """
    confusion = found.confusion
    names = confusion.names
    size = [] if found.hectares is None else [("compared", f"{found.hectares.sum():,.2f} ha")]
    parts = [
        score_cards(confusion, [*size, *([] if size else [("compared", f"{confusion.total:,} px")])]),
        html.notes(found.notes),
        html.facts(
            [
                ("evaluated", found.subject),
                ("reference", found.reference),
                ("compared on", found.grid),
                ("classes", found.matching),
                ("pixels", f"{confusion.total:,}"),
            ]
        ),
        html.section("Classes", class_table(found.classes, confusion, found.hectares)),
        html.section("Confusion matrix, pixels", confusion_table(names, with_unclassified(confusion), 0)),
    ]
    if found.hectares is not None:
        table = found.hectares if found.hectares[:, -1].any() else found.hectares[:, :-1]
        parts.append(html.section("Confusion matrix, hectares", confusion_table(names, table, 2)))
    if found.reliability is not None:
        parts.append(html.section("Confidence", calibration(found.reliability)))
    if found.examples:
        parts.append(html.section("Worst and best", examples(found.examples, found.shown)))
    if found.views:
        shown = [
            html.joined(html.element("h3", v.name) if len(found.views) > 1 else "", maps(v, found.shown))
            for v in found.views
        ]
        parts.append(html.section("Map of errors", *shown))
    if found.images:
        parts.append(html.section("Images", image_table(found)))
    parts += [html.section("How", html.paragraph(HOW), html.code(command))]
    return html.page(f"Accuracy of {found.subject}", *parts, lead=f"against {found.reference}")


def image_table(found: Evaluation) -> Html:
    """One row an image, the worst first."""
    header = ("image", "group", "mean IoU", "accuracy", *found.confusion.names, "pixels")
    rows = []
    ordered = sorted(found.images, key=lambda i: (not i.confusion.total, i.confusion.mean_iou, i.name))
    for one in ordered[:MOST_ROWS]:
        scores = (one.confusion.mean_iou, one.confusion.accuracy, *one.confusion.iou)
        rows.append((one.name, one.group, *(share(float(s)) for s in scores), f"{one.confusion.total:,}"))
    told = "worst first; IoU of each class, a dash where it does not occur"
    if len(ordered) > MOST_ROWS:
        told += f"; {len(ordered) - MOST_ROWS:,} more are in the table that --csv writes"
    return html.table(header, rows, told, text=2)


def table_csv(found: Evaluation) -> str:
    """The scores of all, of each class and each image, as CSV (UTF-8, commas, a header)."""
    rows = list(found.rows())
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def table_text(found: Evaluation) -> list[str]:
    """The scores of all and of each class, as lines for a terminal."""
    confusion = found.confusion
    wide = max(len(name) for name in (*confusion.names, "class"))
    lines = [f"  {'class':<{wide}} {'IoU':>7} {'prec.':>7} {'recall':>7} {'F1':>7} {'reference':>14}"]
    for i, name in enumerate(confusion.names):
        scores = (confusion.iou[i], confusion.precision[i], confusion.recall[i], confusion.f1[i])
        size = (
            f"{confusion.reference[i]:>11,} px" if found.hectares is None else f"{found.hectares[i].sum():>11,.2f} ha"
        )
        lines.append(f"  {name:<{wide}} " + " ".join(f"{share(float(s)):>7}" for s in scores) + f" {size}")
    lines.append(
        f"accuracy {share(confusion.accuracy)}, mean IoU {share(confusion.mean_iou)}, "
        f"mean F1 {share(confusion.mean_f1)}, kappa {share(confusion.kappa)}, {confusion.total:,} px"
    )
    if found.reliability is not None:
        lines.append(f"expected calibration error {share(found.reliability.ece, 4)}")
    return lines
