"""Who is given which scene next, and what follows from what became of it?"""

from __future__ import annotations

import heapq
import itertools
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..errors import DiskFullError, OptionError, OutputExistsError, RsSegmentError, SceneError
from .agenda import Step, changed, holds, in_the_way, place
from .crew import Crew, Here, Workers
from .job import Job, Outcome, Recipe, Task
from .machine import seats
from .manifest import Manifest, Record, now

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
        cut: Scenes of more than so many million pixels are done in parts of about as many, side by side; None does each
            scene in one piece.
        attempts: How often a scene, or a part of it, is begun that kills its worker, or whose server does not answer.
        pause: Seconds before the second attempt; four times as long before each further one.
        max_failures: Stop when this many scenes have failed; None goes on to the end.
    """

    workers: int | None = None
    scheduler: str | None = None
    shard: tuple[int, int] | None = None
    check: Literal["quick", "full"] = "quick"
    cut: float | None = None
    attempts: int = 3
    pause: float = 5.0
    max_failures: int | None = None

    def __post_init__(self) -> None:
        place = self.scheduler
        if place is not None and place != "local" and not Path(place).is_file() and not re.search(r":\d+$", place):
            raise OptionError(f"{place} is no scheduler file, and no address with a port, such as tcp://host:8786")


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
class _Errand:
    """A step, or a part of it, on its way to a worker."""

    step: Step
    task: Task

    @property
    def id(self) -> str:
        return self.task.source.id


@dataclass(slots=True)
class _Efforts:
    """What was spent on a task so far."""

    attempts: int = 0
    meetings: int = 0


@dataclass(slots=True)
class _Parts:
    """How far the parts of a scene are: pixels done and to be done, by key."""

    left: set[str]
    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)


class Run:
    """One run while it lasts: scenes that wait, scenes that are out, and what comes back."""

    def __init__(self, job: Job, manifest: Manifest, recipe: Recipe, effort: Effort, tell: Tell) -> None:
        self._job, self._manifest, self._recipe, self._effort, self._tell = job, manifest, recipe, effort, tell
        self._decided, self._model = recipe.decided, recipe.card.name
        self._waiting: list[tuple[float, int, _Errand]] = []
        self._order = itertools.count()
        self._out: dict[str, _Errand] = {}
        self._spent: defaultdict[str, _Efforts] = defaultdict(_Efforts)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._parts: dict[str, _Parts] = {}
        self._failures = 0
        self.finished: dict[str, Record] = {}

    def go(self, todo: Sequence[Step]) -> str:
        """Have all of them done; returns why the run ended before that, or ""."""
        for step in todo:
            self._wait(_Errand(step, Task(step.source)), 0.0)
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
        model, effort = self._recipe.model, self._effort
        own = None if isinstance(model, (str, Path)) else model
        if own is not None and (effort.workers or effort.scheduler):
            raise OptionError("a predictor of your own works in this process only; leave workers at 0")
        places = seats(self._recipe.compute, effort.workers or None, None if effort.cut else scenes)
        if effort.scheduler is not None:
            from .spread import Cluster

            return Cluster(
                self._job,
                effort.scheduler,
                places,
                effort.attempts,
                lambda said: self._tell(News("note", message=said)),
            )
        if own is not None or effort.workers == 0:
            return Here(self._job, self._progress, own)
        return Workers(self._job, self._progress, places)

    def _progress(self, key: str, done: int, total: int) -> None:
        """Tell how far a scene is; of one that is done in parts, how far all of them are."""
        name = key.partition("/")[0]
        parts = self._parts.get(name)
        if parts is None:
            self._tell(News("progress", name, done, total))
        elif key != name:
            parts.done[key], parts.total[key] = done, total
            count = len(parts.left | parts.total.keys())
            whole = sum(parts.total.values()) * count // len(parts.total)
            self._tell(News("progress", name, sum(parts.done.values()), whole))

    def _wait(self, errand: _Errand, seconds: float, first: bool = False) -> None:
        due = 0.0 if first else time.monotonic() + seconds
        heapq.heappush(self._waiting, (due, next(self._order), errand))

    def _patience(self, crew: Crew) -> float:
        """How long to listen: until a scene can be handed out whose pause is over."""
        if not self._waiting or not crew.free:
            return LISTEN_SECONDS
        return min(LISTEN_SECONDS, max(0.001, self._waiting[0][0] - time.monotonic()))

    def _hand_out(self, crew: Crew) -> None:
        errands: list[_Errand] = []
        while len(errands) < crew.free and self._waiting and self._waiting[0][0] <= time.monotonic():
            errand = heapq.heappop(self._waiting)[2]
            if errand.id in self.finished:
                continue
            if (record := self._done_meanwhile(errand.step)) is not None:
                self.finished[errand.id] = record
                self._tell(News("done", errand.id, message="by another run"))
            elif not errand.task.parts and (refusal := self._refusal(errand.step)) is not None:
                self._fail(errand, Outcome.of(refusal, errand.step.source, busy=False))
            else:
                errands.append(errand)
        begun = [errand for errand in errands if not errand.task.parts]
        self._manifest.add(*(self._record(errand, "begun") for errand in begun))
        for errand in begun:
            self._tell(News("begun", errand.id))
        for errand in errands:
            self._out[errand.task.key] = errand
            crew.give(errand.task)

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

    def _take(self, errand: _Errand, outcome: Outcome) -> None:
        """Draw the consequences of what became of a task."""
        name, key = errand.id, errand.task.key
        spent = self._spent[key]
        self._seconds[name] += outcome.seconds
        if outcome.error == DiskFullError.__name__:
            raise DiskFullError(outcome.message)
        if name in self.finished:
            # A part of a scene that was given up, or was done by another run.
            return
        # Now that it was begun, what lies under its names is its own.
        errand = replace(errand, step=replace(errand.step, record=self._manifest.records.get(name)))
        if outcome.status == "cut":
            self._cut(errand, outcome.parts)
        elif outcome.status == "done" and errand.task.part:
            self._join(errand)
        elif outcome.status == "done":
            record = self.finished[name] = self._record(errand, "done", outcome)
            self._manifest.add(record)
            self._tell(News("done", name, record.pixels, record.pixels))
        elif outcome.status == "busy":
            spent.meetings += 1
            self._wait(errand, min(LONGEST_BUSY_PAUSE, BUSY_PAUSE * 2**spent.meetings))
            self._tell(News("again", name, message=outcome.message))
        else:
            spent.attempts += 1
            if outcome.again and spent.attempts < self._effort.attempts:
                pause = min(LONGEST_PAUSE, self._effort.pause * PAUSE_GROWS ** (spent.attempts - 1))
                self._wait(errand, pause if outcome.again == "later" else 0.0)
                self._tell(News("again", name, message=outcome.message))
            else:
                self._fail(errand, outcome)

    def _cut(self, errand: _Errand, parts: int) -> None:
        """Have the parts of a scene done before scenes that are not begun."""
        tasks = [replace(errand.task, part=part, parts=parts) for part in range(1, parts + 1)]
        self._parts[errand.id] = _Parts({task.key for task in tasks})
        self._tell(News("note", errand.id, message=f"is done in {parts} parts"))
        for task in tasks:
            self._wait(replace(errand, task=task), 0.0, first=True)

    def _join(self, errand: _Errand) -> None:
        """Take note of a part, and have all put together when it was the last."""
        parts, task = self._parts[errand.id], errand.task
        parts.left.discard(task.key)
        parts.done[task.key] = parts.total.setdefault(task.key, 0)
        if not parts.left:
            self._wait(replace(errand, task=replace(task, part=0)), 0.0, first=True)

    def _fail(self, errand: _Errand, outcome: Outcome) -> None:
        if outcome.status == "died":
            attempts = self._spent[errand.task.key].attempts
            outcome = replace(outcome, message=f"its worker {outcome.message}, in each of {attempts} attempts")
        self._failures += 1
        record = self.finished[errand.id] = self._record(errand, "failed", outcome)
        # A scene that was refused for its name must not take the place of the one that has it.
        if outcome.error != OutputExistsError.__name__:
            self._manifest.add(record)
        self._tell(News("failed", errand.id, message=outcome.message))

    def _record(
        self, errand: _Errand, status: Literal["begun", "done", "failed"], outcome: Outcome | None = None
    ) -> Record:
        source, attempts = errand.task.source, self._spent[errand.task.key].attempts
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
            seconds=round(self._seconds[source.id], 3),
            attempts=max(attempts, 1) if status == "failed" else attempts + 1,
            outputs=outcome.outputs,
            result=outcome.result,
            error=outcome.error,
            message=outcome.message,
            exit_code=outcome.exit_code,
        )
