"""What would a batch do, and how long would it take? Scenes are opened, nothing is written."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from .agenda import ASKING, Step, What, agenda, in_the_way
from .batch import Effort
from .card import ModelCard
from .errors import RsSegmentError
from .job import Recipe
from .manifest import Manifest
from .result import without_secrets
from .scene import Scene
from .source import Source
from .types import View


@dataclass(frozen=True, slots=True)
class Prospect:
    """What would become of a scene.

    Args:
        id: Name of the scene.
        source: Where it is, without what may be a password.
        what: As in ``batch.Step``.
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


def forecast(sources: Iterable[Source], folder: str | Path, recipe: Recipe, effort: Effort) -> tuple[Prospect, ...]:
    """What ``batch`` would do with the same arguments, scene by scene; those that are done are not opened.

    Raises:
        OptionError: As ``batch``.
        ModelError, ModelNotFoundError: There is no such model.
    """
    card = recipe.card
    manifest = Manifest(Path(folder))
    done = [record for record in manifest.records.values() if record.status == "done" and record.model == card.name]
    pixels, seconds = sum(record.pixels for record in done), sum(record.seconds for record in done)
    steps = agenda(sources, manifest, recipe, effort.shard, effort.check == "full")

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
        with Scene.open(source.files[0], view.nodata) as scene:
            size = scene.geobox.shape[0] * scene.geobox.shape[1]
            if not source.assets:
                scene.fit(card, replace(view, bands=view.bands or source.bands or None))
    except RsSegmentError as error:
        return size, str(error)
    return size, ""
