"""How do polygons get into a GeoPackage as fast as the disk takes them?

GDAL makes the empty layer with all that belongs to it. The rows go in as whole pages (``btree``), as does most of the
spatial index. Plain SQL adds the rest and the style, which QGIS looks for in the table ``layer_styles``: whoever opens
the file sees the classes with their names and colours. The same polygons give the same bytes, come they as they may.
"""

from __future__ import annotations

import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pyogrio
import shapely

from ..errors import OptionError, OutputError, OutputExistsError
from ..polygons import PolygonBatch
from .btree import Pages, Table, quoted
from .features import COLUMNS, DTYPES, LayerSpec, categorised, layer_errors, named
from .records import Column, Records, Words
from .rtree import RTreeWriter
from .wkb import encode

STYLES = "layer_styles"
_STYLE_NAME = 30
# SQLite takes rows of a billion bytes at most; the other columns need less than a million.
_MOST_BYTES = 999_000_000
# The same map gives the same bytes, so no time of writing goes into the file.
_TIME = "2000-01-01T00:00:00.000Z"
_CREATE_STYLES = f"""CREATE TABLE IF NOT EXISTS {STYLES} (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
  f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"""
# "GP", version 0, little-endian with a box of x and y; OGC 12-128r18, clause 2.1.3.
_MAGIC = b"GP\x00\x03"


