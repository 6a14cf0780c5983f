"""Where do the results go? One row band after the other into rasters and polygons, all of them whole or absent."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.windows import Window

from .card import ClassInfo
from .classmap import find_classes
from .drawing import Drawing
from .errors import OptionError, OutputError
from .geobox import GeoBox
from .layer import LayerSpec, LayerWriter, open_layer
from .polygons.sieve import Sieve
from .result import UNCLASSIFIED_CLASS, Tally
from .stitch import Band
from .types import NODATA, PROBABILITY_STEPS, Labels, Outputs, Prediction
from .workfolder import WorkFolder, disk_errors, publish, refuse_existing
from .writer import RasterSpec, RasterWriter, write_confidence_style, write_styles

COMMIT_SECONDS = 2.0
SIBLINGS = ("_confidence.tif", "_probabilities.tif", ".gpkg")
REPLAY_ROWS = 512
COUNT_ROWS = 128
CHECK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Targets:
    """The names of the results.

    Args:
        classes: The class raster.
        confidence, probabilities, polygons: The others, or None where they are not wanted.
        new_folder: Whether their folder may be made.
    """

    classes: Path
    confidence: Path | None = None
    probabilities: Path | None = None
    polygons: Path | None = None
    new_folder: bool = False

    @classmethod
    def beside(cls, scene: str, output: str | Path | None, outputs: Outputs) -> Targets:
        """The names of what a scene's segmentation writes.

        Args:
            scene: Path or address of the scene.
            output: A ``.tif`` file, or a folder, which is made when its name ends in a slash; None writes
                ``NAME_classes.tif`` beside the scene, or in the current folder for a scene that is an address.
            outputs: What is wanted.
        """
        scene = scene.removeprefix("file://")
        remote = "://" in scene or scene.startswith("/vsi")
        last = scene.split("?")[0].rstrip("/").rsplit("/", 1)[-1] if remote else Path(scene).name
        stem = Path(last).stem or "scene"
        here = Path() if remote else Path(scene).parent
        if output is None:
            classes = here / f"{stem}_classes.tif"
        elif Path(output).is_dir() or str(output).endswith(("/", "\\")):
            classes = Path(output) / f"{stem}_classes.tif"
        elif Path(output).suffix.lower() in (".tif", ".tiff"):
            classes = Path(output)
        else:
            raise OptionError(f"the output {output} must end in .tif, or be a folder that exists")

        def named(wanted: bool | str | Path, suffix: str) -> Path | None:
            if isinstance(wanted, bool):
                return classes.with_name(classes.stem + suffix) if wanted else None
            endings = (".tif", ".tiff") if suffix.endswith(".tif") else (".gpkg",)
            if Path(wanted).suffix.lower() not in endings:
                raise OptionError(f"{wanted} must end in {endings[0]}; only that is written there")
            return Path(wanted)

        return cls(
            classes,
            named(outputs.confidence, SIBLINGS[0]),
            named(outputs.probabilities, SIBLINGS[1]),
            named(outputs.polygons, SIBLINGS[2]),
            new_folder=str(output or "").endswith(("/", "\\")),
        )

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file that is wanted."""
        return tuple(p for p in (self.classes, self.confidence, self.probabilities, self.polygons) if p is not None)

    @property
    def others(self) -> tuple[Path, ...]:
        """Files that another run for the same class raster has left, and this one does not make."""
        siblings = (self.classes.with_name(self.classes.stem + end) for end in SIBLINGS)
        return tuple(p for p in siblings if p not in self.all and p.exists())

    def make_room(self, inputs: Iterable[str | Path | None], outputs: Outputs) -> None:
        """Refuse names that are taken, those of the inputs above all; make the folder where one was asked for.

        Raises:
            OptionError: A result would replace something that is read.
            OutputExistsError, OutputError: A name is taken, or the folder cannot be written to.
        """
        read = [Path(str(i).removeprefix("file://")) for i in inputs if i is not None]
        if len({os.path.realpath(target) for target in self.all}) < len(self.all):
            raise OptionError(f"two results have the same name ({', '.join(map(str, self.all))}); give each its own")
        for target in self.all:
            for path in read:
                if target.exists() and path.exists() and target.samefile(path):
                    what = "the scene itself" if path == read[0] else "the area of interest"
                    raise OptionError(f"the output {target} is {what}; choose another name with -o")
        if self.new_folder:
            with disk_errors(self.classes.parent):
                self.classes.parent.mkdir(parents=True, exist_ok=True)
        if not outputs.resume:
            refuse_existing(self.all, outputs.overwrite)


