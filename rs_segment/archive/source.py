"""Where is a scene of an archive, and how is it opened when it lies in several files?"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely

from ..errors import BandError, GridError, PixelTypeError, SceneError
from ..result import without_secrets
from ..scene import Scene
from ..types import View
from ..workfolder import disk_errors, write_whole
from .footprint import BBox
from .hrefs import gdal_name
from .period import Period
from .vrt import TYPES, Layer, stack


@dataclass(frozen=True, slots=True)
class Source:
    """A scene of an archive: where it is, and what its results are called.

    Args:
        id: Safe as a part of a file name, and unique in a run also where upper and lower case are the same; results are
            ``ID_classes.tif`` and so on.
        location: Path or address of the raster; of a scene in several files, that of the first.
        assets: The files of a scene that lies in several, one a band of the model, in its order; else empty.
        bands: 1-based band of ``location``, or of each of ``assets``, where the catalogue says which; else empty.
        names: Names of the model's bands, for the file that joins ``assets``.
        bbox: (west, south, east, north) in degrees, where known; east is less than west across the 180th meridian.
        datetime: RFC 3339, or "start/end", where it is known.
        item: Path or address of the STAC Item that it came from.
        nodata: Value of missing pixels that the catalogue tells, for files that tell none, as with JPEG 2000.
        refused: Why it cannot be done, in a sentence: a catalogue names it, but what is said of it cannot be used. It
            is to be recorded as failed; "" for all others.
    """

    id: str
    location: str
    assets: tuple[str, ...] = ()
    bands: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    bbox: BBox | None = None
    datetime: str | None = None
    item: str | None = None
    nodata: float | None = None
    refused: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read, as paths and addresses."""
        return self.assets or (self.location,)

    def placed(self, bbox: BBox | None, datetime: str | None) -> Source:
        """The same with where and when it was."""
        return replace(self, bbox=bbox, datetime=datetime)

    def scene(self, folder: Path) -> str:
        """What ``segment`` opens: ``location``, or a small VRT that joins the assets, written into a folder.

        The VRT is not written anew as long as it would be the same.

        Args:
            folder: Where the VRT lies, as ``ID.vrt``; made if it is missing.

        Raises:
            SceneError: An asset cannot be opened.
            BandError, GridError, PixelTypeError: The assets do not fit together.
            OutputError: The VRT cannot be written.
        """
        if not self.assets:
            return self.location
        bands = zip(self.assets, self.bands, self.names, strict=True)
        text = stack(_fitting([_layer(*band, self.nodata) for band in bands]))
        path = folder / f"{self.id}.vrt"
        with disk_errors(folder):
            while not path.is_file() or path.read_bytes() != text.encode():
                with suppress(FileExistsError):
                    folder.mkdir()
                # Another run on the same results removes the folder when it ends, if nothing is in it.
                with suppress(FileNotFoundError):
                    write_whole(path, text)
        return str(path)

    def seen(self, view: View) -> View:
        """How ``segment`` looks at it: a view with what the catalogue tells, where the user and the file do not.

        Raises:
            SceneError: The file cannot be opened.
        """
        if self.assets:
            return view
        nodata = view.nodata
        if nodata is None and self.nodata is not None:
            with Scene.open(self.location) as scene:
                nodata = self.nodata if _all_valid(scene) else None
        return replace(view, bands=view.bands or self.bands or None, nodata=nodata)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A scene as it was found, before it is known whether it is wanted, and what it is called.

    Args:
        source: With whatever id the catalogue gives it.
        place: Where it lies, in degrees, or None where that is not known.
        when: Its time, or None.
    """

    source: Source
    place: shapely.Geometry | None = None
    when: Period | None = None


def _all_valid(scene: Scene) -> bool:
    """Whether a file tells of no missing pixels."""
    return not scene.masked and not any(b.alpha for b in scene.bands) and all(v is None for v in scene.nodata)


def _layer(file: str, band: int, name: str, nodata: float | None) -> Layer:
    with Scene.open(file) as scene:
        shown = without_secrets(file)
        if band > len(scene.bands):
            raise BandError(f"{shown} has {len(scene.bands)} bands, and no band {band} to read {name} from")
        if scene.ground_control:
            raise GridError(f"{shown} has {scene.ground_control} instead of a regular grid; warp it first")
        if scene.masked or any(b.alpha for b in scene.bands):
            raise SceneError(
                f"{shown} has a mask of its own, which would be lost in joining it with other files; stack them into "
                "one file with a nodata value first"
            )
        found = scene.bands[band - 1]
        if found.dtype not in TYPES:
            raise PixelTypeError(f"{shown} holds {found.dtype} values; a model reads real numbers only")
        place = gdal_name(file) if "://" in file else str(Path(file).resolve())
        own = scene.nodata[band - 1]
        return Layer(place, band, name, found.dtype, nodata if own is None else own, scene.block, scene.source_box)


def _fitting(layers: list[Layer]) -> list[Layer]:
    """The layers, if they lie over the same place, and coarser pixels are made of whole finer ones.

    Raises:
        GridError: They do not.
    """
    fine = max(layers, key=lambda layer: layer.box.shape)
    for layer in layers:
        (height, width), (tall, wide) = fine.box.shape, layer.box.shape
        apart = np.subtract(layer.box.corners, fine.box.corners)
        across = max(fine.box.resolution)
        if layer.box.crs != fine.box.crs or height % tall or width % wide or np.abs(apart).max() > 0.01 * across:
            raise GridError(
                f"{layer.file} ({wide} x {tall} px) does not lie on the grid of {fine.file} ({width} x {height} px); "
                "bring them onto one grid first, for example with rio warp --like"
            )
    return layers
