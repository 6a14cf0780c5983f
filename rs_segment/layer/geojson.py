"""How do polygons become GeoJSON that every map understands?

RFC 7946 wants longitude and latitude on WGS 84, exteriors counter-clockwise, and nothing that crosses the
antimeridian. Features are written as they come, one a line. Only vertices are moved: an edge is straight on the map of
longitude and latitude, whatever it was before.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.exceptions import ProjError

from ..errors import GridError, OptionError, OutputError
from ..polygons import PolygonBatch
from ..workfolder import write_whole
from .features import LayerSpec, categorised, columns, layer_errors

DECIMALS = 7
"""Of longitude and latitude, about a centimetre."""

_HALF, _POLE = 180, 90
# Grids of the whole world begin half a pixel beyond the pole now and then.
_OVER = 1
# Where no place on Earth is, in any unit; PROJ takes it for one.
_FAR = 1e9
_INSTEAD = "choose .gpkg, which keeps the CRS of the raster"
_TEXT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class GeoJSONWriter:
    """Writes polygons as GeoJSON, and their style beside it; what was at the paths before goes away.

    Args:
        path: The file; whole only after ``close``.
        spec: The layer.

    Raises:
        OptionError: The layer has no CRS, or one from which no way leads to longitude and latitude.
        DiskFullError: The disk is full.
        OutputError: The file cannot be written for another reason; ``write`` and ``close`` raise the same.
    """

    def __init__(self, path: Path, spec: LayerSpec) -> None:
        self._path, self._spec = Path(path), spec
        if spec.crs is None:
            raise OptionError(
                f"{spec.source or spec.name} has no CRS, and GeoJSON is in longitude and latitude; choose .gpkg, or "
                "give the raster a CRS first"
            )
        try:
            self._globe = Globe(spec.crs.to_wkt())
        except ProjError as error:
            raise OptionError(
                f"no way leads from the CRS of {spec.source or spec.name} to longitude and latitude, which GeoJSON is "
                f"in ({error}); {_INSTEAD}"
            ) from error
        self._before, self._whole = "\n", False
        with layer_errors(self._path):
            self._file = open(self._path, "wb")  # noqa: SIM115
            self._put(f'{{"type":"FeatureCollection","name":{_TEXT.encode(spec.name)},"features":[')

    def write(self, batch: PolygonBatch) -> None:
        """Add polygons.

        Raises:
            GridError: A polygon lies where there is no longitude, or around a pole.
        """
        if not len(batch):
            return
        geometry = shapely.to_geojson(self._globe.draw(self._spec.geometries(batch)))
        named = columns(batch, self._spec.classes, self._spec.source)
        values = [_nullable(column).tolist() for column in named.values()]
        lines = (
            f'{{"type":"Feature","properties":{_TEXT.encode(dict(zip(named, row, strict=True)))},"geometry":{where}}}'
            for where, *row in zip(geometry.tolist(), *values, strict=True)
        )
        with layer_errors(self._path):
            self._put(self._before + ",\n".join(lines))
        self._before = ",\n"

    def close(self) -> tuple[Path, ...]:
        """(the file, its style)."""
        style = self._path.with_suffix(".qml")
        if not self._whole:
            with layer_errors(self._path):
                self._put("\n]}\n")
                self._file.close()
                write_whole(style, categorised(self._spec.classes))
            self._whole = True
        return self._path, style

    def abandon(self) -> None:
        """Let go of the file, whole or not."""
        with suppress(OSError):
            self._file.close()

    def _put(self, text: str) -> None:
        if self._file.closed:
            raise OutputError(f"{self._path} is closed")
        self._file.write(text.encode())


class Globe:
    """Where polygons lie in longitude and latitude on WGS 84.

    Args:
        crs: Of the polygons, as text.

    Raises:
        ProjError: No way leads from the CRS to longitude and latitude.
    """

    def __init__(self, crs: str) -> None:
        self._transformer = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)

    def draw(self, geometry: NDArray[np.object_]) -> NDArray[np.object_]:
        """The polygons or multipolygons in longitude and latitude; those that are cut become multipolygons.

        Args:
            geometry: object (n,), in the CRS.

        Returns:
            object (n,), longitudes from -180 to 180, to 7 decimals, exteriors counter-clockwise.

        Raises:
            GridError: A polygon lies where there is no longitude, or around a pole.
        """
        parts, whose = shapely.get_parts(geometry, return_index=True)
        moved = shapely.transform(parts, self._lonlat)
        bounds = shapely.bounds(moved)
        for index in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > _HALF):
            moved[index] = self._unwrapped(parts[index])
            bounds[index] = shapely.bounds(moved[index])
        beyond = (bounds[:, 0] < -_HALF) | (bounds[:, 2] > _HALF)
        if beyond.any():
            pieces, origin = _cut(moved[beyond])
            moved = np.concatenate([moved[~beyond], pieces])
            whose = np.concatenate([whose[~beyond], whose[beyond][origin]])
        return _assembled(shapely.orient_polygons(moved), whose, geometry)

    def _lonlat(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = np.column_stack(self._transformer.transform(points[:, 0], points[:, 1]))
        there = (np.abs(moved) <= (3 * _HALF, _POLE + _OVER)).all(axis=1) & (np.abs(points) < _FAR).all(axis=1)
        if not there.all():
            x, y = points[~there][0]
            raise GridError(f"there is no longitude and latitude at {x:.15g}, {y:.15g}, so no GeoJSON; {_INSTEAD}")
        moved[:, 1] = np.clip(moved[:, 1], -_POLE, _POLE)
        return np.round(moved, DECIMALS)

    def _unwrapped(self, polygon: shapely.Polygon) -> shapely.Polygon:
        """A polygon in longitude and latitude whose longitudes go on beyond half a turn where they would jump."""
        rings = [self._ring(np.asarray(ring.coords)) for ring in (polygon.exterior, *polygon.interiors)]
        middle = [(ring[:, 0].min() + ring[:, 0].max()) / 2 for ring in rings]
        for ring, at in zip(rings, middle, strict=True):
            ring[:, 0] += 2 * _HALF * np.round((middle[0] - at) / (2 * _HALF))
        return shapely.Polygon(rings[0], rings[1:])

    def _ring(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The ring in longitude and latitude, without jumps.

        An edge of more than half a turn is a jump, unless it is that long: then its middle is between its ends.
        """
        ring = self._lonlat(points)
        step, between = np.diff(ring[:, 0]), (ring[1:, 0] + ring[:-1, 0]) / 2
        far = np.flatnonzero(np.abs(step) > _HALF)
        middle = self._lonlat((points[far] + points[far + 1]) / 2)[:, 0]
        jumps = far[np.abs(middle - between[far]) > _HALF / 2]
        turn = np.zeros(len(ring))
        turn[jumps + 1] = -2 * _HALF * np.sign(step[jumps])
        if turn.sum():
            x, y = points[0]
            raise GridError(f"the polygon with the corner {x:.15g}, {y:.15g} lies around a pole; {_INSTEAD}")
        ring[:, 0] += np.cumsum(turn)
        return ring


