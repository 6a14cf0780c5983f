"""What does a ``dataset.toml`` say?

The file names images, labels and classes; everything else in it is optional. It is read with ``tomllib``; nothing in it
is executed, and a key that is not known is refused with the one that was probably meant.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ..card import MAX_CLASSES, ClassInfo
from ..errors import DatasetError

FILE_NAME = "dataset.toml"
FORMAT = 1
_MAX_BYTES = 16_000_000
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")

Kind = Literal["values", "colors", "polygons"]
Label: TypeAlias = int | str
"""What stands for a class in the labels: a value, a colour "#3C1098", or the text in a polygon's class field."""

KEYS: dict[str, tuple[str, ...]] = {
    "": (
        "format",
        "name",
        "root",
        "licence",
        "description",
        "images",
        "labels",
        "classes",
        "scaling",
        "weights",
        "split",
        "pairs",
    ),
    "images": ("files", "bands", "names", "nodata", "resolution", "group"),
    "labels": ("files", "kind", "border", "sizes", "ignore", "unknown", "layer", "field", "outside", "order", "area"),
    "classes": ("name", "color", "labels"),
    "scaling": ("kind", "a", "b"),
    "split": ("kind", "validation", "test", "fold", "folds", "block", "buffer", "seed"),
    "pairs": ("image", "labels", "group", "name"),
}
"""What may stand in each table of the file."""


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """One class and what stands for it in the labels; its place in the list is its value."""

    name: str
    color: str
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Where the images are, and what is read of them.

    Args:
        files: Patterns below the root, in which ``*`` is any part of a name and ``**`` any number of folders.
        bands: 1-based indexes or names; None is all but alpha.
        names: Of the bands, for the model's card; empty asks the files.
        nodata: Value of missing pixels, for files that do not say it.
        resolution: Size of a pixel in metres, for files that do not say it.
        group: "folder", "file", or a regular expression whose match in the image's path is the group.
    """

    files: tuple[str, ...] = ()
    bands: tuple[int | str, ...] | None = None
    names: tuple[str, ...] = ()
    nodata: float | None = None
    resolution: float | None = None
    group: str = "folder"


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """Where the labels are, and how they are read.

    Args:
        files: Patterns below the root. A single file of polygons is for all images.
        kind: "values" (one band of whole numbers), "colors" (RGB, or the colours of a palette) or "polygons".
        border: Pixels along the edge of each image whose labels are not trusted.
        cut: Whether images and masks whose sizes differ are cut to what both have, from the top left.
        ignore: Labels that mark pixels without a class.
        unknown: Whether labels that no class has are refused or ignored.
        layer: Name of the layer, in a file that has several.
        field: Name of the polygons' attribute that tells the class; "" where all are of the one class.
        outside: Name of the class outside all polygons; "" ignores what lies there.
        order: Which of two polygons wins where they overlap: the last in the "file", the smaller "area", or the one
            with the larger value in the attribute of this name.
        area: A file with polygons outside of which labels are ignored; "" has none.
    """

    files: tuple[str, ...] = ()
    kind: Kind = "values"
    border: int = 0
    cut: bool = False
    ignore: tuple[Label, ...] = ()
    unknown: Literal["refuse", "ignore"] = "refuse"
    layer: str = ""
    field: str = ""
    outside: str = ""
    order: str = "file"
    area: str = ""


@dataclass(frozen=True, slots=True)
class SplitSpec:
    """How pairs are dealt into training, validation and test.

    Args:
        kind: One of ``rs_segment.dataset.SPLITS``: "group", "blocks", "kfold", "random".
        validation: Names of groups, or a share of the pixels (0 to 1).
        test: Likewise.
        fold: Which fold validates, from 0, and how many ``folds`` there are.
        block: Side of a spatial block in pixels; 0 chooses by the size of the images.
        buffer: Pixels between blocks of training and others.
        seed: Of the dealing.
    """

    kind: str = "group"
    validation: tuple[str, ...] | float = 0.1
    test: tuple[str, ...] | float = 0.0
    fold: int = 0
    folds: int = 5
    block: int = 0
    buffer: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PairSpec:
    """One image and its labels, both paths below the root; no labels where they are for all images."""

    image: str
    labels: str
    group: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """All that a ``dataset.toml`` says.

    Args:
        root: The folder that paths start from.
        scaling: (kind, a, b) as in ``rs_segment.card.Scaling``; None measures mean and standard deviation.
        weights: Of the classes, or "balanced", or None.
        pairs: Images and labels that are named one by one, besides the patterns.
    """

    root: Path
    name: str
    classes: tuple[ClassSpec, ...]
    images: ImageSpec = field(default_factory=ImageSpec)
    labels: LabelSpec = field(default_factory=LabelSpec)
    scaling: tuple[str, tuple[float, ...], tuple[float, ...]] | None = None
    weights: tuple[float, ...] | Literal["balanced"] | None = None
    split: SplitSpec | None = None
    pairs: tuple[PairSpec, ...] = ()
    licence: str = ""
    description: str = ""

    @property
    def infos(self) -> tuple[ClassInfo, ...]:
        """The classes as cards have them, with values 0, 1, 2 and so on."""
        return tuple(ClassInfo(value, c.name, c.color) for value, c in enumerate(self.classes))


def read_spec(path: Path) -> DatasetSpec:
    """What a ``dataset.toml`` says.

    Raises:
        DatasetError: It cannot be read, or says something that is not understood.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DatasetError(f"{path} is larger than {_MAX_BYTES:,} bytes: this is no description of a data set")
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is no TOML: {error}") from error
    try:
        return _spec(told, path.parent, path.resolve().parent.name)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def _spec(told: Mapping[str, Any], root: Path, name: str) -> DatasetSpec:
    _known(told, "")
    if _get(told, "format", int, FORMAT) != FORMAT:
        raise DatasetError(f"format = {told['format']!r} is not {FORMAT}; a newer rs-segment may read it")
    images, labels = _get(told, "images", dict, {}), _get(told, "labels", dict, {})
    label_spec = _labels(labels)
    classes = tuple(_class(i, c, label_spec.kind) for i, c in enumerate(_tables(told, "classes")))
    _check_classes(classes, label_spec)
    pairs = tuple(_pair(p) for p in _tables(told, "pairs"))
    spec = DatasetSpec(
        root / _get(told, "root", str, ""),
        _get(told, "name", str, name) or name,
        classes,
        _images(images),
        label_spec,
        _scaling(told),
        _weights(told, classes),
        split_from(_get(told, "split", dict, {})) if "split" in told else None,
        pairs,
        _get(told, "licence", str, ""),
        _get(told, "description", str, ""),
    )
    if not pairs and not (spec.images.files and spec.labels.files):
        raise DatasetError("it names no images and labels: give files in [images] and [labels], or [[pairs]]")
    return spec


