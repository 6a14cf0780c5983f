"""What came out of an evaluation: scores, counts, areas, pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..accuracy import Confusion, Reliability, number
from ..card import ClassInfo
from ..pictures import Example
from .overview import View

PER_CLASS = ("IoU", "precision", "recall", "F1")


@dataclass(frozen=True, slots=True, eq=False)
class ImageScore:
    """The confusion of one image."""

    name: str
    group: str
    confusion: Confusion


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The result of comparing a map, or what a model says, with a reference.

    Args:
        subject: The map, or the model.
        reference: What it was compared with.
        grid: On whose pixels, for people.
        matching: How classes were matched, for people.
        classes: In the order of the confusion; values are those of the map.
        confusion: Of all pixels.
        hectares: float64 (reference, predicted), areas of the same pixels; the last column is where the map gives no
            class. None where the ground size of pixels is unknown.
        images: The images one by one; empty where there is one only.
        reliability: Of a model's confidence, or None.
        views: The whole at a glance; labels are positions in ``classes``.
        examples: Parts of images, the worst first; labels likewise.
        seconds: Wall time.
        notes: What a careful reader should know.
    """

    subject: str
    reference: str
    grid: str
    matching: str
    classes: tuple[ClassInfo, ...]
    confusion: Confusion
    hectares: NDArray[np.float64] | None = None
    images: tuple[ImageScore, ...] = ()
    reliability: Reliability | None = None
    views: tuple[View, ...] = ()
    examples: tuple[Example, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[ClassInfo, ...]:
        """The classes with their positions for values, as views have them."""
        return tuple(replace(c, value=i) for i, c in enumerate(self.classes))

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        told = self.confusion.to_dict()
        for one, info in zip(told["classes"], self.classes, strict=True):
            one["value"] = info.value
        if self.hectares is not None:
            told["confusion"]["hectares"] = [[round(float(v), 6) for v in row] for row in self.hectares[:, :-1]]
            told["unclassified_hectares"] = round(float(self.hectares[:, -1].sum()), 6)
        return {
            "subject": self.subject,
            "reference": self.reference,
            "grid": self.grid,
            "matching": self.matching,
            **told,
            "reliability": None if self.reliability is None else self.reliability.to_dict(),
            "images": [
                {
                    "name": one.name,
                    "group": one.group,
                    "pixels": one.confusion.total,
                    "accuracy": number(one.confusion.accuracy),
                    "mean_iou": number(one.confusion.mean_iou),
                }
                for one in self.images
            ],
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """A table: one row for all, one a class, one an image and its classes; NaN and what is unknown are empty."""
        yield from _rows("all", "", self.confusion)
        for one in self.images:
            yield from _rows(one.name, one.group, one.confusion)


def class_scores(confusion: Confusion) -> tuple[NDArray[np.float64], ...]:
    """float64 (class,) of each of ``PER_CLASS``."""
    return confusion.iou, confusion.precision, confusion.recall, confusion.f1


def _rows(image: str, group: str, confusion: Confusion) -> Iterator[dict[str, Any]]:
    def told(value: float) -> str:
        return f"{value:.6f}" if np.isfinite(value) else ""

    yield {
        "image": image,
        "group": group,
        "class": "all",
        "reference_pixels": confusion.total,
        "predicted_pixels": int(confusion.predicted.sum()),
        "right_pixels": int(confusion.hits.sum()),
        "accuracy": told(confusion.accuracy),
        "iou": told(confusion.mean_iou),
        "precision": "",
        "recall": "",
        "f1": told(confusion.mean_f1),
    }
    scores = class_scores(confusion)
    for i, name in enumerate(confusion.names):
        yield {
            "image": image,
            "group": group,
            "class": name,
            "reference_pixels": int(confusion.reference[i]),
            "predicted_pixels": int(confusion.predicted[i]),
            "right_pixels": int(confusion.hits[i]),
            "accuracy": "",
            **{key.lower(): told(values[i]) for key, values in zip(PER_CLASS, scores, strict=True)},
        }
