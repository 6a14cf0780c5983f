"""What would the ``dataset.toml`` of a folder say, if somebody had written one?

Which files belong together, what their labels are, which classes there are. Whatever could also be meant otherwise is
told in a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.windows import Window

from ..card import MAX_CLASSES
from ..classmap import ClassMap
from ..errors import DatasetError, RsSegmentError, SceneError
from ..pipeline import ahead
from ..scene import Scene
from ..types import NODATA, Track, silent
from .files import Files, refuse_cut_off
from .layers import choose_layer, fields_of, labels_in
from .look import Found, Match, files_below, groups_by_folder, match, patterns_for, tell
from .masks import MaskFile, label_of, palette_of
from .spec import ClassSpec, DatasetSpec, ImageSpec, Kind, Label, LabelSpec, SplitSpec, spare_color

BLACK = "#000000"
_MANY_COLORS = 64
_RARE_BLACK = 0.05
_SIDE = 2048
_THREADS = 2
_TELLING = ("class", "class_name", "classname", "label", "labels", "category", "landcover", "land_cover", "landuse")
_VALIDATION, _TEST = {"val", "valid", "validation", "dev"}, {"test", "testing"}


def guess(root: Path, track: Track = silent) -> tuple[DatasetSpec, Match, tuple[str, ...]]:
    """(what a ``dataset.toml`` would say, the pairs, what was decided by looking) for a folder.

    Raises:
        DatasetError: It holds no images with labels, or what their labels mean cannot be seen.
        SceneError: A mask cannot be opened.
    """
    there = files_below(root)
    found = match([tell(path) for path in there])
    if not found.pairs:
        raise DatasetError(_nothing(root, there, found))
    labels = list({m.path: m for _, m in found.pairs}.values())
    vectors = [f for f in labels if f.vector]
    if vectors and len(vectors) < len(labels):
        mask = next(f for f in labels if not f.vector)
        raise DatasetError(
            f"{root} has polygons ({vectors[0].path}) and masks ({mask.path}) as labels; write a dataset.toml that "
            "names those to be used, or keep them in two folders"
        )
    looked = _polygons(root, vectors) if vectors else _masks(root, labels, track)
    images = [i for i, _ in found.pairs] + [f for f in found.lonely_images if f.role == "image"]
    spec = DatasetSpec(
        root,
        root.resolve().name or "dataset",
        looked.classes,
        ImageSpec(patterns_for([f.path for f in images], there)),
        replace(looked.labels, files=patterns_for([f.path for f in (*labels, *found.lonely_labels)], there)),
        split=_split([image.name for image, _ in found.pairs]),
    )
    return spec, found, looked.notes


@dataclass(frozen=True, slots=True)
class _Looked:
    classes: tuple[ClassSpec, ...]
    labels: LabelSpec
    notes: tuple[str, ...]


def _nothing(root: Path, there: Sequence[str], found: Match) -> str:
    if not there:
        return f"{root} holds no images: no GeoTIFF, PNG or JPEG is there"
    if found.doubts:
        return f"{root}: {found.doubts[0]}"
    if found.lonely_labels and found.lonely_images:
        return (
            f"{root} holds images ({found.lonely_images[0].path}) and labels ({found.lonely_labels[0].path}), but none "
            "of them belong together by their names; name them in a dataset.toml"
        )
    held, lacking = ("labels", "images") if found.lonely_labels else ("images", "labels")
    return (
        f"{root} holds {len(there)} files but no {lacking} to go with the {held}; labels lie in a folder called masks "
        "or labels, end in _mask or _labels, or are a layer of polygons beside the image"
    )


def _masks(root: Path, masks: Sequence[Found], track: Track) -> _Looked:
    paths, kind = _readable([root / m.path for m in masks])
    opened = [MaskFile.open(path, kind) for path in paths]
    counts, within = _scan(opened, track)
    if kind == "colors":
        return _by_color(counts, within, len(paths), paths)
    return _by_value(counts, paths)


def _readable(paths: Sequence[Path]) -> tuple[list[Path], Kind]:
    """The masks that can be opened, and what they hold: colours where one has three bands, or where palettes differ.

    What is wrong with the others is told when they are to be used.

    Raises:
        SceneError: None can be opened.
    """
    good, error, palettes, several = [], None, set(), False
    for path in paths:
        try:
            refuse_cut_off(path)
            with Scene.open(path) as scene:
                several |= sum(not b.alpha for b in scene.bands) > 1
                palette = palette_of(scene)
        except SceneError as found:
            error = error or found
            continue
        good.append(path)
        if palette is not None:
            palettes.add(palette.tobytes())
    if error and not good:
        raise error
    return good, "colors" if several or len(palettes) > 1 else "values"


@dataclass(frozen=True, slots=True)
class _Read:
    mask: MaskFile
    values: Mapping[Label, int]
    work: int


def _scan(masks: Sequence[MaskFile], track: Track) -> tuple[Counter[Label], Counter[Label]]:
    """(pixels of each label, masks that hold it)."""
    pixels: Counter[Label] = Counter()
    within: Counter[Label] = Counter()
    files = Files(0)

    def read(mask: MaskFile) -> _Read:
        found: Counter[Label] = Counter()
        rows, cols = mask.geobox.shape
        tall = rows if mask.block[1] >= cols and rows * cols < _SIDE**2 * 4 else _SIDE
        for row in range(0, rows, tall):
            for col in range(0, cols, _SIDE if tall == _SIDE else cols):
                window = Window(col, row, min(_SIDE if tall == _SIDE else cols, cols - col), min(tall, rows - row))
                found.update(_count(mask, *mask.codes(files, window)))
                if len(found) > _SIDE:
                    raise DatasetError(_too_many(mask.path, len(found), mask.kind))
        return _Read(mask, found, rows * cols)

    total = sum(m.geobox.shape[0] * m.geobox.shape[1] for m in masks)
    for one in track(ahead(read, masks, _THREADS, 2 * _THREADS), total, "labels"):
        pixels.update(one.values)
        within.update(one.values.keys())
    return pixels, within


def _count(mask: MaskFile, codes: Any, valid: Any) -> dict[Label, int]:
    known = codes[valid]
    if known.size and known.dtype.itemsize <= 2 and known.dtype.kind == "u":
        counts = np.bincount(known)
        return {label_of(v, mask.kind): int(counts[v]) for v in np.flatnonzero(counts).tolist()}
    # Labels come in patches: only where one follows another is there something to sort.
    steps = np.flatnonzero(np.diff(known)) + 1
    starts = np.concatenate([[0], steps]) if known.size else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, known.size))
    values, which = np.unique(known[starts], return_inverse=True)
    counts = np.bincount(which.ravel(), weights=lengths, minlength=len(values)).astype(np.int64)
    return {label_of(v, mask.kind): n for v, n in zip(values.tolist(), counts.tolist(), strict=True)}


def _too_many(path: str, count: int, kind: str) -> str:
    held = "colours" if kind == "colors" else "values"
    return (
        f"{path} holds {count:,} and more {held}, which cannot all be classes: it is an image, or was blurred by "
        'resampling or JPEG; name the classes in a dataset.toml, and say unknown = "ignore" there to ignore the rest'
    )


def _by_color(counts: Mapping[Label, int], within: Mapping[Label, int], masks: int, paths: Sequence[Path]) -> _Looked:
    if len(counts) > _MANY_COLORS:
        raise DatasetError(_too_many(f"{paths[0]} (with {masks - 1} other masks)", len(counts), "colors"))
    notes, ignore = [], []
    share = counts.get(BLACK, 0) / max(1, sum(counts.values()))
    if BLACK in counts and len(counts) > 2 and share <= _RARE_BLACK and 2 * within[BLACK] <= masks:
        ignore = [BLACK]
        notes.append(
            f"black ({BLACK}, {share:.2%} of the labels, in {within[BLACK]} masks) is taken for no label at all"
        )
    colors = sorted(str(c) for c in counts if c not in ignore)
    classes = tuple(ClassSpec(c, c, (c,)) for c in colors)
    return _Looked(classes, LabelSpec(kind="colors", ignore=tuple(ignore)), tuple(notes))


def _by_value(counts: Mapping[Label, int], paths: Sequence[Path]) -> _Looked:
    values = sorted(int(v) for v in counts)
    notes: list[str] = []
    ignore: tuple[Label, ...] = ()
    if NODATA in values and values != [0, NODATA]:
        ignore = (NODATA,)
        values.remove(NODATA)
        notes.append(f"label {NODATA} ({counts[NODATA]:,} px) is taken for no label at all")
    if len(values) > MAX_CLASSES:
        raise DatasetError(_too_many(str(paths[0]), len(values), "values"))
    names, colors = _legend(paths, values)
    classes = _named([(v, names.get(v, f"class {v}")) for v in values], colors)
    return _Looked(classes, LabelSpec(kind="values", ignore=ignore), tuple(notes))


def _named(labels: Sequence[tuple[Label, str]], colors: Mapping[Any, str]) -> tuple[ClassSpec, ...]:
    """A class for each (label, name), with names that are different and can be printed."""
    clean = ["".join(c for c in name if c.isprintable()).strip() or f"class {i}" for i, (_, name) in enumerate(labels)]
    held = Counter(clean)
    return tuple(
        ClassSpec(name if held[name] == 1 else f"{name} ({i})", colors.get(label, spare_color(i)), (label,))
        for i, ((label, _), name) in enumerate(zip(labels, clean, strict=True))
    )


def _legend(paths: Sequence[Path], values: Sequence[int]) -> tuple[dict[int, str], dict[int, str]]:
    """(names, colours) that the first masks which have any give to values."""
    for path in paths[:3]:
        with suppress(RsSegmentError), ClassMap.open(path) as found:
            names = {v: found.legend[v].name for v in found.named if v in values}
            colors = {v: info.color for v, info in found.legend.items() if v in values}
            if len(set(colors.values())) == len(values) or names:
                return names, colors
    return {}, {}


def _polygons(root: Path, vectors: Sequence[Found]) -> _Looked:
    first = root / vectors[0].path
    layer = choose_layer(first, "")
    fields = fields_of(first, layer)
    lowered = {name.lower(): name for name in reversed(fields)}
    field = next((lowered[name] for name in _TELLING if name in lowered), "")
    texts = [name for name, kind in fields.items() if kind == "text"]
    if not field and len(texts) == 1:
        field = texts[0]
    notes = ["where polygons overlap, the one that stands last in the file wins"]
    found: Counter[str] = Counter()
    if field:
        for vector in vectors:
            found.update(labels_in(root / vector.path, choose_layer(root / vector.path, ""), field))
        notes.append(f"the class of a polygon is its attribute {field!r}")
    labels = sorted(
        (label for label in found if label), key=lambda v: (not v.isdecimal(), int(v) if v.isdecimal() else 0, v)
    )
    if len(labels) > MAX_CLASSES:
        raise DatasetError(
            f"{first} has {len(labels)} different texts in {field!r}, too many for classes; say in a dataset.toml "
            f"which attribute tells the class: {', '.join(fields)}"
        )
    if len(labels) > 1:
        notes.append('what lies outside all polygons is ignored; say outside = "a class" if it is one')
        if found[""]:
            notes.append(f"{found['']} polygons have no {field!r} and are ignored")
        classes = _named([(v, v) for v in labels], {})
        return _Looked(classes, LabelSpec(kind="polygons", field=field), tuple(notes))
    # One class alone can only be told from what is not of it.
    name = labels[0] if labels and not labels[0].isdecimal() else vectors[0].name.rsplit("/", 1)[-1]
    name = f"{name} inside" if name == "background" else name
    notes.append(f"there is one class, {name}; what lies outside all polygons is the class background")
    classes = ClassSpec("background", "#D9D9D9", ()), ClassSpec(name, spare_color(1), tuple(labels[:1]) or (name,))
    return _Looked(
        classes, LabelSpec(kind="polygons", field=field if labels else "", outside="background"), tuple(notes)
    )


def _split(names: Sequence[str]) -> SplitSpec | None:
    """The split that folders called train, val and test ask for."""
    groups = list(dict.fromkeys(groups_by_folder(names).values()))
    first = {g: g.split("/")[0].lower() for g in groups}
    validation = tuple(g for g in groups if first[g] in _VALIDATION)
    test = tuple(g for g in groups if first[g] in _TEST)
    if not (validation or test) or len(validation) + len(test) == len(groups):
        return None
    return SplitSpec("group", validation or 0.1, test or 0.0)
