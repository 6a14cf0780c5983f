"""The story: a class map is judged by reference points that were drawn at random within each of its classes.

Pixels that a map gives to a class are no estimate of its area, because errors do not cancel. Points whose true class is
known give one, with an interval (Olofsson et al. 2014, see ``accuracy``).
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from ..accuracy import AreaEstimate, estimate_areas
from ..card import ClassInfo
from ..classmap import ClassMap, Pick, find_classes
from ..errors import GridError, OptionError, SceneError
from ..result import without_secrets
from ..types import Track, silent
from .codes import Codes
from .matching import Pairs

MAPPED, REFERENCE = "map", "reference"
_CODES = 256
_HECTARE = 10_000.0
_MAX_BYTES = 200_000_000


@dataclass(frozen=True, slots=True)
class PointFields:
    """What the columns of a table of points are called.

    Args:
        mapped: The map's class. A layer of points that has no such column asks the map.
        reference: The true class.
        layer: Name of the layer, in a file that has several.
    """

    mapped: str = MAPPED
    reference: str = REFERENCE
    layer: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PointEvaluation:
    """The result of ``evaluate_points``.

    Args:
        subject: The map.
        points: The file of points.
        unit: Of areas: "ha", or "px" where the ground size of pixels is unknown.
        classes: In the order of the estimate.
        estimate: Accuracy and areas.
        seconds: Wall time.
        notes: What a careful reader should know.
    """

    subject: str
    points: str
    unit: str
    classes: tuple[ClassInfo, ...]
    estimate: AreaEstimate
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "subject": self.subject,
            "points_file": self.points,
            **self.estimate.to_dict(self.unit),
            "method": "Olofsson et al. 2014, Remote Sensing of Environment 148, 42-57; intervals of 95 %",
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Table:
    """Some rows of texts.

    Args:
        name: Of the file, for people.
        columns: All cells of each column.
        xy: float64 (row, 2) in the grid's CRS, or None for a table without places.
        asked: Whether the map's class was read from the map.
    """

    name: str
    columns: Mapping[str, Sequence[str]]
    xy: NDArray[np.float64] | None = field(default=None, repr=False)
    asked: bool = False

    def find(self, name: str) -> Sequence[str] | None:
        """The column of a name, in whatever case; None where there is none."""
        alike = [c for c in self.columns if c == name] or [c for c in self.columns if c.casefold() == name.casefold()]
        return self.columns[alike[0]] if alike else None


def evaluate_points(
    classmap: str | Path,
    points: str | Path,
    fields: PointFields | None = None,
    pick: Pick | None = None,
    pairs: Pairs | None = None,
    track: Track = silent,
) -> PointEvaluation:
    """Accuracy and class areas of a map by stratified reference points, with 95 % intervals.

    Args:
        classmap: What rasterio opens; it is read once for how much of each class there is.
        points: A CSV file, or a layer of points; each row is a point with the map's class and the true one.
        fields: What the columns are called.
        pick: Which pixels of the map are looked at; points were drawn there.
        pairs: Which class of the map is meant by a class in the column of the reference.
        track: Told of the progress; raises ``CancelledError`` to stop.

    Raises:
        RsSegmentError: The map or the table cannot be used, or a class has too few points.
    """
    fields, started = fields or PointFields(), time.monotonic()
    with ExitStack() as stack:
        opened = stack.enter_context(ClassMap.open(classmap, pick))
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=opened.cache_bytes))
        table = read_table(Path(points), fields, opened)
        said, truth = (
            _column(table, fields.mapped, "--map-field"),
            _column(table, fields.reference, "--reference-field"),
        )
        pixels, metres = _sizes(opened, track)
        legend = [opened.info(v) for v in sorted({*opened.named, *pixels})]
        mapped, true = _values(said, legend, table.name), _values(truth, legend, table.name, pairs)
        classes = [c for c in legend if pixels.get(c.value) or c.value in true]
        counts = _counted(mapped, true, [c.value for c in classes], table.name)
        known_size = all(np.isfinite(metres[v]) for v in pixels)
        size = [(metres.get(c.value, 0.0) / _HECTARE if known_size else pixels.get(c.value, 0)) for c in classes]
        estimate = estimate_areas(counts, size, [c.name for c in classes])
    return PointEvaluation(
        subject=without_secrets(str(classmap)),
        points=str(points),
        unit="ha" if known_size else "px",
        classes=tuple(classes),
        estimate=estimate,
        seconds=time.monotonic() - started,
        notes=tuple(_remarks(table, fields, estimate)),
    )


def read_table(path: Path, fields: PointFields, classmap: ClassMap) -> Table:
    """A table of points: a CSV file (commas, semicolons or tabs), or a layer that OGR reads.

    Where a layer of points does not tell the map's class, it is read from the map.

    Raises:
        SceneError: It cannot be read.
        GridError: It is a layer in another CRS than the map's, and one of them has none.
        OptionError: It holds no rows.
    """
    if not path.is_file():
        raise SceneError(f"{path} does not exist")
    table = (
        _read_csv(path)
        if path.suffix.lower() in (".csv", ".tsv", ".txt")
        else _read_layer(path, fields.layer, classmap)
    )
    if not table.columns or not len(next(iter(table.columns.values()))):
        raise OptionError(f"{path} holds no points")
    if table.xy is not None and table.find(fields.mapped) is None:
        return replace(table, columns={**table.columns, fields.mapped: _asked(classmap, table.xy)}, asked=True)
    return table


def _read_csv(path: Path) -> Table:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SceneError(f"{path} is larger than {_MAX_BYTES:,} bytes: this is no table of sampled points")
        text = path.read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        delimiter = max(",;\t", key=head.count)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SceneError(f"{path} cannot be read as CSV: {error}") from error
    if not rows:
        return Table(path.name, {})
    header = [cell.strip() for cell in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise SceneError(f"row {number} of {path} has {len(row)} cells, but the header has {len(header)}")
    return Table(path.name, {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(header)})


def _read_layer(path: Path, layer: str, classmap: ClassMap) -> Table:
    import pyogrio
    import shapely

    from ..dataset.layers import choose_layer

    name = choose_layer(path, layer)
    try:
        meta, _, wkb, cells = pyogrio.raw.read(path, layer=name, force_2d=True)
    except (RuntimeError, ValueError) as error:
        raise SceneError(f"{path} cannot be read: {error}") from error
    columns = {
        str(field): [_text(value) for value in column] for field, column in zip(meta["fields"], cells, strict=True)
    }
    shapes = shapely.from_wkb(wkb)
    if not (shapely.get_type_id(shapes) == shapely.GeometryType.POINT).all():
        return Table(path.name, columns)
    return Table(path.name, columns, _placed(shapely.get_coordinates(shapes), meta.get("crs"), path, classmap))


def _placed(xy: NDArray[np.float64], crs: str | None, path: Path, classmap: ClassMap) -> NDArray[np.float64]:
    """Coordinates in the map's CRS."""
    mine = classmap.scene.geobox.crs
    if (crs is None) != (mine is None):
        lacking = path.name if crs is None else classmap.scene.name
        raise GridError(f"{lacking} has no CRS, so points cannot be placed on the map; give it one")
    if crs is None or mine is None:
        return xy
    from pyproj import Transformer

    x, y = Transformer.from_crs(crs, mine.to_wkt(), always_xy=True).transform(xy[:, 0], xy[:, 1])
    return np.column_stack([x, y])


