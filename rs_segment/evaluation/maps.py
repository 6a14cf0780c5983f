"""The story: a class map, whoever made it, is compared with a reference.

The reference is another class raster, on any grid and in any CRS, or polygons, which are burnt into the pixels. Both
are read by window; what is held does not grow with the map.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from ..accuracy import Confusion
from ..card import ClassInfo
from ..classmap import ClassMap, Pick
from ..dataset.layers import SUFFIXES, Layer
from ..dataset.masks import Legend
from ..dataset.spec import LabelSpec
from ..errors import GridError, OptionError
from ..geobox import GeoBox
from ..pipeline import ahead
from ..result import without_secrets
from ..scene import Scene
from ..types import NODATA, UNCLASSIFIED, Labels, Track, silent
from .codes import MOST, Codes
from .matching import UNCLASSIFIED_NAME, Matching, Pairs, number_in
from .nearest import Labelled, Nearest
from .overview import Overview
from .result import Evaluation

_CODES = 256
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_HECTARE = 10_000.0


@dataclass(frozen=True, slots=True)
class Against:
    """How a reference is read and compared.

    Args:
        pairs: Which class of the map is meant by a class of the reference.
        grid: Whose pixels are compared: the "map"'s, or the "reference"'s where that is a raster.
        band: Of a raster, 1-based; None is the only one.
        nodata: Of a raster that does not say it.
        field: Attribute of polygons that tells the class; None is the only text or whole number there is.
        layer: Name of the layer, in a file that has several.
        outside: Class outside of all polygons; "" leaves out what lies there.
    """

    pairs: Pairs = Pairs()
    grid: Literal["map", "reference"] = "map"
    band: int | None = None
    nodata: float | None = None
    field: str | None = None
    layer: str = ""
    outside: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two maps, on the grid that they are compared on.

    Args:
        name: For people.
        named: Name of each class that has one.
        blank: The label that is no class.
        read: Labels (row, col) under a window of the grid.
        info: Name and colour of a class.
        spell: How a class without a name is written.
    """

    name: str
    named: Mapping[int, str]
    blank: int
    read: Callable[[Window], NDArray[Any]]
    info: Callable[[int], ClassInfo]
    spell: Callable[[int], str] = str


@dataclass(frozen=True, slots=True)
class Strip:
    """Both maps under a window."""

    window: Window
    reference: NDArray[Any]
    classmap: NDArray[Any]

    @property
    def work(self) -> int:
        """Number of pixels."""
        return int(self.classmap.size)


def evaluate_map(
    classmap: str | Path,
    reference: str | Path,
    pick: Pick | None = None,
    against: Against | None = None,
    track: Track = silent,
) -> Evaluation:
    """How well a class map agrees with a reference, pixel by pixel.

    Pixels are compared where both have a class; where the map says "unclassified" it is wrong.

    Args:
        classmap: What rasterio opens.
        reference: Likewise, or a file of polygons.
        pick: Which pixels of the map are looked at.
        against: How the reference is read and compared.
        track: Told of the progress; raises ``CancelledError`` to stop.

    Raises:
        RsSegmentError: One of them is refused, a class of the reference is none of the map's, or they do not meet.
    """
    against, started = against or Against(), time.monotonic()
    with ExitStack() as stack:
        base, mine, theirs, grid = _sides(stack, classmap, reference, pick, against)
        matching = Matching.of((theirs.name, theirs.named), (mine.name, _classes(mine.named)), against.pairs)
        matching = replace(matching, spell=theirs.spell)
        counter = Counter(base, mine, theirs, matching)
        windows = base.windows()

        def look(window: Window) -> Strip:
            return Strip(window, theirs.read(window), mine.read(window))

        with closing(ahead(look, windows, threads=2, depth=3)) as strips:
            for strip in track(strips, base.window.width * base.window.height, "compare"):
                counter.add(strip)
        found = counter.result(grid)
    return replace(
        found,
        subject=without_secrets(str(classmap)),
        reference=without_secrets(str(reference)),
        seconds=time.monotonic() - started,
    )


