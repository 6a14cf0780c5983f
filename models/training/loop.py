"""The loop: windows, loss, gradient, step; an epoch ends with a look at the validation and a checkpoint."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from rs_segment.dataset import Part
from rs_segment.errors import DeviceError, OptionError, TrainingError
from rs_segment.pipeline import ahead
from rs_segment.types import Track

from ..device import DTYPES
from . import checkpoint, validate
from .checkpoint import BEST, LAST, Progress
from .losses import Loss
from .optimise import OPTIMISERS, SCHEDULES, Average, groups_of, next_scale, set_rate
from .recipe import Recipe
from .sampler import Chip, Sampler, batch_of

T = TypeVar("T")
SHARES = 10_000
_NO_MEMORY = ("not enough memory", "DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")


@dataclass(frozen=True, slots=True)
class Seen:
    """A step that is done, as progress: ``work`` is in 1/10000 of the training, ``note`` is for people."""

    work: int
    note: str


@dataclass(slots=True)
class Trainer:
    """A training between its first and its last step.

    Args:
        net: On its device.
        sampler: Draws windows.
        loss: Of logits and labels.
        validation: Windows to look at.
        names: Of the classes.
        recipe: How.
        precision: What to compute in: "fp32", "bf16" or "fp16".
        folder: Takes the checkpoints.
        tell: Told a sentence after each epoch.
    """

    net: nn.Module
    sampler: Sampler
    loss: Loss
    validation: tuple[Part, ...]
    names: tuple[str, ...]
    recipe: Recipe
    precision: str
    folder: Path
    tell: Callable[[str], None]
    progress: Progress = field(default_factory=Progress)
    average: Average | None = field(init=False, default=None)
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.average = Average(self.net, recipe.average) if recipe.average else None
        groups = groups_of(self.net, recipe.rate, recipe.encoder_share)
        self.optimiser = OPTIMISERS[recipe.optimiser](groups, recipe.decay)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.net.parameters()).device

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.recipe.steps(self.sampler.pixels)

    @property
    def _averaged(self) -> nn.Module | None:
        return None if self.average is None else self.average.net

    @property
    def better(self) -> nn.Module:
        """The network whose weights are kept: the averaged one, if there is one."""
        return self._averaged or self.net

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one.

        Raises:
            ModelError: It is damaged, or of another training.
        """
        path = self.folder / LAST
        if path.exists():
            tensors, self.progress = checkpoint.read(path, self.progress.identity)
            checkpoint.unpack(tensors, self.net, self._averaged, self.optimiser)

    def run(self, track: Track) -> None:
        """Train to the end.

        Raises:
            TrainingError: The loss is no number.
            DeviceError: Not even a single window fits into memory.
            DiskFullError: A checkpoint finds no room; the one before is kept.
            CancelledError: ``track`` says so.
        """
        start = self._shares(0.0)
        for _ in track(self._seen(start), SHARES - start, "train"):
            pass

    def _seen(self, told: int) -> Iterator[Seen]:
        while not self._over():
            epoch, began, before = self.progress.epoch + 1, time.monotonic(), self.progress.seconds
            total, count, rate = 0.0, 0, 0.0
            with contextlib.closing(self._batches()) as batches:
                for chips in batches:
                    done = self._done(time.monotonic() - began)
                    loss, rate = self._step(chips, done)
                    total, count = total + loss, count + 1
                    now = self._shares(time.monotonic() - began)
                    iou = f", IoU {self.progress.best:.3f}" if self.progress.best >= 0 else ""
                    yield Seen(max(0, now - told), f"epoch {epoch}, loss {total / count:.3f}{iou}")
                    told = max(told, now)
                    if self._done(time.monotonic() - began) >= 1:
                        break
            self._end_epoch(epoch, total / max(count, 1), rate, before, began)
        yield Seen(max(0, SHARES - told), f"epoch {self.progress.epoch}")

    def _batches(self) -> Generator[list[Chip], None, None]:
        """The batches of an epoch, drawn ahead by threads."""
        size, first = self.recipe.batch, self.progress.step
        jobs = ((step, i) for step in range(first, first + self.steps) for i in range(size))
        threads = 2 if self.device.type == "cpu" else 8
        drawn = ahead(lambda job: self.sampler.draw(*job), jobs, threads, 2 * size)
        with contextlib.closing(drawn):
            for _ in range(self.steps):
                yield [next(drawn) for _ in range(size)]

    def _step(self, chips: list[Chip], done: float) -> tuple[float, float]:
        """(loss, learning rate) of a step; a batch that does not fit is halved, and its gradients are summed."""
        recipe, step = self.recipe, self.progress.step
        # Short trainings rise for a twentieth of their time.
        rise = min(1.0, max((step + 1) / recipe.warmup, 20 * done)) if recipe.warmup else 1.0
        rate = set_rate(self.optimiser, rise * SCHEDULES[recipe.schedule](done))
        self.net.train()
        micro = self.progress.micro or recipe.batch
        while True:
            # What dropout draws depends on the step alone.
            torch.manual_seed(recipe.seed * 1_000_003 + step)
            try:
                loss = self._gradients(chips, micro)
                break
            except (RuntimeError, MemoryError) as error:
                if not _lacks_memory(error):
                    raise
                if micro == 1:
                    raise DeviceError(
                        f"{self.device} has too little memory to train on one window of {recipe.size} px; "
                        "try a smaller --size, or a smaller network"
                    ) from error
                micro //= 2
        steep = nn.utils.clip_grad_norm_(self.net.parameters(), recipe.clip or math.inf)
        scale, fits = self._scale, math.isfinite(float(steep))
        if not (math.isfinite(loss) and (fits or scale > 1)):
            raise self._not_finite(loss, len(chips))
        if fits:
            with enough_memory(self.device, "keep what the optimiser notes of each weight", "a smaller network"):
                self.optimiser.step()
        if self.average is not None:
            self.average.follow(self.net, step)
        self.progress = replace(self.progress, step=step + 1, micro=micro)
        if self.precision == "fp16":
            scale, steady = next_scale(self.progress.scale, self.progress.steady, fits)
            self.progress = replace(self.progress, scale=scale, steady=steady)
        return loss, rate

    def _not_finite(self, loss: float, windows: int) -> TrainingError:
        step, shorter = self.progress.step, ", or --precision fp32" if self.precision != "fp32" else ""
        what = "gradient is not finite" if math.isfinite(loss) else f"loss is {loss}"
        return TrainingError(
            f"the {what} at step {step + 1}, in epoch {self.progress.epoch + 1}, on windows of "
            f"{', '.join(sorted({self.sampler.source(step, i) for i in range(windows)})[:8])}; "
            f"try a lower learning rate, --lr {self.recipe.rate / 10:g}{shorter}"
        )

    @property
    def _scale(self) -> float:
        """Factor on the loss while gradients are computed."""
        return self.progress.scale if self.precision == "fp16" else 1.0

    def _gradients(self, chips: list[Chip], micro: int) -> float:
        """The loss of a batch; its gradients lie in the network."""
        self.optimiser.zero_grad(set_to_none=True)
        total, device, scale = 0.0, self.device, self._scale
        layout = torch.channels_last if device.type != "mps" else torch.contiguous_format
        for first in range(0, len(chips), micro):
            some = chips[first : first + micro]
            pixels, labels = batch_of(some)
            pixels = pixels.to(device).contiguous(memory_format=layout)
            try:
                with torch.autocast(device.type, DTYPES[self.precision], self.precision != "fp32"):
                    logits = self.net(pixels)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise OptionError("this network pools whole windows and learns from two at a time or more") from error
            loss = self.loss(logits.float(), labels.to(device)) * (len(some) / len(chips))
            (loss * scale).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if scale != 1:
            for parameter in self.net.parameters():
                if parameter.grad is not None:
                    parameter.grad /= scale
        return total

    def _end_epoch(self, epoch: int, train_loss: float, rate: float, before: float, began: float) -> None:
        """Look at the validation, note it, keep the weights."""
        side = validation_side(self.recipe.size)
        windows = ahead(lambda part: next(validate.chips([part], side, self.sampler.scaling)), self.validation, 1, 2)
        look = enough_memory(self.device, f"look at validation windows of {side} px", "a smaller --size")
        with contextlib.closing(windows), look:
            found = validate.look(self.better, windows, self.loss, self.names, self.precision)
        score = found.confusion.mean_iou if found.confusion.total else 0.0
        seconds = before + time.monotonic() - began
        row = {
            "epoch": float(epoch),
            "train loss": train_loss,
            "validation loss": found.loss,
            "mean IoU": score,
            "accuracy": found.confusion.accuracy if found.confusion.total else 0.0,
            "learning rate": rate,
        }
        best = score > self.progress.best
        self.progress = replace(
            self.progress,
            epoch=epoch,
            seconds=seconds,
            best=score if best else self.progress.best,
            best_epoch=epoch if best else self.progress.best_epoch,
            history=(*self.progress.history, row),
        )
        if best:
            tensors = {f"net.{k}": v for k, v in self.better.state_dict().items()}
            checkpoint.write(self.folder / BEST, tensors, self.progress)
        packed = checkpoint.pack(self.net, self._averaged, self.optimiser)
        checkpoint.write(self.folder / LAST, packed, self.progress)
        mark = ", the best so far" if best else ""
        self.tell(
            f"epoch {epoch} ({seconds / 60:.1f} min): loss {train_loss:.3f}, validation {found.loss:.3f}, "
            f"mean IoU {score:.3f}, accuracy {row['accuracy']:.3f}{mark}"
        )

    def _done(self, since: float) -> float:
        """Share of the training that is done, some seconds into an epoch."""
        recipe = self.recipe
        if recipe.epochs is not None:
            return self.progress.step / (recipe.epochs * self.steps)
        return (self.progress.seconds + since) / (recipe.seconds or 1.0)

    def _shares(self, since: float) -> int:
        return min(SHARES, int(self._done(since) * SHARES))

    def _over(self) -> bool:
        stale = self.progress.epoch - self.progress.best_epoch
        tired = bool(self.recipe.patience) and stale >= self.recipe.patience
        if self.recipe.epochs is not None:
            return tired or self.progress.epoch >= self.recipe.epochs
        return tired or self._done(0.0) >= 1


@contextlib.contextmanager
def enough_memory(device: torch.device, what: str, smaller: str) -> Iterator[None]:
    """Says what the device has too little memory for, and what takes less.

    Raises:
        DeviceError: For want of memory; other errors pass.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _lacks_memory(error):
            raise
        other = "" if device.type == "cpu" else ", or --device cpu"
        raise DeviceError(f"{device} has too little memory to {what}; try {smaller}{other}") from error


def where_it_fits(device: torch.device, net: nn.Module, work: Callable[[], T], tell: Callable[[str], None]) -> T:
    """What the work gives, on the CPU where the device has too little memory: whole images take more than windows.

    Raises:
        DeviceError: The CPU has too little, too.
    """
    try:
        with enough_memory(device, "look at whole images", "smaller images"):
            return work()
    except DeviceError as error:
        if device.type == "cpu":
            raise
        tell(f"note: {error}; going on there")
    net.to("cpu")
    return work()


def _lacks_memory(error: Exception) -> bool:
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(text in str(error) for text in _NO_MEMORY)


def validation_side(size: int) -> int:
    """Side of validation windows: twice that of training, for more context; a multiple of 32."""
    return max(64, -(-2 * size // 32) * 32)
