"""Killed between any two statements, a layer of polygons is the old one, or none, or the new one: never parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import make_scene

from rs_segment.vectorise import polygonize_raster

HERE = Path(__file__).parent


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("name", "layer", "moments"), [("map.gpkg", "second", 6), ("map.shp", "", 9)])
def test_killed_between_statements(tmp_path: Path, name: str, layer: str, moments: int) -> None:
    rng = np.random.default_rng(0)
    for raster, classes in (("old.tif", 3), ("new.tif", 4)):
        make_scene(tmp_path / raster, pixels=rng.integers(0, classes, (1, 30, 40)).astype(np.uint8), nodata=255)
    target = tmp_path / "out" / name
    target.parent.mkdir()
    polygonize_raster(tmp_path / "old.tif", target)
    command = [sys.executable, str(HERE / "kill_each_step.py"), str(tmp_path / "new.tif"), str(target)]
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, str(moments), layer], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (old, new), *kills = (json.loads(line) for line in done.stdout.splitlines())
    assert old[name] != new[name]
    assert len(kills) == moments
    seen = set()
    for statement, status, left, again in kills:
        state = "old" if left == old else "new" if left == new else "none"
        assert status == -9 or (status == 0 and state == "new"), statement
        # Where a layer has several files, none is read without the one that is named after the format.
        assert state != "none" or (name not in left and len(new) > 1), f"{statement} leaves {left}"
        assert again in (None, new), f"after {statement} a second run makes {again}"
        seen.add(state)
    assert {"old", "new"} <= seen
