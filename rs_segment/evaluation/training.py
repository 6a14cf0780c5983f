"""How did a training go? Its report, as one page, from plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..accuracy import Confusion, Reliability
from ..card import ModelCard
from ..pictures import Example


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
    raise NotImplementedError
