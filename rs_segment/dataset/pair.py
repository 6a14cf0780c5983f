"""What are the pixels and the labels under a window?"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..area import Area
from ..errors import AreaError, DatasetError
from ..geobox import GeoBox
from ..scene import Scene
from ..types import NODATA, Labels, Mask, Pixels
from .files import Arrays, Files, worth_keeping
from .layers import Burnt, Layer
from .masks import UNKNOWN, Legend, MaskFile, label_of
from .spec import Label

SIDE = 1024
"""Side of the windows in which whole images are gone through, in pixels."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known under a window.

    Args:
        pixels: (band, row, col) in the images' pixel type.
        labels: uint8 (row, col), 0, 1, 2 and so on; 255 where nothing is to be learnt: no label, or no data.
        valid: bool (row, col), False where the image holds no data.
    """

    pixels: Pixels
    labels: Labels
    valid: Mask


@dataclass(frozen=True, slots=True)
class Image:
    """A raster, as a training set reads it.

    Args:
        path: As rasterio opens it.
        geobox: Its grid.
        indexes: Bands that are read, 1-based.
        dtype: Pixel type that is read.
        names: Of the bands that are read; may be empty.
        block: (rows, cols) of the file's blocks.
        nodata: Value of missing pixels, for a file that does not say it.
    """

    path: str
    geobox: GeoBox
    indexes: tuple[int, ...]
    dtype: str
    names: tuple[str, ...]
    block: tuple[int, int]
    nodata: float | None = None
    palette: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    @property
    def count(self) -> int:
        """Number of bands that are read."""
        return 3 if self.palette is not None else len(self.indexes)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel with its validity and its label."""
        return self.count * np.dtype(self.dtype).itemsize + 2

    @property
    def keep(self) -> bool:
        """Whether windows of it are costly."""
        return worth_keeping(self.geobox.shape, self.block, self.pixel_bytes)

    def open(self) -> Scene:
        """The raster, open for reading."""
        return replace(Scene.open(self.path, self.nodata), indexes=self.indexes, palette=self.palette)


