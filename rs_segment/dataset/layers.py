"""Which class does a pixel have where labels are polygons?

Polygons are burnt in by window, in the raster's own grid: a pixel has the class of the polygon that holds its centre,
and where several do, of the last in a stated order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.windows import Window

from ..errors import DatasetError
from ..geobox import GeoBox
from ..types import NODATA, Labels
from .masks import UNKNOWN, Legend
from .spec import LabelSpec

SUFFIXES = (".gpkg", ".shp", ".geojson", ".fgb")
_SEGMENTS = 50
_CORNERS, _SMALL = 1024, 64
"""Polygons with more corners are cut, unless they are of so few pixels across."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The polygons of a file, last winner last.

    Args:
        path: The file.
        crs: WKT, or None.
        shapes: (n,) polygons in that CRS.
        labels: (n,) texts, "" where the class field is empty.
        rows: (n,) their places among all features of the file, from 0.
        features: How many those are.
    """

    path: str
    crs: str | None
    shapes: NDArray[np.object_] = field(repr=False, compare=False)
    labels: NDArray[np.object_] = field(repr=False, compare=False)
    rows: NDArray[np.int64] = field(repr=False, compare=False)
    features: int

    @classmethod
    def read(cls, path: Path, spec: LabelSpec) -> Layer:
        """The polygons of a file in the order of ``spec``.

        Raises:
            DatasetError: The file, the layer or a field is not there, or it holds no polygon.
        """
        name = choose_layer(path, spec.layer)
        ordered = spec.order not in ("file", "area")
        wanted = [f for f in (spec.field, spec.order if ordered else "") if f]
        meta, wkb, columns = _raw(path, name, wanted)
        there = dict(zip(meta["fields"], columns, strict=True))
        for column in wanted:
            if column not in there:
                held = ", ".join(fields_of(path, name)) or "none"
                raise DatasetError(f"{path} has no attribute {column!r}; it has {held}")
        try:
            shapes = shapely.from_wkb(wkb)
        except shapely.errors.ShapelyError as error:
            raise DatasetError(f"{path} holds a shape that cannot be read: {error}") from error
        labels = np.array([_text(v) for v in there[spec.field]] if spec.field else [""] * len(shapes), object)
        flat = ~shapely.is_missing(shapes) & (shapely.get_dimensions(shapes) == 2) & ~shapely.is_empty(shapes)
        if not flat.any():
            raise DatasetError(f"{path} holds no polygon")
        rank = np.arange(len(shapes), dtype=np.float64)
        if spec.order == "area":
            rank = -shapely.area(shapes)
        elif ordered:
            rank = _numbers(there[spec.order], path, spec.order)
        order = np.flatnonzero(flat)[np.argsort(rank[flat], kind="stable")]
        return cls(str(path), meta.get("crs"), _valid(shapes[order]), labels[order], order, len(shapes))

    def placed(self, box: GeoBox, image: str) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
        """(polygons that meet a grid, in pixels: x = column, y = row; which of the layer's they are).

        Args:
            box: The grid.
            image: Whose it is, for people.

        Raises:
            DatasetError: The file or the image has no CRS, but the other has.
        """
        if (self.crs is None) != (box.crs is None):
            lacking = self.path if self.crs is None else image
            raise DatasetError(f"{lacking} has no CRS, so the polygons of {self.path} cannot be placed on {image}")
        shapes, which = self.shapes, np.arange(len(self.shapes))
        if self.crs is not None and box.crs is not None:
            shapes, which = _moved(shapes, self.crs, box)
        to_pixels = ~box.transform
        pixels = shapely.transform(shapes, lambda xy: np.column_stack(to_pixels * (xy[:, 0], xy[:, 1])))
        meets = shapely.intersects(pixels, shapely.box(0, 0, box.shape[1], box.shape[0]))
        return pixels[meets], which[meets]

    def on(self, box: GeoBox, legend: Legend, image: str, only: int | None = None, cut: bool = True) -> Burnt:
        """The polygons in the pixels of a grid, as far as they meet it.

        Args:
            box: The grid.
            legend: The classes of labels.
            image: Whose grid it is, for people.
            only: The class of all polygons, whatever their labels; None asks the legend.
            cut: Whether large polygons are cut, which pays where many windows are read.

        Raises:
            DatasetError: The file or the image has no CRS, but the other has.
        """
        pixels, which = self.placed(box, image)
        pixels, kept = _pieces(pixels) if cut else (pixels, np.arange(len(pixels)))
        labels = self.labels[which][kept]
        # A polygon without a label is a place that nobody has named.
        named = {"": NODATA, **legend.classes}
        values = np.array([named.get(v, legend.otherwise) if only is None else only for v in labels], np.uint8)
        strange = Counter(
            str(v) for v in labels[np.unique(kept, return_index=True)[1]] if named.get(v, UNKNOWN) == UNKNOWN
        )
        unknown = strange if only is None and legend.otherwise == UNKNOWN else {}
        return Burnt(pixels, values, labels, dict(sorted(unknown.items())), shapely.STRtree(pixels))


@dataclass(frozen=True, slots=True)
class Burnt:
    """Polygons on a grid, cut into pieces with few corners.

    Args:
        shapes: Of each piece, in pixels: x = column, y = row.
        values: Its class.
        labels: Its label.
        strange: Polygons of each label that no class has.
    """

    shapes: NDArray[np.object_]
    values: Labels
    labels: NDArray[np.object_]
    strange: Mapping[str, int]
    _tree: Any

    def read(self, window: Window, outside: int) -> Labels:
        """uint8 (row, col) classes under a window; ``outside`` where no polygon is."""
        labels = np.full((window.height, window.width), outside, np.uint8)
        around = shapely.box(
            window.col_off, window.row_off, window.col_off + window.width, window.row_off + window.height
        )
        near = np.sort(self._tree.query(around))
        if len(near):
            here = Affine.translation(window.col_off, window.row_off)
            rasterize(zip(self.shapes[near], self.values[near].tolist(), strict=True), out=labels, transform=here)
        return labels


def choose_layer(path: Path, wanted: str, how: str = "name one as layer in [labels]") -> str:
    """The name of the layer that is read.

    Args:
        path: The file.
        wanted: The name, or "" for the only one.
        how: What to do where there are several, for people.

    Raises:
        DatasetError: The file cannot be read, lacks the layer, or has several and none was named.
    """
    import pyogrio

    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind]
    except (RuntimeError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if wanted:
        if wanted not in layers:
            raise DatasetError(f"{path} has no layer {wanted!r}; it has {', '.join(layers) or 'none with geometries'}")
        return wanted
    if len(layers) != 1:
        raise DatasetError(f"{path} has {len(layers)} layers with geometries ({', '.join(layers[:9])}); {how}")
    return layers[0]


def fields_of(path: Path, layer: str) -> dict[str, str]:
    """The attributes of a layer and their types, "text", "whole" or "other"."""
    import pyogrio

    info = pyogrio.read_info(path, layer=layer)
    kinds = {"O": "text", "U": "text", "i": "whole", "u": "whole"}
    types = [str(t) for t in info["dtypes"]]
    return {
        str(name): "text" if t in ("object", "str") or t.startswith("<U") else kinds.get(np.dtype(t).kind, "other")
        for name, t in zip(info["fields"], types, strict=True)
    }


def labels_in(path: Path, layer: str, column: str) -> dict[str, int]:
    """How many features have each text in an attribute; "" where it is empty."""
    _, _, columns = _raw(path, layer, [column])
    found, counts = np.unique(np.array([_text(v) for v in columns[0]], str), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _raw(path: Path, layer: str, columns: list[str]) -> tuple[dict[str, Any], NDArray[Any], list[NDArray[Any]]]:
    import pyogrio

    try:
        meta, _, wkb, found = pyogrio.raw.read(path, layer=layer, columns=columns, force_2d=True)
    except (RuntimeError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    return meta, np.zeros(0, object) if wkb is None else wkb, list(found)


def _text(value: Any) -> str:
    """What stands in a class field, in the spelling that labels have: 3.0 is "3"."""
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _pieces(shapes: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """(polygons with few corners that make up shapes, the shape that each is of), in the order of the shapes.

    Cuts run between pixels, so that no pixel's centre lies on one.
    """
    done: list[NDArray[np.object_]] = []
    whose: list[NDArray[np.int64]] = []
    of = np.arange(len(shapes))
    while len(shapes):
        shapes, part = shapely.get_parts(shapes, return_index=True)
        shapes, of = shapes[(flat := shapely.get_dimensions(shapes) == 2)], of[part[flat]]
        bounds = shapely.bounds(shapes)
        sides = bounds[:, 2:] - bounds[:, :2]
        small = (shapely.get_num_coordinates(shapes) <= _CORNERS) | (sides.max(axis=1, initial=0) <= _SMALL)
        done.append(shapes[small])
        whose.append(of[small])
        shapes, of, bounds, sides = shapes[~small], of[~small], bounds[~small], sides[~small]
        middle = np.rint((bounds[:, :2] + bounds[:, 2:]) / 2)
        across = sides[:, 0] >= sides[:, 1]
        right, bottom = np.where(across, middle[:, 0], bounds[:, 2]), np.where(across, bounds[:, 3], middle[:, 1])
        left, top = np.where(across, middle[:, 0], bounds[:, 0]), np.where(across, bounds[:, 1], middle[:, 1])
        halves = (
            shapely.box(bounds[:, 0], bounds[:, 1], right, bottom),
            shapely.box(left, top, bounds[:, 2], bounds[:, 3]),
        )
        shapes, of = np.concatenate([shapely.intersection(shapes, half) for half in halves]), np.tile(of, 2)
    if not done:
        return shapes, of
    found, owner = np.concatenate(done), np.concatenate(whose)
    order = np.argsort(owner, kind="stable")
    return found[order], owner[order]


def _valid(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """The same shapes as valid polygons, without lines where they had no width."""
    bad = ~shapely.is_valid(shapes)
    if bad.any():
        shapes = shapes.copy()
        shapes[bad] = shapely.make_valid(shapes[bad], method="structure", keep_collapsed=False)
    return shapes


def _numbers(column: NDArray[Any], path: Path, name: str) -> NDArray[np.float64]:
    try:
        values = column.astype(np.float64)
    except (ValueError, TypeError):
        raise DatasetError(f"{path} cannot be ordered by {name}, which holds no numbers") from None
    return np.where(np.isnan(values), -np.inf, values)


def _moved(shapes: NDArray[np.object_], crs: str, box: GeoBox) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """(shapes near a grid in its CRS, which they are)."""
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    theirs, mine = CRS.from_user_input(crs), CRS.from_wkt(box.crs.to_wkt())  # type: ignore[union-attr]
    which = np.arange(len(shapes))
    if theirs == mine:
        return shapes, which
    move = Transformer.from_crs(theirs, mine, always_xy=True)
    try:
        near = shapely.box(*move.transform_bounds(*box.bounds, direction="INVERSE"))
    except ProjError:
        near = shapely.box(np.nan, np.nan, np.nan, np.nan)
    if not np.isfinite(near.bounds).all() or near.area <= 0:
        return shapes[:0], which[:0]
    around = near.buffer(near.length / 16)
    which = which[shapely.intersects(shapes, around)]
    # A straight edge in one CRS is bent in another: put points along it before it is moved.
    close = shapely.intersection(shapes[which], around)
    dense = shapely.segmentize(close, near.length / 4 / _SEGMENTS)
    moved = shapely.transform(dense, lambda xy: np.column_stack(move.transform(xy[:, 0], xy[:, 1])))
    sound = np.isfinite(shapely.bounds(moved)).all(axis=1)
    return _valid(moved[sound]), which[sound]