class Products:
    """The results of one scene while they are being made.

    ``write`` and ``draw`` are for one thread each; both take the same bands, from top to bottom.
    """

    def __init__(
        self,
        targets: Targets,
        geobox: GeoBox,
        classes: tuple[ClassInfo, ...],
        outputs: Outputs,
        plan: Mapping[str, Any],
        tags: Mapping[str, Any],
    ) -> None:
        self._targets, self._outputs, self._classes, self._geobox = targets, outputs, classes, geobox
        self._folder = WorkFolder.open(targets.classes, dict(plan), outputs.resume)
        self._may_replace = outputs.overwrite or (self._folder.resumed and self._folder.publishing)
        self._tags = {"RS_SEGMENT": json.dumps(tags, sort_keys=True), "TIFFTAG_SOFTWARE": str(tags["software"])}
        self.tally = Tally(geobox, classes)
        self._committed = time.monotonic()
        shapes = outputs.shapes
        skip = find_classes(shapes.skip, self._legend, "the model")
        self._drawing = Drawing(geobox, shapes, skip=skip) if targets.polygons is not None else None
        self._sieve = Sieve(geobox.shape, shapes.sieve) if shapes.sieve else None
        self._settled = 0
        try:
            refuse_existing(targets.all, self._may_replace)
            self._rasters = dict(self._open_rasters())
            self._layer = self._open_layer(str(tags["scene"]))
        except BaseException:
            self._folder.close(keep=self._folder.resumed)
            raise
        self._written = {name: raster.rows_done for name, raster in self._rasters.items()}
        # What is sieved lags behind what is known.
        known = [rows for name, rows in self._written.items() if self._sieve is None or name != "classes"]
        self.rows_done = min(known)

    @property
    def _legend(self) -> tuple[ClassInfo, ...]:
        return (*self._classes, UNCLASSIFIED_CLASS) if self._outputs.min_confidence > 0 else self._classes

    def _open_rasters(self) -> Iterator[tuple[str, RasterWriter]]:
        colors = {c.value: c.rgb for c in self._legend}
        names = {c.value: c.name for c in self._legend}
        labels = RasterSpec(self._geobox, ("class",), "mode", NODATA, colors, names, self._tags, self._outputs.format)
        yield "classes", RasterWriter(self._folder, "classes", labels)
        if self._sieve is not None:
            # A resumed run sieves from the first row again.
            yield "labels", RasterWriter(self._folder, "labels", labels)
        scale = {**self._tags, "RS_SEGMENT_SCALE": f"value / {PROBABILITY_STEPS} = probability"}
        # Polygons carry their mean confidence, which a resumed run has to know of the rows that it does not do again.
        if self._outputs.confidence or self._outputs.polygons:
            spec = RasterSpec(self._geobox, ("confidence",), "mean", NODATA, {}, {}, scale, self._outputs.format)
            yield "confidence", RasterWriter(self._folder, "confidence", spec)
        if self._outputs.probabilities:
            bands = tuple(c.name for c in self._classes)
            spec = RasterSpec(self._geobox, bands, "mean", NODATA, {}, {}, scale, self._outputs.format)
            yield "probabilities", RasterWriter(self._folder, "probabilities", spec)

    def _open_layer(self, scene: str) -> LayerWriter | None:
        if self._targets.polygons is None:
            return None
        name, dissolved = self._targets.polygons.stem, self._outputs.shapes.dissolve
        spec = LayerSpec(name, self._geobox.crs, self._legend, scene, dissolved)
        writer = open_layer(self._folder.path / "polygons.gpkg", spec)
        self._folder.resources.callback(writer.abandon)
        return writer

    def replay(self) -> Iterator[Band]:
        """What an interrupted run had finished, as bands; what is written of them is not written again."""
        width = self._geobox.shape[1]
        for top in range(0, self.rows_done, REPLAY_ROWS):
            stop = min(top + REPLAY_ROWS, self.rows_done)
            labels = self._rasters["classes" if self._sieve is None else "labels"].read_back(top, stop)[0]
            known = "confidence" in self._rasters
            confidence = self._rasters["confidence"].read_back(top, stop)[0] if known else None
            yield Band(Window(0, top, width, stop - top), Prediction(labels, confidence))

    def write(self, band: Band) -> None:
        """Put a band into the rasters, and make it durable every few seconds."""
        labels = band.prediction.labels
        for name in self._rasters:
            if name != "classes":
                self._put(name, band.window.row_off, getattr(band.prediction, name))
        self._settle(labels if self._sieve is None else self._sieve.feed(labels))
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()

    def _put(self, name: str, top: int, rows: Labels | None) -> None:
        """Write those rows of a raster that are not written."""
        start = self._written[name] - top
        if rows is not None and start < rows.shape[-2]:
            self._rasters[name].write(rows[..., max(start, 0) :, :])
            self._written[name] = top + rows.shape[-2]

    def _settle(self, labels: Labels) -> None:
        """Count and write the next rows of the class raster."""
        for top in range(0, len(labels), COUNT_ROWS):
            self.tally.add(self._settled + top, labels[top : top + COUNT_ROWS])
        self._put("classes", self._settled, labels)
        self._settled += len(labels)

    def commit(self) -> None:
        """Make what is written durable."""
        for raster in self._rasters.values():
            raster.commit()
        self._committed = time.monotonic()

    def draw(self, band: Band) -> None:
        """Put the polygons that a band completes into the layer."""
        if self._layer is not None and self._drawing is not None:
            self._layer.write(self._drawing.feed(band.prediction.labels, band.prediction.confidence))

    def finish(self) -> None:
        """Check all results and move them to their names, then forget the work folder."""
        if self._sieve is not None:
            self._settle(self._sieve.finish())
        missing = {name: self._geobox.shape[0] - rows for name, rows in self._written.items()}
        if any(missing.values()):
            raise OutputError(f"{self._targets.classes} lacks rows: {missing}")
        with rasterio.Env(GDAL_CACHEMAX=CHECK_BYTES):
            pairs = list(self._finished())
        refuse_existing([final for _, final in pairs], self._may_replace)
        self._folder.begin_publishing()
        publish(pairs, overwrite=True)
        write_styles(self._targets.classes, self._legend)
        for raster in (self._targets.confidence, self._targets.probabilities):
            if raster is not None:
                write_confidence_style(raster)
        self._folder.close(keep=False)

    def _finished(self) -> Iterator[tuple[Path, Path]]:
        """(complete file in the work folder, final name) of each result, the class raster last."""
        for name, final in (("confidence", self._targets.confidence), ("probabilities", self._targets.probabilities)):
            if final is not None:
                yield self._rasters[name].finish(), final
        if self._layer is not None and self._drawing is not None and self._targets.polygons is not None:
            self._layer.write(self._drawing.finish())
            yield self._layer.close()[0], self._targets.polygons
        yield self._rasters["classes"].finish(), self._targets.classes

    def remarks(self) -> Iterator[str]:
        """What a careful reader should know of the polygons."""
        shapes = self._outputs.shapes
        if self._drawing is None or not (shapes.simplify or shapes.smooth or shapes.min_area):
            return
        pixels = {area.value: area.pixels for area in self.tally.areas if area.pixels}
        names = {info.value: info.name for info in self._legend}
        drawn = {value: count.drawn for value, count in self._drawing.counts.items()}
        changes = {v: drawn.get(v, 0.0) / pixels[v] - 1 for v in pixels if v in drawn or not shapes.skip}
        if changes:
            most = max(changes, key=lambda value: abs(changes[value]))
            yield (
                "polygons are generalised, the class raster is not: their area differs by up to "
                f"{changes[most]:+.2%} ({names[most]})"
            )

    def abandon(self, keep: bool) -> bool:
        """Let go of the work folder; ``keep`` leaves what is durable for a later run with ``resume``.

        Returns:
            Whether there was anything to keep.
        """
        kept = keep and sum(self._written.values()) > 0
        self._folder.close(keep=kept)
        return kept
