"""Polygons of class rasters: speed and memory beside what one can install, printed as a table.

    python tests/benchmarks/polygons.py labels                     the label map of the Dubai tile 8, 28.6 Mpx
    python tests/benchmarks/polygons.py predicted --map MAP.tif    a map that a model made
    python tests/benchmarks/polygons.py noisy                      the label map, 3 % of its pixels replaced by chance
    python tests/benchmarks/polygons.py noise --side 4096          five classes, each pixel by chance
    python tests/benchmarks/polygons.py large --side 30000         the label map, mirrored over and over, from disk
    python tests/benchmarks/polygons.py check --side 4096          noise: are they those of rasterio, one by one?

RS_SEGMENT_DATA names the folder of real imagery. ``--task geometries|geopackage``, ``--tools this,rasterio,gdal`` and
``--rounds`` choose. What is timed begins with an array in memory (gdal_polygonize.py and ``large``: with a file) and
ends with an array of shapely geometries (``large``: with having seen them all), or with a GeoPackage, written and
indexed.

Every figure is from a process of its own. Tools take turns; a ratio is the median over the rounds of what the tool
takes by what rs-segment takes in the same round. Imports, and a first run on 8 x 8 pixels that pays for whatever is
compiled, come before and are told apart; of gdal_polygonize.py, where it is installed, they are part. MiB is what the
process holds before, with imports and the array; "more" is the most that it holds beyond that while it works.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

INPUTS = ("labels", "predicted", "noisy", "noise", "large", "check")
TASKS = ("geometries", "geopackage")
GDAL = "gdal_polygonize.py"
TOOLS = {"this": "rs-segment", "rasterio": "rasterio, shapely", "gdal": GDAL}
LABELS = "dubai_scenes/dubai_tile8_labels.tif"
ROWS = 512
CHUNK = 50_000
CLASSES = 5
REPLACED = 0.03
NODATA = 255

Measured = dict[str, float]
RATIOS = ("cpu", "wall", "more")
COLUMNS = (
    ("polygons", 10, 0),
    ("Mpx/s", 8, 2),
    ("polygons/s", 12, 0),
    ("cpu", 8, 2),
    ("wall", 8, 2),
    ("MiB", 7, 0),
    ("more", 7, 0),
    ("imports", 9, 2),
    ("first", 7, 2),
)


class Raster:
    """A class raster in memory, or on disk where it is too large; that one has no nodata."""

    def __init__(self, path: Path, in_memory: bool, split: int | None = None) -> None:
        import rasterio

        self.split = split
        self.file = rasterio.open(path)
        self.array = self.file.read(1) if in_memory else None

    def bands(self) -> Iterator[Any]:
        height, width = self.file.shape
        for top in range(0, height, ROWS):
            stop = min(top + ROWS, height)
            if self.array is not None:
                yield self.array[top:stop]
            else:
                yield self.file.read(1, window=((top, stop), (0, width)))


def batches(raster: Raster, transform: Any) -> Iterator[Any]:
    """The polygons of a raster as rs-segment gives them."""
    from rs_segment.geobox import GeoBox
    from rs_segment.polygons import Polygonizer

    polygonizer = Polygonizer(GeoBox(raster.file.shape, transform, raster.file.crs), split=raster.split)
    for band in raster.bands():
        yield polygonizer.feed(band)
    yield polygonizer.finish()


def by_this(raster: Raster, layer: Path | None) -> tuple[int, int]:
    """(polygons, vertices) by rs-segment."""
    import shapely

    from rs_segment.layer import LayerSpec, open_layer
    from rs_segment.polygons import PolygonBatch

    writer = None if layer is None else open_layer(layer, LayerSpec("classes", raster.file.crs))
    held, polygons, vertices = [], 0, 0
    for batch in batches(raster, raster.file.transform):
        polygons += len(batch)
        vertices += int(shapely.get_num_coordinates(batch.geometry).sum())
        if writer is not None:
            writer.write(batch)
        elif raster.array is not None:
            held.append(batch)
    PolygonBatch.join(held)
    if writer is not None:
        writer.close()
    return polygons, vertices


def by_rasterio(raster: Raster, layer: Path | None) -> tuple[int, int]:
    """(polygons, vertices) by rasterio and shapely, written by pyogrio in the quickest of its ways."""
    import numpy as np
    import pyogrio
    import shapely
    from rasterio import band
    from rasterio.features import shapes
    from shapely.geometry import shape

    source = band(raster.file, 1) if raster.array is None else raster.array
    mask = None if raster.array is None else raster.array != NODATA
    found = shapes(source, mask=mask, connectivity=4, transform=raster.file.transform)
    pairs = ((shape(geometry), value) for geometry, value in found)
    polygons = vertices = 0
    while some := list(islice(pairs, CHUNK if raster.array is None else None)):
        geometry = np.array([polygon for polygon, _ in some], dtype=object)
        polygons += len(some)
        vertices += int(shapely.get_num_coordinates(geometry).sum())
        if layer is not None:
            pyogrio.raw.write(
                layer,
                geometry=shapely.to_wkb(geometry),
                field_data=[np.array([value for _, value in some], np.int32)],
                fields=["class_id"],
                layer="classes",
                driver="GPKG",
                geometry_type="Polygon",
                crs=raster.file.crs.to_wkt(),
                append=layer.exists(),
            )
    return polygons, vertices


LIBRARIES: dict[str, Callable[[Raster, Path | None], tuple[int, int]]] = {"this": by_this, "rasterio": by_rasterio}


def memory(line: str) -> float:
    """MiB of this process, by a line of its status: VmRSS now, VmHWM the most (getrusage may tell a parent's)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(status.split(f"{line}:")[1].split()[0]) / 1024


def measure_library(tool: str, task: str, raster: Callable[[], Raster], folder: Path) -> Measured:
    """One run of a library in this process, which has run nothing yet."""
    started = time.perf_counter()
    import pyogrio  # noqa: F401
    import rasterio.features  # noqa: F401
    import shapely.geometry  # noqa: F401

    if tool == "this":
        import rs_segment.layer
        import rs_segment.polygons  # noqa: F401

    imported = time.perf_counter()
    layers = [folder / "tiny.gpkg", folder / "classes.gpkg"] if task == "geopackage" else [None, None]
    LIBRARIES[tool](Raster(folder / "tiny.tif", True), layers[0])
    first = time.perf_counter()
    opened = raster()
    # What was held for a moment while things were loaded is forgotten.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    base, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    polygons, vertices = LIBRARIES[tool](opened, layers[1])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "polygons": polygons,
        "vertices": vertices,
        "wall": wall,
        "cpu": cpu,
        "MiB": base,
        "more": memory("VmHWM") - base,
        "imports": imported - started,
        "first": first - imported,
        "layer": layers[1].stat().st_size if layers[1] else 0,
    }


