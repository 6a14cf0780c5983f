"""What is known of each scene when a batch is over? The manifest and the STAC Items of the results, put together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely
from affine import Affine
from rasterio.crs import CRS

from ..card import ClassInfo
from ..geobox import GeoBox
from .manifest import Record


@dataclass(frozen=True, slots=True)
class Row:
    """A scene of a batch that is done or has failed.

    Args:
        record: What the manifest says of it.
        item: The STAC Item of its result; empty where there is none.
    """

    record: Record
    item: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.record.status == "done"

    @property
    def raster(self) -> str:
        """Name of the class raster."""
        return f"{self.record.id}_classes.tif"

    @property
    def areas(self) -> Sequence[Mapping[str, Any]]:
        """How much of each class there is, as ``ClassArea`` has it."""
        found: Sequence[Mapping[str, Any]] = self.record.result.get("areas", ())
        return found

    @property
    def place(self) -> shapely.Geometry | None:
        """Where it has data, in degrees."""
        geometry = self.item.get("geometry")
        return None if geometry is None else shapely.from_geojson(json.dumps(geometry))

    @property
    def times(self) -> tuple[str, str]:
        """(first, last) moment of the scene; empty where nobody knows."""
        told = self.item.get("properties", {})
        if told.get("datetime"):
            return told["datetime"], told["datetime"]
        start, end = str(told.get("start_datetime", "")), str(told.get("end_datetime", ""))
        return "" if start.startswith("1970-01-01T00:00:00Z") else start, "" if end.startswith("9999") else end

    @property
    def time(self) -> str:
        """The same in one word."""
        start, end = self.times
        return start if start == end else f"{start}/{end}"

    @property
    def box(self) -> GeoBox | None:
        """Its grid."""
        told = self.item.get("properties", {})
        if "proj:transform" not in told:
            return None
        name = told.get("proj:code") or told.get("proj:wkt2")
        shape = int(told["proj:shape"][0]), int(told["proj:shape"][1])
        return GeoBox(shape, Affine(*told["proj:transform"]), CRS.from_user_input(name) if name else None)

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """The legend."""
        told = self.item.get("assets", {}).get("classes", {}).get("classification:classes", ())
        return tuple(
            ClassInfo(c["value"], c.get("title", c["name"]), f"#{c['color_hint']}") for c in told if not c.get("nodata")
        )


def gather(folder: Path, records: Iterable[Record]) -> tuple[Row, ...]:
    """The scenes that are done or have failed, in the order of their ids.

    Args:
        folder: Of the results.
        records: The last one of each scene, in any order.
    """
    over = sorted((r for r in records if r.status != "begun"), key=lambda r: r.id)
    return tuple(Row(r, _item(folder / f"{r.id}_classes.json") if r.status == "done" else {}) for r in over)


def legend(rows: Iterable[Row]) -> tuple[ClassInfo, ...]:
    """The classes of all results, in the order of their values."""
    found: dict[int, ClassInfo] = {}
    for row in rows:
        for info in row.classes:
            found.setdefault(info.value, info)
    return tuple(found[value] for value in sorted(found))


def _item(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        # A result without its description is still told of, by what the manifest knows.
        return {}
    sound = isinstance(told, dict) and all(isinstance(told.get(key), dict) for key in ("properties", "assets"))
    return told if sound else {}
