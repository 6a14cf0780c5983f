"""What is to be done about each scene of an archive, what stands in the way, and how long would it take?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..card import ModelCard
from ..errors import OptionError, OutputExistsError, RsSegmentError
from ..products import Targets
from ..result import without_secrets
from ..scene import Scene
from ..types import Outputs, View
from ..workfolder import refuse_existing
from . import fingerprint
from .job import Recipe, target
from .manifest import Manifest, Record
from .network import remote
from .report import NAMES
from .source import Source

ASKING = 16
"""Servers and disks that are asked at the same time what they have."""

What = Literal["new", "changed", "failed", "begun", "done"]


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about a scene.

    Args:
        source: Which.
        what: "new"; "changed": its input, the model, the options or the results are other than they were; "failed"
            before; "begun" but not finished; "done": nothing.
        record: What is known of it, or None.
        stamp: Time of the last change of its class raster, or None where there is none.
    """

    source: Source
    what: What
    record: Record | None = None
    stamp: int | None = None


@dataclass(frozen=True, slots=True)
class Prospect:
    """What would become of a scene.

    Args:
        id: Name of the scene.
        source: Where it is, without what may be a password.
        what: As in ``Step``.
        pixels: How many it has; None where it cannot be opened.
        seconds: How long a worker would take, by the speed of earlier scenes in the folder; None where there are none.
        problem: Why it would be refused, or "".
    """

    id: str
    source: str
    what: What
    pixels: int | None = None
    seconds: float | None = None
    problem: str = ""


def agenda(
    sources: Iterable[Source],
    manifest: Manifest,
    recipe: Recipe,
    shard: tuple[int, int] | None = None,
    full: bool = False,
) -> tuple[Step, ...]:
    """What is to be done about each scene, in the order of the sources.

    Args:
        sources: All scenes.
        manifest: What is known of them.
        recipe: How they are to be done.
        shard: (i, n): only those of the i-th of n parts.
        full: Take the checksums of all results.

    Raises:
        OptionError: Two scenes have the same id, there is no such shard, or the folder is somebody else's.
    """
    folder = manifest.folder.parent
    if not manifest.records and (taken := [name for name in NAMES if (folder / name).exists()]):
        raise OptionError(f"{folder} holds a {taken[0]} that is of no batch; choose another folder for the results")
    chosen = [source for source in _unique(sources) if shard is None or in_shard(source.id, *shard)]
    decided = recipe.decided

    def step(source: Source) -> Step:
        record, stamp = manifest.records.get(source.id), changed(folder, source.id)
        if record is None:
            return Step(source, "new", stamp=stamp)
        if record.status != "done":
            return Step(source, record.status, record, stamp)
        return Step(source, "done" if holds(record, source, decided, folder, full) else "changed", record, stamp)

    with ThreadPoolExecutor(ASKING, "rs-segment-ask") as pool:
        return tuple(pool.map(step, chosen))


def forecast(
    sources: Iterable[Source],
    folder: str | Path,
    recipe: Recipe,
    shard: tuple[int, int] | None = None,
    full: bool = False,
) -> tuple[Prospect, ...]:
    """What ``batch`` would do with the same arguments, scene by scene; nothing is written, what is done is not opened.

    Raises:
        OptionError: As ``batch``.
        ModelError, ModelNotFoundError: There is no such model.
    """
    recipe.check()
    card = recipe.card
    manifest = Manifest(Path(folder))
    done = [record for record in manifest.records.values() if record.status == "done" and record.model == card.name]
    pixels, seconds = sum(record.pixels for record in done), sum(record.seconds for record in done)
    steps = agenda(sources, manifest, recipe, shard, full)

    def foresee(step: Step) -> Prospect:
        prospect = Prospect(step.source.id, without_secrets(step.source.location), step.what)
        if step.what == "done":
            return prospect
        size, problem = survey(step.source, card, recipe.view)
        problem = problem or str(in_the_way(step, manifest.folder.parent, recipe.outputs) or "")
        return replace(
            prospect, pixels=size, problem=problem, seconds=size * seconds / pixels if size and pixels else None
        )

    with ThreadPoolExecutor(ASKING, "rs-segment-ask") as pool:
        return tuple(pool.map(foresee, steps))


def survey(source: Source, card: ModelCard, view: View) -> tuple[int | None, str]:
    """(pixels of a scene, why it would be refused or ""); pixels are None where it cannot be opened.

    A scene in several files is measured by the first.
    """
    if source.refused:
        return None, source.refused
    size = None
    try:
        seen = source.seen(view)
        with Scene.open(source.files[0], seen.nodata) as scene:
            size = scene.geobox.shape[0] * scene.geobox.shape[1]
            if not source.assets:
                scene.fit(card, seen)
    except RsSegmentError as error:
        return size, str(error)
    return size, ""


def in_shard(name: str, index: int, count: int) -> bool:
    """Whether an id belongs to the ``index``-th of ``count`` parts, 1 to count; by checksum, so that it stays there.

    Raises:
        OptionError: There is no such part.
    """
    if not 1 <= index <= count:
        raise OptionError(f"there is no part {index} of {count}; parts are counted from 1 to {count}")
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count == index - 1


def holds(record: Record, source: Source, decided: Mapping[str, str], folder: Path, full: bool = False) -> bool:
    """Whether a scene is done as it is wanted now, and its input and its results are what they were."""
    if any(record.key.get(name) != checksum for name, checksum in decided.items()) or not record.holds(folder, full):
        return False
    return not fingerprint.differ(record.key.get("input"), fingerprint.of_files(source.files))


def in_the_way(step: Step, folder: Path, outputs: Outputs) -> RsSegmentError | None:
    """What keeps a scene from being begun: files that no batch made, or another scene of the same name."""
    record, source = step.record, step.source
    if outputs.overwrite or not folder.is_dir():
        return None
    if record is None:
        try:
            refuse_existing(Targets.beside("", target(folder, source.id), outputs).all, overwrite=False)
        except RsSegmentError as error:
            return error
        return None
    same = record.source == place(source) or (source.item is not None and record.item == source.item)
    if same or not (remote(record.source) or Path(record.source).exists()):
        return None
    return OutputExistsError(
        f"{folder} holds what was made of {record.source} under the name {source.id}; choose another folder for "
        f"{place(source)}, or replace it with --overwrite"
    )


def place(source: Source) -> str:
    """Where a scene is, from wherever one looks, without what may be a password."""
    name = source.location
    return without_secrets(name) if remote(name) or not Path(name).exists() else str(Path(name).resolve())


def changed(folder: Path, name: str) -> int | None:
    """When the class raster of a scene was last changed, in ns since 1970; None where there is none."""
    try:
        return target(folder, name).stat().st_mtime_ns
    except OSError:
        return None


def _unique(sources: Iterable[Source]) -> list[Source]:
    found: dict[str, Source] = {}
    for source in sources:
        before = found.setdefault(source.id.casefold(), source)
        if before is not source:
            raise OptionError(
                f"{without_secrets(before.location)} and {without_secrets(source.location)} would both be called "
                f"{source.id}; run them into folders of their own"
            )
    return list(found.values())