def measure_gdal(path: Path, folder: Path) -> Measured:
    """One run of the program, start and reading included; what it takes for 8 x 8 pixels stands for its imports."""

    def run(source: Path, layer: Path) -> tuple[float, float, float]:
        before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([GDAL, "-q", "-of", "GPKG", str(source), str(layer), "classes", "class_id"], check=True)
        wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1024

    start, _, base = run(folder / "tiny.tif", folder / "tiny.gpkg")
    wall, cpu, most = run(path, folder / "classes.gpkg")
    with closing(sqlite3.connect(folder / "classes.gpkg")) as database:
        polygons = database.execute("SELECT count(*) FROM classes").fetchone()[0]
    found = {"polygons": polygons, "vertices": 0, "wall": wall, "cpu": cpu, "MiB": base, "more": most - base}
    return {**found, "imports": start, "first": 0, "layer": (folder / "classes.gpkg").stat().st_size}


def save(path: Path, shape: tuple[int, int], labels: Callable[[Any], Any]) -> Path:
    """Write a class raster, of which ``labels`` tells some rows at a time."""
    import numpy as np
    import rasterio

    height, width = shape
    kind = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "uint8", "compress": "deflate"}
    place = {"crs": "EPSG:32640", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 2_790_000)}
    layout = {"tiled": True, "blockxsize": ROWS, "blockysize": ROWS} if min(shape) > ROWS else {}
    with rasterio.open(path, "w", **kind, **place, **layout) as target:
        for top in range(0, height, ROWS):
            stop = min(top + ROWS, height)
            target.write(labels(np.arange(top, stop)).astype("uint8"), 1, window=((top, stop), (0, width)))
    return path


def make(what: str, side: int, path: Path) -> Path:
    """Write an input that is made of chance or of the label map."""
    import numpy as np
    import rasterio

    rng = np.random.default_rng(4)
    if what in ("noise", "check"):
        return save(path, (side, side), lambda rows: rng.integers(0, CLASSES, (len(rows), side), np.uint8))
    with rasterio.open(label_map()) as file:
        labels = file.read(1)
    if what == "noisy":
        some = rng.random(labels.shape, np.float32) < REPLACED
        labels[some] = rng.integers(0, int(labels.max()) + 1, np.count_nonzero(some), np.uint8)
        return save(path, labels.shape, lambda rows: labels[rows])
    down, across = (np.append(np.arange(n), np.arange(n)[::-1])[np.arange(side) % (2 * n)] for n in labels.shape)
    return save(path, (side, side), lambda rows: labels[down[rows]][:, across])


def label_map() -> Path:
    if "RS_SEGMENT_DATA" not in os.environ:
        sys.exit("set RS_SEGMENT_DATA to the folder of real imagery")
    return Path(os.environ["RS_SEGMENT_DATA"]) / LABELS