@dataclass(frozen=True, slots=True)
class Polygons:
    """Labels that are polygons.

    Args:
        layer: The polygons.
        outside: Class of pixels in none of them, 255 to ignore those.
        only: The class of all of them; None asks the legend.
    """

    layer: Layer
    outside: int = NODATA
    only: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its labels on one grid.

    Args:
        name: Unique in the data set.
        group: What belongs together, like the parts of one scene.
        geobox: The grid of both.
        image: Where pixels come from.
        labels: Where labels come from.
        legend: What the labels mean.
        border: Pixels along the edge whose labels are ignored.
        area: A file with polygons outside of which labels are ignored; "" has none.
        kept: Whether it stays in memory even where windows of it are cheap to read.
    """

    name: str
    group: str
    geobox: GeoBox
    image: Image
    labels: MaskFile | Polygons
    legend: Legend = field(repr=False)
    border: int = 0
    area: str = ""
    kept: bool = False
    _files: Files = field(default_factory=Files, compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) in pixels."""
        return self.geobox.shape

    @property
    def memory(self) -> int:
        """Bytes that all of it takes in memory."""
        return self.shape[0] * self.shape[1] * self.image.pixel_bytes

    @property
    def label_file(self) -> str:
        """The file that labels come from."""
        return self.labels.path if isinstance(self.labels, MaskFile) else self.labels.layer.path

    def read(self, window: Window, strange: MutableMapping[Label, int] | None = None) -> Sample:
        """Pixels and labels under a window; what hangs over the edge of the image is cut off.

        The arrays belong to the caller.

        Args:
            window: In pixels of ``geobox``.
            strange: Takes how often each label occurs that no class has; those are then ignored.

        Raises:
            SceneError: A block cannot be decoded.
            DatasetError: A label is one that no class has, and ``strange`` is None.
        """
        rows, cols = self.shape
        top, left = max(0, int(window.row_off)), max(0, int(window.col_off))
        bottom = max(top, min(rows, int(window.row_off + window.height)))
        right = max(left, min(cols, int(window.col_off + window.width)))
        if bottom == top or right == left:
            empty = (max(0, bottom - top), max(0, right - left))
            pixels = np.zeros((self.image.count, *empty), self.image.dtype)
            return Sample(pixels, np.zeros(empty, np.uint8), np.zeros(empty, np.bool_))
        inside = Window(left, top, right - left, bottom - top)
        pixels, valid = self._pixels(inside)
        labels = self._classes(inside)
        if (labels == UNKNOWN).any():
            self._meet_strange(inside, labels, strange)
            labels[labels == UNKNOWN] = NODATA
        labels[~valid] = NODATA
        return Sample(pixels, labels, valid)

    def windows(self, side: int = SIDE) -> Iterator[Window]:
        """Windows that cover the image, row by row."""
        rows, cols = self.shape
        for row in range(0, rows, side):
            for col in range(0, cols, side):
                yield Window(col, row, min(side, cols - col), min(side, rows - row))

    def counts(self) -> NDArray[np.int64]:
        """Pixels of each class, int64 (class,); reads the whole image."""
        total = np.zeros(256, np.int64)
        for window in self.windows():
            total += np.bincount(self.read(window).labels.ravel(), minlength=256)
        return total[: self.legend.count]

    def _pixels(self, window: Window) -> tuple[Pixels, Mask]:
        if not (self.kept or self.image.keep):
            chip = self._files.scene(("image", self.name), self.image.open).read(window)
            return chip.pixels, chip.valid
        pixels, valid = self._files.arrays(("image", self.name), self._whole_image)
        rows, cols = window.toslices()
        return pixels[:, rows, cols].copy(), valid[rows, cols].copy()

    def _whole_image(self) -> Arrays:
        with self.image.open() as scene:
            rows, cols = self.shape
            chip = scene.read(Window(0, 0, cols, rows))
            return chip.pixels, chip.valid

    def _classes(self, window: Window) -> Labels:
        """Classes, ``UNKNOWN`` or ``NODATA`` under a window that lies inside; to be written to."""
        if self.kept or (isinstance(self.labels, MaskFile) and self.labels.keep):
            (whole,) = self._files.arrays(("labels", self.name), self._all_labels)
            rows, cols = window.toslices()
            labels: Labels = whole[rows, cols].copy()
        else:
            labels = self._read_labels(window)
        if self.area:
            area = self._files.once(("area", self.name), self._open_area)
            labels[~area.mask(window)] = NODATA
        if self.border:
            trusted = np.zeros(labels.shape, np.bool_)
            ends = zip(self.shape, (window.row_off, window.col_off), strict=True)
            inner = tuple(slice(max(0, self.border - off), max(0, end - self.border - off)) for end, off in ends)
            trusted[inner] = True
            labels[~trusted] = NODATA
        return labels

    def _all_labels(self) -> Arrays:
        rows, cols = self.shape
        return (self._read_labels(Window(0, 0, cols, rows)),)

    def _read_labels(self, window: Window) -> Labels:
        if isinstance(self.labels, MaskFile):
            codes, valid = self.labels.codes(self._files, window)
            labels = self.legend.look_up(codes)
            labels[~valid] = NODATA
            return labels
        return self.burnt().read(window, self.labels.outside)

    def burnt(self) -> Burnt:
        """The polygons on this pair's grid."""
        assert isinstance(self.labels, Polygons)
        labels = self.labels
        return self._files.once(
            ("burnt", self.name),
            lambda: labels.layer.on(self.geobox, self.legend, self.image.path, labels.only, cut=not self.kept),
        )

    def _open_area(self) -> Area:
        try:
            return Area.of(Path(self.area), self.geobox)
        except AreaError as error:
            raise DatasetError(f"{self.image.path}: {error}") from error

    def _meet_strange(self, window: Window, labels: Labels, strange: MutableMapping[Label, int] | None) -> None:
        """Count the labels that no class has, or raise."""
        found: dict[Label, int] = {}
        if isinstance(self.labels, MaskFile):
            codes, _ = self.labels.codes(self._files, window)
            values, counts = np.unique(codes[labels == UNKNOWN], return_counts=True)
            found = {label_of(v, self.labels.kind): n for v, n in zip(values.tolist(), counts.tolist(), strict=True)}
        else:
            found.update(self.burnt().strange)
        if strange is None:
            row, col = np.argwhere(labels == UNKNOWN)[0]
            raise DatasetError(
                f"{self.label_file} holds {_listed(found)}, which no class has (row {row + window.row_off}, column "
                f"{col + window.col_off} is the first); add it to a class, or to ignore in [labels] of dataset.toml"
            )
        for label, count in found.items():
            if isinstance(self.labels, MaskFile):
                strange[label] = strange.get(label, 0) + count
            else:
                strange[label] = count


def _listed(found: MutableMapping[Label, int]) -> str:
    named = ", ".join(str(label) for label in list(found)[:5])
    return named + (f" and {len(found) - 5} more" if len(found) > 5 else "")


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a pair, as splits deal them out: ``window`` is in the pair's pixels."""

    pair: Pair
    window: Window

    @classmethod
    def of(cls, pair: Pair) -> Part:
        """The whole of a pair."""
        return cls(pair, Window(0, 0, pair.shape[1], pair.shape[0]))

    @property
    def work(self) -> int:
        """Number of pixels."""
        return int(self.window.width * self.window.height)


def bands_of(scene: Scene, wanted: tuple[int | str, ...] | None) -> tuple[int, ...]:
    """The indexes of bands that are given by number or name; None is all but alpha.

    Raises:
        DatasetError: A band is not there.
    """
    if wanted is None:
        return scene.indexes
    names = {b.name: b.index for b in reversed(scene.bands) if b.name}
    found: list[int] = []
    for band in wanted:
        index: Any = names.get(band.lower()) if isinstance(band, str) else band
        if index is None or not 1 <= index <= len(scene.bands):
            listed = ", ".join(f"{b.index} {b.name}".strip() for b in scene.bands)
            raise DatasetError(f"{scene.source} has no band {band}; it has {listed}")
        found.append(int(index))
    return tuple(found)
