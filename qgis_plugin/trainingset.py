"""What does the engine read of layers that a model is to be trained with? A ``dataset.toml``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qgis.core import QgsCategorizedSymbolRenderer, QgsVectorLayer


@dataclass(frozen=True)
class TrainingSet:
    """Images, the polygons that tell their classes, and how they are read.

    Args:
        name: What people call it.
        images: Name and path of each.
        labels: The file of the polygons.
        layer: Its layer, where it has several.
        field: The attribute that tells the class; "" where all polygons are of one.
        classes: Their names, in the order of the model's values.
        colors: By class, such as "#3C1098", where they are known.
        outside: The class of what lies outside of all polygons; "" ignores it.
        area: A file with polygons outside of which nothing is learnt, or "".
        bands: Numbers or names of the bands, or () for all.
        resolution: Side of a pixel in metres, for images that do not say it.
        balanced: Whether rare classes weigh more.
        block: Side of the squares that are held out, in pixels; None leaves it to the engine.
        buffer: Pixels between those and what is trained on; None leaves it to the engine.
    """

    name: str
    images: Sequence[tuple[str, str]]
    labels: str
    layer: str
    field: str
    classes: Sequence[str]
    colors: Mapping[str, str]
    outside: str = ""
    area: str = ""
    bands: Sequence[str] = ()
    resolution: float | None = None
    balanced: bool = False
    block: int | None = None
    buffer: int | None = None

    def toml(self) -> str:
        """The text of the ``dataset.toml``."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield "format = 1"
        yield f"name = {_quoted(self.name)}"
        if self.balanced:
            yield 'weights = "balanced"'
        yield "\n[images]"
        if self.bands:
            bands = (b if b.isdigit() else _quoted(b) for b in self.bands)
            yield f"bands = [{', '.join(bands)}]"
        if self.resolution:
            yield f"resolution = {self.resolution:.15g}"
        yield '\n[labels]\nkind = "polygons"\nunknown = "ignore"'
        told = {"field": self.field, "layer": self.layer, "outside": self.outside, "area": self.area}
        yield from (f"{key} = {_quoted(value)}" for key, value in told.items() if value)
        squares = {"block": self.block, "buffer": self.buffer}
        if any(value is not None for value in squares.values()):
            yield '\n[split]\nkind = "blocks"'
            yield from (f"{key} = {value}" for key, value in squares.items() if value is not None)
        for name in self.classes:
            yield f"\n[[classes]]\nname = {_quoted(name)}"
            if name in self.colors:
                yield f"color = {_quoted(self.colors[name])}"
        for name, path in self.images:
            named = _quoted(name)
            yield f"\n[[pairs]]\nimage = {_quoted(path)}\nlabels = {_quoted(self.labels)}"
            yield f"group = {named}\nname = {named}"


def named_apart(names: Sequence[str]) -> list[str]:
    """The same names, each another: the second of two gets a number."""
    found: list[str] = []
    for name in names:
        count = 1
        while (other := name if count == 1 else f"{name} {count}") in found:
            count += 1
        found.append(other)
    return found


def label(value: Any) -> str:
    """What stands in a class field, as the engine spells it; "" where it is empty."""
    if value is None or (hasattr(value, "isNull") and value.isNull()):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def colors(layer: QgsVectorLayer | None, field: str) -> dict[str, str]:
    """The colour of each class, where the layer is drawn by its classes."""
    renderer = None if layer is None else layer.renderer()
    if not isinstance(renderer, QgsCategorizedSymbolRenderer) or renderer.classAttribute().strip('"') != field:
        return {}
    return {label(c.value()): c.symbol().color().name().upper() for c in renderer.categories() if label(c.value())}


def _quoted(text: str) -> str:
    """A text as TOML writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
