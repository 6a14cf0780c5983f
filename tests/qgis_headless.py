"""A QGIS without windows: a profile of its own with the plugin in it, ``qgis_process``, and QGIS's own Python."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from qgis_desktop import PLUGIN, PROFILE
from test_qgis import missing

PATH = "/usr/bin:/bin"
PATIENCE = 600

SESSION = """
import json, os, sys

place, answer = sys.argv[1:]
sys.path[:0] = [place, "/usr/share/qgis/python/plugins"]
from qgis.core import *

app = QgsApplication([], False)
app.initQgis()
import processing
from processing.core.Processing import Processing

Processing.initialize()
import rs_segment_qgis

plugin = rs_segment_qgis.classFactory(None)
plugin.initProcessing()
answers = {}


class Quiet(QgsProcessingFeedback):
    def __init__(self):
        super().__init__(False)


def go(name, algorithm, **parameters):
    feedback = Quiet()
    try:
        found = {"results": processing.run("rssegment:" + algorithm, parameters, feedback=feedback)}
    except Exception as error:
        found = {"error": str(error)}
    answers[name] = {**found, "log": feedback.textLog()}
    return answers[name].get("results", {})


def done():
    with open(answer, "w") as target:
        json.dump(answers, target, default=str)
    # Tearing QGIS down from Python crashes now and then.
    os._exit(0)


"""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a run of ``qgis_process``: exit code, results, and all that was said."""

    code: int
    results: dict[str, Any]
    said: str


@dataclass(frozen=True, slots=True)
class Headless:
    """A home folder with a profile in which the plugin is enabled, and the Python of the engine."""

    home: Path
    engine: Path

    @classmethod
    def make(cls, home: Path, engine: Path) -> Headless:
        """A new one in a folder that is made."""
        ini = home / PROFILE / "QGIS" / "QGIS3.ini"
        ini.parent.mkdir(parents=True)
        ini.write_text("[PythonPlugins]\nrs_segment_qgis=true\n")
        for name in ("plugins", "run", "tmp"):
            (home / name).mkdir(mode=0o700)
        (home / "plugins" / "rs_segment_qgis").symlink_to(PLUGIN)
        return cls(home, engine)

    def environment(self, engine: Path | str | None) -> dict[str, str]:
        """Nothing of the environment of the tests, which would mislead QGIS."""
        return {
            "PATH": PATH,
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "TMPDIR": str(self.home / "tmp"),
            "LANG": "C.UTF-8",
            "QT_QPA_PLATFORM": "offscreen",
            "QGIS_PLUGINPATH": str(self.home / "plugins"),
            "OMP_NUM_THREADS": "1",
            **({"RS_SEGMENT_PYTHON": str(engine)} if engine else {}),
        }

    def start(self, algorithm: str, inputs: dict[str, object], engine: Path | str | None = "") -> subprocess.Popen[str]:
        """An algorithm in ``qgis_process``; an engine of "" is the usual one, None is none."""
        # Debian's qgis_process without the ending is a script that wants a screen.
        program = shutil.which("qgis_process.bin", path=PATH) or shutil.which("qgis_process", path=PATH)
        if program is None:
            missing("qgis_process")
        # A list is an option that is given several times.
        options = [f"{k}={one}" for k, v in inputs.items() for one in (v if isinstance(v, list) else [v])]
        return subprocess.Popen(
            [str(program), "--json", "run", algorithm, "--", *options],
            env=self.environment(self.engine if engine == "" else engine),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
        )

    def run(self, algorithm: str, inputs: dict[str, object], engine: Path | str | None = "") -> Done:
        """What came of an algorithm in ``qgis_process``."""
        return self.ended(self.start(algorithm, inputs, engine))

    def ended(self, process: subprocess.Popen[str]) -> Done:
        """What came of a process that was started."""
        try:
            out, said = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        told = json.loads(out) if out.strip().startswith("{") else {}
        return Done(process.returncode, told.get("results", {}), said)

    def interrupted(self, algorithm: str, inputs: dict[str, object], engine: Path, sign: Path) -> tuple[Done, float]:
        """What came of a run that got Ctrl-C when a file was there, and how many seconds it took to end."""
        process = self.start(algorithm, inputs, engine)
        until = time.monotonic() + PATIENCE
        while not sign.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        # The work has begun, and goes on.
        time.sleep(1.0)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        return self.ended(process), time.monotonic() - began

    def engines(self) -> list[str]:
        """Processes of this home that still run."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("HOME") == str(self.home)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except (psutil.Error, OSError):
                continue
        return found

    def session(self, python: Path, script: str) -> dict[str, Any]:
        """What ``go`` was answered in a script that QGIS's Python runs."""
        answer = self.home / "answer.json"
        done = subprocess.run(
            [python, "-c", f"{SESSION}{script}\ndone()\n", self.home / "plugins", answer],
            env=self.environment(self.engine),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=self.home,
        )
        if not answer.exists():
            raise RuntimeError(done.stderr)
        answers: dict[str, Any] = json.loads(answer.read_text())
        return answers


def files(folder: Path) -> list[str]:
    """Everything in a folder, hidden or not."""
    return sorted(os.listdir(folder))
