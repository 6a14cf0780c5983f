"""Which scenes does a table name? A GeoPackage, GeoParquet or other layer with a column of paths or addresses.

It may be what ``gdaltindex``, QGIS or stac-geoparquet wrote. Columns ``id`` and ``datetime`` are taken where they are
there; geometries tell where scenes lie.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from ..errors import OptionError, SceneError
from .footprint import bbox
from .hrefs import UnfitError, ending, locate, stem
from .period import Period
from .source import Candidate, Source
from .stac import Choosing, from_item, refusal

ENDINGS = (".gpkg", ".fgb", ".shp", ".parquet", ".geoparquet")
LOCATIONS = ("location", "path", "href")
"""Columns that hold paths or addresses, the first one that is there."""


def rows(path: str, location: str | None, choosing: Choosing) -> Iterator[Candidate]:
    """The scene of each row.

    Args:
        path: The file.
        location: The column with paths or addresses; None looks for one of ``LOCATIONS``, then for STAC's ``assets``.
        choosing: Which assets are read, in a table of STAC Items.

    Raises:
        SceneError: The file cannot be read.
        OptionError: There is no such column.
    """
    table, places = read_layer(path)
    columns = [str(c) for c in table.columns]
    known = [c for c in columns if c.lower() in LOCATIONS]
    column = location or min(known, key=lambda c: LOCATIONS.index(c.lower()), default=None)
    if location is None and column is None and "assets" in columns:
        column = "assets"
    if column not in columns:
        what = f"no column {column!r:.60}" if column else f"none of the columns {', '.join(LOCATIONS)}"
        there = f"{', '.join(columns):.300}"
        raise OptionError(f"{path} has {what}; say which one names the scenes with --location: {there}")
    named = table.drop(columns=table.active_geometry_name) if hasattr(table, "active_geometry_name") else table
    for number, (row, place) in enumerate(zip(named.to_dict("records"), places, strict=True), start=1):
        yield _row(row, column, place, f"{stem(path)}-{number}", path, choosing)


def _row(
    row: Mapping[str, Any], column: str, place: shapely.Geometry | None, number: str, path: str, choosing: Choosing
) -> Candidate:
    told = row.get("id")
    name = str(told) if isinstance(told, (str, int, np.integer)) and str(told).strip() else None
    when = _when(row)
    if column == "assets":
        assets = {k: v for k, v in row["assets"].items() if v} if isinstance(row["assets"], Mapping) else None
        item = {"id": name or number, "assets": _plain(assets), "geometry": None}
        found = from_item(item, path, None, choosing)
    else:
        try:
            file = locate(row[column], path)
            found = Candidate(Source(name or stem(file), file))
        except UnfitError as error:
            found = refusal(name or number, path, str(error))
    source = found.source.placed(None if place is None else bbox(place), None if when is None else str(when))
    return Candidate(source, place, when)


def _when(row: Mapping[str, Any]) -> Period | None:
    """The time of a row: of its ``datetime``, or from its ``start_datetime`` to its ``end_datetime``."""
    single, start, end = (_text(row.get(key)) for key in ("datetime", "start_datetime", "end_datetime"))
    text = single or (f"{start or '..'}/{end or '..'}" if start or end else "")
    try:
        return Period.parse(text) if text else None
    except ValueError:
        return None


def _text(value: Any) -> str:
    """A cell with a time as RFC 3339; "" where there is none."""
    # Missing times are values that differ from themselves.
    if value is None or value != value:
        return ""
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _plain(value: Any) -> Any:
    """Arrays and structures of a parquet file as lists and dicts, without what is missing."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    return value


def read_layer(path: str) -> tuple[Any, Sequence[shapely.Geometry | None]]:
    """(the only layer of a file as a data frame, where each row lies in degrees, None where nobody can know).

    Raises:
        SceneError: The file cannot be read, or has several layers.
    """
    if not Path(path).is_file():
        raise SceneError(f"{path} does not exist")
    try:
        with warnings.catch_warnings():
            # What GDAL finds odd in a table that it reads all the same is not for the users of this one.
            warnings.simplefilter("ignore")
            table = _read(path)
            return table, _places(table)
    except SceneError:
        raise
    except ImportError:
        raise SceneError(f"{path} is a Parquet file, which needs pyarrow: pip install pyarrow") from None
    except Exception as error:
        raise SceneError(f"{path} cannot be read as a layer: {error!s:.300}") from error


def _read(path: str) -> Any:
    import geopandas
    import pyogrio

    if ending(path) in (".parquet", ".geoparquet"):
        return geopandas.read_parquet(path)
    layers = pyogrio.list_layers(path)
    names = [name for name, kind in layers if kind is not None] or list(layers[:, 0])
    if len(names) != 1:
        raise SceneError(f"{path} has {len(names)} layers ({', '.join(names):.200}); give it one")
    return geopandas.read_file(path, layer=names[0], engine="pyogrio")


def _places(table: Any) -> Sequence[shapely.Geometry | None]:
    geometry = getattr(table, "geometry", None)
    if geometry is None or table.crs is None:
        return [None] * len(table)
    moved = geometry.to_crs("OGC:CRS84").to_numpy()
    usable = ~(shapely.is_missing(moved) | shapely.is_empty(moved)) & np.isfinite(shapely.bounds(moved)).all(axis=1)
    return [place if ok else None for place, ok in zip(moved, usable, strict=True)]