class Counter:
    """Counts pairs of classes as strips go by.

    Args:
        base: The map whose grid it is.
        mine: The map.
        theirs: The reference.
        matching: Of their classes.
    """

    def __init__(self, base: ClassMap, mine: Side, theirs: Side, matching: Matching) -> None:
        self._base, self._mine, self._theirs, self._matching = base, mine, theirs, matching
        self._said = Codes(mine.name, mine.blank)
        self._truth = Codes(theirs.name, theirs.blank, self._met)
        self._target = np.full(_CODES, NODATA, np.uint8)
        self._left_out = np.ones(_CODES, np.bool_)
        self._pixels = np.zeros((_CODES, _CODES), np.int64)
        self._square_metres = np.zeros((_CODES, _CODES))
        self._overview = Overview(base.window)

    def _met(self, value: int) -> None:
        """Find out what a class of the reference is in the map."""
        code, target = self._truth.values.index(value), self._matching.target(value)
        if target is not None:
            self._target[code] = self._said.of(target)
            self._left_out[code] = False

    def add(self, strip: Strip) -> None:
        """Count a strip."""
        truth, said = self._truth.encode(strip.reference), self._said.encode(strip.classmap)
        place = truth.astype(np.intp) * _CODES + said
        counts = np.bincount(place.ravel(), minlength=_CODES**2).reshape(_CODES, _CODES)
        self._pixels += counts
        first = strip.window.row_off
        areas = self._base.scene.geobox.row_areas(range(first, first + strip.window.height))
        if areas is None:
            self._square_metres += np.nan
        elif np.all(areas == areas[0]):
            self._square_metres += counts * areas[0]
        else:
            weights = np.repeat(np.nan_to_num(areas), strip.window.width)
            sums = np.bincount(place.ravel(), weights, minlength=_CODES**2)
            self._square_metres += sums.reshape(_CODES, _CODES)
        target = self._target[truth]
        compared = ~self._left_out[truth] & (said != NODATA)
        self._overview.add(strip.window, target, said, compared, compared & (said != target))

    def result(self, grid: str) -> Evaluation:
        """What was counted; names of files and the time are still to be filled in.

        Raises:
            GridError: No pixel could be compared.
        """
        theirs, mine = self._theirs.name, self._mine.name
        known = ~self._left_out
        if not self._pixels[known, :NODATA].any():
            raise GridError(
                f"no pixel of {mine} could be compared with {theirs}: they do not overlap, or where they do one of "
                "them has no class; look at both in a GIS"
            )
        values = sorted(self._present())
        position = {value: i for i, value in enumerate(values)}
        to_position = np.full(_CODES, UNCLASSIFIED, np.uint8)
        to_position[NODATA] = NODATA
        for code, value in enumerate(self._said.values):
            to_position[code] = position.get(value, UNCLASSIFIED)
        pixels = self._folded(self._pixels, to_position, len(values))
        metres = self._folded(self._square_metres, to_position, len(values))
        classes = tuple(self._info(value) for value in values)
        confusion = Confusion(pixels[:, :-1], tuple(c.name for c in classes), pixels[:, -1])
        return Evaluation(
            subject=mine,
            reference=theirs,
            grid=grid,
            matching=self._matching.sentence(),
            classes=classes,
            confusion=confusion,
            hectares=None if np.isnan(metres).any() else metres / _HECTARE,
            views=(self._overview.view(mine, to_position, to_position),),
            notes=tuple(self._remarks(confusion)),
        )

    def _present(self) -> set[int]:
        """The map's values that are classes: those that it names, and those that were met in pixels that count."""
        seen = self._pixels[~self._left_out].sum(axis=0) > 0
        met = {value for code, value in enumerate(self._said.values) if seen[code]}
        meant = {self._said.values[t] for t in self._target if t != NODATA}
        return {v for v in (met | meant | set(_classes(self._mine.named))) if not _unclassified(v, self._mine.named)}

    def _folded(self, table: NDArray[Any], to_position: Labels, count: int) -> NDArray[Any]:
        """(class, class or unclassified) of a table of codes."""
        found = np.zeros((count, count + 1), table.dtype)
        for code in range(len(self._truth.values)):
            if self._left_out[code]:
                continue
            row = to_position[self._target[code]]
            for said in range(len(self._said.values)):
                found[row, min(int(to_position[said]), count)] += table[code, said]
        return found

    def _info(self, value: int) -> ClassInfo:
        """A class as the map has it, in the reference's name or colour where the map gives none."""
        mine = self._mine.info(value)
        if value in self._mine.named:
            return mine
        alike = [v for v in self._truth.values if v in self._theirs.named and self._matching.target(v) == value]
        return replace(mine, name=self._theirs.info(alike[0]).name) if alike else mine

    def _remarks(self, confusion: Confusion) -> Iterator[str]:
        known = ~self._left_out
        whole = int(self._pixels.sum())
        bare = int(self._pixels[known, NODATA].sum())
        if bare:
            yield f"{bare:,} px that the reference knows are not compared: the map has no data there"
        if confusion.total < whole / 100:
            yield f"only {confusion.total / whole:.2%} of the pixels have a reference"
        if (missed := int(confusion.reference.sum() - confusion.matrix.sum())) > 0:
            yield f"{missed:,} px are unclassified in the map, and count as wrong"
        absent = [n for n, there in zip(confusion.names, confusion.reference, strict=True) if not there]
        false = [n for n in absent if confusion.predicted[confusion.names.index(n)]]
        if false:
            listed = ", ".join(false[:9])
            yield f"the reference has none of {listed}, which the map finds; the mean IoU counts such a class as 0"


