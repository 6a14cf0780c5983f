"""How do polygons become a layer that people can open, in the format that a file's ending names?

``FORMATS`` lists the writers. All take polygons as they come and have whole files at the end; they write to the path
that they are given, and whoever gives it sees to it that the files get their names when they are whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import geopandas

from ..card import ClassInfo
from ..errors import OptionError
from ..geobox import GeoBox
from ..polygons import PolygonBatch
from . import geopackage
from .converted import ConvertedWriter, Driver
from .features import LayerSpec, columns
from .geojson import GeoJSONWriter
from .geoparquet import GeoParquetWriter


class LayerWriter(Protocol):
    """Takes polygons and makes files of them; used by one thread at a time."""

    def write(self, batch: PolygonBatch) -> None:
        """Add polygons."""

    def close(self) -> tuple[Path, ...]:
        """The files, whole now: the layer's own first, then those that belong to it. A second call gives the same."""

    def abandon(self) -> None:
        """Let go of the files, whole or not, so that they can be removed. A second call does nothing."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of layers.

    Args:
        name: For people.
        open: The writer of a layer, at a path.
        beside: Endings, instead of the layer's own, of the other files that a layer may have.
        note: What a careful reader should know of every layer in this format; empty for nothing.
    """

    name: str
    open: Callable[[Path, LayerSpec], LayerWriter]
    beside: tuple[str, ...] = (".qml",)
    note: str = ""


_FLATGEOBUF = Driver("FlatGeobuf")
_SHAPEFILE = Driver(
    "ESRI Shapefile",
    # What the format allows is up to 4 GB; not every program reads more than 2.
    {"ENCODING": "UTF-8", "2GB_LIMIT": "YES", "DBF_DATE_LAST_UPDATE": "2000-01-01"},
    beside=(".shx", ".dbf", ".prj", ".cpg"),
    renamed={"perimeter_m": "perim_m", "confidence_min": "conf_min"},
)
_GEOJSON = Format(
    "GeoJSON", GeoJSONWriter, note="GeoJSON is in longitude and latitude (WGS 84), rounded to 7 decimals, about 1 cm"
)

FORMATS: dict[str, Format] = {
    ".gpkg": Format("GeoPackage", geopackage.GeoPackageWriter, beside=()),
    ".fgb": Format("FlatGeobuf", partial(ConvertedWriter, driver=_FLATGEOBUF)),
    ".parquet": Format("GeoParquet", GeoParquetWriter),
    ".geojson": _GEOJSON,
    ".json": _GEOJSON,
    ".shp": Format(
        "Shapefile",
        partial(ConvertedWriter, driver=_SHAPEFILE),
        beside=(*_SHAPEFILE.beside, ".qml"),
        note="a Shapefile has names of columns of at most 10 letters (perimeter_m is perim_m, confidence_min is "
        "conf_min), texts of at most 254 bytes, and files of at most 2 GB",
    ),
}
"""The formats by the ending of a file."""


def format_of(path: Path) -> Format:
    """The format of a layer at a path.

    Raises:
        OptionError: No format has the ending.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise OptionError(f"no layer can be written to {path}; its name must end in {', '.join(FORMATS)}")
    return FORMATS[ending]


def layer_files(path: Path) -> tuple[Path, ...]:
    """Every file that a layer at a path may be made of, its own first."""
    return (path, *(path.with_suffix(ending) for ending in format_of(path).beside))


def open_layer(path: Path, spec: LayerSpec, into: Path | None = None, replace: bool = False) -> LayerWriter:
    """The writer of a layer at a path, in the format that its ending names.

    Args:
        path: The file; whole only after the writer's ``close``.
        spec: The layer.
        into: A GeoPackage whose other layers the file is to have as well; it is only read.
        replace: Whether ``into`` may have a layer of this name, which is left out.

    Raises:
        OptionError: No format has the ending, or the format cannot hold this layer, or needs what is not installed.
        OutputExistsError: ``into`` has a layer of this name.
        DiskFullError, OutputError: The file cannot be written.
    """
    chosen = format_of(path)
    if into is None:
        return chosen.open(path, spec)
    if path.suffix.lower() != ".gpkg":
        raise OptionError(f"a {chosen.name} holds one layer, so none can be added to {into}; choose .gpkg for that")
    return geopackage.GeoPackageWriter(path, spec, into, replace)


def to_geodataframe(
    batches: Iterable[PolygonBatch], geobox: GeoBox, classes: Sequence[ClassInfo] = (), source: str = ""
) -> geopandas.GeoDataFrame:
    """All polygons with the columns of ``COLUMNS``, in the CRS of the grid.

    Args:
        batches: As a ``Polygonizer`` gives them.
        geobox: The grid that they were made from.
        classes: Names and colours of the labels; without one, label 7 is called "class 7" and has no colour.
        source: What the polygons were made from, for people.
    """
    batch = PolygonBatch.join(batches)
    crs = None if geobox.crs is None else geobox.crs.to_wkt()
    return geopandas.GeoDataFrame(columns(batch, classes, source), geometry=batch.geometry, crs=crs)
