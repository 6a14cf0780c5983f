"""Speed and memory of the whole run, printed as a table.

    python tests/benchmarks/pipeline.py network SCENE     U-Net/ResNet-34: GeoTIFF to COG against one forward pass
    python tests/benchmarks/pipeline.py costless SCENE    a 1x1 convolution: what the pipeline itself can do
    python tests/benchmarks/pipeline.py memory            30000 x 30000 against 6000 x 6000, sparse, 1x1 convolution

SCENE is an RGB uint8 GeoTIFF. Runs are interleaved; imports and loading of the model are not counted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

from rs_segment import ClassInfo, Compute, ModelCard, Outputs, Plan, Scaling, segment
from rs_segment_models import networks
from rs_segment_models.predictor import TorchPredictor

CLASSES = tuple(ClassInfo(i, f"class {i}", f"#{40 * i:02X}80{255 - 40 * i:02X}") for i in range(6))
SCALING = Scaling("z-score", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
RESNET34 = {"arch": "unet", "encoder": "resnet34"}
CONV1X1 = {"arch": "conv1x1"}


def predictor(network: dict[str, str], precision: str) -> TorchPredictor:
    import torch  # only now: rs_segment_models has a word with its threads before it is loaded

    torch.manual_seed(0)
    stride = 1 if network is CONV1X1 else 32
    card = ModelCard(
        "bench",
        ("red", "green", "blue"),
        CLASSES,
        scaling=SCALING,
        stride=stride,
        halo=2 * stride if stride > 1 else 0,
        network=network,
    )
    return TorchPredictor(networks.build(network, 3, 6), card, Compute(precision=precision))  # type: ignore[arg-type]


def forward(net: TorchPredictor, pixels: np.ndarray, side: int) -> float:
    """Seconds of pure forward passes over pixels in memory, cut into squares that do not overlap."""
    height, width = pixels.shape[1:]
    chips = [
        np.ascontiguousarray(pixels[:, r : r + side, c : c + side])
        for r in range(0, height - side + 1, side)
        for c in range(0, width - side + 1, side)
    ]
    valid = np.ones((1, side, side), np.bool_)
    started = time.perf_counter()
    for chip in chips:
        net.scores(chip[None], valid, probs=False)
    return (time.perf_counter() - started) / (len(chips) * side * side) * height * width


def run(net: TorchPredictor, scene: Path, tile: int | None, **outputs: bool) -> float:
    """Seconds from the GeoTIFF to the finished COG."""
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        segment(scene, Path(place) / "map.tif", net, plan=Plan(tile=tile), outputs=Outputs(**outputs))
        return time.perf_counter() - started


def network(scene: Path, rounds: int, precision: str) -> None:
    net = predictor(RESNET34, precision)
    with rasterio.open(scene) as opened:
        pixels = opened.read()
    mpx = pixels[0].size / 1e6
    print(f"U-Net/ResNet-34, {net.precision}, {mpx:.1f} Mpx")
    for _ in range(rounds):
        pure = min(forward(net, pixels, side) for side in (1024, 2048))
        whole = run(net, scene, None, polygons=False)
        again = min(forward(net, pixels, side) for side in (1024, 2048))
        print(
            f"pure forward {mpx / pure:.2f} and {mpx / again:.2f} Mpx/s   to COG {mpx / whole:.2f} Mpx/s, "
            f"ratio {(pure + again) / 2 / whole:.2f}",
            flush=True,
        )


def costless(scene: Path, rounds: int) -> None:
    net = predictor(CONV1X1, "fp32")
    with rasterio.open(scene) as opened:
        mpx = opened.width * opened.height / 1e6
    for _ in range(rounds):
        plain, full = run(net, scene, None, polygons=False), run(net, scene, None, polygons=True)
        print(f"{mpx:.1f} Mpx: to COG {mpx / plain:6.1f} Mpx/s   with polygons {mpx / full:6.1f} Mpx/s", flush=True)


PEAK = """
import sys, tempfile
from pathlib import Path
import rasterio
sys.path.insert(0, {here!r})
import pipeline
from rs_segment import Outputs, segment
net = pipeline.predictor(pipeline.CONV1X1, "fp32")
with tempfile.TemporaryDirectory() as place:
    path = Path(place) / "scene.tif"
    layout = dict(tiled=True, blockxsize=512, blockysize=512) if {tiled} else {{}}
    with rasterio.open(path, "w", driver="GTiff", width={side}, height={side}, count=3, dtype="uint8", sparse_ok=True,
                       crs="EPSG:32640", transform=rasterio.Affine(1, 0, 0, 0, -1, 0), **layout):
        pass
    found = segment(path, None, net, outputs=Outputs(polygons=False))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 2**20, {side} ** 2 / 1e6 / found.seconds)
"""


def memory() -> None:
    for tiled in (True, False):
        peaks = []
        for side in (6000, 30000):
            program = PEAK.format(here=str(Path(__file__).parent), side=side, tiled=tiled)
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            peak, speed = map(float, done.stdout.split())
            peaks.append(peak)
            layout = "tiles" if tiled else "strips"
            print(f"{side} x {side}, {layout}: peak {peak:.2f} GiB, {speed:.1f} Mpx/s", flush=True)
        print(f"ratio {peaks[1] / peaks[0]:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["network", "costless", "memory"])
    parser.add_argument("scene", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    given = parser.parse_args()
    if given.what == "memory":
        memory()
    elif given.scene is None:
        parser.error("name a scene")
    elif given.what == "network":
        network(given.scene, given.rounds, given.precision)
    else:
        costless(given.scene, given.rounds)