def _sides(
    stack: ExitStack, classmap: str | Path, reference: str | Path, pick: Pick | None, against: Against
) -> tuple[ClassMap, Side, Side, str]:
    """(the map whose grid it is, the map, the reference, on whose grid for people)."""
    mine = stack.enter_context(ClassMap.open(classmap, pick))
    if Path(reference).suffix.lower() in SUFFIXES:
        if against.grid == "reference":
            raise OptionError("polygons have no grid; leave --grid at map")
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=mine.cache_bytes))
        theirs = burnt(Path(reference), against, mine.scene.geobox, mine.scene.name)
        return (
            mine,
            _raster_side(mine, mine.scene.geobox),
            theirs,
            f"the pixels of {mine.scene.name}, into which the polygons of {theirs.name} are burnt",
        )
    scene = stack.enter_context(Scene.open(reference, against.nodata))
    if against.band is None and in_colors(scene):
        if against.grid == "reference":
            raise OptionError(f"{scene.name} is a picture in colours; leave --grid at map")
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=mine.cache_bytes))
        found = painted(scene, mine, against.pairs)
        return (
            mine,
            _raster_side(mine, mine.scene.geobox),
            found,
            f"the pixels of {mine.scene.name}; the classes of {scene.name} are its colours",
        )
    other = stack.enter_context(ClassMap.open(reference, Pick(band=against.band, nodata=against.nodata)))
    stack.enter_context(rasterio.Env(GDAL_CACHEMAX=mine.cache_bytes + other.cache_bytes))
    base, seen = (mine, other) if against.grid == "map" else (other, mine)
    box = base.scene.geobox
    sides = _raster_side(mine, box), _raster_side(other, box)
    aligned = Nearest.of(Labelled.of(seen), box).aligned
    how = "the pixels of both, which are the same"
    if not aligned:
        how = f"the pixels of {base.scene.name}; {seen.scene.name} is taken at their centres (nearest neighbour)"
    return base, *sides, how


def _raster_side(classmap: ClassMap, grid: GeoBox) -> Side:
    """A class map on a grid."""
    named = {value: classmap.legend[value].name for value in classmap.named}
    return Side(classmap.scene.name, named, classmap.blank, Nearest.of(Labelled.of(classmap), grid).read, classmap.info)


