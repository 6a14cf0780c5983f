"""How do ``venv`` and ``pip`` run? In child processes of another Python than QGIS's, from a background thread."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qgis.core import QgsApplication, QgsProcessingFeedback
from qgis.PyQt.QtCore import QCoreApplication, QProcess, QProcessEnvironment

from .engine import environment
from .host import START_MS, STEP_MS, JobCanceled, JobFailed

OLDEST = (3, 11)
NAMES = ("python3.13", "python3.12", "python3.11", "python3.14", "python3", "python")
PROBE = "import ensurepip, sys, venv; print(*sys.version_info[:2], sys.executable)"
CHILD = str(Path(__file__).with_name("child.py"))
PATIENCE_MS = 20_000
ELSEWHERE = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV"}
"""Settings of pip that would install somewhere else, or not at all."""

OFFLINE = (
    "without a network, give a folder of wheels that was filled with “pip download rs-segment” on a machine like this"
)
REASONS = (
    (r"Errno 28|No space left|not enough space", "the disk is full; with torch the engine takes some gigabytes"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the certificate of the package index is not trusted; name your own with --cert in “More options of pip”",
    ),
    (
        r"name resolution|getaddrinfo|NewConnectionError|Max retries|ProxyError|ConnectTimeout|Connection refused",
        f"the package index cannot be reached; {OFFLINE}, or name a proxy with --proxy in “More options of pip”",
    ),
    (
        r"(?:No matching distribution found for|Could not find a version that satisfies the requirement) ([^\s(]+)",
        "there is no {0} for this Python where pip looked; check the folder of wheels, the index, and Python's version",
    ),
    (r"ensurepip is not available", "its venv cannot be used; on Debian and Ubuntu install python3-venv"),
)
"""What in pip's words means what, for people."""


def python(given: str) -> str:
    """The Python that the environment is to be made with: the one that is given, or the best that is there.

    Raises:
        JobFailed: It is too old or lacks something, or there is none.
    """
    if given:
        version, found = _probe(given)
        if not found:
            raise JobFailed(f"{given} cannot make an environment: {version}", 4)
        return found
    looked = []
    for name in NAMES:
        place = shutil.which(name)
        if place:
            version, found = _probe(place)
            if found:
                return found
            looked.append(f"{place}: {version}")
    # QGIS's own, as a program beside it: only its standard library is used.
    for place in (Path(sys.prefix, "bin", "python3"), Path(sys.prefix, "python.exe")):
        if place.exists():
            version, found = _probe(str(place))
            if found:
                return found
            looked.append(f"{place}: {version}")
    told = "; ".join(dict.fromkeys(looked)) or "there is no python3 on the PATH"
    raise JobFailed(f"no Python {OLDEST[0]}.{OLDEST[1]} or later was found ({told}): name one in “Python”", 4)


def make(base: str, folder: Path, feedback: QgsProcessingFeedback) -> None:
    """Make an environment.

    Raises:
        JobFailed: ``venv`` did not manage to.
        JobCanceled: The user did not want it any more, and the process is gone.
    """
    code, said = watch(base, ["venv", str(folder)], environment(), feedback, feedback.pushConsoleInfo)
    if code:
        raise JobFailed(f"no environment could be made in {folder} with {base}: {reason(said)}", 1)


def install(python: str, wanted: Sequence[str], feedback: QgsProcessingFeedback, hear: Callable[[str], None]) -> None:
    """Install with the pip of an environment; ``wanted`` are pip's arguments.

    Raises:
        JobFailed: pip did not manage to.
        JobCanceled: The user did not want it any more, and the process is gone.
    """
    variables = environment()
    for name, value in os.environ.items():
        if name.upper().startswith("PIP_") and name.upper() not in ELSEWHERE:
            variables.insert(name, value)
    # What pip unpacks is large, and has to go when the environment does.
    temporary = Path(python).parents[1] / "tmp"
    temporary.mkdir(exist_ok=True)
    for name in ("TMPDIR", "TEMP", "TMP"):
        variables.insert(name, str(temporary))
    plain = ["--disable-pip-version-check", "--no-input", "--no-color", "--progress-bar", "off"]
    code, said = watch(python, ["pip", "install", *plain, *wanted], variables, feedback, hear)
    shutil.rmtree(temporary, ignore_errors=True)
    if code:
        raise JobFailed(f"pip could not install the engine: {reason(said)}", 1)


def watch(
    program: str,
    module: Sequence[str],
    variables: QProcessEnvironment,
    feedback: QgsProcessingFeedback,
    hear: Callable[[str], None],
) -> tuple[int, list[str]]:
    """Run a module of a Python; its exit code and all lines that it said.

    Raises:
        JobFailed: It does not start.
        JobCanceled: ``feedback`` was cancelled, and the process is gone with all that it started.
    """
    process, said, rest = QProcess(), [], b""
    process.setProcessEnvironment(variables)
    process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
    process.setWorkingDirectory(str(Path.home()))
    process.start(program, ["-I", CHILD, *module])
    if not process.waitForStarted(START_MS):
        raise JobFailed(f"{program} does not start: {process.errorString()}", 1)
    alive, alone = True, QgsApplication.platform() == "qgis_process"
    while alive:
        if alone:
            # It hears of Ctrl-C by an event.
            QCoreApplication.processEvents()
        alive = process.state() != QProcess.ProcessState.NotRunning
        if feedback.isCanceled():
            _end(process)
            raise JobCanceled
        if alive:
            process.waitForReadyRead(STEP_MS)
        *lines, rest = (rest + bytes(process.readAll())).split(b"\n")
        for line in lines if alive else [*lines, rest]:
            text = line.decode("utf-8", "replace").strip()
            if text:
                said.append(text)
                hear(text)
    crashed = process.exitStatus() == QProcess.ExitStatus.CrashExit
    return (process.exitCode() or 1) if crashed else process.exitCode(), said


def reason(said: Sequence[str]) -> str:
    """What went wrong, in a sentence for people where it is known, else in the program's own words."""
    text = "\n".join(said)
    for pattern, sentence in REASONS:
        found = re.search(pattern, text)
        if found:
            return sentence.format(*found.groups())
    errors = [line for line in said if line.upper().startswith("ERROR")]
    return (errors or list(said) or ["it said nothing"])[-1][:500]


def _end(process: QProcess) -> None:
    """Close its stdin, at which it ends its group; insist where it does not."""
    process.closeWriteChannel()
    if not process.waitForFinished(1500):
        process.kill()
        process.waitForFinished(START_MS)


def _probe(program: str) -> tuple[str, str]:
    """Version and path of a Python, or what is wrong with it and ""."""
    process = QProcess()
    process.setProcessEnvironment(environment())
    process.start(program, ["-I", "-c", PROBE])
    if not process.waitForFinished(PATIENCE_MS):
        process.kill()
        process.waitForFinished(START_MS)
        return f"it does not run ({process.errorString()})", ""
    words = bytes(process.readAllStandardOutput()).decode("utf-8", "replace").strip().split(" ", 2)
    told = bytes(process.readAllStandardError()).decode("utf-8", "replace")
    if process.exitCode() or len(words) != 3:
        lacks = re.search(r"No module named '(\w+)'", told)
        if lacks:
            return f"it has no {lacks[1]} (on Debian and Ubuntu: install python3-venv)", ""
        return "it is no Python that works", ""
    version = (int(words[0]), int(words[1]))
    if version < OLDEST:
        return f"Python {words[0]}.{words[1]} is too old, {OLDEST[0]}.{OLDEST[1]} or later is needed", ""
    return f"Python {words[0]}.{words[1]}", words[2]
