"""Which class of the map is meant by a class of the reference?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..card import ClassInfo
from ..classmap import find_classes
from ..errors import OptionError

UNCLASSIFIED_NAME = "unclassified"
_GENERIC = re.compile(r"(?i)(?:class|value)?[ _-]?(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Pairs:
    """What a user says on classes.

    Args:
        table: (class of the reference, class of the map), by value or name; "" for the map's leaves the class out.
        ignore: Classes of the reference that are left out.
    """

    table: tuple[tuple[str, str], ...] = ()
    ignore: tuple[str, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str], ignore: Iterable[str] = ()) -> Pairs:
        """The table in texts such as "water=3".

        Raises:
            OptionError: A text is none.
        """
        table = []
        for text in texts:
            left, sign, right = text.partition("=")
            if not sign or not left.strip():
                raise OptionError(f"--map {text} must be REFERENCE=MAP, such as water=3, or water= to leave it out")
            table.append((left.strip(), right.strip()))
        return cls(tuple(table), tuple(ignore))


@dataclass(frozen=True, slots=True)
class Matching:
    """How the classes of a reference become those of a map.

    Args:
        reference: Name of the reference, for people.
        classmap: Name of the map, for people.
        named: Name of each class of the reference that has one.
        targets: Name of each class of the map that has one.
        told: Value of the map, or None to leave it out, for each value of the reference that the user speaks of.
        by_name: Whether the others are matched by name; else by value.
        spell: How a value of the reference without a name is written.
    """

    reference: str
    classmap: str
    named: Mapping[int, str]
    targets: Mapping[int, str]
    told: Mapping[int, int | None]
    by_name: bool
    spell: Callable[[int], str] = str
    _values: Mapping[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        reference: tuple[str, Mapping[int, str]],
        classmap: tuple[str, Mapping[int, str]],
        pairs: Pairs | None = None,
    ) -> Matching:
        """The matching of two sets of classes: by table, else by name if any is alike, else by value.

        Args:
            reference: (its name, the names of its classes).
            classmap: Likewise.
            pairs: What the user says.

        Raises:
            OptionError: The user speaks of a class that is not there.
        """
        pairs = pairs or Pairs()
        (theirs, named), (mine, targets) = reference, classmap
        known, wanted = _infos(named), _infos(targets)
        told: dict[int, int | None] = {}
        for left, right in (*pairs.table, *((left, "") for left in pairs.ignore)):
            for value in sorted(find_classes([left], known, theirs)):
                told[value] = None if right == "" else _one(right, wanted, mine)
        values = {name.casefold(): value for value, name in sorted(targets.items(), reverse=True)}
        alike = any(name.casefold() in values for value, name in named.items() if value not in told)
        return cls(theirs, mine, named, targets, told, alike, _values=values)

    def target(self, value: int) -> int | None:
        """The map's value for a value of the reference; None where it is left out.

        Raises:
            OptionError: The map has no such class.
        """
        if value in self.told:
            return self.told[value]
        name = self.named.get(value)
        if self.by_name:
            found = None if name is None else self._values.get(name.casefold())
            if found is not None:
                return found
        elif not self.targets or (value in self.targets and (name is None or number_in(name) == value)):
            return value
        there = ", ".join(f"{v} {n}" for v, n in list(self.targets.items())[:30])
        label = self.spell(value) if name is None else name
        raise OptionError(
            f"{self.reference} has class {label!r}, but {self.classmap} has {there}; say what it is there with "
            f"--map '{label}=CLASS', or leave it out with --ignore '{label}'"
        )

    def sentence(self) -> str:
        """How classes were matched, for people."""
        how = "by name" if self.by_name else "by value"
        if not self.by_name and not self.named:
            how += f", as {self.reference} names none"
        elif not self.by_name:
            how += f", as {self.classmap if not self.targets else self.reference} gives no names of its own"
        return f"classes are matched {how}" + (", but as told for " + self._speech() if self.told else "")

    def _speech(self) -> str:
        def label(value: int, names: Mapping[int, str]) -> str:
            return names.get(value, str(value))

        return ", ".join(
            f"{label(left, self.named)} (" + ("left out" if right is None else f"is {label(right, self.targets)}") + ")"
            for left, right in sorted(self.told.items())
        )


def number_in(name: str) -> int | None:
    """The value that a name such as "7" or "class 7" only repeats; None where it says more."""
    found = _GENERIC.fullmatch(name.strip())
    return int(found[1]) if found else None


def _infos(names: Mapping[int, str]) -> Sequence[ClassInfo]:
    return [ClassInfo(value, name, "#000000") for value, name in sorted(names.items())]


def _one(wanted: str, classes: Sequence[ClassInfo], where: str) -> int:
    found = sorted(find_classes([wanted], classes, where))
    if len(found) != 1:
        raise OptionError(f"{where} has {len(found)} classes {wanted!r}; give a value")
    return found[0]
