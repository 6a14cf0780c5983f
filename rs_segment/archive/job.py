"""How is one scene of a batch done, wherever a worker may run, when all that travels there and back is JSON?"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from .. import registry
from ..card import ModelCard
from ..classmap import find_classes
from ..errors import (
    CancelledError,
    DeviceError,
    DiskFullError,
    ModelError,
    OptionError,
    OutputError,
    OutputExistsError,
)
from ..parts import Share, folder_of
from ..result import UNCLASSIFIED_CLASS, Segmentation
from ..scene import Scene
from ..segment import segment, segment_part
from ..sight import plan_tiles
from ..types import Compute, Outputs, Plan, Predictor, Track, View, Work
from ..workfolder import disk_errors
from . import fingerprint, network
from .describe import describe
from .manifest import FOLDER, Output
from .source import Source

SCENES = ".scenes"
TOLD_EVERY_SECONDS = 0.5
SEEN_AFTER_SECONDS = 10.0

T = TypeVar("T", bound=Work)
Told = Callable[[int, int], None]
"""Is told of pixels (done, of how many) every now and then; raises ``CancelledError`` to stop."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How each scene is done: what ``segment`` takes.

    Args:
        model: Name of a model, a model folder; or a predictor, for work in this process only.
        view: Which pixels are looked at.
        plan: How a scene is cut and put together.
        compute: What computes.
        outputs: What is written; ``overwrite`` also replaces files that no batch made, ``resume`` is ignored: a batch
            always goes on with what it began.
    """

    model: str | Path | Predictor = registry.DEFAULT
    view: View = field(default_factory=View)
    plan: Plan = field(default_factory=Plan)
    compute: Compute = field(default_factory=Compute)
    outputs: Outputs = field(default_factory=Outputs)

    @property
    def card(self) -> ModelCard:
        """What the model promises.

        Raises:
            ModelError, ModelNotFoundError: There is none.
        """
        return registry.find(self.model).card if isinstance(self.model, (str, Path)) else self.model.card

    def check(self) -> None:
        """Refuse here what every scene would be refused for.

        Raises:
            ModelError, ModelNotFoundError: There is no model.
            OptionError: The plan does not fit the model, or shapes name classes that it does not know.
        """
        card = self.card
        plan_tiles((1, 1), card, self.plan)
        find_classes(self.outputs.shapes.skip, (*card.classes, UNCLASSIFIED_CLASS), "the model")

    @property
    def decided(self) -> dict[str, str]:
        """What of a record's key the recipe decides."""
        options = fingerprint.of_options(self.view, self.plan, self.compute, self.outputs)
        return {"model": fingerprint.of_card(self.card), "options": options}


