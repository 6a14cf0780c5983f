"""The story of many scenes: what is to be done, who does it, what is known of it when one of them dies.

A folder of results remembers, see ``manifest``. Run again, a batch passes over what is done and unchanged, redoes what
failed or changed, and goes on inside the scenes that were in work.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .. import registry
from ..errors import DiskFullError, OptionError, OutputExistsError, RsSegmentError, SceneError
from ..workfolder import disk_errors
from . import fingerprint
from .agenda import Step, agenda, changed, holds, in_the_way, place
from .crew import Crew, Here, Workers
from .job import SCENES, Job, Outcome, Recipe
from .machine import seats
from .manifest import Manifest, Record, now
from .report import NAMES, conclude
from .source import Source

LISTEN_SECONDS = 1.0
PAUSE_GROWS, LONGEST_PAUSE = 4.0, 300.0
BUSY_PAUSE, LONGEST_BUSY_PAUSE = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Effort:
    """Who does the work, and when they give up.

    Args:
        workers: Processes on this machine; None leaves it to the machine, 0 is this process itself.
        scheduler: A Dask cluster instead: "tcp://host:port", "tls://host:port", a scheduler file, or "local".
        shard: (i, n): only the i-th of n parts, 1 to n; together they are all scenes, and no scene is in two.
        check: How the files of a finished scene are looked at: "quick" by size and time of the last change, with the
            checksum only where the time differs; "full" always by checksum.
        attempts: How often a scene is begun that kills its worker, or whose server does not answer.
        pause: Seconds before the second attempt; four times as long before each further one.
        max_failures: Stop when this many scenes have failed; None goes on to the end.
    """

    workers: int | None = None
    scheduler: str | None = None
    shard: tuple[int, int] | None = None
    check: Literal["quick", "full"] = "quick"
    attempts: int = 3
    pause: float = 5.0
    max_failures: int | None = None


@dataclass(frozen=True, slots=True)
class News:
    """Something happened.

    Args:
        kind: "plan": the run begins; "begun"; "progress"; "again": an attempt failed and another follows; "done";
            "failed"; "note".
        id: Which scene, or "".
        done: Pixels of the scene that are done; for "plan", scenes that were done before.
        total: Pixels of the scene; for "plan", all scenes.
        message: A sentence, or "".
    """

    kind: Literal["plan", "begun", "progress", "again", "done", "failed", "note"]
    id: str = ""
    done: int = 0
    total: int = 0
    message: str = ""


Tell = Callable[[News], None]


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
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Manifest(folder) as manifest:
        steps = agenda(sources, manifest, recipe, effort.shard, effort.check == "full")
        todo = [step for step in steps if step.what != "done"]
        tell(News("plan", done=len(steps) - len(todo), total=len(steps)))
        stopped = ""
        if todo:
            manifest.open()
            run = _Run(prepare(recipe, folder, manifest.name), manifest, recipe, effort, tell)
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


def prepare(recipe: Recipe, folder: Path, witness: str) -> Job:
    """The recipe as it is told to workers, for a folder whose manifest has a file ``witness``."""
    model = recipe.model
    if isinstance(model, (str, Path)):
        found = registry.find(model)
        # A model that comes with a package lies elsewhere on other machines.
        name = found.card.name if found.shipped else str(found.path.resolve())
    else:
        name = model.card.name
    card = fingerprint.of_card(recipe.card)
    return Job(str(folder.resolve()), witness, name, card, recipe.view, recipe.plan, recipe.compute, recipe.outputs)


@dataclass(slots=True)
class _Efforts:
    """What was spent on a scene so far."""

    attempts: int = 0
    meetings: int = 0
    seconds: float = 0.0


class _Run:
    """One run while it lasts: scenes that wait, scenes that are out, and what comes back."""

    def __init__(self, job: Job, manifest: Manifest, recipe: Recipe, effort: Effort, tell: Tell) -> None:
        self._job, self._manifest, self._recipe, self._effort, self._tell = job, manifest, recipe, effort, tell
        self._decided, self._model = recipe.decided, recipe.card.name
        self._waiting: list[tuple[float, int, Step]] = []
        self._order = itertools.count()
        self._out: dict[str, Step] = {}
        self._spent: dict[str, _Efforts] = {}
        self._failures = 0
        self.finished: dict[str, Record] = {}

    def go(self, todo: Sequence[Step]) -> str:
        """Have all of them done; returns why the run ended before that, or ""."""
        for step in todo:
            self._wait(step, 0.0)
        crew = self._hire(len(todo))
        try:
            while self._waiting or self._out:
                if self._effort.max_failures is not None and self._failures >= self._effort.max_failures:
                    return f"{self._failures} scenes failed, as many as were allowed"
                self._hand_out(crew)
                heard = crew.hear(self._patience(crew))
                if heard is not None:
                    self._take(self._out.pop(heard[0]), heard[1])
        finally:
            crew.close()
        return ""

    def _hire(self, scenes: int) -> Crew:
        def progress(name: str, done: int, total: int) -> None:
            self._tell(News("progress", name, done, total))

        model, effort = self._recipe.model, self._effort
        own = None if isinstance(model, (str, Path)) else model
        if own is not None and (effort.workers or effort.scheduler):
            raise OptionError("a predictor of your own works in this process only; leave workers at 0")
        places = seats(self._recipe.compute, effort.workers or None, scenes)
        if effort.scheduler is not None:
            from .spread import Cluster

            cluster = Cluster(self._job, effort.scheduler, places, effort.attempts)
            self._tell(News("note", message=cluster.title))
            return cluster
        if own is not None or effort.workers == 0:
            return Here(self._job, progress, own)
        return Workers(self._job, progress, places)

    def _wait(self, step: Step, seconds: float) -> None:
        heapq.heappush(self._waiting, (time.monotonic() + seconds, next(self._order), step))

    def _patience(self, crew: Crew) -> float:
        """How long to listen: until a scene can be handed out whose pause is over."""
        if not self._waiting or not crew.free:
            return LISTEN_SECONDS
        return min(LISTEN_SECONDS, max(0.001, self._waiting[0][0] - time.monotonic()))

    def _hand_out(self, crew: Crew) -> None:
        steps: list[Step] = []
        while len(steps) < crew.free and self._waiting and self._waiting[0][0] <= time.monotonic():
            step = heapq.heappop(self._waiting)[2]
            if (record := self._done_meanwhile(step)) is not None:
                self.finished[step.source.id] = record
                self._tell(News("done", step.source.id, message="by another run"))
            elif (refusal := self._refusal(step)) is not None:
                self._fail(step, Outcome.of(refusal, step.source, busy=False))
            else:
                steps.append(step)
        self._manifest.add(*(self._record(step, "begun") for step in steps))
        for step in steps:
            self._out[step.source.id] = step
            self._tell(News("begun", step.source.id))
            crew.give(step.source)

    def _refusal(self, step: Step) -> RsSegmentError | None:
        """Why a scene is not even begun: it cannot be used, or something else has the names of its results."""
        if step.source.refused:
            return SceneError(step.source.refused)
        folder, outputs = self._manifest.folder.parent, self._recipe.outputs
        taken = in_the_way(step, folder, outputs)
        if taken is None:
            return None
        # It may be another run's, which has begun the scene since this one made its plan.
        self._manifest.refresh()
        return in_the_way(replace(step, record=self._manifest.records.get(step.source.id)), folder, outputs)

    def _done_meanwhile(self, step: Step) -> Record | None:
        """What another run has made of the scene since this one made its plan, if it has finished it."""
        folder = self._manifest.folder.parent
        if changed(folder, step.source.id) in (None, step.stamp):
            return None
        self._manifest.refresh()
        record = self._manifest.records.get(step.source.id)
        done = record is not None and holds(record, step.source, self._decided, folder)
        return record if done else None

    def _take(self, step: Step, outcome: Outcome) -> None:
        """Draw the consequences of what became of a scene."""
        name = step.source.id
        spent = self._spent.setdefault(name, _Efforts())
        spent.seconds += outcome.seconds
        # Now that it was begun, what lies under its names is its own.
        step = replace(step, record=self._manifest.records.get(name))
        if outcome.error == DiskFullError.__name__:
            raise DiskFullError(outcome.message)
        if outcome.status == "done":
            record = self.finished[name] = self._record(step, "done", outcome)
            self._manifest.add(record)
            self._tell(News("done", name, record.pixels, record.pixels))
        elif outcome.status == "busy":
            spent.meetings += 1
            self._wait(step, min(LONGEST_BUSY_PAUSE, BUSY_PAUSE * 2**spent.meetings))
            self._tell(News("again", name, message=outcome.message))
        else:
            spent.attempts += 1
            if outcome.again and spent.attempts < self._effort.attempts:
                pause = min(LONGEST_PAUSE, self._effort.pause * PAUSE_GROWS ** (spent.attempts - 1))
                self._wait(step, pause if outcome.again == "later" else 0.0)
                self._tell(News("again", name, message=outcome.message))
            else:
                self._fail(step, outcome)

    def _fail(self, step: Step, outcome: Outcome) -> None:
        attempts = self._spent.setdefault(step.source.id, _Efforts(attempts=1)).attempts
        if outcome.status == "died":
            outcome = replace(outcome, message=f"its worker {outcome.message}, in each of {attempts} attempts")
        self._failures += 1
        record = self.finished[step.source.id] = self._record(step, "failed", outcome)
        # A scene that was refused for its name must not take the place of the one that has it.
        if outcome.error != OutputExistsError.__name__:
            self._manifest.add(record)
        self._tell(News("failed", step.source.id, message=outcome.message))

    def _record(self, step: Step, status: Literal["begun", "done", "failed"], outcome: Outcome | None = None) -> Record:
        source, spent = step.source, self._spent.get(step.source.id, _Efforts())
        record = Record(
            source.id,
            status,
            source=place(source),
            item=source.item,
            model=self._model,
            time=now(),
        )
        if outcome is None:
            return record
        return replace(
            record,
            key={**self._decided, "input": outcome.input},
            seconds=round(spent.seconds, 3),
            attempts=spent.attempts + (status == "done"),
            outputs=outcome.outputs,
            result=outcome.result,
            error=outcome.error,
            message=outcome.message,
            exit_code=outcome.exit_code,
        )


def _stale(manifest: Path) -> bool:
    """Whether something was written down since the results were described as a whole."""
    written = [path.stat().st_mtime_ns for path in manifest.glob("*.jsonl") if path.stat().st_size]
    page = manifest.parent / NAMES[-1]
    return bool(written) and not (page.exists() and page.stat().st_mtime_ns >= max(written))
