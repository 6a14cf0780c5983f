"""Is a training set sound, and what is in it? As plain data, for people and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DatasetError, RsSegmentError
from ..types import Track, silent
from .dataset import Dataset, Examined
from .spec import SplitSpec
from .split import Split
from .survey import QUANTILES, Survey

_SHOWN = 20


def describe(found: Examined, split: SplitSpec | str | None = None, track: Track = silent) -> dict[str, Any]:
    """What is in a training set and what is wrong with it, as plain data.

    Args:
        found: From ``examine``.
        split: To be described as well; None is that of the data set.
        track: Told while all pixels are read.

    Returns:
        "problems" are sentences about what keeps it from being trained with, "notes" about what one should know.
    """
    problems, notes = list(found.problems), list(found.notes)
    told: dict[str, Any] = {"problems": problems, "notes": notes}
    dataset = found.dataset
    if dataset is None:
        return told
    try:
        survey = dataset.survey(track)
    except RsSegmentError as error:
        problems.append(str(error))
        return _outline(dataset) | told
    problems += _obstacles(dataset, survey)
    notes += _remarks(dataset, survey)
    dealt: dict[str, Any] | None = None
    try:
        divided = dataset.split(split)
    except RsSegmentError as error:
        (problems if split is not None or dataset.spec.split else notes).append(str(error))
    else:
        dealt = _divided(divided, dataset, survey)
        problems += [] if problems else _empty_sides(dealt)
        notes += [*([divided.leaks] if divided.leaks else []), *_absent(dealt)]
    return _outline(dataset) | _classes(dataset, survey) | {"bands": _bands(dataset, survey), "split": dealt} | told


def _outline(dataset: Dataset) -> dict[str, Any]:
    shapes = Counter(p.shape for p in dataset.pairs)
    groups = Counter(p.group for p in dataset.pairs)
    pixels = [rows * cols for rows, cols in shapes]
    ends = [list(shapes)[i] for i in (int(np.argmin(pixels)), int(np.argmax(pixels)))]
    return {
        "name": dataset.name,
        "source": str(dataset.source),
        "images": len(dataset.pairs),
        "groups": dict(groups),
        "pixels": sum(rows * cols * n for (rows, cols), n in shapes.items()),
        "sizes": {"different": len(shapes), "smallest": list(ends[0][::-1]), "largest": list(ends[1][::-1])},
        "dtype": dataset.dtype,
        "band_names": list(dataset.band_names),
        "resolution_m": dataset.resolution,
        "labels": dataset.spec.labels.kind,
    }


def _classes(dataset: Dataset, survey: Survey) -> dict[str, Any]:
    counts = survey.counts
    within = np.sum([p.counts > 0 for p in survey.pairs], axis=0)
    areas = np.sum([p.hectares for p in survey.pairs], axis=0)
    total = max(1, int(counts.sum()))
    labels = dataset.spec.classes
    return {
        "classes": [
            {
                "value": c.value,
                "name": c.name,
                "color": c.color,
                "labels": list(labels[c.value].labels),
                "pixels": int(counts[c.value]),
                "share": round(int(counts[c.value]) / total, 6),
                "hectares": round(float(areas[c.value]), 4) if np.isfinite(areas[c.value]) else None,
                "images": int(within[c.value]),
            }
            for c in dataset.classes
        ],
        "labelled_pixels": int(counts.sum()),
        "unlabelled_pixels": sum(p.unlabelled for p in survey.pairs),
        "missing_pixels": sum(p.missing for p in survey.pairs),
        "unknown_labels": [
            {"label": label, "count": count, "files": files} for label, count, files in _strange(dataset, survey)
        ],
    }


def _bands(dataset: Dataset, survey: Survey) -> list[dict[str, Any]]:
    found = survey.moments
    if found.count == 0:
        return []
    columns = {"mean": found.mean, "std": found.std, "min": found.low, "max": found.high}
    columns |= {f"p{q}": values for q, values in zip(QUANTILES, survey.quantiles, strict=True)}
    return [
        {"name": name} | {key: float(f"{values[i]:.6g}") for key, values in columns.items()}
        for i, name in enumerate(dataset.band_names)
    ]


def _divided(split: Split, dataset: Dataset, survey: Survey) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for side, parts in split.parts:
        if not parts:
            continue
        counts = np.zeros(len(dataset.classes), np.int64)
        for value in range(len(counts)):
            counts[value] = survey.places(value, parts)[:, 3].sum()
        sides[side] = {
            "images": len({p.pair.name for p in parts}),
            "parts": len(parts),
            "pixels": sum(p.work for p in parts),
            "groups": sorted({p.pair.group for p in parts})[:_SHOWN],
            "shares": {
                c.name: float(f"{int(n) / max(1, int(counts.sum())):.4g}")
                for c, n in zip(dataset.classes, counts, strict=True)
            },
        }
    return {"name": split.name, "seed": split.seed, "leaks": split.leaks, **sides}


def refuse_untrainable(dataset: Dataset, split: Split, track: Track = silent) -> tuple[str, ...]:
    """Sentences about classes that a side of a split lacks, once all that would stop a training later is ruled out.

    Args:
        dataset: All its pixels are read, if they were not before.
        split: Of the same data set.
        track: Told meanwhile.

    Raises:
        DatasetError: Labels are of no class, there are no two classes to tell apart, or a side has no labels.
    """
    survey = dataset.survey(track)
    dealt = _divided(split, dataset, survey)
    found = [*_obstacles(dataset, survey)] or [f"{dataset.source}: {s}" for s in _empty_sides(dealt)]
    if found:
        more = (
            f" (and {len(found) - 1} more; rs-segment data {dataset.source} lists them all)" if len(found) > 1 else ""
        )
        raise DatasetError(found[0] + more)
    return tuple(_absent(dealt))


def _obstacles(dataset: Dataset, survey: Survey) -> Iterator[str]:
    """Why no network can learn from the data, whatever the split."""
    yield from _strange_sentences(dataset, survey)
    try:
        survey.refuse_untrainable(dataset.spec.classes)
    except RsSegmentError as error:
        yield f"{dataset.source}: {error}"


def _empty_sides(dealt: dict[str, Any]) -> Iterator[str]:
    """Why no network can learn from a split: a side without labels, or a training with one class."""
    for side, what in (("train", "trains"), ("validation", "validates"), ("test", "tests")):
        if side in dealt:
            there = [name for name, share in dealt[side]["shares"].items() if share]
            if not there:
                yield f"by the split {dealt['name']} no pixel that {what} has a label; hold out other images"
            elif side == "train" and len(there) == 1:
                yield f"by the split {dealt['name']} all that trains is {there[0]}; hold out other images"


def _absent(dealt: dict[str, Any]) -> Iterator[str]:
    """Sentences about classes that one side of a split has and another lacks."""
    for side, what in (("train", "trained on"), ("validation", "validated on")):
        for name, share in dealt[side]["shares"].items():
            others = [s for s in ("train", "validation", "test") if s in dealt and s != side]
            if not share and any(dealt[s]["shares"][name] for s in others):
                yield f"by the split {dealt['name']} the class {name} is not {what}"


def _strange(dataset: Dataset, survey: Survey) -> list[tuple[Any, int, list[str]]]:
    """(label, how often, files) of each label that no class has, the most frequent first."""
    files = {p.name: p.label_file for p in dataset.pairs}
    counts: Counter[Any] = Counter()
    where: dict[Any, list[str]] = {}
    for pair in survey.pairs:
        for label, count in pair.strange.items():
            counts[label] += count
            where.setdefault(label, []).append(files[pair.name])
    return [(label, count, sorted(set(where[label]))) for label, count in counts.most_common()]


def _strange_sentences(dataset: Dataset, survey: Survey) -> Iterator[str]:
    found = _strange(dataset, survey)
    what = "polygons" if dataset.spec.labels.kind == "polygons" else "px"
    for label, count, files in found[:_SHOWN]:
        others = f" and {len(files) - 1} other files" if len(files) > 1 else ""
        yield (
            f"{files[0]}{others}: the label {label} ({count:,} {what}) is of no class; add it to labels of a class, "
            "or to ignore in [labels] of dataset.toml"
        )
    if len(found) > _SHOWN:
        yield f"{len(found) - _SHOWN:,} more labels are of no class"


def _remarks(dataset: Dataset, survey: Survey) -> Iterator[str]:
    """What a careful reader should know of the labels and pixels."""
    files = {p.name: p.label_file for p in dataset.pairs}
    empty = [p.name for p in survey.pairs if not p.counts.any() and not p.strange]
    if empty:
        others = f", and so are {len(empty) - 1} others" if len(empty) > 1 else ""
        yield f"{files[empty[0]]} is empty: no pixel of {empty[0]} has a label{others}"
    for info, count in zip(dataset.classes, survey.counts, strict=True):
        if count == 0:
            yield f"the class {info.name} occurs nowhere"
    found = survey.moments
    for name, low, high in zip(dataset.band_names, found.low, found.high, strict=True):
        if low == high:
            yield f"the band {name} is {low:g} everywhere and tells nothing"
    known = [p for p in dataset.pairs if p.geobox.ground_resolution is not None]
    sizes = [float(np.mean(p.geobox.ground_resolution)) for p in known if p.geobox.ground_resolution is not None]
    if sizes and max(sizes) > 1.1 * min(sizes):
        yield f"ground resolution differs: {min(sizes):.3g} to {max(sizes):.3g} m"
    if known and len(known) < len(dataset.pairs):
        yield f"{len(dataset.pairs) - len(known)} images have no CRS, so areas in hectares are not known"
