"""Where is the environment that the plugin has made for the engine?

Two folders take turns, since an environment cannot be moved: a new one is made beside the old one, and a record says
which of them is whole. So a set-up that is interrupted, by whatever, changes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from qgis.core import QgsApplication

FOLDERS = ("venv", "venv2")
RECORD = "engine.json"


def home() -> Path:
    """The folder of the plugin in the user's profile."""
    return Path(QgsApplication.qgisSettingsDirPath()) / "rs_segment"


def interpreter(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def managed_python() -> str:
    """The Python of the environment that is whole, or ""."""
    name = _recorded()
    python = interpreter(home() / name)
    return str(python) if name and python.exists() else ""


def fresh() -> Path:
    """An empty place for the next environment, beside the one in use; what an interrupted set-up left there goes."""
    in_use = _recorded()
    folder = home() / next(name for name in FOLDERS if name != in_use)
    remove(folder)
    home().mkdir(parents=True, exist_ok=True)
    return folder


def use(folder: Path) -> None:
    """From now on this environment is the engine's; the one before goes."""
    partial = home() / f".{RECORD}.partial"
    partial.write_text(json.dumps({"environment": folder.name}), encoding="utf-8")
    os.replace(partial, home() / RECORD)
    for name in FOLDERS:
        if name != folder.name:
            remove(home() / name)


def remove(folder: Path) -> None:
    """Remove an environment; files that a running program holds stay until the next set-up."""
    shutil.rmtree(folder, ignore_errors=True)


def _recorded() -> str:
    try:
        name = json.loads((home() / RECORD).read_text(encoding="utf-8"))["environment"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return name if name in FOLDERS else ""
