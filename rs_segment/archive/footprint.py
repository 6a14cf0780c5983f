"""Where on Earth does a grid lie? Its outline, or that of the pixels that hold data, in longitudes and latitudes."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes

from ..geobox import GeoBox
from ..types import Mask

BBox = tuple[float, float, float, float]
"""(west, south, east, north) in degrees; east is less than west where the 180th meridian lies between."""

STEPS = 32
MAX_PARTS, FEW_VERTICES, MAX_VERTICES = 50, 20, 200
DIGITS = 7
MAX_DEGREES = 540
"""No grid reaches further around the Earth; pixels beyond it have no meaning."""
WORLD = shapely.box(-180, -90, 180, 90)


def footprint(box: GeoBox, valid: Mask | None = None) -> shapely.Geometry | None:
    """The outline of a grid as polygons in WGS 84, cut at the 180th meridian as GeoJSON wants it (RFC 7946, 3.1.9).

    Edges that are straight in the grid have points along them where they are bent in degrees. Coordinates are rounded
    to seven digits, about a centimetre.

    Args:
        box: The grid.
        valid: (row, col) True where there is data, spread over the whole grid in however many rows and columns; holes
            are filled, and an outline of many corners is simplified. None takes the whole grid.

    Returns:
        None without a CRS, where nothing is valid, and for places that are not on the Earth.
    """
    outline = _outline(box.shape, valid)
    if box.crs is None or outline.is_empty:
        return None
    long = max(box.shape)
    dense = shapely.segmentize(outline, long / STEPS)
    degrees = _lonlat(box, shapely.get_coordinates(dense))
    if not np.isfinite(degrees).all():
        return None
    parts = shapely.get_parts(shapely.set_coordinates(dense, degrees))
    rings = [shapely.get_coordinates(part.exterior) for part in parts]
    whole = shapely.union_all([_around(ring) for ring in rings])
    if whole.is_empty or whole.area == 0:
        return None
    left, bottom, right, top = whole.bounds
    simple = shapely.simplify(whole, min(right - left, top - bottom) / long / 4)
    return _tidy(simple if simple.is_valid and simple.area > 0 else whole)


def bbox(geometry: shapely.Geometry) -> BBox:
    """The box around polygons in degrees that were cut at the 180th meridian."""
    west, south, east, north = geometry.bounds
    if west <= -180 and east >= 180:
        ends = sorted((part.bounds[0], part.bounds[2]) for part in shapely.get_parts(geometry))
        reach, gaps = ends[0][1], [(0.0, -180.0, 180.0)]
        for start, end in ends[1:]:
            gaps.append((start - reach, start, reach))
            reach = max(reach, end)
        _, west, east = max(gaps)
    return float(west), float(south), float(east), float(north)


def box_of(bounds: BBox) -> shapely.Geometry:
    """The area of a box in degrees; two parts where it crosses the 180th meridian."""
    west, south, east, north = bounds
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.union_all([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])


def _outline(size: tuple[int, int], valid: Mask | None) -> shapely.Geometry:
    """Polygons without holes in pixel coordinates (col, row)."""
    height, width = size
    whole = shapely.box(0, 0, width, height)
    if valid is None or valid.all():
        return whole
    across, down = width / valid.shape[1], height / valid.shape[0]
    while (traced := _traced(valid)) is None:
        valid, across, down = _coarser(valid), 2 * across, 2 * down
    return shapely.intersection(shapely.transform(traced, lambda xy: xy * (across, down)), whole)


def _traced(valid: Mask) -> shapely.Geometry | None:
    """The outlines of what is True, in pixels of the mask, slanting edges without steps; None where too many."""
    found = [s["coordinates"][0] for s, _ in shapes(valid.astype(np.uint8), valid)]
    if len(found) > MAX_PARTS:
        return None
    outlines = shapely.union_all([shapely.Polygon(ring) for ring in found])
    if shapely.get_num_coordinates(outlines) > FEW_VERTICES:
        outlines = shapely.simplify(outlines, 1.0)
    return None if shapely.get_num_coordinates(outlines) > MAX_VERTICES else outlines


def _coarser(valid: Mask) -> Mask:
    """Half as many rows and columns, rounded up; True where any of the four pixels is."""
    height, width = valid.shape
    even = np.pad(valid, ((0, height % 2), (0, width % 2)))
    return np.asarray(even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).any(axis=(1, 3)))


def _lonlat(box: GeoBox, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) pixel coordinates as degrees in WGS 84; not finite where the CRS does not reach."""
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    t = box.transform
    col, row = pixels.T
    x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
    try:
        move = Transformer.from_crs(box.crs.to_wkt(), "OGC:CRS84", always_xy=True)  # type: ignore[union-attr]
        lon, lat = move.transform(x, y)
    except ProjError:
        return np.full(pixels.shape, np.nan)
    return np.column_stack([lon, np.clip(lat, -90, 90)])


def _around(ring: NDArray[np.float64]) -> shapely.Geometry:
    """What a closed ring of (lon, lat) encloses on the sphere, between -180 and 180 degrees."""
    lon, lat = np.unwrap(ring[:, 0], period=360), ring[:, 1]
    if abs(lon[-1] - lon[0]) > 180:
        # Going around it turns once around the Earth: there is a pole inside.
        pole = 90.0 if lat.mean() > 0 else -90.0
        lon, lat = np.append(lon, [lon[-1], lon[0]]), np.append(lat, [pole, pole])
    if np.ptp(lon) > MAX_DEGREES:
        return shapely.Polygon()
    around = shapely.make_valid(shapely.Polygon(np.column_stack([lon, lat])), method="structure")
    first, last = int((lon.min() + 180) // 360), int((lon.max() + 180) // 360)
    turns = [shapely.transform(around, lambda xy, turn=turn: xy - (360 * turn, 0)) for turn in range(first, last + 1)]
    return shapely.union_all([shapely.intersection(turn, WORLD) for turn in turns])


def _tidy(geometry: shapely.Geometry) -> shapely.Geometry:
    """The same polygons rounded, in one order, counterclockwise as GeoJSON wants them."""
    rounded = shapely.set_precision(geometry, 10.0**-DIGITS)
    kept = rounded if rounded.area > 0 else geometry
    parts = [part for part in shapely.get_parts(kept) if part.geom_type == "Polygon" and part.area > 0]
    tidy: shapely.Geometry = shapely.normalize(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))
    return shapely.orient_polygons(tidy)
