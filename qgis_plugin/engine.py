"""Where is the engine, and in which environment does it run? Nothing is started here."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from qgis.core import QgsSettings
from qgis.PyQt.QtCore import QProcessEnvironment

from .managed import managed_python

SETTING = "rs_segment/engine_python"
VARIABLE = "RS_SEGMENT_PYTHON"
PAGE = "Settings > Options > RS Segment"
ADVICE = f"run “Set up the engine” of the RS Segment tools, or name its Python in {PAGE}"

# What QGIS, its launcher or an environment around it sets for Python, GDAL, PROJ and Qt would break another Python's.
FOREIGN_PREFIXES = ("PYTHON", "PIP_", "CONDA_", "QT_", "QGIS_", "DYLD_", "OSGEO4W_", "PYENV_", "_PYI_")
FOREIGN_NAMES = {
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "GDAL_DATA",
    "GDAL_DRIVER_PATH",
    "GDAL_PYTHON_DRIVER_PATH",
    "GDAL_PLUGIN_PATH",
    "PROJ_LIB",
    "PROJ_DATA",
    "GISBASE",
    "GRASS_PREFIX",
}
OWN = {
    "PYTHONUTF8": "1",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "1",
}


class EngineError(Exception):
    """The engine is not there or does not answer; the message is one sentence with what to do."""


@dataclass(frozen=True)
class Engine:
    """A program that understands the commands of rs-segment.

    Args:
        program: The path of a Python, or of ``rs-segment``.
        arguments: What stands before a command.
        source: Where it was found, for people.
        advice: What to do where it is not what it should be: what was found first has to go first.
    """

    program: str
    arguments: tuple[str, ...]
    source: str
    advice: str = ADVICE

    def __str__(self) -> str:
        return f"{self.program} ({self.source})"


def find() -> Engine:
    """The engine that is to be used: the first of the setting, the variable, the managed environment, the PATH.

    Raises:
        EngineError: There is none, or the setting or the variable names something that is not there.
    """
    for look in (_set, _named, _managed, _on_path):
        engine = look()
        if engine is not None:
            return engine
    raise EngineError(f"no engine was found (rs-segment, which computes outside of QGIS): {ADVICE}")


def environment() -> QProcessEnvironment:
    """The environment of this process without what belongs to QGIS's own Python, GDAL, PROJ and Qt."""
    scrubbed = QProcessEnvironment.systemEnvironment()
    names = scrubbed.keys()
    for name in names:
        upper = name.upper()
        if upper in FOREIGN_NAMES or upper.startswith(FOREIGN_PREFIXES):
            scrubbed.remove(name)
    root = os.environ.get("OSGEO4W_ROOT")
    if os.name == "nt" and root:
        places = scrubbed.value("PATH").split(os.pathsep)
        scrubbed.insert("PATH", os.pathsep.join(p for p in places if not _inside(p, root)))
    for name, value in OWN.items():
        scrubbed.insert(name, value)
    return scrubbed


def _inside(path: str, folder: str) -> bool:
    return os.path.normcase(os.path.abspath(path)).startswith(os.path.normcase(os.path.abspath(folder)))


def _set() -> Engine | None:
    return _python(str(QgsSettings().value(SETTING, "") or ""), "the setting", f"correct or empty it in {PAGE}")


def _named() -> Engine | None:
    advice = f"correct {VARIABLE} or unset it, or name another Python in {PAGE}"
    return _python(os.environ.get(VARIABLE, ""), f"the variable {VARIABLE}", advice)


def _managed() -> Engine | None:
    return _python(managed_python(), "the managed environment", "run “Set up the engine” again")


def _on_path() -> Engine | None:
    found = shutil.which("rs-segment")
    return Engine(found, (), "the PATH") if found else None


def _python(path: str, source: str, advice: str) -> Engine | None:
    """The engine of a Python, or of the environment in a folder; None where none is named."""
    if not path.strip():
        return None
    given = os.path.expanduser(path.strip())
    inside = [os.path.join(given, *parts) for parts in (("bin", "python"), ("Scripts", "python.exe"), ("python.exe",))]
    found = next((p for p in (given, *inside) if os.path.isfile(p)), None)
    if found is None:
        raise EngineError(f"{source} names {given} as the engine's Python, but no program is there: {advice}")
    if not os.access(found, os.X_OK):
        raise EngineError(f"{source} names {found} as the engine's Python, but that cannot be run: {advice}")
    if os.path.basename(found).lower().startswith("rs-segment"):
        return Engine(found, (), source, advice)
    return Engine(found, ("-m", "rs_segment_cli"), source, advice)
