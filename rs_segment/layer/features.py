"""What is every layer of polygons made of, whatever the format?"""

from __future__ import annotations

import math
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from ..card import ClassInfo
from ..errors import DiskFullError, OptionError, OutputError, RsSegmentError
from ..polygons import PolygonBatch
from ..workfolder import disk_errors

COLUMNS: Mapping[str, type] = {
    "class_id": int,
    "class": str,
    "color": str,
    "area_m2": float,
    "perimeter_m": float,
    "pixels": int,
    "confidence": float,
    "confidence_min": float,
    "source": str,
}
"""What is known of each polygon, in the order of the layer's columns; what is not known is null, not left out."""

DTYPES: Mapping[type, type] = {int: np.int64, float: np.float64, str: object}
"""How numpy holds each kind of column."""

# How GDAL, SQLite and Arrow, which keep the number of the error to themselves, say that there is no room.
_FULL = ("disk is full", "No space left", "File too large", "quota exceeded", "I/O failure", "disk I/O error")
_ROOM = 1 << 20
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


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What a layer of polygons is to be.

    Args:
        name: Of the layer.
        crs: Of the geometries; None where nothing is known of it.
        classes: Name and colour of each class, in the order of the legend; a class that is not among them is called
            "class 7", has no colour and is not drawn.
        source: What the polygons were made from, for people.
        dissolved: Whether all geometries are to be multipolygons.
    """

    name: str
    crs: CRS | None
    classes: tuple[ClassInfo, ...] = ()
    source: str = ""
    dissolved: bool = False

    @property
    def geometry_type(self) -> str:
        """Of every feature, in the words of OGC."""
        return "MultiPolygon" if self.dissolved else "Polygon"

    @property
    def wkt(self) -> str | None:
        """The CRS as text."""
        return None if self.crs is None else str(self.crs.to_wkt())

    def geometries(self, batch: PolygonBatch) -> NDArray[np.object_]:
        """object (n,), the geometries of a batch, all of one type.

        Raises:
            OptionError: There are multipolygons, and the layer is one of polygons.
        """
        single = shapely.get_type_id(batch.geometry) == shapely.GeometryType.POLYGON
        if not self.dissolved and not single.all():
            raise OptionError(f"layer {self.name!r} takes polygons, but is given multipolygons; open it as dissolved")
        if not self.dissolved or not single.any():
            return batch.geometry
        whole = batch.geometry.copy()
        whole[single] = shapely.multipolygons(whole[single], indices=np.arange(np.count_nonzero(single)))
        return whole


def columns(batch: PolygonBatch, classes: Sequence[ClassInfo], source: str) -> dict[str, NDArray[Any]]:
    """The columns of ``COLUMNS``, each (n,); numbers that are not known are NaN, words None.

    Args:
        batch: The polygons.
        classes: Name and colour of each class.
        source: What the polygons were made from.
    """
    names, colors, which = named(batch, classes)
    found = {
        "class_id": batch.class_id,
        "class": np.array(names, object)[which],
        "color": np.array(colors, object)[which],
        "area_m2": batch.area_m2,
        "perimeter_m": batch.perimeter_m,
        "pixels": batch.pixels,
        "confidence": batch.confidence,
        "confidence_min": batch.confidence_min,
        "source": np.full(len(batch), source, object),
    }
    return {name: found[name].astype(DTYPES[kind], copy=False) for name, kind in COLUMNS.items()}


def named(batch: PolygonBatch, classes: Sequence[ClassInfo]) -> tuple[list[str], list[str | None], NDArray[np.int64]]:
    """(names of the classes that occur, their colours, which of them each polygon is of)."""
    known = {info.value: (info.name, info.color.lower()) for info in classes}
    values, which = np.unique(batch.class_id, return_inverse=True)
    told = [known.get(value, (f"class {value}", None)) for value in values.tolist()]
    return [name for name, _ in told], [color for _, color in told], which


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


@contextmanager
def layer_errors(path: Path, room: int = _ROOM) -> Iterator[None]:
    """Turns what goes wrong while a layer is written into this package's errors.

    Args:
        path: The file.
        room: Bytes; on a disk with less, a failure that nobody gives a reason for is put down to that.

    Raises:
        DiskFullError: The disk, a quota or a limit on the size of files leaves no room.
        OutputError: Anything else.
    """
    try:
        with disk_errors(path.parent):
            yield
    except RsSegmentError:
        raise
    except (RuntimeError, ValueError, sqlite3.Error) as error:
        # GDAL quotes all of the SQL that failed, and says why at the end.
        said = str(error).rsplit(") failed: ", 1)[-1]
        if any(words in said for words in _FULL) or _free(path.parent) < room:
            raise DiskFullError(
                f"{path.parent} takes no more data ({said}); make room there, or write to another place, and run again"
            ) from error
        raise OutputError(f"{path} cannot be written: {said}") from error


def _free(folder: Path) -> float:
    """Bytes that are free on the disk of a folder; no end of them where it is not known."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return math.inf
