"""Which pixels are asked for? An area of interest on a scene's grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from rasterio.features import geometry_mask
from rasterio.windows import Window

from .errors import AreaError
from .geobox import GeoBox
from .types import Mask


@dataclass(frozen=True, slots=True)
class Area:
    """Geometries in pixel coordinates of a grid.

    Args:
        geometry: One (multi)polygon, x = column and y = row of the grid.
        window: The pixels that it can touch.
    """

    geometry: shapely.Geometry
    window: Window

    @classmethod
    def of(cls, aoi: str | Path | tuple[float, float, float, float], box: GeoBox) -> Area:
        """The area that a vector file or bounds describe, on a grid.

        Args:
            aoi: A vector file that OGR reads, in any CRS; or (left, bottom, right, top) in the grid's CRS, as a tuple
                or as text. On a grid without CRS bounds are as its transform has them.
            box: The scene's grid.

        Raises:
            AreaError: The file cannot be read, holds no polygon, has no CRS to compare, or misses the scene.
        """
        bounds = _as_bounds(",".join(map(str, aoi)) if isinstance(aoi, tuple) else str(aoi))
        shape = _from_file(Path(aoi), box) if bounds is None else shapely.box(*bounds)  # type: ignore[arg-type]
        to_pixels = ~box.transform
        pixels = shapely.transform(shape, lambda xy: np.column_stack(to_pixels * (xy[:, 0], xy[:, 1])))
        height, width = box.shape
        within = shapely.intersection(pixels, shapely.box(0, 0, width, height))
        if within.area == 0:
            raise AreaError(_apart(shape.bounds, box.bounds))
        left, top, right, bottom = within.bounds
        col, row = int(np.floor(left)), int(np.floor(top))
        return cls(pixels, Window(col, row, int(np.ceil(right)) - col, int(np.ceil(bottom)) - row))

    def mask(self, window: Window) -> Mask:
        """(row, col) True where a pixel's centre lies in the area, under a window of the grid."""
        if not self.touches(window):
            return np.zeros((window.height, window.width), np.bool_)
        here = Affine.translation(window.col_off, window.row_off)
        return np.asarray(geometry_mask([self.geometry], (window.height, window.width), here, invert=True))

    def touches(self, window: Window) -> bool:
        """Whether a window of the grid holds any pixel that the area can touch."""
        mine = self.window
        return bool(
            window.row_off < mine.row_off + mine.height
            and mine.row_off < window.row_off + window.height
            and window.col_off < mine.col_off + mine.width
            and mine.col_off < window.col_off + window.width
        )

    def on(self, source: GeoBox, target: GeoBox) -> Area:
        """The same area on another grid over the same place."""
        down, across = target.shape[0] / source.shape[0], target.shape[1] / source.shape[1]
        if (down, across) == (1, 1):
            return self
        moved = shapely.transform(self.geometry, lambda xy: xy * (across, down))
        w = self.window
        col, row = int(w.col_off * across), int(w.row_off * down)
        right = min(target.shape[1], int(np.ceil((w.col_off + w.width) * across)) + 1)
        bottom = min(target.shape[0], int(np.ceil((w.row_off + w.height) * down)) + 1)
        return Area(moved, Window(col, row, right - col, bottom - row))


def _as_bounds(text: str) -> tuple[float, float, float, float] | None:
    """Four numbers, or None where the text is something else."""
    parts = text.replace(" ", ",").split(",")
    try:
        numbers = [float(p) for p in parts if p]
    except ValueError:
        return None
    if len(numbers) != 4:
        return None
    left, bottom, right, top = numbers
    if not (left < right and bottom < top and np.isfinite(numbers).all()):
        raise AreaError(f"bounds {text}: left must be below right, and bottom below top")
    return left, bottom, right, top


def _apart(there: tuple[float, ...], here: tuple[float, ...]) -> str:
    told = [", ".join(f"{v:.8g}" for v in bounds) for bounds in (there, here)]
    return (
        f"the area of interest ({told[0]}) does not meet the scene ({told[1]}); "
        "both are left, bottom, right, top in the scene's CRS"
    )


def _from_file(path: Path, box: GeoBox) -> shapely.Geometry:
    import pyogrio

    if not path.exists():
        raise AreaError(f"the area of interest {path} is no file, and no bounds left,bottom,right,top either")
    try:
        layers = pyogrio.list_layers(path)[:, 0]
        if len(layers) > 1:
            raise AreaError(f"the area of interest {path} has {len(layers)} layers ({', '.join(layers)}); give it one")
        meta, _, wkb, _ = pyogrio.raw.read(path, columns=[], force_2d=True)
        shapes = shapely.from_wkb(wkb if wkb is not None else [])
    except (RuntimeError, ValueError, shapely.errors.ShapelyError) as error:
        if isinstance(error, AreaError):
            raise
        raise AreaError(f"the area of interest {path} cannot be read: {error}") from error
    shapes = shapes[~shapely.is_missing(shapes) & (shapely.get_dimensions(shapes) == 2) & ~shapely.is_empty(shapes)]
    if len(shapes) == 0:
        raise AreaError(f"the area of interest {path} holds no polygon")
    whole = shapely.union_all(shapely.make_valid(shapes))
    crs = meta.get("crs")
    if crs is None or box.crs is None:
        if crs is not None or box.crs is not None:
            lacking = path.name if crs is None else "the scene"
            raise AreaError(
                f"{lacking} has no CRS, so the area of interest cannot be placed; give it one, or give bounds"
            )
        return whole
    return _reproject(whole, crs, box)


def _reproject(shape: shapely.Geometry, source: str, box: GeoBox) -> shapely.Geometry:
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    move = Transformer.from_crs(source, box.crs.to_wkt(), always_xy=True)  # type: ignore[union-attr]
    told = shape.bounds
    try:
        near = shapely.box(*move.transform_bounds(*box.bounds, direction="INVERSE"))
    except ProjError:
        near = None
    if near is not None and np.isfinite(near.bounds).all() and near.area > 0:
        # What lies far away may be nowhere in the scene's CRS, and needs no points along its edges.
        shape = shapely.intersection(shape, near.buffer(near.length / 4))
        if shape.is_empty:
            raise AreaError(_apart(told, near.bounds).replace("the scene's CRS", "the CRS of the area"))
    # A straight edge in one CRS is bent in another: put points along it before it is moved.
    left, bottom, right, top = shape.bounds
    dense = shapely.segmentize(shape, max(right - left, top - bottom) / 100 or 1.0)
    moved = shapely.transform(dense, lambda xy: np.column_stack(move.transform(xy[:, 0], xy[:, 1])))
    if not np.isfinite(moved.bounds).all():
        raise AreaError("the area of interest lies where the scene's CRS is not defined")
    return shapely.make_valid(moved)
