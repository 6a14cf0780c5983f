"""The story: a class raster, whoever made it, becomes a layer of polygons."""

from __future__ import annotations

import glob
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from .card import ClassInfo
from .classmap import FARTHEST, ClassMap, Pick, find_classes, label_type
from .drawing import Count, Drawing
from .errors import GridError, OptionError, PixelTypeError
from .geobox import GeoBox
from .layer import LayerSpec, format_of, layer_files, open_layer, to_geodataframe
from .pipeline import Sink
from .result import without_secrets
from .shaping import Shapes
from .types import NODATA, Labels, Mask, Track, silent
from .workfolder import IMAGES, WorkFolder, disk_errors, publish, refuse_existing, refuse_inputs

QUEUE = 1
MANY_CLASSES = 1000
"""Above this, a layer's legend has only the classes that the raster gives a name or a colour."""
_SLASHES = ("/", "\\")


@dataclass(frozen=True, slots=True)
class ClassPolygons:
    """What became of a class.

    Args:
        value: Its value in the raster.
        name: Its name.
        polygons: Number of polygons, before they were dissolved.
        pixels: Pixels that they were made of.
        area_m2: Area that they cover in square metres; None for a raster without CRS.
        change: By how much they cover more (or less, below 0) than the class in the raster, as a share of it: what
            sieving, leaving out and generalising did. 0 where polygons are exact.
    """

    value: int
    name: str
    polygons: int
    pixels: int
    area_m2: float | None
    change: float


@dataclass(frozen=True, slots=True)
class Polygonized:
    """The result of ``polygonize_raster``.

    Args:
        source: The raster.
        files: The layer's file, and those that belong to it.
        layer: Name of the layer.
        geobox: The grid of what was looked at.
        classes: One entry a class that has polygons or lost them, by ascending value.
        seconds: Wall time.
        notes: What a careful reader should know.
    """

    source: str
    files: tuple[Path, ...]
    layer: str
    geobox: GeoBox
    classes: tuple[ClassPolygons, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def polygons(self) -> int:
        """Number of polygons of all classes."""
        return sum(c.polygons for c in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "source": without_secrets(self.source),
            "files": [str(path) for path in self.files],
            "layer": self.layer,
            "shape": list(self.geobox.shape),
            "crs": None if self.geobox.crs is None else self.geobox.crs.to_string(),
            "bounds": list(self.geobox.bounds),
            "polygons": self.polygons,
            "classes": [asdict(c) for c in self.classes],
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def polygonize_raster(
    source: str | Path,
    output: str | Path | None = None,
    pick: Pick | None = None,
    shapes: Shapes | None = None,
    layer: str | None = None,
    overwrite: bool = False,
    track: Track = silent,
) -> Polygonized:
    """A layer of polygons, written from a class raster.

    The raster is read twice: first for which classes it holds, then for their polygons.

    Args:
        source: What rasterio opens: a file, a ``/vsi`` path, an http(s) or s3 address.
        output: A file, whose ending says the format, or a folder; None writes ``NAME.gpkg`` beside the raster.
        pick: Which pixels are looked at.
        shapes: How polygons are drawn.
        layer: Name of the layer; it is added to a GeoPackage that is there. None is the name of the file.
        overwrite: Replace the file that is there; if ``layer`` names one in a GeoPackage, only that.
        track: Told of the progress; raises ``CancelledError`` to stop.

    Raises:
        RsSegmentError: The raster is refused, or the layer cannot be written; see ``errors``.
    """
    pick, shapes, started = pick or Pick(), shapes or Shapes(), time.monotonic()
    target = name_target(os.fspath(source), output)
    with ExitStack() as stack:
        classmap = stack.enter_context(ClassMap.open(source, pick))
        refuse_inputs(target, (classmap.scene.source, pick.mask, pick.confidence, pick.aoi))
        make_folder(output)
        into = target if layer is not None and target.suffix.lower() == ".gpkg" and target.is_file() else None
        refuse_existing(own_files(target), overwrite or into is not None)
        only = None if pick.classes is None else classmap.find(pick.classes)
        skip = classmap.find(shapes.skip)
        drawing = Drawing(classmap.geobox, shapes, classmap.blank, only, skip)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=classmap.cache_bytes))
        there = classmap.survey(track)
        chosen = choose(classmap, there, only, skip)
        folder = WorkFolder.open(target, {})
        stack.callback(folder.close, keep=False)
        legend = tuple(classmap.info(v) for v in chosen if len(chosen) <= MANY_CLASSES or v in classmap.legend)
        spec = LayerSpec(layer or target.stem, classmap.geobox.crs, legend, classmap.scene.name, shapes.dissolve)
        writer = open_layer(folder.path / target.name, spec, into, overwrite)
        stack.callback(writer.abandon)
        with Sink(writer.write, QUEUE, "write") as sink, closing(classmap.bands()) as bands:
            for rows in track(bands, classmap.window.width * classmap.window.height, "polygons"):
                sink.put(drawing.feed(rows.labels, rows.confidence))
            sink.put(drawing.finish())
        files = publish_layer(target, writer.close(), overwrite or into is not None)
    return Polygonized(
        source=classmap.scene.source,
        files=files,
        layer=spec.name,
        geobox=classmap.geobox,
        classes=tuple(became(classmap, shapes, drawing.counts, {value: there[value] for value in chosen})),
        seconds=time.monotonic() - started,
        notes=(
            *remarks(classmap, there, only, shapes, drawing.small),
            *remarks_on_layer(target, len(chosen) - len(legend)),
        ),
    )