def in_colors(scene: Scene) -> bool:
    """Whether a raster's colours, in three bands of bytes, may be its labels."""
    plain = [b for b in scene.bands if not b.alpha]
    return len(plain) == 3 and all(b.dtype == "uint8" for b in plain)


def painted(scene: Scene, classmap: ClassMap, pairs: Pairs) -> Side:
    """A raster whose colours are classes, on a map's grid: those of the map by their colours in it, others as told.

    Args:
        scene: Three bands.
        classmap: The map.
        pairs: Where a class of the reference is a colour, "#3C1098", it is one of these.
    """
    own = [classmap.legend[value] for value in classmap.named]
    named = {int(c.color[1:], 16): c.name for c in reversed(own)}
    said = [left for left, _ in pairs.table] + list(pairs.ignore)
    named |= {int(text[1:], 16): text for text in said if _COLOR.fullmatch(text)}

    def read(window: Window) -> NDArray[Any]:
        chip = scene.read(window)
        red, green, blue = chip.pixels.astype(np.int32)
        return np.where(chip.valid, (red << 16) | (green << 8) | blue, np.int32(-1))

    def spell(value: int) -> str:
        return f"#{value:06X}"

    def info(value: int) -> ClassInfo:
        return ClassInfo(value, named.get(value, spell(value)), spell(value))

    seen = Nearest.of(Labelled(scene.name, scene.geobox, np.dtype(np.int32), -1, read), classmap.scene.geobox)
    return Side(scene.name, named, -1, seen.read, info, spell)


def burnt(path: Path, against: Against, grid: GeoBox, image: str) -> Side:
    """Polygons on a grid. Texts become classes 0, 1, 2 and so on in their order; "7" and "class 7" are the value 7.

    Args:
        path: The file.
        against: Which layer and attribute.
        grid: The pixels.
        image: Whose they are, for people.

    Raises:
        DatasetError: The file or the attribute is not there, or CRS are missing.
        OptionError: There are too many classes.
    """
    from ..dataset.layers import choose_layer, fields_of

    layer = choose_layer(path, against.layer)
    column = against.field or _class_field(path, fields_of(path, layer))
    shapes = Layer.read(path, LabelSpec(kind="polygons", layer=layer, field=column))
    texts = sorted({text for text in (*shapes.labels.tolist(), against.outside) if text})
    numbers = {text: number for text in texts if (number := number_in(text)) is not None and number < MOST}
    whole = len(set(numbers.values())) == len(texts)
    if len(texts) > MOST:
        raise OptionError(f"{path} has {len(texts):,} different values of {column!r}; is it the field of the class?")
    values = numbers if whole else {text: i for i, text in enumerate(texts)}
    found = shapes.on(grid, Legend("polygons", values, len(texts)), image)
    outside = values[against.outside] if against.outside else NODATA
    names = {value: text for text, value in values.items() if not text.isdecimal()}

    def read(window: Window) -> NDArray[Any]:
        return found.read(window, outside)

    def info(value: int) -> ClassInfo:
        return ClassInfo(value, names.get(value, f"class {value}"), "#808080")

    return Side(f"{path.name} ({column})" if column else path.name, names, NODATA, read, info)


def _class_field(path: Path, fields: Mapping[str, str]) -> str:
    """The attribute that must be the class, because no other could be."""
    fit = [name for name, kind in fields.items() if kind in ("text", "whole")]
    named = [name for name in fit if name.casefold() in ("class", "class_name", "classname", "label", "name")]
    if len(fit) == 1 or len(named) == 1:
        return (fit if len(fit) == 1 else named)[0]
    raise OptionError(
        f"{path} has the attributes {', '.join(fields) or 'none'}; say which tells the class with --field"
    )


def _classes(named: Mapping[int, str]) -> dict[int, str]:
    """The names of classes that are some."""
    return {value: name for value, name in named.items() if not _unclassified(value, named)}


def _unclassified(value: int, named: Mapping[int, str]) -> bool:
    return named.get(value, "").casefold() == UNCLASSIFIED_NAME
