"""Where a raster lies: a shape, an affine transform and a CRS, with the algebra of windows over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as reproject_points
from rasterio.windows import Window

if TYPE_CHECKING:
    from pyproj import CRS as ProjCRS

_FAR = 1e9


@dataclass(frozen=True, slots=True)
class GeoBox:
    """A pixel grid in the world.

    Args:
        shape: (height, width) in pixels.
        transform: Pixel (col, row) to CRS (x, y); may be rotated or south-up.
        crs: None when the raster says nothing about it.
    """

    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None = None

    def __getitem__(self, window: Window) -> GeoBox:
        """The part of the grid under a window, in pixels."""
        shift = Affine.translation(window.col_off, window.row_off)
        return GeoBox((int(window.height), int(window.width)), self.transform * shift, self.crs)

    def zoom_to(self, shape: tuple[int, int]) -> GeoBox:
        """The same place with another number of pixels (height, width)."""
        scale = Affine.scale(self.shape[1] / shape[1], self.shape[0] / shape[0])
        return GeoBox(shape, self.transform * scale, self.crs)

    @property
    def window(self) -> Window:
        """The window that covers the whole grid."""
        return Window(0, 0, self.shape[1], self.shape[0])

    @property
    def georeferenced(self) -> bool:
        """Whether pixels are tied to anything outside the image."""
        return self.crs is not None or self.transform != Affine.identity()

    @property
    def rotated(self) -> bool:
        """Whether rows and columns run askew to the CRS's axes."""
        return bool(self.transform.b) or bool(self.transform.d)

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """The four corners in CRS coordinates, from pixel (0, 0) clockwise in the image; not closed."""
        height, width = self.shape
        return tuple(self.transform * p for p in ((0, 0), (width, 0), (width, height), (0, height)))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in CRS units, whatever the orientation."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def resolution(self) -> tuple[float, float]:
        """Size of a pixel along (col, row), in units of the CRS, always positive."""
        t = self.transform
        return math.hypot(t.a, t.d), math.hypot(t.b, t.e)

    @property
    def ground_resolution(self) -> tuple[float, float] | None:
        """Size of a pixel along (col, row) on the ground in the middle of the grid, in metres.

        None without a CRS, and where the middle lies outside what the CRS can describe.
        """
        if self.crs is None:
            return None
        height, width = self.shape
        row, col = height / 2, width / 2
        if not _on_sphere(self.crs):
            factor = self.crs.linear_units_factor[1] if self.crs.is_projected else 1.0
            return self.resolution[0] * factor, self.resolution[1] * factor
        points = [self.transform * p for p in ((col, row), (col + 1, row), (col, row + 1))]
        lon, lat = _lonlat(self.crs, [p[0] for p in points], [p[1] for p in points])
        size = _spans(self.crs, lon[:1], lat[:1], lon[1:], lat[1:])
        return (float(size[0]), float(size[1])) if np.isfinite(size).all() else None

    @property
    def planar(self) -> bool:
        """Whether lengths and areas in the plane of the CRS are those on the ground, as far as the projection goes."""
        return self.crs is not None and not _on_sphere(self.crs)

    @property
    def unit_metres(self) -> float:
        """Metres of one unit of a projected CRS; 1 for others."""
        return float(self.crs.linear_units_factor[1]) if self.crs is not None and self.crs.is_projected else 1.0

    def pixel_steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Metres of one step along the edges of pixels of a geographic or Mercator grid.

        They are measured in the middle column; a grid without a CRS is taken for one in degrees.

        Returns:
            float64 (height + 1,), from column to column along each line between rows; and float64 (height,), from row
            to row. NaN beyond the poles.
        """
        t, col = self.transform, self.shape[1] / 2
        lines = np.arange(self.shape[0] + 1, dtype=np.float64)
        x, y = t.a * col + t.b * lines + t.c, t.d * col + t.e * lines + t.f
        crs, count = self.crs or CRS.from_epsg(4326), len(lines)
        lon, lat = _lonlat(crs, np.append(x, x + t.a), np.append(y, y + t.d))
        across = _spans(crs, lon[:count], lat[:count], lon[count:], lat[count:])
        return across, _spans(crs, lon[: count - 1], lat[: count - 1], lon[1:count], lat[1:count])

    def row_areas(self, rows: range) -> NDArray[np.float64] | None:
        """Area of one pixel in each of the rows, in m2; None without a CRS.

        On a geographic grid, and on a Mercator one, a pixel is a rectangle of longitudes and latitudes, whose area on
        the ellipsoid is known in closed form (Snyder 1987, Map Projections: A Working Manual, eq. 3-12). On other
        projected grids it is the area in the plane. A rotated geographic grid takes each row's middle pixel. NaN where
        a row lies beyond the poles.
        """
        if self.crs is None:
            return None
        if not _on_sphere(self.crs):
            factor = self.crs.linear_units_factor[1] if self.crs.is_projected else 1.0
            return np.full(len(rows), abs(self.transform.determinant) * factor**2)
        if len(rows) == 0:
            return np.zeros(0)
        t, col = self.transform, self.shape[1] / 2
        row = np.asarray(rows, dtype=np.float64)
        if self.rotated:
            x, y = t.a * col + t.b * (row + 0.5) + t.c, t.d * col + t.e * (row + 0.5) + t.f
            half = abs(self.transform.determinant) ** 0.5 / 2
            lon, lat = _lonlat(self.crs, np.append(x - half, x + half), np.append(y - half, y + half))
            edge0, edge1 = lat[: len(rows)], lat[len(rows) :]
            width = np.abs(_turn(lon[len(rows) :] - lon[: len(rows)]))
        else:
            edges = np.append(row, row[-1:] + 1)
            x, y = np.full(len(edges), t.a * col + t.c), t.e * edges + t.f
            lon, lat = _lonlat(self.crs, np.append(x, x[:1] + t.a), np.append(y, y[:1]))
            edge0, edge1 = lat[:-2], lat[1:-1]
            width = np.full(len(rows), abs(_turn(lon[-1] - lon[0])))
        radius, eccentricity2 = _ellipsoid(self.crs)
        zone = np.abs(_authalic(edge1, eccentricity2) - _authalic(edge0, eccentricity2))
        areas = radius**2 * (1 - eccentricity2) / 2 * width * zone
        # Latitudes beyond a pole are cut to it, so that a row with nothing on this side of it has no area.
        return np.asarray(np.where(areas > 0, areas, np.nan))


def _turn(degrees: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Differences of longitudes in radians, the short way round where the 180th meridian lies between."""
    return np.asarray(np.radians((np.asarray(degrees) + 540) % 360 - 180))