def _images(told: Mapping[str, Any]) -> ImageSpec:
    _known(told, "images")
    bands = _get(told, "bands", list, None)
    resolution = _number(told, "resolution")
    if bands is not None and (not bands or not all(isinstance(b, str) or _is(b, int) for b in bands)):
        raise DatasetError(f"bands = {bands!r:.60} must be a list of numbers or names, such as [1, 2, 3]")
    if resolution is not None and not 0 < resolution < math.inf:
        raise DatasetError(f"resolution = {resolution:g} must be metres above 0")
    group = _get(told, "group", str, "folder")
    try:
        re.compile(group)
    except re.error as error:
        raise DatasetError(
            f'group = {group!r:.60} is neither "folder", "file" nor a regular expression: {error}'
        ) from None
    return ImageSpec(
        _texts(told, "files"),
        None if bands is None else tuple(bands),
        _texts(told, "names"),
        _number(told, "nodata"),
        resolution,
        group,
    )


def _labels(told: Mapping[str, Any]) -> LabelSpec:
    _known(told, "labels")
    kind = _choice(told, "kind", ("values", "colors", "polygons"), "values")
    ignore = tuple(_label(v, kind) for v in _get(told, "ignore", list, []))
    border = _get(told, "border", int, 0)
    if border < 0:
        raise DatasetError(f"border = {border} must be pixels, 0 or more")
    return LabelSpec(
        _texts(told, "files"),
        kind,  # type: ignore[arg-type]
        border,
        _choice(told, "sizes", ("refuse", "cut"), "refuse") == "cut",
        ignore,
        _choice(told, "unknown", ("refuse", "ignore"), "refuse"),  # type: ignore[arg-type]
        _get(told, "layer", str, ""),
        _get(told, "field", str, ""),
        _get(told, "outside", str, "") if told.get("outside") != "ignore" else "",
        _get(told, "order", str, "file") or "file",
        _get(told, "area", str, ""),
    )


def _class(place: int, told: Any, kind: str) -> ClassSpec:
    _known(told, "classes")
    name = _get(told, "name", str, "")
    color = _get(told, "color", str, "")
    if not name.strip() or not name.isprintable():
        raise DatasetError(f"class {place} in [[classes]] has no name")
    if color and not _COLOR.fullmatch(color):
        raise DatasetError(f'the color {color!r:.40} of class {name} must be written like "#3C1098"')
    labels = _get(told, "labels", list, None)
    if labels is None:
        if kind == "colors" and not color:
            raise DatasetError(f'class {name} has no color; the labels are colours, so give it one, like "#3C1098"')
        labels = [{"values": place, "colors": color, "polygons": name}[kind]]
    return ClassSpec(name, color.upper() or spare_color(place), tuple(_label(v, kind) for v in labels))


