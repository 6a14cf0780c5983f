"""How do polygons get into a format whose files cannot grow?

They go into a GeoPackage, which GDAL converts when all are there, some thousands at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyogrio

from ..polygons import PolygonBatch
from ..workfolder import write_whole
from .btree import quoted
from .features import COLUMNS, LayerSpec, categorised, layer_errors
from .geopackage import GeoPackageWriter

_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Driver:
    """A format as GDAL knows it.

    Args:
        name: Of the driver.
        options: For the layer.
        beside: Endings of the files that it writes beside a layer's own, if there is anything for them to hold.
        renamed: Shorter names of columns.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


class ConvertedWriter:
    """Writes polygons in a format of GDAL, and their style beside them; what was at the paths before goes away.

    Memory is that of some thousands of polygons; the disk has to hold all of them twice for a while.

    Args:
        path: The file; whole only after ``close``.
        spec: The layer.
        driver: The format.

    Raises:
        DiskFullError: The disk is full.
        OutputError: The file cannot be written for another reason; ``write`` and ``close`` raise the same.
    """

    def __init__(self, path: Path, spec: LayerSpec, driver: Driver) -> None:
        self._path, self._spec, self._driver = Path(path), spec, driver
        self._spool = self._path.with_name(f"{self._path.name}.spool.gpkg")
        self._writer = GeoPackageWriter(self._spool, spec)
        self._polygons = self._pixels = 0
        self._whole = False

    def write(self, batch: PolygonBatch) -> None:
        """Add polygons."""
        self._writer.write(batch)
        self._polygons += len(batch)
        self._pixels += int(batch.pixels.sum())

    def close(self) -> tuple[Path, ...]:
        """(the file, those that the format has beside it, the style)."""
        beside = [self._path.with_suffix(ending) for ending in self._driver.beside]
        style = self._path.with_suffix(".qml")
        if not self._whole:
            self._writer.close()
            # GDAL takes back part of what it wrote, so that a full disk has room again.
            with layer_errors(self._path, self._spool.stat().st_size):
                for old in (self._path, *beside):
                    old.unlink(missing_ok=True)
                self._convert()
                self._check()
                write_whole(style, categorised(self._spec.classes))
                self._spool.unlink()
            self._whole = True
        return (self._path, *(path for path in beside if path.exists()), style)

    def abandon(self) -> None:
        """Let go of the files, whole or not."""
        self._writer.abandon()

    def _convert(self) -> None:
        names = {name: self._driver.renamed.get(name, name) for name in COLUMNS}
        listed = ", ".join(f"{quoted(old)} AS {quoted(new)}" for old, new in names.items())
        query = f"SELECT {quoted(self._writer.column)}, {listed} FROM {quoted(self._spec.name)}"
        with (
            warnings.catch_warnings(),
            pyogrio.raw.open_arrow(self._spool, sql=query, batch_size=_CHUNK) as (_, features),
        ):
            # A raster without a CRS gives a layer without one; what a format cuts off is said where formats are chosen.
            warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
            warnings.filterwarnings("ignore", message=".*truncated", category=RuntimeWarning)
            pyogrio.raw.write_arrow(
                features,
                self._path,
                layer=self._spec.name,
                driver=self._driver.name,
                geometry_type=self._spec.geometry_type,
                geometry_name=self._writer.column,
                crs=self._spec.wkt,
                layer_options=dict(self._driver.options),
            )

    def _check(self) -> None:
        """Read all polygons again: not every driver says that it failed."""
        _, bounds = pyogrio.read_bounds(self._path)
        # There is no column at all in what some drivers leave on a full disk.
        pixels = pyogrio.raw.read(self._path, columns=["pixels"], read_geometry=False)[3]
        found, wanted = (bounds.shape[1], sum(int(p.sum()) for p in pixels)), (self._polygons, self._pixels)
        if found != wanted or not np.isfinite(bounds).all():
            raise RuntimeError(f"it reads back as {found} (polygons, pixels), but {wanted} were written to it")