def _spans(
    crs: CRS,
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    to_lon: NDArray[np.float64],
    to_lat: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Metres between near points in degrees, by the radii of curvature at the first (Snyder 1987, eq. 4-18, 4-20)."""
    radius, eccentricity2 = _ellipsoid(crs)
    phi = np.radians(lat)
    bend = 1 - eccentricity2 * np.sin(phi) ** 2
    east = np.cos(phi) * radius / np.sqrt(bend)
    north = radius * (1 - eccentricity2) / bend**1.5
    return np.asarray(np.hypot(_turn(to_lon - lon) * east, np.radians(to_lat - lat) * north))


def _proj(crs: CRS) -> ProjCRS:
    """The horizontal CRS, without heights and without a shift to another datum."""
    from pyproj import CRS as ProjCRS

    found: Any = ProjCRS.from_wkt(crs.to_wkt())
    while found.is_compound or found.is_bound:
        found = found.sub_crs_list[0] if found.is_compound else found.source_crs
    return cast("ProjCRS", found)


def _on_sphere(crs: CRS) -> bool:
    """Whether pixel sizes in CRS units say little about the ground: degrees, and the Mercator of web maps."""
    if crs.is_geographic:
        return True
    if not crs.is_projected:
        return False
    operation = _proj(crs).coordinate_operation
    name = operation.method_name.lower() if operation else ""
    return "mercator" in name and "transverse" not in name and "oblique" not in name


def _lonlat(crs: CRS, x: object, y: object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CRS coordinates as degrees on the CRS's own datum."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if crs.is_geographic:
        factor = math.degrees(crs.units_factor[1]) if crs.units_factor[0].lower() != "degree" else 1.0
        return xs * factor, np.clip(ys * factor, -90, 90)
    # PROJ turns longitudes by 360 degrees until they fit, which takes for ever from where no place on Earth is.
    if not (np.abs(np.concatenate([xs, ys])) < _FAR).all():
        return np.full(len(xs), np.nan), np.full(len(xs), np.nan)
    flat = _proj(crs)
    base = cast("ProjCRS", flat.geodetic_crs)
    lon, lat = reproject_points(CRS.from_wkt(flat.to_wkt()), CRS.from_wkt(base.to_wkt()), xs.tolist(), ys.tolist())
    return np.asarray(lon), np.asarray(lat)


def _ellipsoid(crs: CRS) -> tuple[float, float]:
    """(semi-major axis in metres, eccentricity squared)."""
    ellipsoid = _proj(crs).ellipsoid
    if ellipsoid is None:
        return 6378137.0, 0.0066943799901413165
    flattening = 1 / ellipsoid.inverse_flattening if ellipsoid.inverse_flattening else 0.0
    return ellipsoid.semi_major_metre, flattening * (2 - flattening)


def _authalic(latitude: NDArray[np.float64], eccentricity2: float) -> NDArray[np.float64]:
    """Snyder's q divided by (1 - e2): twice the area between the equator and a latitude, per radian, on b = 1."""
    sine = np.sin(np.radians(latitude))
    if eccentricity2 == 0:
        return np.asarray(2 * sine)
    e = math.sqrt(eccentricity2)
    return np.asarray(sine / (1 - eccentricity2 * sine**2) + np.arctanh(e * sine) / e)