def _check_classes(classes: tuple[ClassSpec, ...], labels: LabelSpec) -> None:
    names = [c.name for c in classes]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise DatasetError(f"two classes are called {sorted(twice)[0]}")
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise DatasetError(f"it names {len(classes)} classes; 1 to {MAX_CLASSES} are possible, each as [[classes]]")
    owner: dict[Label, str] = dict.fromkeys(labels.ignore, "ignore")
    for c in classes:
        for label in c.labels:
            if label in owner:
                raise DatasetError(f"the label {label!r} stands for both {owner[label]} and {c.name}")
            owner[label] = c.name
    if labels.outside and labels.outside not in names:
        raise DatasetError(f"outside = {labels.outside!r} is no class; there are {', '.join(names)}")


def _label(value: Any, kind: str) -> Label:
    """A label in the one spelling that it is compared in."""
    if kind == "values" and _is(value, int):
        return int(value)
    if kind == "colors" and isinstance(value, str) and _COLOR.fullmatch(value):
        return value.upper()
    if kind == "polygons" and (isinstance(value, str) or _is(value, int)):
        return str(value)
    wanted = {"values": "whole numbers", "colors": 'colours like "#3C1098"', "polygons": "texts or whole numbers"}
    raise DatasetError(f'the label {value!r:.40} cannot be: with kind = "{kind}" labels are {wanted[kind]}')


def _scaling(told: Mapping[str, Any]) -> tuple[str, tuple[float, ...], tuple[float, ...]] | None:
    if "scaling" not in told:
        return None
    table = _get(told, "scaling", dict, {})
    _known(table, "scaling")
    kind = _choice(table, "kind", ("none", "min-max", "z-score", "fixed", "percentile"), "z-score")
    a, b = ([float(v) for v in _get(table, key, list, []) if _is(v, (int, float))] for key in "ab")
    if kind != "none" and (not b or (kind != "fixed" and not a) or not all(map(math.isfinite, (*a, *b)))):
        raise DatasetError(
            f'a scaling of kind "{kind}" needs lists of finite numbers a and b, one a band or one for all'
        )
    if len(a) > 1 and len(b) > 1 and len(a) != len(b):
        raise DatasetError(f"a scaling needs as many a as b, but there are {len(a)} and {len(b)}")
    low, high = np.broadcast_arrays(a or [0.0], b or [1.0])
    wide = high > low if kind in ("min-max", "percentile") else high > 0
    if not wide.all():
        raise DatasetError(f'a scaling of kind "{kind}" has nothing to divide by: a = {a!r:.60}, b = {b!r:.60}')
    return kind, tuple(a) or (0.0,), tuple(b) or (1.0,)


def _weights(told: Mapping[str, Any], classes: tuple[ClassSpec, ...]) -> tuple[float, ...] | Literal["balanced"] | None:
    weights = told.get("weights")
    if weights is None or weights == "balanced":
        return weights
    if isinstance(weights, dict):
        unknown = sorted(set(weights) - {c.name for c in classes})
        if unknown:
            raise DatasetError(f"weights are given for {unknown[0]!r}, which is no class")
        weights = [weights.get(c.name, 1.0) for c in classes]
    fine = isinstance(weights, list) and all(_is(w, (int, float)) and 0 <= w < math.inf for w in weights)
    if not fine or len(weights) != len(classes) or not any(weights):
        raise DatasetError(
            f'weights = {weights!r:.60} must be "balanced", a number of 0 or more for each of the {len(classes)} '
            "classes, or a table from names to numbers"
        )
    return tuple(float(w) for w in weights)


def split_from(told: Mapping[str, Any]) -> SplitSpec:
    """A split as a table of a ``dataset.toml`` says it.

    Raises:
        DatasetError: A key or a value cannot be.
    """
    _known(told, "split")
    whole = {
        key: _get(told, key, int, default) for key, default in (("fold", 0), ("folds", 5), ("block", 0), ("seed", 0))
    }
    buffer = _get(told, "buffer", int, 64)
    if min(whole["block"], buffer, whole["seed"]) < 0:
        raise DatasetError("block, buffer and seed of a split are 0 or more")
    if not 0 <= whole["fold"] < whole["folds"] or whole["folds"] < 2:
        raise DatasetError(
            f"fold = {whole['fold']} of folds = {whole['folds']}: folds are counted from 0, and 2 or more"
        )
    return SplitSpec(
        kind=_choice(told, "kind", ("group", "blocks", "kfold", "random"), "group"),
        validation=_held_out(told, "validation", 0.1),
        test=_held_out(told, "test", 0.0),
        buffer=buffer,
        **whole,
    )