def compare(path: Path, mpx: float, task: str, given: argparse.Namespace) -> None:
    """Print the rows of one input and one task."""
    most = given.peers or (1.1 if given.what == "noise" else 40)
    peers = {"rasterio", *(["gdal"] if task == "geopackage" and shutil.which(GDAL) else [])} if mpx <= most else set()
    runs: dict[str, list[Measured]] = {tool: [] for tool in given.tools if tool in {"this", *peers}}
    for _ in range(given.rounds):
        for tool, measured in runs.items():
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                save(Path(folder) / "tiny.tif", (8, 8), lambda rows: rows[:, None] // 2 % 3 + [[0] * 4 + [1] * 4])
                options = ["--one", tool, "--task", task, "--map", str(path), "--folder", folder]
                options += ["--split", str(given.split)] if given.split else []
                command = [sys.executable, __file__, given.what, *options]
                measured.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    for tool, measured in runs.items():
        m = {name: statistics.median(run[name] for run in measured) for name in measured[0]}
        m |= {"Mpx/s": mpx / m["wall"], "polygons/s": m["polygons"] / m["wall"]}
        row = f"{task:<12}{TOOLS[tool]:<19}" + "".join(f"{m[name]:>{w}.{digits}f}" for name, w, digits in COLUMNS)
        if tool != "this" and "this" in runs:
            both = list(zip(measured, runs["this"], strict=True))
            row += "".join(f"{statistics.median(peer[r] / own[r] for peer, own in both):>8.2f}" for r in RATIOS)
        elif m["vertices"]:
            row += f"   {m['vertices']:.0f} vertices" + (
                f", {m['layer'] / 2**20:.0f} MiB on disk" if m["layer"] else ""
            )
        print(row, flush=True)


def check(path: Path) -> None:
    """Compare the polygons of a raster with those of rasterio by hashes, so that neither has to be kept."""
    import numpy as np
    import shapely
    from rasterio.features import shapes

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from polygon_oracle import PIXELS, bends, from_geojson, keys, meetings

    raster = Raster(path, True)
    use = raster.array != NODATA
    ours, theirs, straight, pixels = [], [], 0, 0
    for found in batches(raster, PIXELS):
        for start in range(0, len(found), CHUNK):
            part = found.take(np.arange(start, min(start + CHUNK, len(found))))
            turns, _, (rings, _) = bends(part.geometry)
            straight += len(turns) - np.count_nonzero(turns) - (len(rings) - 1)
            pixels += part.pixels.sum()
            assert shapely.is_valid(part.geometry).all()
            assert np.array_equal(shapely.area(part.geometry), part.pixels)
            ours.append(np.array([hash(key) for key in keys(part.class_id, part.geometry)]))
    assert pixels == np.count_nonzero(use)
    assert straight == meetings(raster.array, use)
    print(f"{sum(map(len, ours))} polygons: valid, of the right size, with the vertices of a coverage", flush=True)
    pairs = shapes(raster.array, mask=use, connectivity=4, transform=PIXELS)
    while some := list(islice(pairs, CHUNK)):
        theirs.append(np.array([hash(key) for key in keys(*from_geojson(some))]))
    assert np.array_equal(np.sort(np.concatenate(ours)), np.sort(np.concatenate(theirs)))
    print("each is one of rasterio.features.shapes, and the other way round")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=INPUTS)
    parser.add_argument("--map", type=Path, help="class raster for 'predicted'")
    parser.add_argument("--side", type=int, default=4096, help="pixels along a side of noise and the large map")
    parser.add_argument("--task", choices=TASKS, help="one of the two; both by default")
    parser.add_argument("--tools", type=lambda text: text.split(","), default=list(TOOLS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=float, help="the most Mpx that other tools get: 40, but 1.1 of noise")
    parser.add_argument("--split", type=int, help="pixels: polygons of rs-segment are cut on a grid of cells so large")
    parser.add_argument("--folder", type=Path, help="for what is written; a temporary one by default")
    parser.add_argument("--one", choices=TOOLS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one == "gdal":
        print(json.dumps(measure_gdal(given.map, given.folder)))
    elif given.one:
        raster = partial(Raster, given.map, given.what != "large", given.split)
        print(json.dumps(measure_library(given.one, given.task, raster, given.folder)))
    else:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            run(given, Path(folder) / "map.tif")


def run(given: argparse.Namespace, path: Path) -> None:
    import rasterio

    if given.what == "predicted" and given.map is None:
        sys.exit("name a class raster with --map")
    known = {"labels": label_map, "predicted": lambda: given.map}
    path = known[given.what]() if given.what in known else make(given.what, given.side, path)
    if given.what == "check":
        return check(path)
    with rasterio.open(path) as file:
        height, width = file.shape
    print(f"{given.what}: {height} x {width}, {height * width / 1e6:.1f} Mpx, rounds: {given.rounds}")
    ratios = "".join(f"{'x ' + name:>8}" for name in RATIOS)
    print(f"{'':<31}" + "".join(f"{name:>{w}}" for name, w, _ in COLUMNS) + ratios, flush=True)
    for task in [given.task] if given.task else TASKS:
        compare(path, height * width / 1e6, task, given)
    return None


if __name__ == "__main__":
    main()
