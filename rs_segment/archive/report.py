"""What came out of a whole batch? Tables, one layer of all results, a STAC Collection, and a page to look at."""

from __future__ import annotations

import csv
import io
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely

from ..card import ClassInfo
from ..errors import DiskFullError, OutputError
from ..geobox import GeoBox
from ..styles import palette
from ..types import NODATA
from ..workfolder import disk_errors
from .describe import CLASSIFICATION, COLLECTION, dump, write
from .footprint import bbox
from .hrefs import beside
from .manifest import Record
from .page import page
from .rows import Row, gather, legend
from .vrt import fits_mosaic, mosaic

NAMES = ("collection.json", "summary.csv", "footprints.gpkg", "classes.vrt", "classes.qml", "index.html")
"""What ``conclude`` writes. A batch must not begin where one of them is already and no manifest of ours."""

_MARK = "rs-segment"
# The same results give the same bytes, so no time of writing goes into the file.
_TIME = "2000-01-01T00:00:00.000Z"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def conclude(folder: Path, records: Iterable[Record]) -> tuple[Path, ...]:
    """Files that describe all results of a folder, each written whole; those of an earlier call are replaced.

    They are made of the records and of the Items that ``describe`` laid beside the results: ``summary.csv`` (a row a
    scene), ``footprints.gpkg`` (likewise, where there is data), ``classes.vrt`` (all results as one layer; one file for
    each CRS where there are several), ``collection.json`` (STAC) and ``index.html``. Scenes that are only begun are
    left out.

    Args:
        folder: Of the results.
        records: The last one of each scene, in any order.

    Raises:
        DiskFullError, OutputError: They cannot be written.
    """
    rows = gather(folder, records)
    classes = legend(rows)
    mosaics = dict(_mosaics(rows, classes))
    names = ["summary.csv", "footprints.gpkg", *mosaics, "collection.json"]
    write(folder / "summary.csv", _table(rows))
    _write_footprints(folder / "footprints.gpkg", rows)
    for name, text in mosaics.items():
        write(folder / name, text.encode())
        write((folder / name).with_suffix(".qml"), palette(classes).encode())
    _forget_others(folder, mosaics)
    write(folder / "collection.json", dump(_collection(rows, classes, list(mosaics))))
    write(folder / "index.html", page(folder, rows, classes, names).encode("utf-8", "replace"))
    return tuple(folder / name for name in (*names, "index.html"))


