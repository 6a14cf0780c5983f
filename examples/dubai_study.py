"""The four networks of the Dubai study, trained by its protocol, and its table beside ours.

    python examples/dubai_study.py dubai/ -o study/ --epochs 200 --seeds 0 1 2
    python examples/dubai_study.py dubai/ -o study/ --time 20 --split group:tile_3,tile_8
    python examples/dubai_study.py dubai/ -o study/ --epochs 1 --steps 80 --batch 2
    python examples/dubai_study.py dubai/ -o study/ --networks ours --encoder-weights mobilenet_v2_imagenet.safetensors

DATA is the folder of the set "Semantic segmentation of aerial imagery" (MBRSC and Humans in the Loop). The protocol:
256 px, batch 16, focal loss, learning rate 1e-2, 200 epochs, a random tenth of the images for validation. Pieces of one
scene are then on both sides, so the figures flatter; those of held-out tiles are the honest ones. A budget below 200
epochs is named in the table. "ours" is the network and the recipe that ``rs-segment train`` takes by itself, beside
them. Models that are there already are not trained again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from rs_segment.card import ModelCard
from rs_segment.dataset import open_dataset
from rs_segment.types import Training
from rs_segment_models.training import train
from rs_segment_models.training.recipe import LIGHT

STUDY = {
    "unet": ("U-Net", "0.51", "0.80"),
    "unet-resnet50": ("U-Net + ResNet50", "0.53", "0.83"),
    "unet-vgg19": ("U-Net + VGG19", "0.64", "0.88"),
    "unet-inceptionv3": ("U-Net + InceptionV3", "0.65", "0.89"),
}
OURS = "ours"
ROWS = {**STUDY, OURS: ("our recipe, U-Net", "", "")}
EPOCHS = 200


def main(given: list[str]) -> int:
    asked = arguments(given)
    dataset = open_dataset(asked.data)
    rows = []
    for arch in asked.networks:
        found = [scores(dataset, asked, arch, seed) for seed in asked.seeds]
        rows.append(row(arch, asked.encoder, found))
    steps = f" of {asked.steps} steps" if asked.steps else ""
    budget = f"{asked.time:g} minutes" if asked.time else f"{asked.epochs} epoch{'s'[: asked.epochs > 1]}{steps}"
    if asked.time or asked.steps or asked.epochs != EPOCHS:
        budget += f", NOT the study's {EPOCHS}"
    windows = f"{asked.batch} windows of {asked.size} px a step"
    seeds = " ".join(map(str, asked.seeds))
    print(f"{dataset.name}, split {asked.split}, {budget} a network, {windows}, seeds {seeds}\n")
    print("| network | IoU, study | IoU, ours | accuracy, study | accuracy, ours |\n|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


def scores(dataset: Any, asked: argparse.Namespace, arch: str, seed: int) -> tuple[float, float]:
    """(mean IoU, accuracy) of the validation, of a network that is trained if it is not there."""
    network = f"{arch}-{asked.encoder}" if arch == OURS else arch
    out = asked.output / f"{network}-{asked.split.replace(':', '-').replace(',', '-')}-{seed}"
    if not (out / "model.json").exists():
        asked.output.mkdir(parents=True, exist_ok=True)
        study = {"recipe": "study", "arch": arch, "size": asked.size, "batch": asked.batch}
        light = {"network": {**LIGHT, "encoder": asked.encoder}, "encoder_weights": asked.encoder_weights}
        own = {"size": asked.size, "batch": asked.batch, **light}
        choices = {"seed": seed, "longest": asked.steps, **(own if arch == OURS else study)}
        choices |= {"seconds": asked.time * 60} if asked.time else {"epochs": asked.epochs}
        split = dataset.split(asked.split)
        train(dataset, split, choices, Training(out, asked.device, resume=True), tell=told(arch, seed))
    found = ModelCard.read(out / "model.json").training["scores"]
    validation = next(v for k, v in found.items() if k.startswith("validation"))
    return validation["mean_iou"], validation["accuracy"]


def told(arch: str, seed: int) -> Any:
    return lambda sentence: print(f"{arch}, seed {seed}: {sentence}", file=sys.stderr, flush=True)


def row(arch: str, encoder: str, found: list[tuple[float, float]]) -> str:
    name, iou, accuracy = ROWS[arch]
    name += f" + {encoder}" if arch == OURS else ""
    mine = [spread([f[i] for f in found]) for i in (0, 1)]
    return f"| {name} | {iou} | {mine[0]} | {accuracy} | {mine[1]} |"


def spread(values: list[float]) -> str:
    """The mean, and the standard deviation where there is more than one value."""
    more = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{more}"


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The four networks of the Dubai study by its protocol.")
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=ROWS, default=list(STUDY))
    parser.add_argument("--split", default="random:0.1")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--steps", type=int, help="longest epoch")
    parser.add_argument("--time", type=float, help="minutes a network, instead of epochs")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--encoder", default=LIGHT["encoder"], help='for "ours"')
    parser.add_argument("--encoder-weights", default="none", help='a safetensors file, for "ours"')
    parser.add_argument("--device", default="auto")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