class GeoPackageWriter:
    """Writes polygons as a layer of a GeoPackage, with their style; what was at the path before goes away.

    Args:
        path: The file; whole only after ``close``.
        spec: The layer.
        into: A GeoPackage whose other layers the file is to have as well; it is only read.
        replace: Whether ``into`` may have a layer of this name, which is left out.

    Raises:
        OutputExistsError: ``into`` has a layer of this name.
        OptionError: ``into`` is the file itself.
        DiskFullError: The disk is full.
        OutputError: The file cannot be written for another reason; ``write`` and ``close`` raise the same.
    """

    def __init__(self, path: Path, spec: LayerSpec, into: Path | None = None, replace: bool = False) -> None:
        self._path, self._spec = Path(path), spec
        self._rows, self._whole = 0, False
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
        self._database: sqlite3.Connection | None = None
        self._pages: Pages | None = None
        if into is not None and self._path.exists() and self._path.samefile(into):
            raise OptionError(f"a layer cannot be added to {into} in place; write to another name and rename the file")
        with layer_errors(self._path):
            for ending in ("", "-wal", "-shm", "-journal"):
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
            if into is not None:
                _copy(Path(into), self._path, spec.name, replace)
            self._make_layer(new=into is None)
            try:
                self._open()
            except BaseException:
                self.abandon()
                raise

    def write(self, batch: PolygonBatch) -> None:
        """Add polygons."""
        if not len(batch):
            return
        geometry = self._spec.geometries(batch)
        bounds = shapely.bounds(geometry)
        head = np.empty((len(geometry), len(self._head) + bounds.itemsize * 4), np.uint8)
        head[:, : len(self._head)] = np.frombuffer(self._head, np.uint8)
        head[:, len(self._head) :] = np.ascontiguousarray(bounds[:, [0, 2, 1, 3]], "<f8").view(np.uint8)
        ids = self._rows + 1 + np.arange(len(batch), dtype=np.int64)
        shapes = encode(geometry, head)
        if max(map(len, shapes)) > _MOST_BYTES:
            value = batch.class_id[max(range(len(shapes)), key=lambda index: len(shapes[index]))]
            raise OutputError(
                f"a polygon of class {value} has more vertices than a GeoPackage can hold (about 60 million); cut what "
                "spans the raster with --split, or leave the class out with --skip"
            )
        columns, start = self._columns(batch), 0
        with layer_errors(self._path):
            # Where pages lie in the file must not depend on how many polygons come at a time.
            while start < len(batch):
                stop = min(start + self._index.room, len(batch))
                part = slice(start, stop)
                some = [column.part(part) if isinstance(column, Words) else column[part] for column in columns]
                self._table.add(Records.of(ids[part], shapes[part], some, self._encoding))
                self._index.add(ids[part], bounds[part])
                start = stop
        self._bounds[:2] = np.minimum(self._bounds[:2], bounds[:, :2].min(axis=0))
        self._bounds[2:] = np.maximum(self._bounds[2:], bounds[:, 2:].max(axis=0))
        self._rows += len(batch)

    def close(self) -> tuple[Path, ...]:
        """The file, to which the index and the style are added."""
        if not self._whole:
            with layer_errors(self._path):
                self._table.finish()
                self._index.finish()
                self._let_go_of_pages()
                self._db.execute("BEGIN EXCLUSIVE")
                self._describe()
                self._add_style()
                for trigger in self._triggers:
                    self._db.execute(trigger)
                self._db.execute("COMMIT")
            self._whole = True
            self.abandon()
        return (self._path,)

    def abandon(self) -> None:
        """Let go of the file, whole or not."""
        try:
            self._let_go_of_pages()
        finally:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _let_go_of_pages(self) -> None:
        pages, self._pages = self._pages, None
        if pages is not None:
            pages.close()

    @property
    def _db(self) -> sqlite3.Connection:
        if self._database is None:
            raise OutputError(f"{self._path} is closed")
        return self._database

    def _make_layer(self, new: bool) -> None:
        """An empty layer with a spatial index."""
        with warnings.catch_warnings():
            # A raster without a CRS gives a layer without one.
            warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
            pyogrio.raw.write(
                self._path,
                geometry=np.empty(0, object),
                field_data=[np.empty(0, DTYPES[kind]) for kind in COLUMNS.values()],
                fields=list(COLUMNS),
                layer=self._spec.name,
                driver="GPKG",
                geometry_type=self._spec.geometry_type,
                crs=self._spec.wkt,
                layer_options={"SPATIAL_INDEX": "YES", "DESCRIPTION": self._spec.source},
                # GDAL before 3.7, which QGIS 3.22 comes with, warns about every file of version 1.4.
                dataset_options={"VERSION": "1.3"} if new else {},
            )

    def _open(self) -> None:
        """Begin to write; nothing needs to be undone, as the file has no name of its own yet."""
        # Another thread may finish than the one that began; never two at once.
        self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        free, keeps = (self._db.execute(f"PRAGMA {told}").fetchone()[0] for told in ("freelist_count", "auto_vacuum"))
        if free or keeps:
            # Of a layer that was replaced. Pages are only put at the end, and auto-vacuum wants to be told of each.
            self._db.execute("PRAGMA auto_vacuum = NONE")
            self._db.execute("VACUUM")
        layer = self._db.execute(
            "SELECT column_name, srs_id FROM gpkg_geometry_columns WHERE table_name = ?", (self._spec.name,)
        ).fetchone()
        if layer is None:
            raise RuntimeError("GDAL has made no layer in it")
        self.column, reference = layer
        self._head = _MAGIC + int(reference).to_bytes(4, "little", signed=True)
        found = self._db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", (self._spec.name,)
        ).fetchall()
        # They count rows and index boxes one by one.
        for name, _ in found:
            self._db.execute(f"DROP TRIGGER {quoted(name)}")
        self._triggers = [sql for _, sql in found]
        there = [row[1] for row in self._db.execute(f"PRAGMA table_info({quoted(self._spec.name)})")]
        if there != ["fid", self.column, *COLUMNS]:
            raise RuntimeError(f"GDAL has made a layer of other columns: {', '.join(there)}")
        self._pages = Pages(self._path)
        self._encoding = self._pages.encoding
        self._table = Table.named(self._pages, self._db, self._spec.name)
        self._index = RTreeWriter(self._db, self._pages, f"rtree_{self._spec.name}_{self.column}")

    def _columns(self, batch: PolygonBatch) -> list[Column]:
        """The columns of ``COLUMNS``."""
        names, colors, which = named(batch, self._spec.classes)
        source = Words([self._spec.source], np.zeros(len(batch), np.int64))
        return [
            batch.class_id,
            Words(names, which),
            Words(colors, which),
            batch.area_m2,
            batch.perimeter_m,
            batch.pixels,
            batch.confidence,
            batch.confidence_min,
            source,
        ]

    def _describe(self) -> None:
        """Note how many polygons there are, and where."""
        self._db.execute("DELETE FROM sqlite_sequence WHERE name = ?", (self._spec.name,))
        self._db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (self._spec.name, self._rows))
        box = self._bounds.tolist() if self._rows else [None] * 4
        self._db.execute(
            "UPDATE gpkg_contents SET min_x = ?, min_y = ?, max_x = ?, max_y = ?, last_change = ? WHERE table_name = ?",
            (*box, _TIME, self._spec.name),
        )
        if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_ogr_contents'").fetchone():
            self._db.execute(
                "UPDATE gpkg_ogr_contents SET feature_count = ? WHERE table_name = ?", (self._rows, self._spec.name)
            )

    def _add_style(self) -> None:
        """Put the style in; a table of attributes has to be listed, else other programs take the file for damaged."""
        name, source = self._spec.name, self._spec.source
        self._db.execute(_CREATE_STYLES)
        self._db.execute(f"DELETE FROM {STYLES} WHERE f_table_name = ?", (name,))
        self._db.execute(
            f"INSERT INTO {STYLES} (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
            "VALUES ('', '', ?, ?, ?, ?, '', 1, ?, '', NULL, ?)",
            (name, self.column, name[:_STYLE_NAME], categorised(self._spec.classes), source, _TIME),
        )
        self._db.execute(
            "INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) "
            f"VALUES ('{STYLES}', 'attributes', '{STYLES}', '', ?, 0)",
            (_TIME,),
        )


def _copy(source: Path, target: Path, layer: str, replace: bool) -> None:
    """Copy a GeoPackage, with what other programs have not yet put from its journal into the file."""
    if not source.is_file():
        raise OutputError(f"{source} is not there, so no layer can be added to it")
    try:
        names = [str(name) for name in pyogrio.list_layers(source)[:, 0]]
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(f"{source} cannot be read, so no layer can be added to it: {error}") from error
    if layer.casefold() in (name.casefold() for name in names) and not replace:
        raise OutputExistsError(
            f"{source} already has a layer {layer!r}; replace it with --overwrite, or choose another name with --layer"
        )
    address = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")
