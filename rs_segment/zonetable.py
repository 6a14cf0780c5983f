"""How much of each class lies in each zone, as a table: in rows, and in files."""

from __future__ import annotations

import csv
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from .card import ClassInfo
from .errors import OptionError
from .layer.features import layer_errors
from .workfolder import disk_errors

COLUMNS = ("zone", "class_id", "class", "pixels", "area_m2", "share", "nodata_pixels")
"""Of the long table: one row a zone and class."""
_MOST_COLUMNS = 1900
_LONGEST = 50


@dataclass(frozen=True, slots=True, eq=False)
class ZoneTable:
    """How much of each class lies in each zone.

    Args:
        zones: Their names, in the order of their file.
        classes: Those that any zone holds, by ascending value.
        pixels: int64 (zone, class).
        square_metres: float64 (zone, class); NaN where it is not known.
        nodata: int64 (zone,), pixels of each zone without a class.
        shapes: (zone,) geometries.
        crs: Theirs, as text; None where nothing is known of it.
    """

    zones: tuple[str, ...]
    classes: tuple[ClassInfo, ...]
    pixels: NDArray[np.int64]
    square_metres: NDArray[np.float64]
    nodata: NDArray[np.int64]
    shapes: NDArray[np.object_] = field(repr=False)
    crs: str | None = None

    @property
    def shares(self) -> NDArray[np.float64]:
        """float64 (zone, class), of the zone's pixels that have a class; 0 where it has none."""
        return np.asarray(self.pixels / np.maximum(self.pixels.sum(axis=1, keepdims=True), 1))

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row a zone and class, with ``COLUMNS``; an area that is not known is None."""
        shares = self.shares
        for i, zone in enumerate(self.zones):
            for j, info in enumerate(self.classes):
                area = float(self.square_metres[i, j])
                cells = (
                    zone,
                    info.value,
                    info.name,
                    int(self.pixels[i, j]),
                    area if math.isfinite(area) else None,
                    float(shares[i, j]),
                    int(self.nodata[i]),
                )
                yield dict(zip(COLUMNS, cells, strict=True))


def _write_csv(table: ZoneTable, path: Path) -> None:
    with disk_errors(path.parent), open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.rows())


def _write_json(table: ZoneTable, path: Path) -> None:
    with disk_errors(path.parent), open(path, "w", encoding="utf-8") as file:
        between = "[\n"
        for row in table.rows():
            file.write(between + json.dumps(row, ensure_ascii=False))
            between = ",\n"
        file.write("\n]\n" if table.zones and table.classes else "[]\n")


def _write_gpkg(table: ZoneTable, path: Path) -> None:
    """One feature a zone: an area and a share of each class, in columns."""
    import pyogrio

    names = column_names(table.classes)
    if 2 * len(names) > _MOST_COLUMNS:
        raise OptionError(
            f"{len(names):,} classes are more columns than a GeoPackage can have; choose a .csv or .json table"
        )
    columns: dict[str, NDArray[Any]] = {
        "zone": np.array(table.zones, object),
        "pixels": table.pixels.sum(axis=1),
        "nodata_pixels": table.nodata,
    }
    shares = table.shares
    for j, name in enumerate(names):
        columns |= {f"{name}_m2": table.square_metres[:, j], f"{name}_share": shares[:, j]}
    single = shapely.get_type_id(table.shapes) == shapely.GeometryType.POLYGON
    shapes = table.shapes.copy()
    shapes[single] = shapely.multipolygons(shapes[single], indices=np.arange(np.count_nonzero(single)))
    with layer_errors(path), warnings.catch_warnings():
        # Zones on a raster without a CRS have none either.
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(shapes),
            field_data=list(columns.values()),
            fields=list(columns),
            layer=path.stem,
            driver="GPKG",
            geometry_type="MultiPolygon",
            crs=table.crs,
            # GDAL before 3.7, which QGIS 3.22 comes with, warns about every file of version 1.4.
            dataset_options={"VERSION": "1.3"},
        )
        found = pyogrio.raw.read(path, columns=["pixels"], read_geometry=False)[3]
        if [int(p) for p in found[0]] != columns["pixels"].tolist():
            raise RuntimeError("it does not read back as it was written")


WRITERS: Mapping[str, Callable[[ZoneTable, Path], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".gpkg": _write_gpkg,
}
"""What writes a table, by the ending of its file."""


def column_names(classes: Sequence[ClassInfo]) -> list[str]:
    """A name for each class that begins the name of a column: letters, digits and underscores; none is there twice."""
    found: list[str] = []
    taken: set[str] = set()
    for info in classes:
        plain = re.sub(r"\W+", "_", info.name).strip("_")[:_LONGEST] or f"class_{info.value}"
        # Two classes may have one name, and two names may differ in what is not kept, or in case, which SQL ignores.
        name = plain
        while name.casefold() in taken:
            name = f"{plain}_{info.value}" if name == plain else f"{name}_"
        taken.add(name.casefold())
        found.append(name)
    return found
