"""``rs-segment train``: a model from images with labels."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from .command import Command, answer, not_empty
from .options import CLASSES, REPORTING, with_options

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 60.0}


CHOICES = (
    *("recipe", "arch", "encoder", "encoder_weights", "fine_tune", "epochs", "seconds", "batch", "size"),
    *("rate", "loss", "optimiser", "schedule", "augment", "patience", "seed", "precision"),
)
"""Options that the recipe takes."""


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time: 90s, 20m, 1.5h; a number alone is minutes."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or a sentence about what is wrong."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no time; write 90s, 20m or 1.5h", param, ctx)
        return float(found[1]) * SECONDS[found[2]]


@click.command(cls=Command)
@click.argument("data", metavar="DIR", callback=not_empty)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the model.")
@click.option("--arch", help="unet, unet-resnet50, unet-vgg19, unet-inceptionv3, unetplusplus, segnet, fcn, ...")
@click.option("--encoder", help="An encoder of smp or timm: resnet34, efficientnet-b3, tu-convnext_tiny.")
@click.option("--encoder-weights", metavar="NAME|FILE", help="none, imagenet (fetched), or a safetensors file.")
@click.option("--fine-tune", metavar="MODEL", help="Begin with the network and weights of a model.")
@click.option("--recipe", type=click.Choice(["default", "study"]), default="default", show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="So many epochs.  [default: the recipe's]")
@click.option("--time", "seconds", type=Duration(), help="Or so long: 90s, 20m, 1.5h.")
@click.option("--batch", type=click.IntRange(min=1), help="Windows a step.")
@click.option("--size", type=click.IntRange(min=8), help="Side of the windows in pixels.")
@click.option("--lr", "rate", type=click.FloatRange(min=0, min_open=True), help="Highest learning rate.")
@click.option("--loss", help="focal, cross-entropy, dice, lovasz, or a sum: focal+dice.")
@click.option("--optimiser", help="adamw, adam or sgd.")
@click.option("--schedule", help="How the learning rate falls: cosine, linear or constant.")
@click.option("--augment", metavar="NAMES", help="turns,scale,radiometry, some of them, or none.")
@click.option("--patience", type=click.IntRange(min=0), help="Stop after so many epochs without a better one.")
@click.option("--classes", metavar="LIST", default="", help=CLASSES)
@click.option("--split", metavar="SPLIT", help="group:tile_3, kfold:0/5, blocks:0.2, random:0.1.")
@click.option("--seed", type=click.IntRange(min=0), help="Of everything that is drawn.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), help="What to compute in.")
@click.option("--half", is_flag=True, help="Store weights in 16 bits: half the size.")
@click.option("--resume", is_flag=True, help="Go on where the same command was interrupted.")
@click.option("--finish", is_flag=True, help="Train no further: make the model of the best epoch so far.")
@click.option("--overwrite", is_flag=True, help="Replace a model, or an unfinished training, that is there.")
@with_options(*REPORTING)
def train(**given: Any) -> None:
    """A model from the images with labels in DIR: a folder, or a dataset.toml.

    \b
    rs-segment train fields/ -o fields-model
    rs-segment train dubai/ -o dubai --split group:tile_3,tile_8 --time 20m
    rs-segment train dubai/ -o net --arch unetplusplus --encoder efficientnet-b3 --loss focal+dice
    rs-segment train fields/ -o roofs --fine-tune dubai-landcover --time 20m
    rs-segment train dubai/ -o study --recipe study --arch unet-vgg19 --epochs 20
    """
    from rs_segment.dataset import open_dataset
    from rs_segment.errors import OptionError
    from rs_segment.registry import trainer
    from rs_segment.types import Training

    from .progress import TRACKS, track

    if given["epochs"] is not None and given["seconds"] is not None:
        raise OptionError("--epochs and --time both say when training ends; choose one")
    report = track(given["progress"])
    pixels = report
    if report is TRACKS["bar"]:
        report = bar

    def tell(sentence: str) -> None:
        if given["progress"] != "jsonl":
            click.echo(("\r\033[K" if sys.stderr.isatty() else "") + sentence, err=True)

    dataset = open_dataset(given["data"], pixels, given["classes"])
    split = dataset.split(given["split"])
    for note in (*dataset.notes, split.name, *([f"note: {split.leaks}"] if split.leaks else [])):
        tell(note)
    training = Training(
        given["output"],
        given["device"],
        given["resume"],
        given["finish"],
        given["overwrite"],
        given["half"],
        command(),
    )
    choices = {k: given[k] for k in CHOICES}
    if choices["augment"] is not None:
        named = choices["augment"].split(",") if choices["augment"] != "none" else []
        choices["augment"] = tuple(name.strip() for name in named)
    result = trainer()(dataset, split, choices, training, report, tell)
    answer(result.to_dict(), summary(result), given["as_json"])


def bar(items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """A bar on stderr: share, loss, IoU, time left."""
    from tqdm import tqdm

    from .progress import bar as pixels

    if label != "train":
        yield from pixels(items, total, label)
        return
    shape = "{desc} {percentage:3.0f}% |{bar}| {remaining} left"
    with tqdm(total=total, desc=label, bar_format=shape, leave=False) as shown:
        for item in items:
            yield item
            shown.set_description_str(item.note, refresh=False)
            shown.update(item.work)


def command() -> str:
    """The command line that repeats this training."""
    once = ("--resume", "--finish", "--overwrite")
    return shlex.join(["rs-segment", *(a for a in sys.argv[1:] if a not in once)])


def summary(result: Any) -> str:
    """What a person wants to know when it is done."""
    card, lines = result.card, []
    for what, found in result.scores.items():
        confusion = found.confusion
        lines.append(f"{what}: mean IoU {confusion.mean_iou:.3f}, accuracy {confusion.accuracy:.3f}")
        wide = max(len(n) for n in confusion.names)
        for name, iou, f1 in zip(confusion.names, confusion.iou, confusion.f1, strict=True):
            lines.append(f"  {name:<{wide}}  IoU {iou:.3f}  F1 {f1:.3f}")
    lines.append(f"stride {card.stride} px, halo {card.halo} px, {card.mode}, temperature {card.temperature:g}")
    lines.append(f"{result.epochs} epochs in {result.seconds / 60:.1f} min")
    lines += [f"note: {note}" for note in result.notes]
    lines.append(f"wrote {result.folder}, with report.html")
    return "\n".join(lines)