def _table(rows: Sequence[Row]) -> bytes:
    """A row a scene, as CSV that spreadsheets read."""
    named = _class_names(rows)
    text = io.StringIO()
    # A spreadsheet needs the mark to know that it is UTF-8.
    text.write("\ufeff")
    out = csv.writer(text, lineterminator="\n")
    head = ["id", "status", "scene", "datetime", "width", "height", "crs", "nodata_pixels"]
    out.writerow([*head, *(_harmless(f"{n}_{what}") for n in named for what in ("pixels", "m2", "share")), *_TAIL])
    for row in rows:
        record = row.record
        height, width = record.result.get("shape", ("", ""))
        known = {a["name"]: a for a in row.areas}
        cells = [record.id, record.status, record.source, row.time, width, height, record.result.get("crs")]
        cells.append(record.result.get("nodata_pixels"))
        for name in named:
            area = known.get(name, {})
            cells += [area.get("pixels"), area.get("area_m2"), area.get("share")]
        cells += [round(record.seconds, 3), record.model, row.raster if row.done else "", record.error, record.message]
        out.writerow([_harmless(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue().encode("utf-8", "replace")


_TAIL = ["seconds", "model", "raster", "error", "message"]


def _class_names(rows: Sequence[Row]) -> list[str]:
    """Names of all classes that were counted, by their values."""
    found = {(a["value"], a["name"]) for row in rows for a in row.areas}
    return list(dict.fromkeys(name for _, name in sorted(found)))


def _harmless(cell: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return "'" + cell if cell.startswith(_FORMULA) else cell


def _write_footprints(path: Path, rows: Sequence[Row]) -> None:
    """A GeoPackage of where each result has data, with the areas of its classes, and its raster for a tile index."""
    placed = [(row, place) for row in rows if (place := row.place) is not None]
    named = _class_names(rows)
    areas = [{a["name"]: a["area_m2"] for a in row.areas} for row, _ in placed]
    text: dict[str, list[str]] = {
        "id": [row.record.id for row, _ in placed],
        "location": [row.raster for row, _ in placed],
        "scene": [row.record.source for row, _ in placed],
        "datetime": [row.time for row, _ in placed],
        "model": [row.record.model for row, _ in placed],
    }
    columns: dict[str, Any] = {k: np.array(v, dtype=object) for k, v in text.items()}
    columns["seconds"] = np.array([row.record.seconds for row, _ in placed], np.float64)
    taken = {*columns, "fid", "geom"}
    for name in named:
        column = f"{name}_m2"
        values = [known.get(name) for known in areas]
        if column.lower() not in taken:
            taken.add(column.lower())
            columns[column] = np.array([np.nan if v is None else v for v in values], np.float64)
    shapes = [shapely.MultiPolygon(shapely.get_parts(place).tolist()) for _, place in placed]
    temp = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.gpkg")
    with disk_errors(path.parent):
        try:
            _write_layer(temp, path.stem, columns, shapes)
            write(path, temp.read_bytes())
        finally:
            for end in ("", "-wal", "-shm", "-journal"):
                temp.with_name(temp.name + end).unlink(missing_ok=True)


def _write_layer(path: Path, name: str, columns: dict[str, Any], shapes: Sequence[shapely.Geometry]) -> None:
    try:
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(np.array(shapes, dtype=object)),
            field_data=list(columns.values()),
            fields=list(columns),
            layer=name,
            driver="GPKG",
            geometry_type="MultiPolygon",
            crs="EPSG:4326",
            # GDAL before 3.7, which QGIS 3.22 comes with, warns about every file of version 1.4.
            dataset_options={"VERSION": "1.3"},
        )
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE gpkg_contents SET last_change = ?", (_TIME,))
    except (RuntimeError, ValueError, sqlite3.Error) as error:
        kind = DiskFullError if "full" in str(error) or "No space" in str(error) else OutputError
        raise kind(f"{path.parent / name}.gpkg cannot be written: {error}") from error


def _mosaics(rows: Sequence[Row], classes: Sequence[ClassInfo]) -> Iterator[tuple[str, str]]:
    """(name, text) of a virtual raster for each CRS, the newest scene on top."""
    groups: dict[str, list[tuple[str, GeoBox]]] = {}
    for row in sorted(rows, key=lambda row: (row.times[1], row.record.id)):
        box = row.box
        if box is not None and fits_mosaic(box):
            told = row.item["properties"]
            groups.setdefault(told.get("proj:code") or told.get("proj:wkt2"), []).append((row.raster, box))
    for number, crs in enumerate(sorted(groups), start=1):
        short = crs.replace(":", "-") if len(crs) < 20 and crs.replace(":", "").isalnum() else f"crs-{number}"
        yield ("classes.vrt" if len(groups) == 1 else f"classes_{short}.vrt"), mosaic(groups[crs], classes)


def _forget_others(folder: Path, written: Iterable[str]) -> None:
    """Remove the virtual rasters of an earlier call that are not made any more."""
    with disk_errors(folder):
        for path in folder.glob("classes*.vrt"):
            if path.name not in written and f">{_MARK}</MDI>" in path.read_text("utf-8", "replace")[:20_000]:
                path.unlink()
                path.with_suffix(".qml").unlink(missing_ok=True)


def _collection(rows: Sequence[Row], classes: Sequence[ClassInfo], mosaics: Sequence[str]) -> dict[str, Any]:
    """The STAC Collection of all results that have an Item."""
    done = [row for row in rows if row.item]
    places = [place for row in done if (place := row.place) is not None]
    around = bbox(shapely.MultiPolygon([p for place in places for p in shapely.get_parts(place)])) if places else None
    starts, ends = sorted(row.times[0] for row in done), sorted(row.times[1] for row in done)
    # What nobody knows is sorted first, and leaves the end open.
    lasting = [starts[0] or None, ends[-1] if ends[0] else None] if done else [None, None]
    codes = sorted({code for row in done if (code := row.item["properties"].get("proj:code"))})
    models = sorted({row.record.model for row in done})
    hints = [
        {"value": c.value, "name": f"class-{c.value}", "title": c.name, "color_hint": c.color[1:]} for c in classes
    ]
    legend_ = {"classification:classes": [*hints, {"value": NODATA, "name": "nodata", "nodata": True}]}
    files = {
        "summary": ("summary.csv", "text/csv", "Class areas of each scene"),
        "footprints": ("footprints.gpkg", "application/geopackage+sqlite3", "Where each result has data"),
        "page": ("index.html", "text/html", "All results at a glance"),
    } | {name[:-4]: (name, "application/xml", "All results as one layer") for name in mosaics}
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [CLASSIFICATION],
        "id": COLLECTION,
        "title": f"Class maps of {len(done)} scenes",
        "description": f"Each pixel has the class that a model gives it ({', '.join(models) or 'none'}).",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [list(around) if around else [-180.0, -90.0, 180.0, 90.0]]},
            "temporal": {"interval": [lasting]},
        },
        "summaries": {k: v for k, v in {"proj:code": codes, "rs_segment:model": models}.items() if v},
        "links": [
            {"rel": "root", "href": "./collection.json", "type": "application/json"},
            *(
                {"rel": "item", "href": beside(f"{row.record.id}_classes.json"), "type": "application/geo+json"}
                for row in done
            ),
        ],
        "item_assets": {"classes": {"title": "Classes", "roles": ["data"], **legend_}},
        "assets": {
            key: {"href": beside(name), "type": kind, "title": title, "roles": ["metadata"]}
            for key, (name, kind, title) in files.items()
        },
    }
