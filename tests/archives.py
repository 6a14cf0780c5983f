"""Archives of small scenes of all kinds, and ways of doing them, for the tests of batches."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fake_provider
import numpy as np
import pytest
from affine import Affine
from click.testing import CliRunner, Result
from fakes import ROTATED, SOUTH_UP, make_pixels, make_scene

from rs_segment import Compute, Outputs, Plan, View
from rs_segment.archive.batch import Effort, Report, batch
from rs_segment.archive.job import Recipe
from rs_segment.archive.manifest import FOLDER
from rs_segment.archive.source import Source
from rs_segment.segment import segment
from rs_segment_cli.batch import batch as command

HERE = Path(__file__).parent
PLAN = Plan(tile=32, overlap=16)
PLAIN = Outputs(polygons=False)
OPTIONS = ["-m", "fake", "--tile", "32", "--overlap", "16", "--no-polygons"]


@pytest.fixture(autouse=True)
def fake_model(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model "fake", in this process and in those that it starts."""
    place = tmp_path_factory.mktemp("models")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv(fake_provider.PLACE, str(place))
    return fake_provider.install(place)


def archive(folder: Path, count: int) -> list[Source]:
    """Small scenes of all kinds."""
    rng = np.random.default_rng(count)
    kinds: list[dict[str, Any]] = [
        {},
        {"nodata": 0},
        {"transform": ROTATED},
        {"transform": SOUTH_UP, "compress": "deflate"},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"bands": 4, "photometric": "RGB", "ALPHA": "YES"},
        {"crs": "EPSG:4326", "transform": Affine(4e-6, 0, 55, 0, -4e-6, 25)},
        {"names": ("blue", "green", "red")},
    ]
    folder.mkdir(exist_ok=True)
    made = []
    for number in range(count):
        shape = (1, 33) if number == 3 else tuple(int(n) for n in rng.integers(16, 48, 2))
        path = make_scene(folder / f"scene-{number:03}.tif", shape, **kinds[number % len(kinds)])  # type: ignore[arg-type]
        made.append(Source(path.stem, str(path)))
    return made


def deadly(folder: Path, name: str = "deadly") -> Source:
    """A scene that kills whoever looks at it."""
    pixels = make_pixels((50, 40))
    pixels[:, 0, 0] = fake_provider.KILLS
    return Source(name, str(make_scene(folder / f"{name}.tif", pixels=pixels)))


def contents(folder: Path) -> dict[str, str]:
    found = (p for p in folder.glob("[!.]*_classes*") if p.is_file() and p.suffix != ".json")
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def one_by_one(sources: list[Source], folder: Path, outputs: Outputs = PLAIN) -> dict[str, str]:
    """What ``segment`` makes of the scenes."""
    folder.mkdir()
    predictor = fake_provider.load(Path(os.environ[fake_provider.PLACE]) / "fake", Compute())
    for source in sources:
        segment(source.location, folder / f"{source.id}_classes.tif", predictor, plan=PLAN, outputs=outputs)
    return contents(folder)


def run(sources: list[Source], folder: Path, **given: Any) -> Report:
    """A batch with the model "fake", in this process unless ``workers`` says otherwise."""
    view, outputs = given.pop("view", View()), given.pop("outputs", PLAIN)
    model, tell = given.pop("model", "fake"), given.pop("tell", lambda news: None)
    effort = Effort(**{"workers": 0, "pause": 0.05, **given})
    return batch(sources, folder, Recipe(model, view, PLAN, Compute(), outputs), effort, tell)


def rs_segment(*args: Any) -> Result:
    return CliRunner().invoke(command, [str(a) for a in args])


COMMAND = "import sys; sys.path[:0] = {path!r}; from rs_segment_cli.batch import batch; batch(prog_name='batch')"


def child(inputs: list[str], out: Path, *options: str, slow: float = 0.02, before: str = "") -> subprocess.Popen[str]:
    program = COMMAND.format(path=[p for p in sys.path if p])
    command = [sys.executable, "-c", program, *inputs, "-o", str(out), *OPTIONS, *options]
    command = ["bash", "-c", before, "-", *command] if before else command
    env = {**os.environ, "FAKE_SLOW": str(slow)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(what: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what() and time.monotonic() < until:
        time.sleep(0.02)
    assert what()


def said(out: Path) -> int:
    """How much is written in the manifest."""
    return sum(file.stat().st_size for file in (out / FOLDER).glob("*.jsonl"))


def committed(out: Path, name: str) -> bool:
    """Whether a run has made something durable within a scene."""
    journal = out / f".{name}_classes.tif.partial" / "classes.journal"
    return journal.exists() and journal.read_bytes().count(b"\n") > 1
