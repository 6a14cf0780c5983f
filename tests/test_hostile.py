"""Ninety-nine rasters that broke other software give a map on their own grid, or a sentence; never anything else."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
CHUNK = 25
MAX_SECONDS = 600


def run(folder: Path, files: list[Path]) -> dict[str, Any]:
    """What came of each file; a process that dies is begun anew behind the file that it died of."""
    found: dict[str, Any] = {}
    left = [str(f) for f in files]
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    while left:
        command = [sys.executable, str(TESTS / "hostile_runner.py"), str(folder), *left]
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, timeout=MAX_SECONDS, env={**os.environ, "PYTHONPATH": path}
            )
            said, end = child.stdout, f"exit code {child.returncode}: {child.stderr[-500:]}"
        except subprocess.TimeoutExpired as error:
            said, end = (error.stdout or b"").decode(), f"nothing more within {MAX_SECONDS} s"
        lines = [json.loads(line) for line in said.splitlines() if line.endswith("}")]
        found |= {line["end"]: line for line in lines if "end" in line}
        begun = [line["begin"] for line in lines if "begin" in line]
        assert begun, end
        if begun[-1] not in found:
            found[begun[-1]] = {"died": end}
        left = left[len(begun) :]
    return found


@pytest.mark.data
def test_hostile_rasters_give_a_map_or_a_sentence(data: Path, tmp_path: Path) -> None:
    with (data / "hostile" / "INDEX.csv").open() as file:
        files = [data / "hostile" / row["file"] for row in csv.DictReader(file)]
    found: dict[str, Any] = {}
    for start in range(0, len(files), CHUNK):
        found |= run(tmp_path, files[start : start + CHUNK])
    assert len(found) == len(files) == 99
    bad = {name: why for name, told in found.items() if (why := complaint(told))}
    assert not bad, json.dumps(bad, indent=1)
    assert sum(told["predict"]["code"] == 0 for told in found.values()) > 75


def complaint(told: dict[str, Any]) -> str:
    """What is wrong with what came of a file; empty where nothing is."""
    if "died" in told:
        return str(told["died"])
    if told["memory"] > 2 * 2**30:
        return f"{told['memory']} bytes of memory"
    for name in ("info", "predict"):
        ended = told[name]
        if ended["traceback"] or ended["code"] not in (0, 4):
            return f"{name} ended with {ended}"
        if ended["code"] == 4 and ended["lines"] != 1:
            return f"{name} refused in {ended['lines']} lines: {ended['told']}"
    if not all(told.get("same", {}).values()):
        return f"the map is not on the scene's grid, or not empty where the scene is: {told['same']}"
    return ""
