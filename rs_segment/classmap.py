"""Which classes does a raster hold, whoever made it?

A ``ClassMap`` is one band of a raster whose pixels are classes: whole numbers of any type, with the names and colours
that the file, or what lies beside it, gives them. It is read in bands of rows from top to bottom.
"""

from __future__ import annotations

import colorsys
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.shutil import copy as copy_dataset
from rasterio.windows import Window

from .area import Area
from .card import ClassInfo
from .errors import BandError, GridError, OptionError, PixelTypeError, SceneError
from .geobox import GeoBox
from .pipeline import ahead
from .scene import MAX_BLOCK_BYTES, Scene, gdal_settings, opened
from .types import Labels, Mask, Track, silent

BAND_PIXELS = 1 << 22
FARTHEST = 1 << 60
"""All classes are nearer to 0 than this."""
_TABLE = 1 << 16
_GOLDEN = 0.6180339887498949
_WIDER = {"uint8": "int16", "int8": "int16", "uint16": "int32", "int16": "int32"}
# What a column of GDAL's raster attribute tables means (GDALRATFieldUsage).
_NAME, _VALUE, _RGB = "2", "5", ("6", "7", "8")


@dataclass(frozen=True, slots=True)
class Pick:
    """Which pixels of a class raster are looked at.

    Args:
        band: 1-based index; None is the only one.
        classes: Values or names; None is all.
        mask: A raster on the same grid, of which pixels that are not 0 (and hold data) are looked at.
        aoi: Area of interest: a vector file, or bounds "left,bottom,right,top" in the raster's CRS.
        nodata: Value that marks missing pixels, for a raster that does not say it itself.
        confidence: A raster of rs-segment on the same grid, with the probability of each pixel's class.
    """

    band: int | None = None
    classes: tuple[int | str, ...] | None = None
    mask: str | Path | None = None
    aoi: str | Path | tuple[float, float, float, float] | None = None
    nodata: float | None = None
    confidence: str | Path | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a class raster.

    Args:
        window: Where they lie in the raster.
        labels: (row, col), ``ClassMap.dtype``; ``ClassMap.blank`` where there is no class.
        confidence: uint8 (row, col), 0 to 254 in steps of 1/254, 255 where there is none; None where nobody asked.
    """

    window: Window
    labels: NDArray[Any]
    confidence: Labels | None = None

    @property
    def work(self) -> int:
        """Number of pixels."""
        return int(self.labels.size)


@dataclass(frozen=True, slots=True)
class ClassMap:
    """One band of classes, open for reading.

    Args:
        scene: The raster, seen through this band.
        window: The pixels that are looked at: all, or those that the area of interest can touch.
        dtype: Integer type of the labels that are read; holds every value of the raster, and ``blank``.
        blank: A value that no class has.
        legend: Name and colour of each value that the file has one of them for.
        named: Values that it has a name for, ascending.
    """

    scene: Scene
    window: Window
    dtype: np.dtype[Any]
    blank: int
    legend: Mapping[int, ClassInfo]
    named: tuple[int, ...]
    _area: Area | None = None
    _mask: Scene | None = None
    _confidence: Scene | None = None

    @classmethod
    def open(cls, source: str | Path, pick: Pick | None = None) -> ClassMap:
        """The class map in a raster.

        Args:
            source: What rasterio opens: a file, a ``/vsi`` path, an http(s) or s3 address.
            pick: Which pixels are looked at; its ``classes`` are for ``find``.

        Raises:
            SceneError: It cannot be read, or is stored in blocks that are too large.
            BandError: It has several bands and none was chosen, or not this one.
            PixelTypeError: Its values are complex numbers.
            GridError: It has no regular grid, or the mask or the confidence lies on another one.
            AreaError: The area of interest does not fit.
        """
        pick = pick or Pick()
        with ExitStack() as stack:
            whole = stack.enter_context(_on_a_grid(Scene.open(source, pick.nodata)))
            band = _one_band(whole, pick.band)
            scene = replace(whole, indexes=(band,))
            if scene.dtype.kind not in "uif":
                held = scene.bands[band - 1].dtype
                raise PixelTypeError(f"{scene.name} holds {held} values, but classes are whole numbers")
            area = None if pick.aoi is None else Area.of(pick.aoi, scene.geobox)
            mask = None if pick.mask is None else stack.enter_context(_beside(pick.mask, scene, "mask"))
            confidence = None
            if pick.confidence is not None:
                confidence = stack.enter_context(_beside(pick.confidence, scene, "confidence"))
                if confidence.dtype != np.uint8:
                    raise PixelTypeError(
                        f"the confidence {confidence.name} holds {confidence.dtype} values, but that of rs-segment is "
                        "uint8, 0 to 254 in steps of 1/254"
                    )
            dtype, blank = label_type(scene.dtype, scene.nodata[band - 1])
            names, colors = _read_legend(scene, band)
            legend = {v: _info(v, names.get(v), colors.get(v)) for v in sorted({*names, *colors})}
            window = scene.geobox.window if area is None else area.window
            stack.pop_all()
            return cls(scene, window, dtype, blank, legend, tuple(sorted(names)), area, mask, confidence)

    def __enter__(self) -> ClassMap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for scene in (self.scene, self._mask, self._confidence):
            if scene is not None:
                scene.close()

    @property
    def geobox(self) -> GeoBox:
        """The grid of the pixels that are looked at."""
        return self.scene.geobox[self.window]

    @property
    def cache_bytes(self) -> int:
        """Size of GDAL's block cache with which no block is decoded twice, in bytes."""
        rows = self._band_rows()
        scenes = (self.scene, self._mask, self._confidence)
        return sum(scene.cache_bytes(rows) for scene in scenes if scene is not None)

    def info(self, value: int) -> ClassInfo:
        """Name and colour of a value; "class 7" in a colour of its own where the file says nothing."""
        return self.legend.get(value) or _info(value, None, None)

    def find(self, wanted: Iterable[int | str]) -> frozenset[int]:
        """The values of classes that are given by value or name.

        Raises:
            OptionError: No class has the name.
        """
        return find_classes(wanted, [self.legend[v] for v in self.named], self.scene.name)

    def survey(self, track: Track = silent) -> dict[int, int]:
        """Pixels of each class that is looked at, by ascending value; reads the raster once.

        Raises:
            SceneError, PixelTypeError: As ``bands``.
        """
        found: dict[int, int] = {}
        with closing(self.bands()) as bands:
            for part in track(bands, self.window.width * self.window.height, "classes"):
                for value, pixels in zip(*count_labels(part.labels, self.blank), strict=True):
                    found[value] = found.get(value, 0) + pixels
        return {value: found[value] for value in sorted(found) if value != self.blank}

    def bands(self, rows: int | None = None) -> Generator[Rows, None, None]:
        """All rows of ``window`` from top to bottom, some at a time, read ahead in a thread.

        Args:
            rows: How many at a time; None chooses by the width and the blocks of the file.

        Raises:
            SceneError: A block cannot be decoded.
            PixelTypeError: A value is no whole number, or has more than 60 bits.
        """
        yield from ahead(self.read, self.windows(rows), threads=1, depth=2)

    def windows(self, rows: int | None = None) -> list[Window]:
        """Windows over all rows of ``window`` from top to bottom, as ``bands`` reads them."""
        tall = rows or self._band_rows()
        top, left, bottom = self.window.row_off, self.window.col_off, self.window.row_off + self.window.height
        starts = [top, *range(top - top % tall + tall, bottom, tall)]
        return [
            Window(left, start, self.window.width, min(start - start % tall + tall, bottom) - start) for start in starts
        ]

    def _band_rows(self) -> int:
        """Rows of whole blocks where those are not too many pixels."""
        width, block = self.window.width, self.scene.block[0]
        rows = max(1, BAND_PIXELS // width)
        if block * width <= 4 * BAND_PIXELS:
            rows = max(1, rows // block) * block
        return int(min(rows, -(-self.scene.geobox.shape[0] // block) * block))

    def read(self, window: Window) -> Rows:
        """The labels under any window of the raster; may be called from any thread.

        Raises:
            SceneError, PixelTypeError: As ``bands``.
        """
        chip = self.scene.read(window)
        pixels, valid = chip.pixels[0], chip.valid
        if self._area is not None:
            valid &= self._area.mask(window)
        if self._mask is not None:
            mask = self._mask.read(window)
            valid &= (mask.pixels[0] != 0) & mask.valid
        labels = self._labels(pixels, valid, window)
        if self._confidence is None:
            return Rows(window, labels)
        score = self._confidence.read(window)
        return Rows(window, labels, np.where(score.valid, score.pixels[0], 255).astype(np.uint8))

    def _labels(self, pixels: NDArray[Any], valid: Mask, window: Window) -> NDArray[Any]:
        """The pixels as integers, blank where they are not valid."""
        if pixels.dtype.kind == "f" or pixels.dtype.itemsize == 8:
            far = valid & ~((pixels < FARTHEST) & (pixels > -FARTHEST))
            self._refuse(far, pixels, window, "classes have 60 bits; give it smaller numbers first")
        if pixels.dtype.kind == "f":
            labels = np.where(valid, pixels, 0).astype(self.dtype)
            self._refuse(valid & (labels != pixels), pixels, window, "classes are whole numbers; round it first")
        else:
            labels = pixels.astype(self.dtype, copy=False)
        return labels if valid.all() else np.where(valid, labels, np.asarray(self.blank, self.dtype))

    def _refuse(self, bad: Mask, pixels: NDArray[Any], window: Window, advice: str) -> None:
        if bad.any():
            row, col = np.argwhere(bad)[0]
            raise PixelTypeError(
                f"{self.scene.name} holds {pixels[row, col]} in row {row + window.row_off}, column "
                f"{col + window.col_off}, but {advice}"
            )


def find_classes(wanted: Iterable[int | str], classes: Sequence[ClassInfo], where: str) -> frozenset[int]:
    """The values of classes that are given by value or name.

    Args:
        wanted: Values, which may be any, and names: of one class or several, in whatever case unless that is ambiguous.
        classes: Those that have names.
        where: What they are the classes of, for people.

    Raises:
        OptionError: No class has the name.
    """
    found: set[int] = set()
    for one in wanted:
        text = str(one).strip()
        if text.removeprefix("-").isdecimal() and abs(int(text)) < FARTHEST:
            found.add(int(text))
            continue
        named = [c.value for c in classes if c.name == text]
        named = named or [c.value for c in classes if c.name.casefold() == text.casefold()]
        if not named:
            there = ", ".join(f"{c.value} {c.name}" for c in classes[:30]) + (" and more" if len(classes) > 30 else "")
            told = f"it has {there}; values do as well" if there else "it names none, so give values"
            raise OptionError(f"{where} has no class {text!r}; {told}")
        found.update(named)
    return frozenset(found)


def label_type(dtype: np.dtype[Any], nodata: float | None) -> tuple[np.dtype[Any], int]:
    """(integer type of labels, a value that no class has) for a raster's pixel type and nodata value.

    The latter is the nodata value where it can be, so that pixels need no change.
    """
    if dtype.kind in "ui" and dtype.itemsize < 8 and nodata is not None and np.isfinite(nodata):
        info = np.iinfo(dtype)
        if nodata == int(nodata) and info.min <= int(nodata) <= info.max:
            return dtype, int(nodata)
    wider = np.dtype(_WIDER.get(dtype.name, np.int64))
    return wider, max(int(np.iinfo(wider).min), -FARTHEST)


def _on_a_grid(scene: Scene) -> Scene:
    """The scene, where it has a regular grid and blocks of a size that can be read."""
    rows, cols = scene.block
    if scene.ground_control:
        scene.close()
        raise GridError(
            f"{scene.name} has {scene.ground_control} instead of a regular grid, so no polygon would have a place; "
            f"warp it first, for example: rio warp {scene.name} ortho.tif --dst-crs EPSG:4326 --resampling nearest"
        )
    if rows * cols * scene.dtype.itemsize > MAX_BLOCK_BYTES:
        scene.close()
        raise SceneError(
            f"{scene.name} is stored in blocks of {rows} x {cols} px, more than {MAX_BLOCK_BYTES >> 20} MiB each; "
            "store it in tiles first: rio convert --profile tiled=true --profile blockxsize=512 ..."
        )
    return scene


def _one_band(scene: Scene, wanted: int | None) -> int:
    """The index of the band that holds the classes."""
    listed = ", ".join(f"{b.index} {b.name}".strip() for b in scene.bands)
    if wanted is not None:
        if not 1 <= wanted <= len(scene.bands):
            raise BandError(f"{scene.name} has no band {wanted}; it has {listed}")
        return wanted
    plain = [b.index for b in scene.bands if not b.alpha]
    if len(plain) > 1:
        raise BandError(
            f"{scene.name} has {len(plain)} bands ({listed}), but a class map is one band; "
            f"if one of them holds classes, name it: --band {plain[0]}"
        )
    return plain[0] if plain else 1


def _beside(source: str | Path, scene: Scene, what: str) -> Scene:
    """A raster of one band on the same grid."""
    other = _on_a_grid(Scene.open(source))
    try:
        other = replace(other, indexes=(_one_band(other, None),))
        mine, its = scene.geobox, other.geobox
        apart = ""
        if its.shape != mine.shape:
            apart = f"has {its.shape[1]} x {its.shape[0]} px, not {mine.shape[1]} x {mine.shape[0]}"
        elif its.crs != mine.crs:
            crs = ["no CRS" if box.crs is None else box.crs.to_string()[:60] for box in (its, mine)]
            apart = f"has {crs[0]}, not {crs[1]}"
        elif not np.allclose(mine.corners, its.corners, rtol=0, atol=min(mine.resolution) / 100):
            apart = f"begins at {its.corners[0]}, not {mine.corners[0]}, or has other pixels"
        if apart:
            raise GridError(
                f"the {what} {other.name} is not on the grid of {scene.name}: it {apart}; put it there first: "
                f"rio warp {other.name} same.tif --like {scene.name} --resampling nearest"
            )
    except BaseException:
        other.close()
        raise
    return other


def count_labels(labels: NDArray[Any], blank: int) -> tuple[list[int], list[int]]:
    """(values that are there, how often each is); what is blank may be among them."""
    unsigned = np.dtype(f"u{labels.dtype.itemsize}")
    if labels.dtype.itemsize <= 2:
        count = np.bincount(labels.view(unsigned).ravel())
        values = np.flatnonzero(count)
        return values.astype(unsigned).view(labels.dtype).tolist(), count[values].tolist()
    known = labels[labels != blank]
    low = int(known.min()) if len(known) else 0
    if len(known) and int(known.max()) - low < _TABLE:
        count = np.bincount(known - low)
        values = np.flatnonzero(count)
        return (values + low).tolist(), count[values].tolist()
    found, counts = np.unique(known, return_counts=True)
    return found.tolist(), counts.tolist()


def _read_legend(scene: Scene, band: int) -> tuple[dict[int, str], dict[int, tuple[int, int, int]]]:
    """(names, colours) of values: of the attribute table, else of categories or rs-segment's tag, and of the palette.

    A VRT is how GDAL says in one text all that it knows of a raster, whatever the format.
    """
    with gdal_settings(), opened(scene.source) as dataset, MemoryFile() as memory:
        copy_dataset(dataset, memory.name, driver="VRT")
        root = ElementTree.fromstring(memory.read())
        tag = dataset.tags().get("CLASS_NAMES", "")
    found = root.find(f"VRTRasterBand[@band='{band}']")
    names = dict(_from_tag(tag))
    colors: dict[int, tuple[int, int, int]] = {}
    if found is not None:
        names |= dict(enumerate(entry.text or "" for entry in found.iterfind("CategoryNames/Category")))
        for value, entry in enumerate(found.iterfind("ColorTable/Entry")):
            colors[value] = (int(entry.get("c1", 0)), int(entry.get("c2", 0)), int(entry.get("c3", 0)))
        for value, name, color in _from_table(found.find("GDALRasterAttributeTable")):
            if name:
                names[value] = name
            if color is not None:
                colors[value] = color
    clean = {value: "".join(c for c in name if c.isprintable()).strip() for value, name in names.items()}
    return {value: name for value, name in clean.items() if name}, colors


def _from_tag(text: str) -> Iterator[tuple[int, str]]:
    """(value, name) of each class in the tag of rs-segment's rasters."""
    try:
        told = json.loads(text or "{}")
    except ValueError:
        return
    for value, name in told.items() if isinstance(told, dict) else ():
        if value.removeprefix("-").isdecimal():
            yield int(value), str(name)


def _from_table(table: Any) -> Iterator[tuple[int, str, tuple[int, int, int] | None]]:
    """(value, name or "", colour or None) of each row of a raster attribute table in GDAL's XML."""
    fields = [] if table is None else table.findall("FieldDefn")
    column = {field.findtext("Usage"): i for i, field in enumerate(fields)}
    if _VALUE not in column:
        return
    for row in table.iterfind("Row"):
        cells = [cell.text or "" for cell in row.iterfind("F")]
        try:
            value = float(cells[column[_VALUE]])
            name = cells[column[_NAME]] if _NAME in column else ""
            color = None
            if all(usage in column for usage in _RGB):
                red, green, blue = (min(255, max(0, int(float(cells[column[usage]])))) for usage in _RGB)
                color = red, green, blue
        except (ValueError, IndexError, OverflowError):
            continue
        if value == int(value):
            yield int(value), name, color


def _info(value: int, name: str | None, rgb: tuple[int, int, int] | None) -> ClassInfo:
    """A class with what is known of it; hues a golden section apart differ however many there are."""
    if rgb is None:
        rgb = tuple(round(255 * part) for part in colorsys.hls_to_rgb(value * _GOLDEN % 1, 0.55, 0.6))  # type: ignore[assignment]
    return ClassInfo(value, name or f"class {value}", "#{:02X}{:02X}{:02X}".format(*rgb))  # type: ignore[misc]
