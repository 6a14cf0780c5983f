"""The story of many scenes: what is to be done, who does it, what is known of it when one of them dies.

A folder of results remembers, see ``manifest``. Run again, a batch passes over what is done and unchanged, redoes what
failed or changed, and goes on inside the scenes that were in work.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .. import registry
from ..errors import OptionError
from ..workfolder import disk_errors
from . import fingerprint
from .agenda import agenda
from .dispatch import Effort, News, Run, Tell
from .job import SCENES, Job, Recipe
from .manifest import Manifest, Record
from .report import NAMES, conclude
from .source import Source

__all__ = ["Effort", "News", "Report", "batch"]


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run.

    Args:
        folder: Where the results are.
        records: The last record of each scene that was reached, in the order of the sources.
        skipped: Ids of those that were done before.
        left: Ids of those that were not reached.
        seconds: Wall time.
        stopped: Why the run ended before all scenes were done, or "".
    """

    folder: Path
    records: tuple[Record, ...]
    skipped: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    seconds: float = 0.0
    stopped: str = ""

    @property
    def failed(self) -> tuple[Record, ...]:
        """The scenes without a result."""
        return tuple(r for r in self.records if r.status == "failed")

    @property
    def exit_code(self) -> int:
        """0 when all scenes are done, else 3."""
        return 3 if self.failed or self.left else 0


def batch(
    sources: Iterable[Source],
    folder: str | Path,
    recipe: Recipe | None = None,
    effort: Effort | None = None,
    tell: Tell = lambda news: None,
) -> Report:
    """Class maps and polygons of many scenes in a folder; of those that are not there yet.

    Args:
        sources: Which scenes, as ``catalog.find_scenes`` gives them; their ids must differ.
        folder: Of the results; it is made if it is missing.
        recipe: How each scene is done.
        effort: Who does it.
        tell: Told of what happens; an error from it stops the run in a way that the next one can go on with.

    Raises:
        OptionError: Options contradict each other, or two scenes have the same id.
        ModelError, ModelNotFoundError, DeviceError: Nobody can work.
        DiskFullError, OutputError: Results cannot be written.
    """
    recipe, effort, folder = recipe or Recipe(), effort or Effort(), Path(folder)
    started = time.monotonic()
    recipe.check()
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file; name a folder for the results")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Manifest(folder) as manifest:
        steps = agenda(sources, manifest, recipe, effort.shard, effort.check == "full")
        todo = [step for step in steps if step.what != "done"]
        tell(News("plan", done=len(steps) - len(todo), total=len(steps)))
        stopped = ""
        if todo:
            manifest.open()
            run = Run(prepare(recipe, effort, folder, manifest.name), manifest, recipe, effort, tell)
            stopped = run.go(todo)
        if effort.shard is None and not stopped and _stale(manifest.folder):
            manifest.refresh()
            tell(News("note", message=f"describing the results in {folder}"))
            conclude(folder, manifest.records.values())
        with suppress(OSError):
            (folder / SCENES).rmdir()
        known = {step.source.id: step.record for step in steps if step.what == "done"}
        known |= run.finished if todo else {}
        ids = [step.source.id for step in steps]
        return Report(
            folder,
            records=tuple(record for name in ids if (record := known.get(name)) is not None),
            skipped=tuple(step.source.id for step in steps if step.what == "done"),
            left=tuple(name for name in ids if name not in known),
            seconds=time.monotonic() - started,
            stopped=stopped,
        )


def prepare(recipe: Recipe, effort: Effort, folder: Path, witness: str) -> Job:
    """What workers are told, for a folder whose manifest has a file ``witness``."""
    model = recipe.model
    if isinstance(model, (str, Path)):
        found = registry.find(model)
        # A model that comes with a package lies elsewhere on other machines.
        name = found.card.name if found.shipped else str(found.path.resolve())
    else:
        name = model.card.name
    card = fingerprint.of_card(recipe.card)
    cut = None if effort.cut is None else effort.cut * 1e6
    asked = recipe.view, recipe.plan, recipe.compute, recipe.outputs
    return Job(str(folder.resolve()), witness, name, card, *asked, cut)


def _stale(manifest: Path) -> bool:
    """Whether something was written down since the results were described as a whole."""
    written = [path.stat().st_mtime_ns for path in manifest.glob("*.jsonl") if path.stat().st_size]
    page = manifest.parent / NAMES[-1]
    return bool(written) and not (page.exists() and page.stat().st_mtime_ns >= max(written))
