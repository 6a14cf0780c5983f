"""``rssegment:setupengine``: an environment of its own for the engine, in the user's profile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputString,
    QgsProcessingParameterFile,
    QgsSettings,
)

from . import handshake, installer, managed
from .algorithm import Algorithm, text
from .engine import PAGE, SETTING, VARIABLE, Engine
from .host import JobCanceled, JobFailed

PACKAGE = "rs-segment"
SOURCES = ("pyproject.toml", "setup.py")
MADE, COLLECTED, INSTALLED = 10.0, 70.0, 90.0
"""Shares of the bar: the environment is made, everything is fetched, everything is installed."""


class SetUpEngine(Algorithm):
    """See the module."""

    NAME = "setupengine"
    TITLE = "Set up the engine"
    GROUP = "engine"
    ICON = "engine"
    TAGS = ("install", "setup", "environment", "venv", "pip", "torch", "offline", "wheels", "update")
    SUMMARY = "Makes an environment for the engine in your QGIS profile and installs rs-segment there, with torch."
    HELP = (
        "The Python of QGIS stays as it is. An engine that was set up before works until the new one has answered, and "
        "is replaced by it; run this again for an update. From the package index some gigabytes are fetched. Without a "
        "network: on a machine of the same kind “pip download rs-segment -d wheels”, and give that folder here."
    )
    NEEDS_ENGINE = False

    def define(self) -> None:
        """Add the parameters and the outputs."""
        self.add(
            # Without a filter QGIS asks for a dot in the name.
            QgsProcessingParameterFile(
                "PYTHON", "Python", QgsProcessingParameterFile.Behavior.File, "", None, True, "Programs (*)"
            ),
            "",
            "A Python interpreter, 3.11 or later, to make the environment with. Empty: the best one that is found.",
        )
        self.add(
            QgsProcessingParameterFile(
                "FOLDER", "Folder to install from", QgsProcessingParameterFile.Behavior.Folder, "", None, True
            ),
            "",
            "A folder of wheels, for machines without a network, or a folder with the source of rs-segment. "
            "Empty: the package index.",
        )
        self.add(
            text("PACKAGE", "What to install", PACKAGE, False),
            "",
            "As pip reads it: rs-segment, rs-segment==0.1.0, or the path of a wheel. Not used for a folder of source.",
            advanced=True,
        )
        self.add(
            text("INDEX", "Another package index besides"),
            "",
            "Its address; that of PyTorch for CPU only, for example, makes the engine much smaller on machines without "
            "a CUDA device. Empty: none.",
            advanced=True,
        )
        self.add(text("OPTIONS", "More options of pip"), "", "With blanks, such as --proxy ADDRESS. Empty: none.", True)
        self.addOutput(QgsProcessingOutputString("PYTHON", "The engine's Python"))
        self.addOutput(QgsProcessingOutputString("VERSION", "Version of rs-segment"))
        self.addOutput(QgsProcessingOutputString("DEVICES", "Devices that compute"))
        self.addOutput(QgsProcessingOutputString("MODELS", "Models"))

    def check(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Whether the folder has something to install."""
        given = self.parameterAsString(parameters, "FOLDER", context)
        if given and not is_source(Path(given)) and not any(Path(given).glob("*.whl")):
            return f"{given} holds neither wheels (*.whl) nor the source of rs-segment (pyproject.toml)"
        return ""

    def work(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Make the environment beside the one in use, and take it when it has answered."""
        base = installer.python(self.parameterAsString(parameters, "PYTHON", context))
        try:
            folder = managed.fresh()
        except OSError as error:
            raise JobFailed(f"nothing can be written to {managed.home()}: {error.strerror}", 5) from None
        feedback.pushInfo(f"Environment: {folder}, made with {base}")
        whole = False
        try:
            installer.make(base, folder, feedback)
            feedback.setProgress(MADE)
            python = str(managed.interpreter(folder))
            installer.install(python, self.wanted(parameters, context), feedback, Progress(feedback))
            feedback.setProgress(INSTALLED)
            feedback.setProgressText("Asking the engine what it has")
            hello = handshake.ask(Engine(python, ("-m", "rs_segment_cli"), "the managed environment"), feedback)
            if not hello:
                raise JobCanceled
            managed.use(folder)
            whole = True
        finally:
            if not whole:
                managed.remove(folder)
        return self.told(python, hello, feedback)

    def wanted(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """The arguments of pip that say what, and where from."""
        given = self.parameterAsString(parameters, "FOLDER", context)
        index = self.parameterAsString(parameters, "INDEX", context).strip()
        package = self.parameterAsString(parameters, "PACKAGE", context).strip() or PACKAGE
        packages = [package] if os.path.exists(package) else package.split()
        line = self.parameterAsString(parameters, "OPTIONS", context).split()
        if index:
            line += ["--extra-index-url", index]
        if not given:
            return [*line, *packages]
        folder = os.path.abspath(given)
        if is_source(Path(folder)):
            return [*line, folder]
        return [*line, "--no-index", "--find-links", folder, *packages]

    def told(self, python: str, hello: dict[str, Any], feedback: QgsProcessingFeedback) -> dict[str, Any]:
        """Say what was set up, and what stands in its way."""
        devices = ", ".join(f"{d.get('id')} ({d.get('name')})" for d in hello.get("devices", []))
        models = ", ".join(str(m.get("name")) for m in hello.get("models", []))
        feedback.pushInfo(f"rs-segment {hello.get('version')} is set up; devices: {devices}; models: {models}")
        for problem in hello.get("problems", []):
            feedback.pushWarning(str(problem))
        if QgsSettings().value(SETTING, ""):
            feedback.pushWarning(f"{PAGE} names another engine, which comes first: empty it there.")
        elif os.environ.get(VARIABLE):
            feedback.pushWarning(f"The variable {VARIABLE} names another engine, which comes first.")
        return {"PYTHON": python, "VERSION": str(hello.get("version")), "DEVICES": devices, "MODELS": models}


class Progress:
    """Hears pip: what it fetches moves the bar, ever more slowly, since nobody knows how much there will be."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self._feedback, self._left = feedback, COLLECTED - MADE

    def __call__(self, line: str) -> None:
        """Show a line of pip."""
        self._feedback.pushConsoleInfo(line)
        if line.startswith(("Collecting ", "Processing ")):
            self._left *= 0.95
            self._feedback.setProgress(COLLECTED - self._left)
            self._feedback.setProgressText(f"Fetching {os.path.basename(line.split()[1])}")
        elif line.startswith("Installing collected packages"):
            self._feedback.setProgress(COLLECTED)
            self._feedback.setProgressText("Installing")


def is_source(folder: Path) -> bool:
    """Whether pip can build from a folder."""
    return any((folder / name).exists() for name in SOURCES)