def polygonize(
    labels: NDArray[Any],
    grid: GeoBox | Affine | None = None,
    crs: Any = None,
    nodata: int | None = NODATA,
    valid: Mask | None = None,
    confidence: Labels | None = None,
    classes: Sequence[ClassInfo] = (),
    shapes: Shapes | None = None,
) -> geopandas.GeoDataFrame:
    """All polygons of a class raster that is in memory, one row each, with the columns of a layer.

    Args:
        labels: (row, col) of any integer type; where a masked array is masked, there is no class.
        grid: Where it lies: a ``GeoBox``, or its transform from pixels (col, row) to the CRS; None is pixels.
        crs: The CRS of a transform: whatever rasterio takes for one.
        nodata: Label of pixels without a class; None has none.
        valid: bool (row, col), False where there is no class whatever the label.
        confidence: uint8 (row, col), 0 to 254 in steps of 1/254, 255 where there is none.
        classes: Names and colours; without one, label 7 is called "class 7".
        shapes: How polygons are drawn.

    Raises:
        PixelTypeError: The labels are no integers.
        GridError: The shapes do not agree.
        OptionError: A class to be skipped has no such name.
    """
    pixels = np.ma.getdata(labels)
    if pixels.dtype.kind not in "ui":
        raise PixelTypeError(f"labels are {pixels.dtype}, but classes are integers; convert them first")
    if pixels.ndim != 2 or (valid is not None and valid.shape != pixels.shape):
        raise GridError(f"labels of shape {pixels.shape} are no raster (row, col), or valid has another shape")
    if not isinstance(grid, GeoBox):
        try:
            known = None if crs is None else CRS.from_user_input(crs)
        except (CRSError, ValueError) as error:
            raise GridError(f"{crs!r} is no CRS: {error}") from error
        grid = GeoBox((pixels.shape[0], pixels.shape[1]), grid or Affine.identity(), known)
    dtype, blank = label_type(pixels.dtype, nodata)
    if pixels.dtype == np.uint64 and pixels.size and pixels.max() >= FARTHEST:
        raise PixelTypeError(f"labels go up to {pixels.max()}, but classes have 60 bits; give them smaller numbers")
    missing = np.ma.getmaskarray(labels)
    if valid is not None:
        missing = missing | ~valid
    if nodata is not None and nodata != blank:
        missing = missing | (pixels == nodata)
    if missing.any() or dtype != pixels.dtype:
        pixels = np.where(missing, np.asarray(blank, dtype), pixels.astype(dtype))
    shapes = shapes or Shapes()
    drawing = Drawing(grid, shapes, blank, skip=find_classes(shapes.skip, classes, "the legend"))
    return to_geodataframe([drawing.feed(pixels, confidence), drawing.finish()], grid, classes)


def name_target(source: str, output: str | Path | None) -> Path:
    """The name of the layer's file: as the output says, or in the folder that it is, or beside the raster.

    Raises:
        OptionError: No format has the ending.
    """
    source = source.removeprefix("file://")
    remote = "://" in source or source.startswith("/vsi")
    last = source.split("?")[0].rstrip("/").rsplit("/", 1)[-1] if remote else Path(source).name
    name = f"{Path(last).stem or 'classes'}.gpkg"
    if output is None:
        return (Path() if remote else Path(source).parent) / name
    target = Path(output) / name if str(output).endswith(_SLASHES) or Path(output).is_dir() else Path(output)
    format_of(target)
    return target


