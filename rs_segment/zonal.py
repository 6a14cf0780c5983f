"""The story: how much of each class of a map lies in each zone of a layer of polygons.

A pixel is in a zone when its centre is. Zones may overlap: each is counted by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from .classmap import ClassMap, Pick, Rows, count_labels
from .dataset.layers import Layer, choose_layer
from .dataset.spec import LabelSpec
from .errors import AreaError, OptionError
from .pipeline import ahead
from .result import without_secrets
from .spans import Edges, Spans
from .types import Track, silent
from .workfolder import WorkFolder, publish, refuse_existing, refuse_inputs
from .zonetable import WRITERS, ZoneTable

MOST_ROWS = 1 << 24
"""Zones times classes that a table may have."""
_CHUNK = 1 << 21
_LISTED = 5


@dataclass(frozen=True, slots=True, eq=False)
class Zonal:
    """The result of ``zonal``.

    Args:
        source: The class raster.
        zones: The file of zones.
        field: The attribute that names them; None where they are numbered.
        table: How much of each class lies in each zone.
        file: The table's file, or None.
        seconds: Wall time.
        notes: What a careful reader should know.
    """

    source: str
    zones: str
    field: str | None
    table: ZoneTable
    file: Path | None
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "source": without_secrets(self.source),
            "zones": self.zones,
            "field": self.field,
            "table": None if self.file is None else str(self.file),
            "classes": [{"value": c.value, "name": c.name, "color": c.color} for c in self.table.classes],
            "rows": list(self.table.rows()),
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def zonal(
    classes: str | Path,
    zones: str | Path,
    field: str | None = None,
    layer: str = "",
    output: str | Path | None = None,
    pick: Pick | None = None,
    overwrite: bool = False,
    track: Track = silent,
) -> Zonal:
    """Pixels, area and share of each class in each zone.

    The raster is read once, some rows at a time, where zones are.

    Args:
        classes: A class raster: what rasterio opens.
        zones: A vector file with polygons, in any CRS.
        field: Attribute that names zones; those with the same value are one zone. None: each polygon is a zone, and
            its name is its number in the file, from 1.
        layer: Name of the layer, in a file that has several.
        output: A .csv or .json file (one row a zone and class) or a .gpkg file (the zones, with an area and a share of
            each class); None writes nothing.
        pick: Which pixels of the raster are looked at.
        overwrite: Replace the file that is there.
        track: Told of the progress; raises ``CancelledError`` to stop.

    Raises:
        RsSegmentError: The raster or the zones are refused, they do not meet, or the table cannot be written.
    """
    started, target = time.monotonic(), None if output is None else Path(output)
    with ExitStack() as stack:
        classmap = stack.enter_context(ClassMap.open(classes, pick))
        if target is not None:
            _refuse(target, (classmap.scene.source, Path(zones)), overwrite)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=classmap.cache_bytes))
        polygons = _read(Path(zones), layer, field)
        names, zone = _named(polygons, field)
        shapes, owners = _on_grid(polygons, zone, classmap)
        edges = Edges.of(shapes)
        edges = replace(edges, owner=owners[edges.owner])
        counter = _Counter(classmap, names)
        windows = _windows(classmap, edges, shapes)
        with closing(ahead(classmap.read, windows, threads=1, depth=2)) as strips:
            for rows in track(strips, sum(w.width * w.height for w in windows), "zones"):
                counter.add(rows, edges.spans(rows.window))
        table = counter.table(_joined(polygons.shapes, zone, len(names)), polygons.crs)
        if target is not None:
            _write(table, target, overwrite)
    return Zonal(
        source=classmap.scene.source,
        zones=str(zones),
        field=field,
        table=table,
        file=target,
        seconds=time.monotonic() - started,
        notes=tuple(_remarks(classmap, polygons, field, table, _beyond(shapes, classmap))),
    )


class _Counter:
    """Counts the classes of zones as rows go by."""

    def __init__(self, classmap: ClassMap, zones: Sequence[str]) -> None:
        self._map, self._zones = classmap, tuple(zones)
        self._column: dict[int, int] = {}
        self._pixels = np.zeros((len(zones), 0), np.int64)
        self._square_metres = np.zeros((len(zones), 0))

    def add(self, rows: Rows, spans: Spans) -> None:
        """Count the pixels of spans, which lie in the rows."""
        window, labels = rows.window, rows.labels.ravel()
        metres = self._map.scene.geobox.row_areas(range(window.row_off, window.row_off + window.height))
        for part in spans.chunks(_CHUNK):
            here = labels[part.places(window)]
            values = np.array(sorted({*count_labels(here, self._map.blank)[0], self._map.blank}), labels.dtype)
            columns = self._columns(values.tolist())
            owners, local = np.unique(part.owner, return_inverse=True)
            key = np.repeat(local * len(values), part.pixels) + np.searchsorted(values, here)
            shape, size = (len(owners), len(values)), len(owners) * len(values)
            counts = np.bincount(key, minlength=size).reshape(shape)
            if metres is None or np.all(metres == metres[0]):
                areas = counts * (np.nan if metres is None else metres[0])
            else:
                weights = np.repeat(metres[part.row - window.row_off], part.pixels)
                areas = np.bincount(key, weights, minlength=size).reshape(shape)
            self._pixels[np.ix_(owners, columns)] += counts
            self._square_metres[np.ix_(owners, columns)] += areas

    def _columns(self, values: Sequence[int]) -> NDArray[np.int64]:
        """The column of each value, which is made if need be."""
        new = [value for value in values if value not in self._column]
        self._column |= {value: len(self._column) + i for i, value in enumerate(new)}
        if len(self._zones) * len(self._column) > MOST_ROWS:
            raise OptionError(
                f"{len(self._zones):,} zones and {len(self._column):,} classes would be more than {MOST_ROWS:,} rows; "
                "merge zones by a --field that fewer of them differ in, or look whether this is a class map"
            )
        if new:
            room = ((0, 0), (0, len(new)))
            self._pixels, self._square_metres = np.pad(self._pixels, room), np.pad(self._square_metres, room)
        return np.array([self._column[value] for value in values], np.int64)

    def table(self, shapes: NDArray[np.object_], crs: str | None) -> ZoneTable:
        """What was counted."""
        blank = self._columns([self._map.blank])[0]
        values = sorted(value for value in self._column if value != self._map.blank)
        columns = self._columns(values)
        pixels = self._pixels[:, columns]
        # 0 pixels are 0 m2 wherever they are.
        metres = np.where(pixels > 0, self._square_metres[:, columns], 0.0 if self._map.geobox.crs else np.nan)
        classes = tuple(self._map.info(value) for value in values)
        return ZoneTable(self._zones, classes, pixels, metres, self._pixels[:, blank], shapes, crs)


def _refuse(target: Path, inputs: Iterable[object], overwrite: bool) -> None:
    """Raises where the table cannot be written, before anything is read."""
    if target.suffix.lower() not in WRITERS:
        listed = ", ".join(WRITERS)
        raise OptionError(f"no table is written as {target.suffix or 'a file without an ending'!r}; choose {listed}")
    refuse_inputs(target, inputs)
    refuse_existing([target], overwrite)


def _read(path: Path, layer: str, field: str | None) -> Layer:
    """The polygons of a file, in its order."""
    name = choose_layer(path, layer, "name one with --layer")
    return Layer.read(path, LabelSpec(kind="polygons", layer=name, field=field or ""))


def _named(polygons: Layer, field: str | None) -> tuple[list[str], NDArray[np.int64]]:
    """(the name of each zone, the zone of each polygon)."""
    if field is None:
        return [str(row + 1) for row in polygons.rows.tolist()], np.arange(len(polygons.rows))
    places = {text: i for i, text in enumerate(dict.fromkeys(polygons.labels.tolist()))}
    return list(places), np.array([places[text] for text in polygons.labels.tolist()], np.int64)


def _on_grid(
    polygons: Layer, zone: NDArray[np.int64], classmap: ClassMap
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """(one shape a zone that meets the raster, in its pixels; the zones that they are).

    Raises:
        AreaError: No zone meets the raster.
        DatasetError: The raster or the layer has no CRS, but the other has.
    """
    box = classmap.scene.geobox
    shapes, which = polygons.placed(box, classmap.scene.name)
    if not len(shapes):
        crs = "" if box.crs is None else f" in {box.crs.to_string()[:60]}"
        theirs = "" if polygons.crs is None else f" in {polygons.crs[:60]}"
        raise AreaError(
            f"no zone of {polygons.path} ({_listed(shapely.total_bounds(polygons.shapes))}{theirs}) meets "
            f"{classmap.scene.name} ({_listed(box.bounds)}{crs}); both are left, bottom, right, top: look at them in a "
            "GIS, and see whether their CRS are the right ones"
        )
    there = np.unique(zone[which])
    return _joined(shapes, np.searchsorted(there, zone[which]), len(there)), there


def _joined(shapes: NDArray[np.object_], zone: NDArray[np.int64], count: int) -> NDArray[np.object_]:
    """One shape a zone: the union of its polygons."""
    order = np.argsort(zone, kind="stable")
    ends = np.searchsorted(zone[order], np.arange(1, count))
    found = np.empty(count, object)
    for i, members in enumerate(np.split(order, ends)):
        found[i] = shapes[members[0]] if len(members) == 1 else shapely.union_all(shapes[members])
    return found


def _windows(classmap: ClassMap, edges: Edges, shapes: NDArray[np.object_]) -> list[Window]:
    """The parts of the raster that have to be read."""
    height, width = classmap.scene.geobox.shape
    left, top, right, bottom = np.clip(shapely.total_bounds(shapes), 0, (width, height, width, height))
    col, row = int(left), int(top)
    around = Window(col, row, int(np.ceil(right)) - col, int(np.ceil(bottom)) - row)
    if not around.width or not around.height:
        return []
    return [window for window in replace(classmap, window=around).windows() if edges.touches(window)]


def _beyond(shapes: NDArray[np.object_], classmap: ClassMap) -> int:
    """How many shapes reach over the edge of the raster by more than half a pixel."""
    height, width = classmap.scene.geobox.shape
    low, high = np.hsplit(shapely.bounds(shapes), 2)
    return int(((low < -0.5) | (high > np.array([width, height]) + 0.5)).any(axis=1).sum())


def _write(table: ZoneTable, target: Path, overwrite: bool) -> None:
    """Write the table so that it is there as a whole or not at all."""
    folder = WorkFolder.open(target, {})
    try:
        made = folder.path / target.name
        WRITERS[target.suffix.lower()](table, made)
        publish([(made, target)], overwrite)
    finally:
        folder.close(keep=False)


def _remarks(classmap: ClassMap, polygons: Layer, field: str | None, table: ZoneTable, beyond: int) -> Iterator[str]:
    """What a careful reader should know of the table."""
    if classmap.geobox.crs is None:
        yield "the raster has no CRS: areas are unknown"
    elif not np.isfinite(table.square_metres).all():
        yield "some pixels lie beyond the poles: the areas of their classes are unknown"
    if left_out := polygons.features - len(polygons.shapes):
        yield f"{left_out:,} of {polygons.features:,} features are no polygons, and are left out"
    if field is not None and (unnamed := int((polygons.labels == "").sum())):
        yield f"{unnamed:,} polygons have no {field}: together they are the zone without a name"
    pixels = table.pixels.sum(axis=1)
    empty = [name for name, count in zip(table.zones, pixels + table.nodata, strict=True) if not count]
    if empty:
        yield f"{_some(empty)} no pixel's centre on the raster"
    missing = [name for name, count in zip(table.zones, pixels, strict=True) if not count]
    if len(missing) > len(empty):
        yield f"{_some([name for name in missing if name not in set(empty)])} only pixels without data"
    if beyond:
        reach = "1 zone reaches" if beyond == 1 else f"{beyond:,} zones reach"
        yield f"{reach} beyond the raster: only what lies on it is counted"


def _some(names: Sequence[str]) -> str:
    """Some zones by name, with the verb."""
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else "")
    return f"the zone {listed} has" if len(names) == 1 else f"the zones {listed} have"


def _listed(bounds: Iterable[float]) -> str:
    return ", ".join(f"{v:.8g}" for v in bounds)