def _held_out(told: Mapping[str, Any], key: str, default: float) -> tuple[str, ...] | float:
    value = told.get(key, default)
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if _is(value, (int, float)) and 0 <= value < 1:
        return float(value)
    raise DatasetError(f"{key} = {value!r:.60} must be a list of groups, or a share from 0 to below 1")


def _pair(told: Any) -> PairSpec:
    _known(told, "pairs")
    image = _get(told, "image", str, "")
    if not image:
        raise DatasetError("one of [[pairs]] names no image")
    return PairSpec(image, *(_get(told, key, str, "") for key in ("labels", "group", "name")))


def spare_color(place: int) -> str:
    """A colour for a class that has none; hues a golden section apart differ however many there are."""
    import colorsys

    rgb = colorsys.hls_to_rgb(place * 0.6180339887498949 % 1, 0.55, 0.6)
    return "#{:02X}{:02X}{:02X}".format(*(round(255 * part) for part in rgb))


def _known(table: Any, place: str) -> None:
    """Raises where a table is none, or has a key that no such table has."""
    if not isinstance(table, dict):
        raise DatasetError(f"[{place}] must be a table")
    for key in table:
        if key not in KEYS[place]:
            near = difflib.get_close_matches(key, KEYS[place], 1)
            where = f" in [{place}]" if place else ""
            hint = f"did you mean {near[0]}?" if near else f"there may be {', '.join(KEYS[place])}"
            raise DatasetError(f"{key!r}{where} means nothing here; {hint}")


def _tables(told: Mapping[str, Any], key: str) -> list[Any]:
    found = told.get(key, [])
    if not isinstance(found, list):
        raise DatasetError(f"{key} must be written as [[{key}]], once for each")
    return found


def _is(value: Any, kinds: Any) -> bool:
    """Whether a value is of a type; true and false are no numbers."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def _get(told: Mapping[str, Any], key: str, kind: type[Any], default: Any) -> Any:
    value = told.get(key, default)
    if key in told and not _is(value, kind):
        named = {str: "a text", int: "a whole number", list: "a list", dict: "a table"}[kind]
        raise DatasetError(f"{key} = {value!r:.60} must be {named}")
    return value


def _number(told: Mapping[str, Any], key: str) -> float | None:
    value = told.get(key)
    if value is not None and not _is(value, (int, float)):
        raise DatasetError(f"{key} = {value!r:.60} must be a number")
    return None if value is None else float(value)


def _texts(told: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = told.get(key, [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise DatasetError(f"{key} = {value!r:.60} must be a text or a list of texts")
    return tuple(value)


def _choice(told: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str) -> str:
    value = told.get(key, default)
    if value not in choices:
        raise DatasetError(f"{key} = {value!r:.60} must be one of {', '.join(choices)}")
    return str(value)


def to_toml(spec: DatasetSpec) -> str:
    """The text of a ``dataset.toml`` that says the same; what is as it would be anyway is left out."""
    head: dict[str, Any] = {"format": FORMAT, "name": spec.name}
    head |= {k: v for k, v in (("licence", spec.licence), ("description", spec.description)) if v}
    if spec.weights is not None:
        head["weights"] = spec.weights
    images, plain = spec.images, ImageSpec()
    labels, bare = spec.labels, LabelSpec()
    told = {k: getattr(labels, k) for k in KEYS["labels"] if k != "sizes" and getattr(labels, k) != getattr(bare, k)}
    told["kind"] = labels.kind
    if labels.kind == "polygons":
        told |= {"outside": labels.outside or "ignore", "order": labels.order}
    if labels.cut:
        told["sizes"] = "cut"
    tables: list[tuple[str, dict[str, Any]]] = [
        ("", head),
        ("[images]", {k: getattr(images, k) for k in KEYS["images"] if getattr(images, k) != getattr(plain, k)}),
        ("[labels]", {k: told[k] for k in KEYS["labels"] if k in told}),
    ]
    if spec.scaling is not None:
        tables.append(("[scaling]", dict(zip(("kind", "a", "b"), spec.scaling, strict=True))))
    if spec.split is not None:
        fresh = SplitSpec()
        told = {k: getattr(spec.split, k) for k in KEYS["split"]}
        tables.append(("[split]", {k: v for k, v in told.items() if k == "kind" or v != getattr(fresh, k)}))
    tables += [("[[classes]]", {k: getattr(c, k) for k in KEYS["classes"]}) for c in spec.classes]
    tables += [("[[pairs]]", {k: getattr(p, k) for k in KEYS["pairs"] if getattr(p, k)}) for p in spec.pairs]
    return "\n".join(
        "\n".join([title] * bool(title) + [f"{k} = {_toml(v)}" for k, v in table.items()]) + "\n"
        for title, table in tables
    )


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML does not allow as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
