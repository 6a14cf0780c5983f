"""What many scenes cost over what their networks compute, printed as a table.

    python tests/benchmarks/batch.py [--scenes 50] [--side 2048] [--network conv1x1 | unet/resnet18] [--dask]

The scenes are of one size and made of blobs; each way of doing them is run in turn, ``--rounds`` times. "start" is the
time until each worker has loaded the model and done a scene; what follows is at the speed after that. "forward" is the
time of nothing but forward passes over the same pixels in memory, as one process does them with all cores. "around" is
what a worker spends on a scene outside of ``segment``, its share of the description of the whole not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pipeline
import rasterio

from rs_segment import Outputs
from rs_segment.archive.batch import Effort, News, Report, batch
from rs_segment.archive.job import Recipe
from rs_segment.archive.source import Source
from rs_segment_models import folder


def scenes(place: Path, count: int, side: int) -> list[Source]:
    """As many scenes, of ten different contents."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        path = place / f"scene-{number:03}.tif"
        if number >= 10:
            os.link(place / f"scene-{number % 10:03}.tif", path)
        else:
            coarse = np.kron(rng.random((3, side // 64, side // 64)), np.ones((64, 64)))
            pixels = (250 * coarse + rng.integers(0, 5, coarse.shape)).astype(np.uint8)
            layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
            transform = rasterio.Affine(1, 0, 300_000 + number * side, 0, -1, 2_800_000)
            grid = {"height": side, "width": side, "crs": "EPSG:32640", "transform": transform}
            with rasterio.open(path, "w", driver="GTiff", count=3, dtype="uint8", **grid, **layout) as target:
                target.write(pixels)
        found.append(Source(path.stem, str(path)))
    return found


class Clock:
    """Remembers when scenes were done."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.done: list[float] = []

    def __call__(self, news: News) -> None:
        if news.kind == "done":
            self.done.append(time.perf_counter() - self.started)


def run(sources: list[Source], model: Path, effort: Effort, polygons: bool) -> tuple[float, float, Report]:
    """(seconds until all workers had done a scene, seconds for all scenes at the speed after that, the report)."""
    with tempfile.TemporaryDirectory() as place:
        clock = Clock()
        report = batch(sources, place, Recipe(model, outputs=Outputs(polygons=polygons)), effort, clock)
        assert report.exit_code == 0, [r.message for r in report.failed]
        start, last = clock.done[effort.workers or 0], clock.done[-1]
        return start, (last - start) / (len(sources) - (effort.workers or 0) - 1) * len(sources), report


def main() -> None:
    """Make the scenes and the model, and run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--network", default="conv1x1")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--polygons", action="store_true")
    parser.add_argument("--dask", action="store_true")
    given = parser.parse_args()
    arch, _, encoder = given.network.partition("/")
    network = {"arch": arch, "encoder": encoder} if encoder else pipeline.CONV1X1
    ways = {"1 worker": Effort(workers=1), "2 workers": Effort(workers=2)}
    if given.dask:
        ways["Dask, 2 workers"] = Effort(workers=2, scheduler="local")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        net = pipeline.predictor(network, "fp32")
        folder.save(place / "model", net._net, net.card)
        sources = scenes(place, given.scenes, given.side)
        with rasterio.open(sources[0].location) as opened:
            pixels = opened.read()
        mpx = given.scenes * given.side**2 / 1e6
        print(f"{given.scenes} scenes of {given.side} x {given.side} px, {given.network}, fp32")
        for _ in range(given.rounds):
            for title, effort in ways.items():
                before = pipeline.forward(net, pixels, 1024)
                start, wall, report = run(sources, place / "model", effort, given.polygons)
                pure = given.scenes * (before + pipeline.forward(net, pixels, 1024)) / 2
                inside = statistics.median(r.result["seconds"] for r in report.records) / (effort.workers or 1)
                print(
                    f"{title:<16} start {start:5.1f} s   {wall:6.1f} s, {mpx / wall:5.1f} Mpx/s, {wall / pure:5.2f} x "
                    f"forward   around each scene {(wall / given.scenes - inside) * 1000:4.0f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    main()