def make_folder(output: str | Path | None) -> None:
    """Make the folder that an output is, if it ends in a slash."""
    if str(output).endswith(_SLASHES):
        with disk_errors(Path(str(output))):
            Path(str(output)).mkdir(parents=True, exist_ok=True)


def own_files(target: Path) -> tuple[Path, ...]:
    """Every file that a layer may be made of; a style only where no raster of its name would take it for its own."""
    others = {p.suffix.lower() for p in target.parent.glob(f"{glob.escape(target.stem)}.*")}
    return tuple(path for path in layer_files(target) if path.suffix != ".qml" or not others & IMAGES)


def publish_layer(target: Path, made: Sequence[Path], overwrite: bool) -> tuple[Path, ...]:
    """The files of a layer under their final names.

    Where there are several, old ones go first, the layer's own before all others, and the new one of that name comes
    last: no reader finds parts of two layers.
    """
    pairs = [(path, target.with_name(path.name)) for path in made]
    mine = own_files(target)
    pairs = [(path, final) for path, final in pairs if final in mine]
    if overwrite and len(mine) > 1:
        with disk_errors(target.parent):
            for old in mine:
                old.unlink(missing_ok=True)
    publish([*pairs[1:], pairs[0]], overwrite)
    return tuple(final for _, final in pairs)


def choose(
    classmap: ClassMap, there: Mapping[int, int], only: Collection[int] | None, skip: Collection[int]
) -> list[int]:
    """The classes that give polygons, ascending.

    Raises:
        OptionError: The raster holds some, but none of them was asked for.
    """
    chosen = [value for value in there if (only is None or value in only) and value not in skip]
    if there and not chosen:
        held = ", ".join(f"{c.value} {c.name}" for c in map(classmap.info, list(there)[:30]))
        more = " and more" if len(there) > 30 else ""
        raise OptionError(f"{classmap.scene.name} holds no pixel of the classes that are left; it holds {held}{more}")
    return chosen


def became(
    classmap: ClassMap, shapes: Shapes, counts: Mapping[int, Count], before: Mapping[int, int]
) -> Iterator[ClassPolygons]:
    """What became of each class, where ``before`` says how many pixels it had."""
    exact = shapes.simplify is None and shapes.smooth is None
    for value, pixels in before.items():
        count = counts.get(value, Count(0, 0, 0.0, 0.0))
        covered = count.pixels if exact else count.drawn
        area = count.area_m2 if classmap.geobox.crs is not None and math.isfinite(count.area_m2) else None
        name = classmap.info(value).name
        yield ClassPolygons(value, name, count.polygons, count.pixels, area, (covered - pixels) / pixels)


def remarks(
    classmap: ClassMap, there: Mapping[int, int], only: Collection[int] | None, shapes: Shapes, small: int
) -> Iterator[str]:
    """What a careful reader should know of a layer."""
    if not classmap.geobox.georeferenced:
        yield "the raster has no CRS and no transform: polygons are in pixels, areas are unknown"
    elif classmap.geobox.crs is None:
        yield "the raster has no CRS: polygons keep its transform, areas are unknown"
    if not there:
        yield f"no pixel holds a class ({classmap.scene.validity}), or none that is looked at: the layer is empty"
    absent = sorted(set(only or ()) - set(there))
    if absent:
        yield f"no pixel is of class {', '.join(map(str, absent))}"
    if small:
        fate = {"merge": "have no neighbour to go to, and stay", "drop": "are left out", "keep": "are kept"}
        yield f"polygons below {shapes.min_area} that {fate[shapes.small]}: {small:,}"


def remarks_on_layer(target: Path, without_legend: int) -> Iterator[str]:
    """What a careful reader should know of the files."""
    if without_legend:
        yield f"{without_legend:,} classes without a name or a colour are not in the legend: they are too many"
    left_out = set(layer_files(target)) - set(own_files(target))
    if left_out:
        name = left_out.pop().name
        yield f"the style {name} is not written, as a raster of that name would take it for its own"
    if format_of(target).note:
        yield format_of(target).note
