"""How do polygons become GeoParquet, some thousands at a time?

Version 1.1.0 of the standard (https://geoparquet.org/releases/v1.1.0/): WKB, with the box of each polygon in a column
of its own, by which readers leave out what they do not need. Needs pyarrow.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS

from ..errors import OptionError, OutputError
from ..polygons import PolygonBatch
from ..workfolder import write_whole
from .features import COLUMNS, LayerSpec, categorised, columns, layer_errors
from .wkb import encode

ROWS = 16384
"""Polygons that are held until they are written together, as a row group."""

_GEOMETRY, _BOX = "geometry", "bbox"
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class GeoParquetWriter:
    """Writes polygons as GeoParquet, and their style beside it; what was at the paths before goes away.

    Args:
        path: The file; whole only after ``close``.
        spec: The layer.

    Raises:
        OptionError: pyarrow is not installed.
        DiskFullError: The disk is full.
        OutputError: The file cannot be written for another reason; ``write`` and ``close`` raise the same.
    """

    def __init__(self, path: Path, spec: LayerSpec) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise OptionError(
                "GeoParquet needs pyarrow, which is not installed: pip install rs-segment[parquet], or choose .gpkg"
            ) from error
        self._path, self._spec, self._arrow = Path(path), spec, pyarrow
        self._waiting: list[PolygonBatch] = []
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
        self._whole = False
        kinds = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
        self._box = pyarrow.struct([(side, pyarrow.float64()) for side in _SIDES])
        fields = [*((name, kinds[kind]) for name, kind in COLUMNS.items()), (_GEOMETRY, pyarrow.binary())]
        self._schema = pyarrow.schema([*fields, (_BOX, self._box)])
        with layer_errors(self._path):
            # pyarrow does not say which error a disk gave; a file of Python does.
            self._file = open(self._path, "wb")  # noqa: SIM115
            self._writer = pyarrow.parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    def write(self, batch: PolygonBatch) -> None:
        """Add polygons."""
        if self._file.closed:
            raise OutputError(f"{self._path} is closed")
        if len(batch):
            self._waiting.append(batch)
        if sum(map(len, self._waiting)) < ROWS:
            return
        # How polygons are grouped must not depend on how many come at a time.
        joined = PolygonBatch.join(self._waiting)
        whole = len(joined) - len(joined) % ROWS
        for start in range(0, whole, ROWS):
            self._put(joined.take(np.arange(start, start + ROWS)))
        self._waiting = [joined.take(np.arange(whole, len(joined)))]

    def close(self) -> tuple[Path, ...]:
        """(the file, its style)."""
        style = self._path.with_suffix(".qml")
        if not self._whole:
            rest, self._waiting = PolygonBatch.join(self._waiting), []
            self._put(rest)
            with layer_errors(self._path):
                self._writer.add_key_value_metadata({"geo": json.dumps(self._describe(), ensure_ascii=False)})
                self._writer.close()
                self._file.close()
                write_whole(style, categorised(self._spec.classes))
            self._whole = True
        return self._path, style

    def abandon(self) -> None:
        """Let go of the file, whole or not."""
        with suppress(OSError, ValueError):
            self._writer.close()
        with suppress(OSError):
            self._file.close()

    def _put(self, batch: PolygonBatch) -> None:
        """Write polygons as a row group."""
        if self._file.closed:
            raise OutputError(f"{self._path} is closed")
        if not len(batch):
            return
        arrow, geometry = self._arrow, self._spec.geometries(batch)
        bounds = shapely.bounds(geometry)
        # pyarrow 26 never lets go of a memoryview that it has read.
        shapes = list(map(bytes, encode(geometry)))
        values = [*columns(batch, self._spec.classes, self._spec.source).values(), shapes]
        types = self._schema.types[:-1]
        arrays = [arrow.array(value, kind, from_pandas=True) for value, kind in zip(values, types, strict=True)]
        boxes = arrow.StructArray.from_arrays([arrow.array(side) for side in bounds.T], fields=list(self._box))
        with layer_errors(self._path):
            self._writer.write_table(arrow.table([*arrays, boxes], schema=self._schema))
        self._bounds[:2] = np.minimum(self._bounds[:2], bounds[:, :2].min(axis=0))
        self._bounds[2:] = np.maximum(self._bounds[2:], bounds[:, 2:].max(axis=0))

    def _describe(self) -> dict[str, Any]:
        """The metadata of the standard."""
        crs = self._spec.wkt
        column = {
            "encoding": "WKB",
            "geometry_types": [self._spec.geometry_type],
            # Without this key readers would take the CRS for WGS 84.
            "crs": None if crs is None else CRS.from_wkt(crs).to_json_dict(),
            "edges": "planar",
            "orientation": "counterclockwise",
            "covering": {"bbox": {side: [_BOX, side] for side in _SIDES}},
        }
        if np.isfinite(self._bounds).all():
            column["bbox"] = self._bounds.tolist()
        return {"version": "1.1.0", "primary_column": _GEOMETRY, "columns": {_GEOMETRY: column}}