def _asked(classmap: ClassMap, xy: NDArray[np.float64]) -> list[str]:
    """The map's class at each point, as text; "" outside of it."""
    box, found = classmap.scene.geobox, []
    for x, y in xy.tolist():
        col, row = ~box.transform * (x, y) if np.isfinite([x, y]).all() else (-1.0, -1.0)
        label = classmap.blank
        if 0 <= col < box.shape[1] and 0 <= row < box.shape[0]:
            label = int(classmap.read(Window(int(col), int(row), 1, 1)).labels[0, 0])
        found.append("" if label == classmap.blank else str(label))
    return found


def _column(table: Table, name: str, option: str) -> Sequence[str]:
    found = table.find(name)
    if found is None:
        held = ", ".join(table.columns) or "none"
        raise OptionError(f"{table.name} has no column {name!r} (it has {held}); name it: {option}")
    return found


def _counted(
    mapped: Sequence[int | None], true: Sequence[int | None], values: Sequence[int], where: str
) -> NDArray[np.int64]:
    """int64 (mapped, reference), points of each pair of classes."""
    place = {value: i for i, value in enumerate(values)}
    counts = np.zeros((len(values), len(values)), np.int64)
    for said, truth in zip(mapped, true, strict=True):
        if said is not None and truth is not None:
            if said not in place:
                raise OptionError(f"{where} says that the map has class {said} at a point, but it has none of it")
            counts[place[said], place[truth]] += 1
    return counts


