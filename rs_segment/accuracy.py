"""How good is a map? Numbers from counts: of pixels by two maps, of confidence against hits, of sampled points.

Sources: Congalton (1991), A review of assessing the accuracy of classifications of remotely sensed data, Remote
Sensing of Environment 37, 35-46 (confusion matrix, user's and producer's accuracy); Jaccard (1912), The distribution of
the flora in the alpine zone, New Phytologist 11, 37-50 (IoU); Cohen (1960), A coefficient of agreement for nominal
scales, Educational and Psychological Measurement 20, 37-46 (kappa); Guo et al. (2017), On calibration of modern neural
networks, ICML (reliability, expected calibration error); Olofsson et al. (2014), Good practices for estimating area and
assessing accuracy of land change, Remote Sensing of Environment 148, 42-57 (sampled points).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError, PixelTypeError

IGNORED = 255
BINS = 15
Z95 = 1.96
"""Half the width of a 95 % interval in standard errors, as Olofsson et al. (2014) use it."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Pixels of each pair of classes.

    Args:
        matrix: int64 (reference, predicted).
        names: Of the classes.
        missed: int64 (reference,), pixels to which the prediction gives no class; they count as wrong. None is none.
    """

    matrix: NDArray[np.int64]
    names: tuple[str, ...]
    missed: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.matrix.shape != (count, count) or (self.missed is not None and self.missed.shape != (count,)):
            raise OptionError(f"a confusion matrix of shape {self.matrix.shape} does not fit {count} names of classes")

    @classmethod
    def empty(cls, names: Sequence[str]) -> Confusion:
        """The confusion of no pixels."""
        return cls(np.zeros((len(names), len(names)), np.int64), tuple(names))

    @classmethod
    def of(
        cls, reference: NDArray[Any], predicted: NDArray[Any], names: Sequence[str], ignore: int = IGNORED
    ) -> Confusion:
        """The confusion of two maps of one shape, whose labels are positions in ``names``.

        Args:
            reference: Whole numbers of any shape; pixels that are ``ignore`` are left out.
            predicted: Likewise, left out where it is ``ignore``; other labels that are no class are missed.
            names: Of the classes.
            ignore: Label of pixels without data.

        Raises:
            PixelTypeError: A label of the reference is neither a class nor ``ignore``, or the shapes differ.
        """
        count = len(names)
        if reference.shape != predicted.shape:
            raise PixelTypeError(f"the reference has shape {reference.shape}, the prediction {predicted.shape}")
        both = (reference != ignore) & (predicted != ignore)
        truth, said = reference[both].astype(np.intp), predicted[both].astype(np.intp)
        if len(truth) and not 0 <= int(truth.min()) <= int(truth.max()) < count:
            raise PixelTypeError(
                f"the reference has labels {truth.min()} to {truth.max()}, but its {count} classes are 0 to {count - 1}"
            )
        said[(said < 0) | (said >= count)] = count
        table = np.bincount(truth * (count + 1) + said, minlength=count * (count + 1)).reshape(count, count + 1)
        return cls(table[:, :count].astype(np.int64), tuple(names), table[:, count].astype(np.int64))

    def __add__(self, other: Confusion) -> Confusion:
        """The confusion of the pixels of both."""
        if self.names != other.names:
            raise OptionError(f"confusions of different classes cannot be added: {self.names} and {other.names}")
        return Confusion(self.matrix + other.matrix, self.names, self._missed + other._missed)

    @property
    def total(self) -> int:
        """Pixels that were compared."""
        return int(self.matrix.sum() + self._missed.sum())

    @property
    def reference(self) -> NDArray[np.int64]:
        """int64 (class,), pixels of each class in the reference."""
        return np.asarray(self.matrix.sum(axis=1) + self._missed)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """int64 (class,), pixels of each class in the prediction."""
        return np.asarray(self.matrix.sum(axis=0))

    @property
    def accuracy(self) -> float:
        """Share of pixels that are right; NaN of none."""
        return int(self.hits.sum()) / self.total if self.total else math.nan

    @property
    def hits(self) -> NDArray[np.int64]:
        """int64 (class,), pixels of each class that are right."""
        return np.asarray(np.diagonal(self.matrix))

    @property
    def iou(self) -> Floats:
        """float64 (class,), pixels of a class in both maps by those in either; NaN where it is in neither (Jaccard)."""
        return _ratio(self.hits, self.reference + self.predicted - self.hits)

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the classes that occur in the reference or the prediction; NaN if none does."""
        return _mean(self.iou)

    @property
    def precision(self) -> Floats:
        """float64 (class,), share of a class's pixels in the prediction that are right (user's accuracy)."""
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> Floats:
        """float64 (class,), share of a class's pixels in the reference that were found (producer's accuracy)."""
        return _ratio(self.hits, self.reference)

    @property
    def f1(self) -> Floats:
        """float64 (class,), harmonic mean of precision and recall; NaN where the class is in neither map (Dice)."""
        return _ratio(2 * self.hits, self.reference + self.predicted)

    @property
    def mean_f1(self) -> float:
        """Mean F1 of the classes that occur."""
        return _mean(self.f1)

    @property
    def kappa(self) -> float:
        """Agreement beyond what the shares of classes give by chance (Cohen 1960); NaN where chance gives all."""
        if not self.total:
            return math.nan
        chance = float(self.reference.astype(np.float64) @ self.predicted.astype(np.float64)) / self.total**2
        return (self.accuracy - chance) / (1 - chance) if chance < 1 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Scores and counts as plain data, for JSON; None where a score is not defined."""
        per_class = {"iou": self.iou, "precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {
            "pixels": self.total,
            "accuracy": number(self.accuracy),
            "mean_iou": number(self.mean_iou),
            "mean_f1": number(self.mean_f1),
            "kappa": number(self.kappa),
            "unclassified_pixels": int(self._missed.sum()),
            "classes": [
                {
                    "name": name,
                    "reference_pixels": int(self.reference[i]),
                    "predicted_pixels": int(self.predicted[i]),
                    **{score: number(values[i]) for score, values in per_class.items()},
                }
                for i, name in enumerate(self.names)
            ],
            "confusion": {"rows": "reference", "columns": "predicted", "matrix": self.matrix.tolist()},
        }

    @property
    def _missed(self) -> NDArray[np.int64]:
        return np.zeros(len(self.names), np.int64) if self.missed is None else self.missed


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How often predictions of some confidence are right: a histogram over equal bins from 0 to 1.

    Args:
        count: int64 (bin,), pixels.
        hits: int64 (bin,), those that are right.
        confidence: float64 (bin,), sum of their confidence.
    """

    count: NDArray[np.int64]
    hits: NDArray[np.int64]
    confidence: Floats

    @classmethod
    def empty(cls, bins: int = BINS) -> Reliability:
        """The reliability of no pixels."""
        return cls(np.zeros(bins, np.int64), np.zeros(bins, np.int64), np.zeros(bins))

    @classmethod
    def of(cls, confidence: NDArray[Any], hit: NDArray[np.bool_], bins: int = BINS) -> Reliability:
        """The reliability of some pixels.

        Args:
            confidence: Probability of the predicted class, 0 to 1, of any shape.
            hit: Whether it is right, of the same shape.
            bins: Number of bins.
        """
        sure = np.asarray(confidence, np.float64).ravel()
        right = np.asarray(hit, np.bool_).ravel()
        place = np.clip((sure * bins).astype(np.intp), 0, bins - 1)
        return cls(
            np.bincount(place, minlength=bins).astype(np.int64),
            np.bincount(place[right], minlength=bins).astype(np.int64),
            np.bincount(place, weights=sure, minlength=bins).astype(np.float64),
        )

    def __add__(self, other: Reliability) -> Reliability:
        """The reliability of the pixels of both."""
        return Reliability(self.count + other.count, self.hits + other.hits, self.confidence + other.confidence)

    @property
    def accuracy(self) -> Floats:
        """float64 (bin,), share that is right; NaN in empty bins."""
        return _ratio(self.hits, self.count)

    @property
    def mean_confidence(self) -> Floats:
        """float64 (bin,), mean confidence; NaN in empty bins."""
        return _ratio(self.confidence, self.count)

    @property
    def ece(self) -> float:
        """Expected calibration error: mean distance of confidence from accuracy, by pixels (Guo et al. 2017)."""
        total = int(self.count.sum())
        return float(np.abs(self.hits - self.confidence).sum()) / total if total else math.nan

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "ece": number(self.ece),
            "bins": [
                {"pixels": int(n), "accuracy": number(a), "confidence": number(c)}
                for n, a, c in zip(self.count, self.accuracy, self.mean_confidence, strict=True)
            ],
        }


