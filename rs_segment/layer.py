"""How do polygons become a layer that people can open?

A GeoPackage carries its style in the table ``layer_styles``, which QGIS reads: whoever opens the file sees the classes
with their names and colours. GDAL writes the features; the style goes in by plain SQL.
"""

from __future__ import annotations

import errno
import sqlite3
import warnings
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import geopandas
import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from .card import ClassInfo
from .errors import DiskFullError, OutputError
from .geobox import GeoBox
from .polygons import PolygonBatch

COLUMNS = ("class_id", "class", "area_m2", "pixels", "confidence")
"""What is known of each polygon, in the order of the layer's columns."""

_MANY_POLYGONS = 5000
_MANY_VERTICES = 1_000_000
_STYLE_NAME = 30
# The same map gives the same bytes, so no time of writing goes into the file.
_TIME = "2000-01-01T00:00:00.000Z"
_STYLES = """CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
  f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"""
_QML = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology">
  <renderer-v2 type="categorizedSymbol" attr="class_id" forceraster="0" symbollevels="0" enableorderby="0">
    <categories>
{categories}    </categories>
    <symbols>
{symbols}    </symbols>
  </renderer-v2>
  <blendMode>0</blendMode>
  <featureBlendMode>0</featureBlendMode>
  <layerGeometryType>2</layerGeometryType>