@dataclass(frozen=True, slots=True)
class Job:
    """What all scenes of a run have in common, as a worker is told it.

    Args:
        folder: Where results go; each worker must see it.
        witness: A file in its manifest, by which a worker knows the folder.
        model: Name or folder of the model.
        card: Checksum that the model's card must have.
        view, plan, compute, outputs: As for ``segment``.
        cut: Scenes of more pixels are done in parts of about as many; None does not cut.
    """

    folder: str
    witness: str
    model: str
    card: str
    view: View
    plan: Plan
    compute: Compute
    outputs: Outputs
    cut: float | None = None

    def to_json(self) -> str:
        """The job as a line."""
        return json.dumps(asdict(self), default=str, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Job:
        """The job in a line."""
        job: Job = revive(cls, json.loads(text))
        return job


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is given: a scene, or a part of one.

    Args:
        source: The scene.
        part: Which part, 1 to ``parts``; 0 is the whole, with the parts that there are.
        parts: How many parts there are; 0 while nobody has decided that.
    """

    source: Source
    part: int = 0
    parts: int = 0

    @property
    def key(self) -> str:
        """What it is called: the id of the scene, with the number of the part."""
        return f"{self.source.id}/{self.part}" if self.part else self.source.id

    def to_json(self) -> str:
        """The task as a line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Task:
        """The task in a line."""
        task: Task = revive(cls, json.loads(text))
        return task


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task, as a worker tells it.

    Args:
        status: "done"; "failed"; "cut": the scene is to be done in ``parts``; "busy": another process writes it;
            "stopped"; "died": the worker, with the scene.
        again: Whether another attempt may end otherwise: "" no, "later" after a pause, "afresh" by a new worker.
        seconds: Wall time.
        input: What was known of the input before it was read.
        outputs: The files that were made.
        result: ``Segmentation.to_dict``, with file names instead of paths.
        error: Class of the error, or "".
        message: What went wrong.
        exit_code: What ``predict`` would have ended with.
        parts: How many parts a scene that is cut is to have.
    """

    status: str
    again: str = ""
    seconds: float = 0.0
    input: Sequence[Mapping[str, Any]] = ()
    outputs: tuple[Output, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    message: str = ""
    exit_code: int = 0
    parts: int = 0

    def to_json(self) -> str:
        """The outcome as a line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Outcome:
        """The outcome in a line."""
        outcome: Outcome = revive(cls, json.loads(text))
        return outcome

    @classmethod
    def of(cls, error: BaseException, source: Source, busy: bool = True) -> Outcome:
        """What an error makes of a scene.

        Args:
            error: What was raised.
            source: The scene.
            busy: Whether a result that is in the way can only mean that another process is making it.
        """
        kind, code = type(error).__name__, int(getattr(error, "exit_code", 1))
        if isinstance(error, CancelledError):
            return cls("stopped", "afresh", error=kind, message=str(error))
        if busy and isinstance(error, OutputExistsError):
            return cls("busy", "later", error=kind, message=str(error), exit_code=code)
        if isinstance(error, MemoryError):
            return cls("failed", "afresh", error=kind, message=f"out of memory ({error})", exit_code=5)
        again = "afresh" if isinstance(error, DeviceError) else "later" if network.may_pass(error, source.files) else ""
        known = type(error).__module__ == OptionError.__module__
        message = str(error) if known else f"unexpected {kind}: {error}"
        return cls("failed", again, error=kind, message=message, exit_code=code)


def load(job: Job) -> Predictor:
    """The job's model, ready on this worker's device.

    Raises:
        ModelError: It is not there, not whole, or another one than where the batch was started.
        DeviceError: The device is not there.
        OutputError: This worker does not see the folder of results.
    """
    _see(job)
    found = registry.find(job.model)
    _same(found.card, job)
    return registry.load(found.path, job.compute, job.plan.tta)


def do(job: Job, predictor: Predictor, task: Task, told: Told = lambda done, total: None) -> Outcome:
    """One scene segmented, and described in a STAC Item beside its results; what fails is told, not raised.

    Whatever lies under the names of its results is replaced. A scene that is to be cut is not begun.

    Args:
        job: How.
        predictor: The job's model.
        task: Which scene, or part of it.
        told: Of the progress; a ``CancelledError`` from it leaves the work for a later run to go on with.
    """
    started, source = time.monotonic(), task.source
    known: fingerprint.Facts = []
    network.limit()
    try:
        known = fingerprint.of_files(source.files)
        outcome = _segment(job, predictor, task, told)
    except Exception as error:
        outcome = Outcome.of(error, source)
        if network.may_pass(error, source.files):
            network.forget(source.files)
    return replace(outcome, seconds=round(time.monotonic() - started, 3), input=known)


def target(folder: str | Path, source_id: str) -> Path:
    """The class raster of a scene."""
    return Path(folder) / f"{source_id}_classes.tif"


def half_done(folder: str | Path, source_id: str) -> bool:
    """Whether a run was interrupted within a scene, and left what another can go on with."""
    final = target(folder, source_id)
    return (final.parent / f".{final.name}.partial" / "plan.json").is_file()


def revive(kind: Any, told: Any) -> Any:
    """A frozen dataclass from what ``asdict`` and JSON made of it: lists are tuples again, and dicts dataclasses."""
    hints = get_type_hints(kind)

    def value(hint: Any, found: Any) -> Any:
        if isinstance(found, dict):
            inner = next((k for k in (hint, *get_args(hint)) if is_dataclass(k)), None)
            return found if inner is None else revive(inner, found)
        if isinstance(found, list):
            inside = [a for h in (hint, *get_args(hint)) for a in get_args(h) if is_dataclass(a)]
            return tuple(value(inside[0] if inside else Any, item) for item in found)
        return found

    return kind(**{name: value(hints[name], found) for name, found in told.items()})


def _segment(job: Job, predictor: Predictor, task: Task, told: Told) -> Outcome:
    source = task.source
    final, view = target(job.folder, source.id), source.seen(job.view)
    half = half_done(job.folder, source.id)
    scene = source.scene(final.parent / SCENES)
    if task.part:
        share = Share(final, task.part, task.parts)
        segment_part(scene, share, predictor, view, job.plan, job.compute, job.outputs, tracker(told))
        return Outcome("done")
    if job.cut is not None and not task.parts and not half and (parts := _parts(scene, view, job.cut)) > 1:
        with disk_errors(final.parent):
            folder_of(final).mkdir(exist_ok=True)
        return Outcome("cut", parts=parts)

    def run(resume: bool) -> Segmentation:
        outputs = replace(job.outputs, overwrite=True, resume=resume)
        return segment(scene, final, predictor, view, job.plan, job.compute, outputs, tracker(told))

    try:
        found = run(resume=half or task.parts > 0)
    except (OptionError, OutputError) as error:
        # What is left was begun with other options, or on another device, or is damaged: so it starts afresh.
        if not half or isinstance(error, DiskFullError):
            raise
        found = run(resume=False)
    if source.assets:
        Path(scene).unlink(missing_ok=True)
    made = {str(path): path.name for path in found.files}
    result = {k: made.get(v, v) if isinstance(v, str) else v for k, v in found.to_dict().items()}
    outputs = tuple(Output.of(path) for path in found.files)
    item = describe(found, source, predictor.card, outputs)
    return Outcome("done", outputs=(*outputs, Output.of(item)), result=result)


def _parts(scene: str, view: View, cut: float) -> int:
    """How many parts a scene is to be done in."""
    with Scene.open(scene, view.nodata) as opened:
        height, width = opened.geobox.shape
    return math.ceil(height * width / cut)


def tracker(told: Told) -> Track:
    """A ``Track`` that tells numbers, and not too often."""

    def track(items: Iterable[T], total: int, label: str) -> Iterator[T]:
        done, last = 0, 0.0
        for item in items:
            now = time.monotonic()
            if now - last >= TOLD_EVERY_SECONDS:
                last = now
                told(done, total)
            yield item
            done += item.work

    return track


def _see(job: Job) -> None:
    """Waits until the folder of results is seen as where the batch was started; network file systems take a moment."""
    witness = Path(job.folder) / FOLDER / job.witness
    until = time.monotonic() + SEEN_AFTER_SECONDS
    while not witness.is_file():
        if time.monotonic() > until:
            raise OutputError(
                f"{witness} is not there for a worker: all workers must see the folder of results, under the same name"
            )
        time.sleep(0.2)


def _same(card: ModelCard, job: Job) -> None:
    if fingerprint.of_card(card) != job.card:
        raise ModelError(
            f"the model {job.model} is another one here than where the batch was started; install the same version of "
            "rs-segment, or the same model folder, for all workers"
        )
