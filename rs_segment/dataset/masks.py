"""Which class does a mask's pixel mean?

A mask is a raster whose pixels are whole numbers or colours. Both are read as codes: the number itself, or red, green
and blue in one number. A ``Legend`` knows the class of each code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..card import MAX_CLASSES
from ..errors import DatasetError
from ..geobox import GeoBox
from ..scene import Scene, gdal_settings, opened
from ..types import NODATA, Labels, Mask
from .files import Files, refuse_cut_off, worth_keeping
from .spec import ClassSpec, Kind, Label

UNKNOWN = MAX_CLASSES
"""In place of a class: a label that no class has."""
_SMALL = 1 << 16
_COLORS = 1 << 24


@dataclass(frozen=True, slots=True)
class Legend:
    """The class of each label.

    Args:
        kind: What the labels are.
        classes: Value (0, 1, 2 and so on, or ``NODATA``) of each label that has one.
        count: Number of classes.
        otherwise: For all other labels: ``UNKNOWN``, or ``NODATA`` to ignore them.
    """

    kind: Kind
    classes: Mapping[Label, int]
    count: int
    otherwise: int = UNKNOWN
    _table: Labels = field(default_factory=lambda: np.zeros(0, np.uint8), repr=False, compare=False)

    @classmethod
    def of(cls, kind: Kind, classes: Sequence[ClassSpec], ignore: Iterable[Label], unknown: str = "refuse") -> Legend:
        """The legend of a data set's classes; ``unknown`` is "refuse" or "ignore"."""
        known: dict[Label, int] = dict.fromkeys(ignore, NODATA)
        known |= {label: value for value, c in enumerate(classes) for label in c.labels}
        otherwise = UNKNOWN if unknown == "refuse" else NODATA
        table = np.full({"values": _SMALL, "colors": _COLORS, "polygons": 0}[kind], otherwise, np.uint8)
        for label, value in known.items():
            if kind != "polygons" and 0 <= (code := code_of(label)) < len(table):
                table[code] = value
        return cls(kind, known, len(classes), otherwise, table)

    def look_up(self, codes: NDArray[Any]) -> Labels:
        """uint8 classes of integer codes, of any shape; ``UNKNOWN`` where no class has the label."""
        info = np.iinfo(codes.dtype)
        fits = info.min >= 0 and info.max < len(self._table)
        if fits or codes.size == 0 or (codes.min() >= 0 and codes.max() < len(self._table)):
            return np.asarray(self._table[codes])
        known = np.array(sorted(code_of(label) for label in self.classes), np.int64)
        values = np.array([self.classes[label_of(code, self.kind)] for code in known], np.uint8)
        if len(known) == 0:
            return np.full(codes.shape, self.otherwise, np.uint8)
        wide = codes.astype(np.int64)
        place = np.minimum(np.searchsorted(known, wide), len(known) - 1)
        return np.where(known[place] == wide, values[place], np.uint8(self.otherwise))


def code_of(label: Label) -> int:
    """A value, or the number of a colour "#3C1098"."""
    return int(label[1:], 16) if isinstance(label, str) else label


def label_of(code: int, kind: Kind) -> Label:
    """The label that a code stands for."""
    return f"#{code:06X}" if kind == "colors" else int(code)


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A raster of labels.

    Args:
        path: As rasterio opens it.
        geobox: Its grid.
        kind: "values" or "colors".
        index: The band that holds the values, or the colours' palette; 0 where colours are three bands.
        block: (rows, cols) of the file's blocks.
    """

    path: str
    geobox: GeoBox
    kind: Kind
    index: int
    block: tuple[int, int]
    palette: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path, kind: Kind) -> MaskFile:
        """The mask at a path.

        Raises:
            SceneError: It cannot be opened.
            DatasetError: It has no bands that could be such labels.
        """
        refuse_cut_off(path)
        with Scene.open(path) as scene:
            palette = palette_of(scene)
            bands = [b for b in scene.bands if not b.alpha]
            if any(np.dtype(b.dtype).kind not in "uif" for b in bands if not b.dtype.startswith("complex")) or any(
                b.dtype.startswith("complex") for b in bands
            ):
                raise DatasetError(f"{path} holds {bands[0].dtype} values, but labels are whole numbers or colours")
            plain = len(bands) == 1
            if kind == "values" and not plain:
                raise DatasetError(
                    f'{path} has {len(bands)} bands, but labels of kind "values" are one; if its colours tell the '
                    'classes, say kind = "colors"'
                )
            eight = all(b.dtype == "uint8" for b in bands)
            if kind == "colors" and not (eight and (len(bands) == 3 or plain)):
                raise DatasetError(
                    f"{path} has {len(bands)} bands of {bands[0].dtype}, but colours are 3 bands of uint8 or a palette"
                )
            index = bands[0].index if plain else 0
            if kind == "values":
                palette = None
            elif plain and palette is None:
                ramp = np.arange(256, dtype=np.uint8)
                palette = np.stack([ramp, ramp, ramp, np.full(256, 255, np.uint8)], axis=1)
            return cls(scene.source, scene.geobox, kind, index, scene.block, palette)

    def codes(self, files: Files, window: Window) -> tuple[NDArray[Any], Mask]:
        """(integer codes, valid), (row, col) each, under a window that lies inside.

        Raises:
            SceneError: A block cannot be decoded.
            DatasetError: A value is no whole number.
        """
        scene = files.scene(self.path, self._open)
        chip = scene.read(window)
        if self.palette is not None:
            packed = self.palette.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1, 0], np.uint32)
            return packed[chip.pixels[0]], chip.valid & (self.palette[:, 3] > 0)[chip.pixels[0]]
        if self.kind == "colors":
            red, green, blue = chip.pixels.astype(np.uint32)
            return (red << 16) | (green << 8) | blue, chip.valid
        values = chip.pixels[0]
        if values.dtype.kind != "f":
            return values, chip.valid
        known = np.where(chip.valid, values, 0)
        bad = (known != np.rint(known)) | (np.abs(known) > 2**53)
        if bad.any():
            row, col = np.argwhere(bad)[0]
            raise DatasetError(
                f"{self.path} holds {values[row, col]} in row {row + window.row_off}, column {col + window.col_off}, "
                "but labels are whole numbers"
            )
        return known.astype(np.int64), chip.valid

    @property
    def keep(self) -> bool:
        """Whether windows of it are costly."""
        return worth_keeping(self.geobox.shape, self.block, 3 if self.index == 0 else 1)

    def _open(self) -> Scene:
        scene = Scene.open(self.path)
        return scene if self.index == 0 else replace(scene, indexes=(self.index,))


def palette_of(scene: Scene) -> NDArray[np.uint8] | None:
    """uint8 (256, 4) red, green, blue, alpha of a scene's only band, or None where it has no colour table."""
    if scene.bands[0].dtype != "uint8" or sum(not b.alpha for b in scene.bands) > 1:
        return None
    with gdal_settings(), opened(scene.source) as dataset:
        try:
            table = dataset.colormap(1)
        except ValueError:
            return None
    return np.array([table.get(i, (0, 0, 0, 255)) for i in range(256)], np.uint8)
