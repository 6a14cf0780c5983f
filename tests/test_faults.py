"""Whatever kills a run: under the final name lies nothing or the whole, and ``--resume`` ends in the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import make_scene

HERE = Path(__file__).parent
SECONDS = 0.02


def command(scene: Path, output: Path, *options: str, slow: float = SECONDS) -> list[str]:
    base = [sys.executable, str(HERE / "fake_cli.py"), "--slow", str(slow), "predict", str(scene), "-o", str(output)]
    return [*base, "--model", "fake", "--tile", "32", "--overlap", "16", "--confidence", *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("map*")}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], float]:
    """(scene, what an undisturbed run makes of it, seconds that it is at work)."""
    folder = tmp_path_factory.mktemp("straight")
    scene = make_scene(folder / "scene.tif", (1700, 30))
    done = subprocess.run(
        command(scene, folder / "map.tif", "--json"), env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return scene, contents(folder), json.loads(done.stdout)["seconds"]


SIGNALS = [(signal.SIGKILL, -9)] * 4 + [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "status"), SIGNALS, ids=[f"{s.name}-{i}" for i, (s, _) in enumerate(SIGNALS)])
def test_killed_at_any_moment(
    tmp_path: Path, straight: tuple[Path, dict[str, str], float], number: signal.Signals, status: int
) -> None:
    scene, expected, at_work = straight
    target = tmp_path / "map.tif"
    child = subprocess.Popen(
        command(scene, target), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / ".map.tif.partial").exists() and child.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1.2) * at_work)
    child.send_signal(number)
    _, told = child.communicate(timeout=30)
    after_the_end = child.returncode == -number and contents(tmp_path) == expected  # while Python was closing down
    assert child.returncode in (0, status) or after_the_end
    assert "Traceback" not in told or after_the_end
    if child.returncode == status != -9:
        kept = (tmp_path / ".map.tif.partial").exists()
        assert kept == ("--resume" in told)
    found = contents(tmp_path)
    for name, digest in found.items():
        assert digest == expected[name], f"{name} is there, but not whole"
    again = subprocess.run(
        command(scene, target, "--resume", "--overwrite", slow=0), env=environment(), capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path) == expected
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", (1200, 900))
    limited = [
        "bash",
        "-c",
        'ulimit -f 40; exec "$@"',
        "-",
        *command(scene, tmp_path / "map.tif", "--no-polygons", slow=0),
    ]
    limited[limited.index("--tile") + 1] = "512"
    done = subprocess.run(limited, env=environment(), capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("map*"))
