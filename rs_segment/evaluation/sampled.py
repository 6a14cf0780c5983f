"""How is an accuracy by sampled points told: as a page, as a table, in a few lines?"""

from __future__ import annotations

import csv
import io
import math

import numpy as np

from .. import html
from ..accuracy import Z95
from .parts import confusion_table, share
from .points import PointEvaluation

HOW = (
    "Each class of the map is a stratum of a stratified random sample. Accuracies and areas are weighted by the shares "
    "that the classes have of the map; ± is half of a 95 % interval (1.96 standard errors). Olofsson et al. 2014, Good "
    "practices for estimating area and assessing accuracy of land change, Remote Sensing of Environment 148, 42-57, "
    "eq. 1 to 11."
)


def points_page(found: PointEvaluation, command: str) -> str:
    """The page of an evaluation by points.

    Args:
        found: What came out.
        command: What repeats it.
    """
    estimate, unit = found.estimate, found.unit
    rows = []
    for i, info in enumerate(found.classes):
        rows.append(
            (
                html.joined(html.key(info.color), info.name),
                f"{int(estimate.counts[i].sum()):,}",
                size(estimate.mapped[i], unit),
                within(estimate.area[i], estimate.area_error[i], unit),
                within(estimate.user[i], estimate.user_error[i]),
                within(estimate.producer[i], estimate.producer_error[i]),
            )
        )
    header = ("class", "points", f"mapped, {unit}", f"estimated area, {unit}", "user's accuracy", "producer's accuracy")
    whole = float(estimate.mapped.sum())
    bars = [
        (
            html.joined(html.key(c.color), c.name),
            html.bar(float(estimate.mapped[i]) / whole, c.color),
            html.bar(float(estimate.area[i]) / whole, c.color),
        )
        for i, c in enumerate(found.classes)
    ]
    overall = within(estimate.overall, estimate.overall_error)
    return html.page(
        f"Accuracy of {found.subject}",
        html.cards([("overall accuracy", overall), ("points", f"{int(estimate.counts.sum()):,}")]),
        html.notes(found.notes),
        html.section("Accuracy and areas, with 95 % intervals", html.table(header, rows)),
        html.section("Shares of the map", html.table(("class", "mapped", "estimated"), bars)),
        html.section(
            "Points",
            html.paragraph("Rows are the map's classes, columns the true ones."),
            confusion_table(estimate.names, estimate.counts.astype(np.float64), 0, "map ↓  reference →"),
        ),
        html.section("How", html.paragraph(HOW), html.code(command)),
        lead=f"by the points of {found.points}",
    )


def points_csv(found: PointEvaluation) -> str:
    """One row a class, as CSV; halves of 95 % intervals end in _95."""
    told = found.to_dict()
    rows = [{k: "" if v is None else v for k, v in row.items()} for row in told["classes"]]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def points_text(found: PointEvaluation) -> list[str]:
    """Accuracy and areas, as lines for a terminal."""
    estimate, unit = found.estimate, found.unit
    wide = max(len(name) for name in (*estimate.names, "class"))
    lines = [f"  {'class':<{wide}} {'points':>6} {'mapped':>12} {'area, ' + unit:>24} {'user':>15} {'producer':>15}"]
    for i, name in enumerate(estimate.names):
        lines.append(
            f"  {name:<{wide}} {int(estimate.counts[i].sum()):>6,} {size(estimate.mapped[i], unit):>12} "
            f"{within(estimate.area[i], estimate.area_error[i], unit):>24} "
            f"{within(estimate.user[i], estimate.user_error[i]):>15} "
            f"{within(estimate.producer[i], estimate.producer_error[i]):>15}"
        )
    lines.append(f"overall accuracy {within(estimate.overall, estimate.overall_error)} (± is half of a 95 % interval)")
    return lines


def within(value: float, error: float, unit: str = "") -> str:
    """A value and half of its interval: "0.947 ± 0.018", "21,158 ± 6,158" for areas."""
    half = Z95 * error
    if not unit:
        return f"{share(float(value))} ± {share(float(half))}"
    return f"{size(float(value), unit)} ± {size(float(half), unit)}"


def size(area: float, unit: str) -> str:
    """An area, with as many digits as are of use."""
    if not math.isfinite(area):
        return "–"
    return f"{area:,.0f}" if unit == "px" or area >= 1000 else f"{area:,.2f}"
