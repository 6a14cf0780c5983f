"""What came out: files, and how much of each class there is."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .card import ClassInfo
from .geobox import GeoBox
from .types import NODATA, UNCLASSIFIED, Labels

UNCLASSIFIED_CLASS = ClassInfo(UNCLASSIFIED, "unclassified", "#000000")


@dataclass(frozen=True, slots=True)
class ClassArea:
    """How much of a scene a class covers.

    Args:
        value: Its value in the raster.
        name: Its name.
        pixels: Number of its pixels.
        area_m2: Their area in square metres; None for a scene without CRS, and where some lie beyond the poles.
        share: Of all pixels that hold data, 0 to 1.
    """

    value: int
    name: str
    pixels: int
    area_m2: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The result of ``segment``.

    Args:
        scene: What was segmented.
        model: Name of the model.
        classes: The class raster: uint8, ``NODATA`` 255.
        confidence: Raster of the probability of each pixel's class, or None.
        probabilities: Raster of the probability of every class, or None.
        polygons: The GeoPackage, or None.
        geobox: The grid of all rasters, which is that of the scene.
        areas: One entry a class, then "unclassified" where some pixels are.
        nodata_pixels: Pixels without a class because the scene has no data there, or outside the area of interest.
        seconds: Wall time from the first pixel to the last file; loading the model is not counted.
        device: What computed.
        precision: How.
        notes: What a careful reader should know.
    """

    scene: str
    model: str
    classes: Path
    confidence: Path | None
    probabilities: Path | None
    polygons: Path | None
    geobox: GeoBox
    areas: tuple[ClassArea, ...]
    nodata_pixels: int
    seconds: float
    device: str
    precision: str
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that were written, but for sidecars."""
        return tuple(f for f in (self.classes, self.confidence, self.probabilities, self.polygons) if f is not None)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "scene": without_secrets(self.scene),
            "model": self.model,
            "classes": str(self.classes),
            "confidence": None if self.confidence is None else str(self.confidence),
            "probabilities": None if self.probabilities is None else str(self.probabilities),
            "polygons": None if self.polygons is None else str(self.polygons),
            "shape": list(self.geobox.shape),
            "crs": None if self.geobox.crs is None else self.geobox.crs.to_string(),
            "bounds": list(self.geobox.bounds),
            "areas": [
                {"value": a.value, "name": a.name, "pixels": a.pixels, "area_m2": a.area_m2, "share": a.share}
                for a in self.areas
            ],
            "nodata_pixels": self.nodata_pixels,
            "seconds": round(self.seconds, 3),
            "device": self.device,
            "precision": self.precision,
            "notes": list(self.notes),
        }


def without_secrets(source: str) -> str:
    """A path as it is, an address without what may be a signature or a password."""
    if "://" not in source and not source.startswith("/vsi"):
        return source
    return re.sub(r"(?<=://)[^/@]*@", "", source.split("?")[0])


class Tally:
    """Counts pixels and areas of each class as row bands go by."""

    def __init__(self, geobox: GeoBox, classes: tuple[ClassInfo, ...]) -> None:
        self._geobox = geobox
        self._classes = classes
        self._values = [*(c.value for c in classes), UNCLASSIFIED, NODATA]
        self._pixels = dict.fromkeys(self._values, 0)
        self._areas = dict.fromkeys(self._values, 0.0)

    def add(self, row: int, labels: Labels) -> None:
        """Count labels (row, col) whose first row is ``row`` of the grid."""
        known = self._geobox.row_areas(range(row, row + len(labels)))
        areas = np.zeros(len(labels)) if known is None else known
        alike = bool(np.all(areas == areas[:1]))
        for value in self._values:
            if alike:
                count = int(np.count_nonzero(labels == value))
                area = count * float(areas[:1].sum())
            else:
                in_row = np.count_nonzero(labels == value, axis=1)
                count, area = int(in_row.sum()), float(np.where(in_row > 0, areas, 0) @ in_row)
            self._pixels[value] += count
            self._areas[value] += area

    @property
    def areas(self) -> tuple[ClassArea, ...]:
        """What was counted, class by class."""
        total = sum(n for value, n in self._pixels.items() if value != NODATA)
        classes = (*self._classes, UNCLASSIFIED_CLASS) if self._pixels[UNCLASSIFIED] else self._classes
        known = self._geobox.crs is not None
        return tuple(
            ClassArea(
                c.value,
                c.name,
                self._pixels[c.value],
                self._areas[c.value] if known and math.isfinite(self._areas[c.value]) else None,
                self._pixels[c.value] / total if total else 0.0,
            )
            for c in classes
        )

    @property
    def nodata(self) -> int:
        """Pixels without a class."""
        return self._pixels[NODATA]