def _remarks(table: Table, fields: PointFields, estimate: AreaEstimate) -> Iterator[str]:
    rows, counts = len(table.find(fields.reference) or ()), estimate.counts
    if table.asked:
        yield "the map's class at each point was read from the map"
    if dropped := rows - int(counts.sum()):
        yield f"{dropped:,} of {rows:,} points without a class, or left out, do not count"
    sure = [
        name for name, row, hits in zip(estimate.names, counts, counts.diagonal(), strict=True) if hits == row.sum() > 0
    ]
    if sure:
        yield (
            f"all points of {', '.join(sure)} agree with the map; that no error was met does not say that there is "
            "none, so intervals are too narrow there: more points would tell"
        )


def _sizes(classmap: ClassMap, track: Track) -> tuple[dict[int, int], dict[int, float]]:
    """(pixels, square metres) of each class that is there; NaN where the ground size of a pixel is unknown."""
    codes = Codes(classmap.scene.name, classmap.blank)
    pixels, metres = np.zeros(_CODES, np.int64), np.zeros(_CODES)
    with closing(classmap.bands()) as bands:
        for rows in track(bands, classmap.window.width * classmap.window.height, "areas"):
            found = codes.encode(rows.labels)
            first = rows.window.row_off
            areas = classmap.scene.geobox.row_areas(range(first, first + len(found)))
            if areas is None or np.all(areas == areas[0]):
                counts = np.bincount(found.ravel(), minlength=_CODES)
                metres += counts * (np.nan if areas is None else areas[0])
            else:
                counts = np.bincount(found.ravel(), minlength=_CODES)
                weights = np.repeat(np.nan_to_num(areas), found.shape[1])
                metres += np.bincount(found.ravel(), weights, minlength=_CODES)
            pixels += counts
    there = {value: code for code, value in enumerate(codes.values)}
    return {v: int(pixels[c]) for v, c in there.items()}, {v: float(metres[c]) for v, c in there.items()}


def _values(
    texts: Sequence[str], legend: Sequence[ClassInfo], where: str, pairs: Pairs | None = None
) -> list[int | None]:
    """The map's value for each text; None where it is empty or left out."""
    told = {left.casefold(): right for left, right in (pairs.table if pairs else ())}
    told |= {left.casefold(): "" for left in (pairs.ignore if pairs else ())}
    known: dict[str, int | None] = {"": None}
    for text in sorted({*texts} - {""}):
        meant = told.get(text.casefold(), text)
        found = sorted(find_classes([meant], legend, f"the map of {where}")) if meant else [None]
        if len(found) != 1:
            raise OptionError(f"the map has {len(found)} classes {meant!r}, which {where} speaks of; give their values")
        known[text] = found[0]
    return [known[text] for text in texts]


def _text(value: Any) -> str:
    """A cell as text; 3.0 is "3"."""
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return ""
    if isinstance(value, (float, np.floating)) and value == int(value):
        return str(int(value))
    return str(value).strip()
