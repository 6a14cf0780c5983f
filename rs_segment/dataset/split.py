"""Which pixels train, which validate, which test; and does the split leak?

A score is honest where nothing that was trained on lies beside what is scored. Parts of one scene, and images that
touch on the ground, are such neighbours; a split that separates them says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as reproject_points
from rasterio.windows import Window

from ..errors import DatasetError, OptionError
from .pair import Pair, Part
from .spec import SplitSpec, split_from

SMALLEST_BLOCK, LARGEST_BLOCK = 128, 1024
BLOCKS_ACROSS = 5
_TOO_MUCH = 1.5


@dataclass(frozen=True, slots=True)
class Split:
    """What trains, what validates and what tests.

    Args:
        name: In a few words, "group: tile_3 validates".
        train, validation, test: Rectangles of pairs; test may be empty.
        leaks: A sentence where pieces of one scene are on two sides; None where not.
        seed: Of the dealing.
    """

    name: str
    train: tuple[Part, ...]
    validation: tuple[Part, ...]
    test: tuple[Part, ...] = ()
    leaks: str | None = None
    seed: int = 0

    @property
    def parts(self) -> tuple[tuple[str, tuple[Part, ...]], ...]:
        """("train", ...), ("validation", ...), ("test", ...)."""
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def parse_split(text: str, seed: int = 0) -> SplitSpec:
    """A split as a command line says it.

    Args:
        text: "group", "group:tile_3,tile_7", "group:tile_3/tile_8" (validation / test), "group:0.2", "kfold:0/5",
            "blocks", "blocks:0.2", "random:0.1", "random:0.1/0.1".
        seed: Of the dealing.

    Raises:
        OptionError: It is none of these.
    """
    kind, _, rest = text.strip().partition(":")
    told: dict[str, object] = {"kind": kind, "seed": seed}
    try:
        if kind == "kfold" and rest:
            fold, _, folds = rest.partition("/")
            told |= {"fold": int(fold), "folds": int(folds or 5)}
        elif rest:
            for key, part in zip(("validation", "test"), rest.split("/", 1), strict=False):
                told[key] = _held(part)
        return split_from(told)
    except ValueError as error:
        reason = f": {error}" if isinstance(error, DatasetError) else ""
        raise OptionError(
            f"{text!r} is no split{reason}; write group:tile_3, kfold:0/5, blocks:0.2 or random:0.1"
        ) from None


def _held(text: str) -> float | list[str]:
    try:
        return float(text)
    except ValueError:
        return [name.strip() for name in text.split(",") if name.strip()]


def make_split(pairs: Sequence[Pair], spec: SplitSpec) -> Split:
    """Pairs, dealt out.

    Raises:
        DatasetError: A group is not there, or nothing is left to train or to validate.
    """
    name, train, validation, test = SPLITS[spec.kind](pairs, spec)
    for what, parts in (("train on", train), ("validate on", validation)):
        if not parts:
            raise DatasetError(f"a {spec.kind} split of {len(pairs)} images leaves nothing to {what}: {_advice(spec)}")
    found = Split(name, tuple(train), tuple(validation), tuple(test), None, spec.seed)
    return Split(name, found.train, found.validation, found.test, leak(found, spec), spec.seed)


_UNKNOWN = (
    "whether the split leaks cannot be told: not all images have a place on the ground or a group; if some are pieces "
    "of one scene, scores will be too high, so hold out whole groups"
)

Dealt = tuple[str, list[Part], list[Part], list[Part]]


def by_group(pairs: Sequence[Pair], spec: SplitSpec) -> Dealt:
    """Whole groups are held out: those that are named, or some at random that make up about the share."""
    groups = _groups(pairs)
    held = _held_groups(groups, spec)
    told = [f"{' '.join(held[k])} {k}" for k in ("validation", "test") if held[k]]
    sides = {k: [Part.of(p) for g in groups if g in held[k] for p in groups[g]] for k in ("validation", "test")}
    out = {*held["validation"], *held["test"]}
    train = [Part.of(p) for g, members in groups.items() if g not in out for p in members]
    return f"group: {', '.join(told)}", train, sides["validation"], sides["test"]


def by_fold(pairs: Sequence[Pair], spec: SplitSpec) -> Dealt:
    """Groups are dealt into folds of like size; one fold validates, the others train. Groups for ``test`` go first."""
    groups = _groups(pairs)
    held = _named(spec.test, groups) if isinstance(spec.test, tuple) else ()
    rest = {g: members for g, members in groups.items() if g not in held}
    if len(rest) < spec.folds:
        raise DatasetError(f"{len(rest)} groups cannot be dealt into {spec.folds} folds; choose fewer folds")
    sizes = {g: sum(map(_pixels, members)) for g, members in rest.items()}
    rank = dict(zip(rest, _shuffled(len(rest), spec.seed).tolist(), strict=True))
    loads, fold_of = [0] * spec.folds, {}
    # The largest first, each to the fold with least so far, so that folds are of like size.
    for group in sorted(rest, key=lambda g: (-sizes[g], rank[g])):
        fold = loads.index(min(loads))
        fold_of[group] = fold
        loads[fold] += max(1, sizes[group])
    sides: dict[bool, list[Part]] = {True: [], False: []}
    for group, members in rest.items():
        sides[fold_of[group] == spec.fold] += map(Part.of, members)
    name = (
        f"kfold: fold {spec.fold} of {spec.folds} ({' '.join(g for g in rest if fold_of[g] == spec.fold)}) validation"
    )
    return name, sides[False], sides[True], [Part.of(p) for g in held for p in groups[g]]


def by_random(pairs: Sequence[Pair], spec: SplitSpec) -> Dealt:
    """Whole images at random, whatever they belong to."""
    held: list[list[Part]] = []
    order = [pairs[i] for i in np.argsort(_shuffled(len(pairs), spec.seed))]
    for what in ("validation", "test"):
        count = round(_share(spec, what) * len(pairs))
        count = max(count, 1) if _share(spec, what) > 0 else 0
        held.append([Part.of(p) for p in order[:count]])
        order = order[count:]
    kept = {p.name for p in order}
    name = f"random: {len(order)} of {len(pairs)} images train"
    return name, [Part.of(p) for p in pairs if p.name in kept], held[0], held[1]


def by_blocks(pairs: Sequence[Pair], spec: SplitSpec) -> Dealt:
    """Square blocks of each image, at random; training keeps ``buffer`` pixels away from all others."""
    smallest = min(_side(pair, spec) for pair in pairs)
    if 2 * spec.buffer >= smallest:
        raise DatasetError(f"blocks of {smallest} px are too small for a buffer of {spec.buffer} px on each side")
    blocks = [
        (pair, row, col, side) for pair in pairs for side in (_side(pair, spec),) for row, col in _grid(pair, side)
    ]
    order = np.argsort(_shuffled(len(blocks), spec.seed))
    role = np.zeros(len(blocks), np.int64)
    start = 0
    for number, what in enumerate(("validation", "test"), start=1):
        share = _share(spec, what)
        count = max(1, round(share * len(blocks))) if share > 0 else 0
        role[order[start : start + count]] = number
        start += count
    roles = {(pair.name, row, col): int(r) for (pair, row, col, _), r in zip(blocks, role, strict=True)}
    sides: tuple[list[Part], list[Part], list[Part]] = ([], [], [])
    for pair, row, col, side in blocks:
        mine = roles[pair.name, row, col]
        window = _block(pair, row, col, side)
        if mine == 0:
            near = {(r, c): roles.get((pair.name, row + r, col + c), 0) for r in (-1, 0, 1) for c in (-1, 0, 1)}
            window = _shrunk(window, near, spec.buffer)
        if window.width > 0 and window.height > 0:
            sides[mine].append(Part(pair, window))
    side = max((b[3] for b in blocks), default=0)
    return f"blocks of {side} px, {spec.buffer} px apart", *sides


SPLITS: dict[str, Callable[[Sequence[Pair], SplitSpec], Dealt]] = {
    "group": by_group,
    "blocks": by_blocks,
    "kfold": by_fold,
    "random": by_random,
}


def leak(split: Split, spec: SplitSpec) -> str | None:
    """A sentence about pieces of one scene that are on two sides; None where there are none."""
    train = list({p.pair.name: p.pair for p in split.train}.values())
    held = list({p.pair.name: p.pair for p in (*split.validation, *split.test)}.values())
    found: list[tuple[str, str, str]] = []
    groups = _groups(train)
    for pair in held:
        mates = [mate.name for mate in groups.get(pair.group, ()) if mate.name != pair.name]
        if mates:
            found.append((mates[0], pair.name, f"are parts of {pair.group}"))
    # Blocks of one image keep their distance; those of its neighbours do not.
    known = {second for _, second, _ in found}
    found += [(a, b, "touch on the ground") for a, b in touching(train, held) if b not in known]
    if spec.kind == "blocks" and spec.buffer == 0:
        return "the blocks split leaks: without a buffer, pixels that train lie beside pixels that are held out"
    if not found:
        placed = all(p.geobox.georeferenced for p in (*train, *held))
        alone = (
            spec.kind != "blocks" and all(p.group == p.name for p in train) and not isinstance(spec.validation, tuple)
        )
        return _UNKNOWN if not placed and (spec.kind == "random" or alone) else None
    first, second, why = found[0]
    count = len({b for _, b, _ in found})
    others = f", and so it is with {count} of the {len(held)} images that are held out" if len(held) > 1 else ""
    return (
        f"the {spec.kind} split leaks: {first} trains, {second} is held out, but they {why}{others}; "
        "scores will be too high, so hold out whole groups"
    )


def touching(left: Sequence[Pair], right: Sequence[Pair]) -> Iterator[tuple[str, str]]:
    """(name, name) for each image of the right that touches or overlaps one of the left on the ground."""
    # Grids without a CRS, as those of world files, are taken to lie in one plane.
    for known in (True, False):
        placed = (
            [p for p in s if p.geobox.georeferenced and (p.geobox.crs is not None) == known] for s in (left, right)
        )
        yield from _touching(*placed)


def _touching(mine: Sequence[Pair], theirs: Sequence[Pair]) -> Iterator[tuple[str, str]]:
    if not mine or not theirs:
        return
    crs = {p.geobox.crs.to_wkt() if p.geobox.crs else "" for p in (*mine, *theirs)}
    common = None if len(crs) == 1 else CRS.from_epsg(4326)
    tree = shapely.STRtree([_footprint(p, common) for p in mine])
    for pair in theirs:
        near = [mine[i].name for i in sorted(tree.query(_footprint(pair, common), predicate="intersects"))]
        near = [name for name in near if name != pair.name]
        if near:
            yield near[0], pair.name


def _footprint(pair: Pair, crs: CRS | None) -> shapely.Polygon:
    """The outline of a pair, a pixel wider on each side."""
    rows, cols = pair.shape
    corners = [pair.geobox.transform * p for p in ((-1, -1), (cols + 1, -1), (cols + 1, rows + 1), (-1, rows + 1))]
    if crs is not None:
        xs, ys = reproject_points(pair.geobox.crs, crs, [c[0] for c in corners], [c[1] for c in corners])
        corners = list(zip(xs, ys, strict=True))
    return shapely.Polygon(corners)


def _groups(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    return groups


def _held_groups(groups: dict[str, list[Pair]], spec: SplitSpec) -> dict[str, tuple[str, ...]]:
    """The groups that validate and those that test."""
    asked = {"validation": spec.validation, "test": spec.test}
    held = {k: _named(v, groups) if isinstance(v, tuple) else () for k, v in asked.items()}
    both = set(held["validation"]) & set(held["test"])
    if both:
        raise DatasetError(f"{sorted(both)[0]} cannot validate and test at once")
    total = sum(map(_pixels, (p for members in groups.values() for p in members)))
    names = list(groups)
    order = [names[i] for i in np.argsort(_shuffled(len(names), spec.seed))]
    for what, share in asked.items():
        if not isinstance(share, float) or share <= 0:
            continue
        free = [n for n in order if n not in held["validation"] and n not in held["test"]]
        chosen = _about({n: sum(map(_pixels, groups[n])) for n in free}, share * total)
        held[what] = tuple(n for n in names if n in chosen)
    return held


def _about(sizes: dict[str, int], wanted: float) -> list[str]:
    """Some of the names, whose sizes add up to about what is wanted; the smallest where all are too large."""
    chosen: list[str] = []
    held = 0
    for name, size in sizes.items():
        if held < wanted and held + size <= _TOO_MUCH * wanted:
            chosen.append(name)
            held += size
    return chosen or ([min(sizes, key=lambda name: sizes[name])] if sizes else [])


def _named(wanted: tuple[str, ...], groups: dict[str, list[Pair]]) -> tuple[str, ...]:
    for name in wanted:
        if name not in groups:
            there = ", ".join(list(groups)[:20]) + (" and more" if len(groups) > 20 else "")
            raise DatasetError(f"there is no group {name!r} to hold out; there are {there}")
    return tuple(dict.fromkeys(wanted))


def _share(spec: SplitSpec, what: str) -> float:
    share: tuple[str, ...] | float = getattr(spec, what)
    if isinstance(share, tuple):
        raise DatasetError(f"a {spec.kind} split cannot hold out {' '.join(share)}: names are for group splits")
    return share


def _shuffled(count: int, seed: int) -> NDArray[np.int64]:
    """A permutation, the same for the same seed everywhere."""
    return np.random.Generator(np.random.PCG64(seed)).permutation(count)


def _pixels(pair: Pair) -> int:
    return pair.shape[0] * pair.shape[1]


def _advice(spec: SplitSpec) -> str:
    if spec.kind == "blocks":
        return "choose smaller blocks or a narrower buffer"
    return "hold out less, or split by blocks"


def _side(pair: Pair, spec: SplitSpec) -> int:
    smallest = max(SMALLEST_BLOCK, 3 * spec.buffer)
    return spec.block or max(smallest, min(min(pair.shape) // BLOCKS_ACROSS, LARGEST_BLOCK))


def _grid(pair: Pair, side: int) -> Iterator[tuple[int, int]]:
    """(row, column) of each block of a pair; a rest of less than half a block belongs to the last."""
    down, across = (max(1, round(size / side)) for size in pair.shape)
    for row in range(down):
        for col in range(across):
            yield row, col


def _block(pair: Pair, row: int, col: int, side: int) -> Window:
    (top, bottom), (left, right) = (
        (at * side, size if at == max(1, round(size / side)) - 1 else (at + 1) * side)
        for at, size in zip((row, col), pair.shape, strict=True)
    )
    return Window(left, top, right - left, bottom - top)


def _shrunk(window: Window, near: dict[tuple[int, int], int], buffer: int) -> Window:
    """A block of training, cut where others are near; where one touches at a corner only, columns go."""
    up, down = (bool(near[r, 0]) for r in (-1, 1))
    left, right = (bool(near[0, c] or (near[-1, c] and not up) or (near[1, c] and not down)) for c in (-1, 1))
    return Window(
        window.col_off + buffer * left,
        window.row_off + buffer * up,
        max(0, window.width - buffer * (left + right)),
        max(0, window.height - buffer * (up + down)),
    )