@dataclass(frozen=True, slots=True, eq=False)
class AreaEstimate:
    """Accuracy and areas of a map by a stratified random sample, with standard errors; strata are the map's classes.

    An interval of 95 % is a value plus or minus ``Z95`` standard errors.

    Args:
        names: Of the classes.
        counts: int64 (mapped, reference), sampled points.
        mapped: float64 (class,), size of each class in the map, in any unit.
        overall, overall_error: Overall accuracy and its standard error.
        user, user_error: float64 (class,), user's accuracy (precision).
        producer, producer_error: float64 (class,), producer's accuracy (recall).
        area, area_error: float64 (class,), true size of each class, in the unit of ``mapped``.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    mapped: Floats
    overall: float
    overall_error: float
    user: Floats
    user_error: Floats
    producer: Floats
    producer_error: Floats
    area: Floats
    area_error: Floats

    def to_dict(self, unit: str) -> dict[str, Any]:
        """The same as plain data, for JSON; errors are half-widths of 95 % intervals.

        Args:
            unit: Of the areas, for people.
        """
        halves = {"user": self.user_error, "producer": self.producer_error, "area": self.area_error}
        values = {"user": self.user, "producer": self.producer, "area": self.area}
        return {
            "points": int(self.counts.sum()),
            "unit": unit,
            "overall": number(self.overall),
            "overall_95": number(Z95 * self.overall_error),
            "classes": [
                {"name": name, "mapped": float(self.mapped[i]), "points": int(self.counts[i].sum())}
                | {k: number(v[i]) for k, v in values.items()}
                | {f"{k}_95": number(Z95 * v[i]) for k, v in halves.items()}
                for i, name in enumerate(self.names)
            ],
            "counts": {"rows": "mapped", "columns": "reference", "matrix": self.counts.tolist()},
        }


def estimate_areas(counts: NDArray[Any], mapped: Sequence[float] | Floats, names: Sequence[str]) -> AreaEstimate:
    """Area-adjusted accuracy and areas by points that were drawn at random within each class of a map.

    Olofsson et al. (2014): accuracies by eq. 1 to 4, their variances by eq. 5 to 7, areas by eq. 8 and 9, their
    standard errors by eq. 10 and 11.

    Args:
        counts: (mapped, reference), whole numbers: points of each pair of classes.
        mapped: Size of each class in the whole map, in pixels or any unit of area; 0 where the map has none of it.
        names: Of the classes.

    Raises:
        OptionError: A class that the map has was given fewer than two points, so that its variance is unknown; or
            points lie in a class that the map does not have.
    """
    points, size = np.asarray(counts, np.float64), np.asarray(mapped, np.float64)
    drawn, there = points.sum(axis=1), size > 0
    for i, name in enumerate(names):
        if there[i] and drawn[i] < 2:
            share = size[i] / size.sum()
            raise OptionError(
                f"class {name!r} covers {share:.2%} of the map, but {int(drawn[i])} of the reference points lie in it; "
                "at least two in each class of the map are needed for an interval: sample more there"
            )
        if drawn[i] and not there[i]:
            raise OptionError(
                f"{int(drawn[i])} reference points say that the map has class {name!r} there, but it has none of it; "
                "are points and map of the same version?"
            )
    weight = size / size.sum()
    per_stratum = np.where(there, drawn, 1)
    spread = np.where(there, drawn - 1, 1)
    within = points / per_stratum[:, None]  # n_ij / n_i
    share = weight[:, None] * within  # p_ij, eq. 4
    total = share.sum(axis=0)  # p_.j, eq. 9
    right = np.diagonal(within)
    user = np.where(there, right, np.nan)
    user_variance = np.where(there, right * (1 - right) / spread, np.nan)  # eq. 6
    overall_variance = float((weight**2 * np.where(there, right * (1 - right), 0) / spread).sum())  # eq. 5
    area_error = np.sqrt((weight[:, None] ** 2 * within * (1 - within) / spread[:, None]).sum(axis=0))  # eq. 10
    producer = _ratio(np.diagonal(share), total)
    return AreaEstimate(
        names=tuple(names),
        counts=np.asarray(counts, np.int64),
        mapped=size,
        overall=float(np.diagonal(share).sum()),
        overall_error=math.sqrt(overall_variance),
        user=user,
        user_error=np.sqrt(user_variance),
        producer=producer,
        producer_error=_producer_error(within, size, spread, producer),
        area=total * size.sum(),
        area_error=area_error * size.sum(),
    )


def number(value: float) -> float | None:
    """A float for JSON, which knows no NaN."""
    return float(value) if math.isfinite(value) else None


def _producer_error(within: Floats, size: Floats, spread: Floats, producer: Floats) -> Floats:
    """Standard errors of producer's accuracies, eq. 7; the sizes of classes stand for N_j."""
    variance = within * (1 - within) / spread[:, None]  # (mapped, reference)
    own = np.diagonal(variance)
    others = (size[:, None] ** 2 * variance).sum(axis=0) - size**2 * own
    estimated = (size[:, None] * within).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = (size**2 * (1 - producer) ** 2 * own + producer**2 * others) / estimated**2
    return np.asarray(np.sqrt(np.where(estimated > 0, whole, np.nan)))


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Part by whole, NaN where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0))


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan
