"""How did a training go? Its report, as one page, from plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .. import html
from ..accuracy import Confusion, Reliability
from ..card import ModelCard
from ..html import Html
from ..pictures import Example
from .parts import HOW, calibration, class_table, confusion_table, examples, score_cards, share, with_unclassified


def training_report(
    history: Sequence[Mapping[str, float]],
    confusion: Confusion,
    reliability: Reliability | None,
    samples: Sequence[Example],
    card: ModelCard,
    command: str,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> str:
    """The page of a training: curves, scores, confusion matrix, calibration, pictures, data, the command.

    Args:
        history: One row an epoch: "epoch", and numbers by name, such as "train loss", "validation loss", "mean IoU",
            "learning rate"; names that end in the same word share a chart.
        confusion: Of the data that the scores are of: validation or test.
        reliability: Of the same pixels, or None.
        samples: Pictures, the best first, the worst last; each has its score.
        card: Of the model that came out.
        command: What repeats the training.
        facts: (what, value) for the table on top: data, split, device, time, seed, what the scores are of.
        notes: Sentences that a reader must not miss: a split that leaks, a stop before the end.
    """
    ece = [] if reliability is None else [("calibration error", share(reliability.ece))]
    described = [
        ("reads", f"{', '.join(card.bands)} ({card.dtype})"),
        ("network", ", ".join(f"{k} {v}" for k, v in card.network.items()) or "–"),
        ("stride, halo, joined by", f"{card.stride} px, {card.halo} px, {card.mode}"),
        ("licence", card.licence or "–"),
    ]
    parts = [
        score_cards(confusion, ece),
        html.notes(notes),
        html.facts([*facts, *described]),
        html.section("Curves", curves(history)),
        html.section("Classes", class_table(card.classes, confusion, None)),
        html.section("Confusion matrix, pixels", confusion_table(confusion.names, with_unclassified(confusion), 0)),
    ]
    if reliability is not None:
        parts.append(html.section("Confidence", calibration(reliability)))
    if samples:
        parts.append(html.section("Best and worst", examples(samples, card.classes)))
    parts += [
        html.section("The command that repeats it", html.code(command)),
        html.section("How", html.paragraph(HOW)),
    ]
    return html.page(f"Training of {card.name}", *parts, lead=card.description)


def curves(history: Sequence[Mapping[str, float]]) -> Html:
    """Charts of what was noted in each epoch; names that end in the same word share one."""
    epochs = html.by_name(history, "epoch")
    if not np.isfinite(epochs).any():
        epochs = [float(i + 1) for i in range(len(history))]
    names = list(dict.fromkeys(name for row in history for name in row if name != "epoch"))
    charts: dict[str, list[html.Line]] = {}
    for name in names:
        charts.setdefault(name.split()[-1].casefold(), []).append(html.Line(name, epochs, html.by_name(history, name)))
    titles = [lines[0].name if len(lines) == 1 else lines[0].name.split()[-1] for lines in charts.values()]
    drawn = [
        html.chart(title[:1].upper() + title[1:], lines, "epoch")
        for title, lines in zip(titles, charts.values(), strict=True)
    ]
    return html.row(*drawn)
