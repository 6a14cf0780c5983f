"""A QGIS with windows on a screen that nobody sees: a profile of its own, the plugin in it, and somebody at work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_provider
import psutil
import pytest

HERE = Path(__file__).parent
PLUGIN = HERE.parent / "qgis_plugin"
PATH = "/usr/local/bin:/usr/bin:/bin"
PROFILE = Path(".local/share/QGIS/QGIS3/profiles/default")
NEEDED = ("qgis", "Xvfb")
PATIENCE = 300


def require() -> None:
    """Skip, or fail where all tests have to run, unless there is a QGIS with windows and a screen for it."""
    missing = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"not there: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not there: {', '.join(missing)}")


def engine(folder: Path, slow: float = 0.0) -> Path:
    """The Python of this process with what it finds, and the model "fake", which takes its time over each tile."""
    models = folder / "models"
    fake_provider.install(models)
    path = os.pathsep.join([str(models), *(p for p in sys.path if p)])
    program = folder / "python"
    program.write_text(
        f"#!/bin/sh\nexport PYTHONPATH='{path}' {fake_provider.PLACE}='{models}' FAKE_SLOW={slow}\n"
        f"exec '{sys.executable}' \"$@\"\n"
    )
    program.chmod(0o755)
    return program


@contextmanager
def screen(size: str = "1400x900") -> Iterator[str]:
    """The name of a display."""
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", f"{size}x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            if server.stdout is None:
                raise RuntimeError("Xvfb says nothing")
            yield f":{server.stdout.readline().strip()}"
        finally:
            server.kill()


@dataclass(frozen=True, slots=True)
class Desk:
    """A running QGIS and what it has been told to do."""

    home: Path
    process: subprocess.Popen[bytes]

    def answers(self, count: int) -> list[dict[str, Any]]:
        """The first answers, as soon as there are so many."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = self._read()
            if len(found) >= count or any("failed" in a for a in found) or self.process.poll() is not None:
                break
            time.sleep(0.05)
        found = self._read()
        said = (self.home / "said.txt").read_text(errors="replace")
        if len(found) < count or "failed" in found[-1]:
            raise RuntimeError(f"{len(found)} answers of {count}: {found[-1:]}; QGIS said: {said}")
        return found

    def _read(self) -> list[dict[str, Any]]:
        place = self.home / "answers.jsonl"
        lines = place.read_text().splitlines(keepends=True) if place.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def engines(self) -> list[psutil.Process]:
        """Processes of this desk that are not QGIS itself."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DESK") == str(self.home) and "qgis" not in process.name():
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@contextmanager
def desk(home: Path, display: str, orders: list[dict[str, Any]], python: Path | None) -> Iterator[Desk]:
    """QGIS at work on the orders that ``qgis_inside`` understands, with a Python for the engine."""
    ini = home / PROFILE / "QGIS" / "QGIS3.ini"
    ini.parent.mkdir(parents=True)
    ini.write_text("[PythonPlugins]\nrs_segment_qgis=true\n\n[locale]\nuserLocale=en_US\n")
    for name in ("plugins", "run", "tmp"):
        (home / name).mkdir(mode=0o700)
    (home / "plugins" / "rs_segment_qgis").symlink_to(PLUGIN)
    (home / "orders.json").write_text(json.dumps(orders))
    environment = {
        "PATH": PATH,
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "DISPLAY": display,
        "QT_QPA_PLATFORM": "xcb",
        "QGIS_PLUGINPATH": str(home / "plugins"),
        "OMP_NUM_THREADS": "1",
        "DESK": str(home),
        "DESK_ORDERS": str(home / "orders.json"),
        "DESK_ANSWERS": str(home / "answers.jsonl"),
        **({"RS_SEGMENT_PYTHON": str(python)} if python else {}),
    }
    # Debian's wrapper of QGIS becomes QGIS, so that a signal reaches it.
    command = ["qgis", "--nologo", "--noversioncheck", "--code", str(HERE / "qgis_inside.py")]
    with (home / "said.txt").open("wb") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, cwd=home)
    try:
        yield Desk(home, process)
    finally:
        process.kill()
        process.wait()