</qgis>
"""


class GeoPackageWriter:
    """Writes polygons into a new GeoPackage, with their style; what was at the path before goes away.

    Args:
        path: The file; whole only after ``close``.
        layer_name: Name of the layer.
        crs: Of the geometries; None writes an undefined one.
        classes: Name and colour of each label, in the order of the legend; a label that is not among them is called
            "class 7" and not drawn.
        source: What the polygons were made from, for people; the layer's description.

    Raises:
        DiskFullError: The disk is full.
        OutputError: The file cannot be written for another reason; ``write`` and ``close`` raise the same.
    """

    def __init__(
        self, path: Path, layer_name: str, crs: CRS | None, classes: Sequence[ClassInfo], source: str = ""
    ) -> None:
        self._path, self._layer, self._classes, self._source = Path(path), layer_name, tuple(classes), source
        self._wkt = None if crs is None else crs.to_wkt()
        self._waiting: list[PolygonBatch] = []
        self._closed = False
        try:
            for ending in ("", "-wal", "-shm", "-journal"):
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        except OSError as error:
            raise self._failure(error) from error
        self._append(PolygonBatch.join([]), create=True)

    def write(self, batch: PolygonBatch) -> None:
        """Add polygons; they reach the file some thousands at a time."""
        if not len(batch):
            return
        self._waiting.append(batch)
        polygons = sum(len(b) for b in self._waiting)
        vertices = sum(int(shapely.get_num_coordinates(b.geometry).sum()) for b in self._waiting)
        if polygons >= _MANY_POLYGONS or vertices >= _MANY_VERTICES:
            self._flush()

    def close(self) -> Path:
        """The path of the file, to which the last polygons and the style are added."""
        if not self._closed:
            self._flush()
            try:
                with closing(sqlite3.connect(self._path)) as database, database:
                    self._add_style(database)
                    database.execute("UPDATE gpkg_contents SET last_change = ?", (_TIME,))
            except sqlite3.Error as error:
                raise self._failure(error) from error
            self._closed = True
        return self._path

    def _flush(self) -> None:
        if self._waiting:
            batch, self._waiting = PolygonBatch.join(self._waiting), []
            self._append(batch)

    def _append(self, batch: PolygonBatch, create: bool = False) -> None:
        columns = _columns(batch, self._classes)
        options = {"SPATIAL_INDEX": "YES", "DESCRIPTION": self._source} if create else {}
        try:
            with warnings.catch_warnings():
                # A raster without a CRS gives a layer without one.
                warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
                pyogrio.raw.write(
                    self._path,
                    geometry=shapely.to_wkb(batch.geometry),
                    field_data=list(columns.values()),
                    fields=list(columns),
                    layer=self._layer,
                    driver="GPKG",
                    geometry_type="Polygon",
                    crs=self._wkt,
                    append=not create,
                    layer_options=options,
                    # GDAL before 3.7, which QGIS 3.22 comes with, warns about every file of version 1.4.
                    dataset_options={"VERSION": "1.3"} if create else {},
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise self._failure(error) from error

    def _add_style(self, database: sqlite3.Connection) -> None:
        """Put the style in; a table of attributes has to be listed, else other programs take the file for damaged."""
        column = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (self._layer,)
        ).fetchone()[0]
        database.execute(_STYLES)
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
            "VALUES ('', '', ?, ?, ?, ?, '', 1, ?, '', NULL, ?)",
            (self._layer, column, self._layer[:_STYLE_NAME], categorised(self._classes), self._source, _TIME),
        )
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, 0)",
            (_TIME,),
        )

    def _failure(self, error: Exception) -> OutputError:
        """The error to raise: GDAL and SQLite only say in words that the disk is full."""
        text = str(error)
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in text or "No space left" in text:
            return DiskFullError(
                f"the disk with {self._path.parent} is full; make room, or write to another place, and run it again"
            )
        return OutputError(f"{self._path} cannot be written: {text}")


def to_geodataframe(
    batches: Iterable[PolygonBatch], geobox: GeoBox, classes: Sequence[ClassInfo] = ()
) -> geopandas.GeoDataFrame:
    """All polygons with the columns of ``COLUMNS``, in the CRS of the grid.

    Args:
        batches: As a ``Polygonizer`` gives them.
        geobox: The grid that they were made from.
        classes: Names of the labels; without one, label 7 is called "class 7".
    """
    batch = PolygonBatch.join(batches)
    crs = None if geobox.crs is None else geobox.crs.to_wkt()
    return geopandas.GeoDataFrame(_columns(batch, classes), geometry=batch.geometry, crs=crs)


def categorised(classes: Sequence[ClassInfo]) -> str:
    """A QGIS style (QML) that fills polygons by their ``class_id``: exactly these classes, in their colours."""
    categories = "".join(
        f'      <category value="{c.value}" type="long" symbol="{i}" label={quoteattr(c.name)} render="true"/>\n'
        for i, c in enumerate(classes)
    )
    return _QML.format(categories=categories, symbols="".join(_symbol(i, c) for i, c in enumerate(classes)))


def _symbol(index: int, info: ClassInfo) -> str:
    options = {
        "color": ",".join(map(str, (*info.rgb, 255))),
        "outline_color": ",".join(str(value * 6 // 10) for value in info.rgb) + ",255",
        "outline_style": "solid",
        "outline_width": "0.1",
        "outline_width_unit": "MM",
        "style": "solid",
    }
    lines = "".join(f'          <Option type="QString" name="{k}" value="{v}"/>\n' for k, v in options.items())
    # QGIS before 3.26 reads a symbol's properties from prop elements only.
    old = "".join(f'        <prop k="{k}" v="{v}"/>\n' for k, v in options.items())
    return (
        f'      <symbol type="fill" name="{index}" alpha="1" clip_to_extent="1" force_rhr="0">\n'
        f'        <layer class="SimpleFill" enabled="1" locked="0" pass="0">\n'
        f'        <Option type="Map">\n{lines}        </Option>\n{old}        </layer>\n      </symbol>\n'
    )


def _columns(batch: PolygonBatch, classes: Sequence[ClassInfo]) -> dict[str, NDArray[Any]]:
    names = np.array([f"class {value}" for value in range(256)], dtype=object)
    for info in classes:
        names[info.value] = info.name
    values = (batch.class_id.astype(np.int32), names[batch.class_id], batch.area_m2, batch.pixels, batch.confidence)
    return dict(zip(COLUMNS, values, strict=True))
