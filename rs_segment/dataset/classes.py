"""Which of a training set's classes are wanted, in which order, and under which names?"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..card import MAX_CLASSES
from ..errors import OptionError
from .spec import ClassSpec, DatasetSpec, spare_color

_SHOWN = 12


def only_classes(spec: DatasetSpec, text: str) -> tuple[DatasetSpec, tuple[str, ...]]:
    """A data set with the classes that a person lists, and notes about those that are left out.

    Args:
        spec: With all classes that there are.
        text: Classes with commas, in the order of the model: each by its name or by a label that stands for it, and
            behind an equals sign what it is to be called: "Water,#3C1098=Building". Those called alike become one.

    Raises:
        OptionError: A class is not there or is listed twice, or classes of different weights become one.
    """
    there = _pieces(spec)
    wanted: dict[str, list[ClassSpec]] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        what, name = (item, "") if item in there else _called(item)
        if what not in there:
            raise OptionError(_not_there(what, there, spec))
        wanted.setdefault(name or there[what].name, []).append(there[what])
    if not 1 <= len(wanted) <= MAX_CLASSES:
        raise OptionError(f"--classes lists {len(wanted)} classes; 1 to {MAX_CLASSES} are possible, with commas")
    classes = tuple(ClassSpec(name, of[0].color, _labels(of)) for name, of in wanted.items())
    kept = _labels(classes)
    twice = next((label for label in kept if kept.count(label) > 1), None)
    if twice is not None:
        raise OptionError(f"--classes lists {twice} twice")
    left = tuple(label for label in (*spec.labels.ignore, *_labels(spec.classes)) if label not in kept)
    now = {piece.name: name for name, of in wanted.items() for piece in of}
    labels = replace(spec.labels, ignore=left, outside=now.get(spec.labels.outside, ""))
    out = [c.name for c in spec.classes if c.name not in now]
    out += [str(label) for c in spec.classes if c.name in now for label in c.labels if label not in kept]
    notes = (f"nothing is learnt from what --classes does not list: {', '.join(out)}",) if out else ()
    return replace(spec, classes=classes, labels=labels, weights=_weights(spec, wanted)), notes


def _pieces(spec: DatasetSpec) -> dict[str, ClassSpec]:
    """What can be listed, as it is written: a class, one of its labels, or a label that is ignored.

    Each has the name of the class that it is of.
    """
    ignored = {
        str(label): ClassSpec(str(label), str(label) if spec.labels.kind == "colors" else spare_color(place), (label,))
        for place, label in enumerate(spec.labels.ignore, len(spec.classes))
    }
    single = {str(label): replace(c, labels=(label,)) for c in spec.classes for label in c.labels}
    return ignored | single | {c.name: c for c in spec.classes}


def _called(item: str) -> tuple[str, str]:
    """(what, name) of "what=name"; a colour is written in capitals."""
    what, _, name = (part.strip() for part in item.partition("="))
    return what.upper() if what.startswith("#") else what, name


def _labels(classes: Sequence[ClassSpec]) -> tuple[int | str, ...]:
    return tuple(label for c in classes for label in c.labels)


def _weights(
    spec: DatasetSpec, wanted: Mapping[str, Sequence[ClassSpec]]
) -> tuple[float, ...] | Literal["balanced"] | None:
    """The weights that go with the wanted classes."""
    if not isinstance(spec.weights, tuple):
        return spec.weights
    each = dict(zip((c.name for c in spec.classes), spec.weights, strict=True))
    found = {name: {each.get(piece.name, 1.0) for piece in of} for name, of in wanted.items()}
    for name, weights in found.items():
        if len(weights) > 1:
            raise OptionError(f"--classes makes {name} of classes with different weights in the dataset.toml")
    return tuple(weights.pop() for weights in found.values())


def _not_there(what: str, there: Mapping[str, ClassSpec], spec: DatasetSpec) -> str:
    near = difflib.get_close_matches(what, there, 1)
    more = f" and {len(spec.classes) - _SHOWN} more" if len(spec.classes) > _SHOWN else ""
    names = ", ".join(c.name for c in spec.classes[:_SHOWN])
    hint = f"did you mean {near[0]}?" if near else f"there are {names}{more}"
    first = spec.classes[0].name
    return (
        f"--classes lists {what!r:.60}, which is no class of {spec.root}; {hint} (a new name goes behind the one that "
        f"is there: '{first}=NAME')"
    )