def _cut(polygons: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """(pieces with longitudes from -180 to 180, index of the polygon that each is of)."""
    pieces, origins = [], []
    for turn in range(-2, 3):
        west = (2 * turn - 1) * _HALF
        inside = shapely.intersection(polygons, shapely.box(west, -_HALF, west + 2 * _HALF, _HALF))
        parts, origin = shapely.get_parts(inside, return_index=True)
        shift = np.array([-2.0 * turn * _HALF, 0.0])
        parts = shapely.transform(parts, lambda points, by=shift: np.round(points + by, DECIMALS))
        flat = shapely.area(parts) > 0
        pieces.append(parts[flat])
        origins.append(origin[flat])
    return np.concatenate(pieces), np.concatenate(origins)


def _assembled(
    parts: NDArray[np.object_], whose: NDArray[np.int64], geometry: NDArray[np.object_]
) -> NDArray[np.object_]:
    """Each geometry from its parts: multipolygons, but a polygon where a polygon was and is."""
    order = np.argsort(whose, kind="stable")
    parts, whose = parts[order], whose[order]
    counts = np.bincount(whose, minlength=len(geometry))
    plain = (shapely.get_type_id(geometry) == shapely.GeometryType.POLYGON) & (counts == 1)
    if plain.all():
        return parts
    made = np.empty(len(geometry), object)
    made[plain] = parts[plain[whose]]
    number = np.cumsum(~plain) - 1
    made[~plain] = shapely.multipolygons(parts[~plain[whose]], indices=number[whose[~plain[whose]]])
    return made


def _nullable(column: NDArray[Any]) -> NDArray[Any]:
    """The column with None for NaN, which JSON does not know."""
    if column.dtype.kind != "f":
        return column
    nullable = column.astype(object)
    nullable[np.isnan(column)] = None
    return nullable
