"""The story of a training: a data set and a recipe become a model folder."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rs_segment.accuracy import number
from rs_segment.card import ModelCard, Scaling
from rs_segment.dataset import Dataset, Split, refuse_untrainable
from rs_segment.errors import OptionError, OutputExistsError, TrainingError
from rs_segment.evaluation.result import Evaluation
from rs_segment.types import Track, Training, silent
from rs_segment.workfolder import WorkFolder, disk_errors, partial_of, sync_folder

from .. import device as devices
from .. import folder as folders
from ..measure import stride_of
from ..networks import named
from . import checkpoint, finish, validate
from .begin import first_network, model_to_tune, origin_of, scaling_of
from .checkpoint import BEST, Progress
from .loop import Trainer, validation_side, where_it_fits
from .losses import UNWEIGHTED, loss_names, make_loss
from .recipe import RECIPES, Recipe
from .sampler import Sampler

_COARSEST = 8
"""Pixels that a window should be wide where a network is coarsest: at 4 a U-Net with InceptionV3 was right for 63 % of
the pixels of such windows, and for 15 % of those of windows twice as wide."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The result of a training.

    Args:
        folder: The model.
        card: As written.
        scores: By what they are of: "validation", "test".
        epochs: That were trained.
        seconds: Of training.
        notes: What a careful reader should know.
    """

    folder: Path
    card: ModelCard
    scores: Mapping[str, Evaluation]
    epochs: int
    seconds: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "model": str(self.folder),
            "epochs": self.epochs,
            "seconds": round(self.seconds, 1),
            "scores": {k: v.confusion.to_dict() for k, v in self.scores.items()},
            "ece": {k: None if v.reliability is None else number(v.reliability.ece) for k, v in self.scores.items()},
            "notes": list(self.notes),
        }


def choose_recipe(choices: Mapping[str, Any]) -> Recipe:
    """The recipe that people's choices mean.

    Args:
        choices: "recipe" is a key of ``RECIPES``; "arch" and "encoder" as ``networks.named`` takes them; "fine_tune"
            names a model, by name or folder; the others are fields of ``Recipe``; None is as if left out.

    Raises:
        OptionError, ModelError: A choice means nothing.
    """
    told = {k: v for k, v in choices.items() if v is not None}
    name, tuned = told.pop("recipe", "default"), told.pop("fine_tune", None)
    if name not in RECIPES:
        raise OptionError(f"the recipe {name!r:.60} is not known; there are {', '.join(RECIPES)}")
    if tuned is not None:
        folder, card = model_to_tune(tuned, told)
        told |= {"fine_tune": str(folder), "network": card.network}
    arch, encoder = told.pop("arch", None), told.pop("encoder", None)
    if arch is not None or encoder is not None:
        told["network"] = named(arch or "unet", encoder)
    return RECIPES[name].change(**told)


def train(
    dataset: Dataset,
    split: Split,
    choices: Mapping[str, Any],
    training: Training,
    track: Track = silent,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Trained:
    """A model folder, trained on a data set.

    Until it is finished everything is in a hidden folder beside it, which a later run with the same choices resumes.
    The weights of the best epoch, by mean IoU of the validation, are those of the model.

    Args:
        dataset: Images with labels.
        split: Which of them train, validate, test.
        choices: See ``choose_recipe``.
        training: Where to, on which device, and what to do with what is there.
        track: Told of the progress.
        tell: Told a sentence now and then.

    Raises:
        OptionError, ModelError, DatasetError: Something does not fit; before anything is computed.
        TrainingError: The loss is no number.
        DiskFullError, OutputError: Something cannot be written; what was is kept.
        DeviceError: The device is not there, or has too little memory.
        CancelledError: ``track`` says so.
    """
    recipe = choose_recipe(choices)
    out = Path(training.out)
    _refuse_existing(out, training.overwrite)
    if not (training.resume or training.finish or training.overwrite):
        _refuse_unfinished(out)
    device = devices.choose(training.device)
    precision = _precision(recipe.precision, device)
    # Weights that cannot be had are known at once, a survey takes long.
    net, begins = first_network(recipe, dataset, device)
    absent = refuse_untrainable(dataset, split, track)
    scaling = scaling_of(dataset, recipe)
    if scaling.kind == "percentile":
        raise OptionError("training needs one scaling for all images; choose another than percentile in dataset.toml")
    card = finish.card_of(dataset, recipe, scaling, out.name)
    # Read before a long training, in which the model may be moved or trained anew.
    origin = origin_of(recipe)
    identity = _identity(dataset, split, recipe, origin, scaling, precision)
    again = training.resume or training.finish
    work = WorkFolder.open(out, identity, again)
    keep = False
    try:
        trainer = _trainer(net, dataset, split, recipe, scaling, precision, work.path, tell, identity)
        if work.resumed:
            trainer.resume()
            tell(f"resumed after epoch {trainer.progress.epoch}")
        else:
            for sentence in (
                begins,
                *(f"note: {a}" for a in absent),
                _narrow(net, recipe),
                _unweighted(dataset, recipe),
            ):
                if sentence:
                    tell(sentence)
        if not training.finish:
            trainer.run(track)
        result = _finished(trainer, card, origin, dataset, split, training, track, work)
    except BaseException as error:
        keep = (work.path / checkpoint.LAST).exists()
        if keep:
            with suppress(AttributeError):
                error.kept = True  # type: ignore[attr-defined]
            goes_on = "" if isinstance(error, TrainingError) else "--resume goes on, "
            tell(f"what was trained is kept: {goes_on}--finish makes a model of the best epoch so far")
        raise
    finally:
        work.close(keep)
    return result


def _unweighted(dataset: Dataset, recipe: Recipe) -> str:
    """What to know of class weights that some of the losses do not take; empty where all do."""
    without = [name for name in loss_names(recipe.loss) if name in UNWEIGHTED]
    if dataset.weights is None or not without:
        return ""
    return f"note: the weights of the classes change nothing in {' and '.join(without)}"


def _narrow(net: nn.Module, recipe: Recipe) -> str:
    """What to fear of windows that are mostly margin where the network is coarsest; empty if they are not."""
    stride = stride_of(net)
    if recipe.size // stride >= _COARSEST:
        return ""
    return (
        f"note: windows of {recipe.size} px are {recipe.size / stride:g} px wide where the network is coarsest, mostly "
        f"margin, and on whole images it may do much worse; --size {_COARSEST * stride} or more"
    )


def _trainer(
    net: nn.Module,
    dataset: Dataset,
    split: Split,
    recipe: Recipe,
    scaling: Scaling,
    precision: str,
    folder: Path,
    tell: Callable[[str], None],
    identity: Mapping[str, Any],
) -> Trainer:
    survey, names = dataset.survey(), tuple(c.name for c in dataset.classes)
    sampler = Sampler.of(split.train, survey.of([p.pair for p in split.train]), len(names), scaling, recipe)
    weights = None if dataset.weights is None else torch.tensor(dataset.weights, dtype=torch.float32)
    device = next(net.parameters()).device
    loss = make_loss(recipe.loss, None if weights is None else weights.to(device), recipe.smoothing)
    learnt = recipe.steps(sampler.pixels) * recipe.batch * recipe.size**2
    seen = validate.chosen(split.validation, validation_side(recipe.size), learnt // 4)
    return Trainer(net, sampler, loss, seen, names, recipe, precision, folder, tell, Progress(identity=identity))


def _finished(
    trainer: Trainer,
    card: ModelCard,
    origin: Mapping[str, Any],
    dataset: Dataset,
    split: Split,
    training: Training,
    track: Track,
    work: WorkFolder,
) -> Trained:
    """The model folder of the best epoch, under its name."""
    best = work.path / BEST
    if not best.exists():
        raise TrainingError(f"{training.out} has no finished epoch to make a model of; train for at least one")
    tensors, _ = checkpoint.read(best, trainer.progress.identity)
    net = trainer.net
    net.load_state_dict(checkpoint.under(tensors, "net."))
    if training.half:
        finish.halved(net)
    net = net.eval().requires_grad_(False)
    trainer.tell("measuring the halo, the calibration and what shorter numbers cost")
    progress = trainer.progress

    def look() -> tuple[finish.Measured, dict[str, Evaluation]]:
        measured = finish.measure(net, card, split, trainer.recipe, progress.seconds)
        held_out = {name: parts for name, parts in split.parts if name != "train" and parts}
        return measured, {n: finish.score(net, measured.card, dataset, p, track) for n, p in held_out.items()}

    measured, scores = where_it_fits(trainer.device, net, look, trainer.tell)
    told = finish.story(trainer.recipe, origin, split, progress, measured, scores, training.command)
    told["data"] = f"{dataset.name}: {told['data']}"
    card = measured.card.replace(training=told)
    what = "test" if "test" in scores else "validation"
    report = finish.page(card, progress, scores[what], what, split, training.command)
    made = work.path / "model"
    card = finish.write(made, net, card, trainer.recipe, progress, report, training.half)
    _publish(made, Path(training.out), work.path)
    notes = tuple(n for n in (split.leaks, *scores[what].notes) if n)
    return Trained(Path(training.out), card, scores, progress.epoch, progress.seconds, notes)


def _publish(made: Path, out: Path, work: Path) -> None:
    """Gives a finished folder its name; what had it before goes with the work folder."""
    with disk_errors(out.parent):
        if out.is_dir() and any(out.iterdir()):
            os.replace(out, work / f"replaced-{time.time_ns()}")
        elif out.is_dir():
            out.rmdir()
        os.replace(made, out)
        sync_folder(out.parent)


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise OutputExistsError(f"{out} is a file; a model is a folder, choose another name with -o")
    if not any(out.iterdir()):
        return
    if not (out / folders.CARD).is_file():
        raise OutputExistsError(f"{out} is a folder with other things in it; choose another name with -o")
    if not overwrite:
        raise OutputExistsError(f"{out} is already there; replace it with --overwrite, or choose another name with -o")


def _refuse_unfinished(out: Path) -> None:
    """Hours of training are not thrown away by the same command again."""
    if (partial_of(out) / checkpoint.LAST).exists():
        raise OutputExistsError(
            f"a training of {out} was begun and is not finished: --resume goes on, --finish makes a model of its best "
            "epoch so far, --overwrite starts afresh"
        )


def _precision(asked: str, device: torch.device) -> str:
    """What to train in; weights, their sums and what the optimiser notes stay in fp32 anyway."""
    fast = devices.fast_in(device)
    if asked == "auto":
        return next(iter(fast), "fp32")
    if asked == "bf16" and device.type == "cuda" and asked not in fast:
        raise OptionError(f"{devices.title(device)} is slow in bf16; use --precision fp16 or fp32")
    return asked


def _identity(
    dataset: Dataset, split: Split, recipe: Recipe, origin: Mapping[str, Any], scaling: Scaling, precision: str
) -> dict[str, Any]:
    """Everything that decides the result, as JSON can say it: a training is resumed only with the same."""
    files = [(p.name, p.shape, _size(p.image.path)) for p in dataset.pairs]
    parts = [(k, [(p.pair.name, *map(int, p.window.flatten())) for p in parts]) for k, parts in split.parts]
    # What labels are counts, not where they lie or how they are written: QGIS does that anew each time.
    meant = [[c.labels for c in dataset.spec.classes], dataset.spec.labels.border]
    labels = hashlib.sha256(b"".join(np.ascontiguousarray(p.cells).tobytes() for p in dataset.survey().pairs))
    # Which weights it begins with counts, not where they lie.
    told = {k: v for k, v in recipe.to_dict().items() if k not in ("network", "fine_tune")}
    return {
        "network": dict(recipe.network),
        "data set": f"{dataset.name}, {len(dataset.pairs)} images, {_digest(files)}",
        "classes": [c.name for c in dataset.classes],
        "labels": _digest([meant, labels.hexdigest()]),
        "bands": list(dataset.band_names),
        "split": f"{split.name}, {_digest(parts)}",
        "recipe": told,
        "fine_tune": origin.get("weights_sha256", ""),
        "scaling": [scaling.kind, list(scaling.a), list(scaling.b)],
        "weights": None if dataset.weights is None else list(dataset.weights),
        "precision": precision,
    }


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
