"""How are a map and its reference read on one grid, whatever kind of thing the reference is?"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from ..card import ClassInfo
from ..classmap import ClassMap, Pick
from ..dataset.layers import SUFFIXES, Layer, choose_layer, fields_of
from ..dataset.masks import Legend
from ..dataset.spec import LabelSpec
from ..errors import OptionError
from ..geobox import GeoBox
from ..scene import Scene
from ..types import NODATA
from .codes import MOST
from .matching import UNCLASSIFIED_NAME, Pairs, number_in
from .nearest import Labelled, Nearest

_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")


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


def open_sides(
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


def named_classes(named: Mapping[int, str]) -> dict[int, str]:
    """The names of classes that are some."""
    return {value: name for value, name in named.items() if not is_unclassified(value, named)}


def is_unclassified(value: int, named: Mapping[int, str]) -> bool:
    """Whether a value stands for pixels to which a map gives no class."""
    return named.get(value, "").casefold() == UNCLASSIFIED_NAME
