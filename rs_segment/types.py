"""What passes between the parts: the two seams, and the options in groups.

The seams are ``Predictor`` (pixels in, labels out; torch lives behind it) and ``Track`` (an iterable
wrapped with a label and a total; a terminal bar, QGIS and silence are implementations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .card import ModelCard, Scaling
from .shaping import Shapes

Labels = NDArray[np.uint8]
Pixels = NDArray[Any]
Mask = NDArray[np.bool_]
T = TypeVar("T", bound="Work")

NODATA = 255
"""Label of a pixel that holds no data or lies outside the area of interest."""
UNCLASSIFIED = 254
"""Label of a pixel whose confidence is below ``Outputs.min_confidence``."""
PROBABILITY_STEPS = 254
"""Probabilities and confidence are stored as uint8 0 to 254 in steps of 1/254; 255 is nodata."""


@dataclass(frozen=True, slots=True)
class View:
    """Which pixels of a scene are looked at.

    Args:
        bands: 1-based indexes or band names, in the order of the model's bands; None asks the card.
        aoi: Area of interest: a vector file, or bounds "left,bottom,right,top" in the scene's CRS (pixels
            from the top left when the scene has no CRS); None is the whole scene.
        rescale: Scene values (low, high) to be mapped linearly onto the range of the model's pixel type,
            for scenes of another pixel type; None refuses those.
        nodata: Value that marks missing pixels, for a scene that does not say it itself.
        resolution: Size of the scene's pixels in metres, for a scene that does not say it or says it wrongly.
    """

    bands: tuple[int | str, ...] | None = None
    aoi: str | Path | tuple[float, float, float, float] | None = None
    rescale: tuple[float, float] | None = None
    nodata: float | None = None
    resolution: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a scene is cut and put together again.

    Args:
        mode: "exact" takes each pixel from the one tile that holds it in its core; "blend" averages
            overlapping tiles with weights that sum to one; "auto" is what the model's card asks for.
        tile: Side of a tile in pixels, a multiple of the model's stride; None chooses by the overlap.
        overlap: Pixels that two neighbouring tiles share, a multiple of twice the stride; None is twice
            the halo in the card.
        tta: Average over the four flips ("flips"), over flips and quarter turns ("d4"), or "none".
    """

    mode: Literal["auto", "exact", "blend"] = "auto"
    tile: int | None = None
    overlap: int | None = None
    tta: Literal["none", "flips", "d4"] = "none"


@dataclass(frozen=True, slots=True)
class Compute:
    """What computes.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        batch: Tiles a forward pass; None chooses by device. Halved when memory runs out.
        readers: Threads that read tiles ahead; None chooses by cores.
    """

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    batch: int | None = None
    readers: int | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is written.

    Args:
        confidence: Also write the probability of the chosen class: as ``*_confidence.tif``, or to this file.
        probabilities: Also write the probability of every class, ``*_probabilities.tif``.
        polygons: Also write the polygons: as ``*.gpkg``, or to this file.
        min_confidence: Pixels below this probability (0 to 1) become ``UNCLASSIFIED``.
        format: "cog" (with overviews) or "gtiff" (tiled, without).
        shapes: How polygons are drawn; ``shapes.sieve`` takes small patches off the class raster as well.
        overwrite: Replace results that are already there.
        resume: Go on with what an interrupted run with the same plan left behind.
    """

    confidence: bool | str | Path = False
    probabilities: bool = False
    polygons: bool | str | Path = True
    min_confidence: float = 0.0
    format: Literal["cog", "gtiff"] = "cog"
    overwrite: bool = False
    resume: bool = False
    shapes: Shapes = Shapes()


@dataclass(frozen=True, slots=True)
class Training:
    """Where a model is trained, and what becomes of it.

    Args:
        out: Folder of the model.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        resume: Go on with what an interrupted training with the same recipe and data left behind.
        finish: Train no further: make the model of the best epoch so far.
        overwrite: Replace a model that is already there.
        half: Store weights in 16 bits.
        command: What repeats the training, for its card.
    """

    out: Path
    device: str = "auto"
    resume: bool = False
    finish: bool = False
    overwrite: bool = False
    half: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is known of a rectangle of pixels.

    Args:
        labels: uint8 (row, col), class values.
        confidence: uint8 (row, col), 0 to 254 in steps of 1/254, or None where nobody asked.
        probabilities: uint8 (class, row, col), likewise.
    """

    labels: Labels
    confidence: Labels | None = None
    probabilities: Labels | None = None

    def map(self, change: Callable[[Labels], Labels]) -> Prediction:
        """The same with a change made to each array; the last two axes are (row, col)."""
        return Prediction(*(None if a is None else change(a) for a in self._arrays))  # type: ignore[arg-type]

    def forget(self, cols: slice, where: Mask) -> None:
        """Set to ``NODATA``, in place, the pixels of some columns where a mask (row, col) is True."""
        for array in self._arrays:
            if array is not None:
                array[..., cols][..., where] = NODATA

    @property
    def _arrays(self) -> tuple[Labels | None, Labels | None, Labels | None]:
        return self.labels, self.confidence, self.probabilities


class Predictor(Protocol):
    """Turns raw pixels into scores, and scores into labels, on a device of its own."""

    @property
    def card(self) -> ModelCard:
        """What the model expects and means."""

    @property
    def device(self) -> str:
        """Where it computes, for people: "cpu", "cuda:0 (NVIDIA H200)"."""

    @property
    def precision(self) -> str:
        """ "fp32", "bf16" or "fp16"."""

    @property
    def batch(self) -> int:
        """Tiles a forward pass."""

    def with_scaling(self, scaling: Scaling) -> Predictor:
        """The same predictor with another scaling: one by percentiles, resolved against a scene."""

    def scores(self, pixels: Pixels, valid: Mask, probs: bool) -> Any:
        """Scores of a batch, as an array on the device.

        Args:
            pixels: (n, band, row, col) in the scene's own dtype; rows and columns are multiples of the stride.
            valid: (n, row, col), False where a pixel holds no data; those reach the network as zero after scaling.
            probs: True for probabilities (float32, summing to one over the classes); False allows logits.

        Returns:
            (n, class, row, col), an array that can be sliced, multiplied by a numpy-made weight through
            ``weight`` and added.
        """

    def weight(self, window: NDArray[np.float32]) -> Any:
        """A blending window, float32 (row, col), as an array on the device."""

    def labels(self, scores: Any, probs: bool, probabilities: bool) -> Prediction:
        """Labels of one rectangle of scores (class, row, col), back in numpy.

        Args:
            scores: As ``scores`` returned them, cropped or blended.
            probs: True where scores are probabilities, so that confidence is known.
            probabilities: Whether the probability of every class is wanted.
        """


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a run before its first pixel.

    Args:
        model: Name of the model.
        device: Where it computes, for people.
        precision: "fp32", "bf16" or "fp16".
        width, height: Size of the scene in pixels.
        tiles: How many will be looked at.
        tile: Side of a tile in pixels.
        mode: "exact" or "blend".
    """

    model: str
    device: str
    precision: str
    width: int
    height: int
    tiles: int
    tile: int
    mode: str


class Work(Protocol):
    """Something whose size is known."""

    @property
    def work(self) -> int:
        """Pixels that are done when it is."""


class Track(Protocol):
    """Wraps an iterable to report progress; raises ``CancelledError`` to stop the run."""

    def __call__(self, items: Iterable[T], total: int, label: str) -> Iterator[T]:
        """Yield the items; each has ``work``, its pixels, and ``total`` is the sum of those."""


def silent(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """The ``Track`` that reports nothing."""
    yield from items
