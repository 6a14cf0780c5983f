"""What does a report of an error need? Versions, the engine in use and what it told; nothing is started for it."""

from __future__ import annotations

import os
import platform
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

from qgis.core import Qgis, QgsSettings
from qgis.PyQt.QtCore import QT_VERSION_STR

from . import handshake
from .engine import SETTING, VARIABLE, EngineError, find
from .managed import managed_python


def report() -> str:
    """Everything, as a list in Markdown."""
    try:
        engine = str(find())
    except EngineError as error:
        engine = str(error)
    facts = {
        "RS Segment plug-in": version(),
        "QGIS": f"{Qgis.QGIS_VERSION}, Qt {QT_VERSION_STR}, Python {platform.python_version()} in {sys.prefix}",
        "System": platform.platform(),
        "Setting": str(QgsSettings().value(SETTING, "") or "none"),
        VARIABLE: os.environ.get(VARIABLE, "not set"),
        "Managed environment": managed_python() or "none",
        "Engine": engine,
        **_told(handshake.cached()),
    }
    return "\n".join(f"- {what}: {fact}" for what, fact in facts.items())


def standing() -> str:
    """Which engine is used and what it has, in a sentence or two."""
    try:
        engine = find()
    except EngineError as error:
        return str(error)
    told = _told(handshake.cached())
    return "\n".join([f"{engine}", *(f"{what}: {fact}" for what, fact in told.items())])


def version() -> str:
    """The plugin's own."""
    metadata = ConfigParser(interpolation=None)
    metadata.read(Path(__file__).with_name("metadata.txt"), encoding="utf-8")
    return metadata.get("general", "version", fallback="unknown")


def _told(hello: dict[str, Any] | None) -> dict[str, str]:
    """What an engine told of itself."""
    if hello is None:
        return {"Version": "it has not been asked yet"}
    problems = hello.get("problems") or []
    return {
        "Version": f"rs-segment {hello.get('version')}, Python {hello.get('python')}",
        "Devices": ", ".join(f"{d.get('id')} ({d.get('name')})" for d in hello.get("devices", [])) or "none",
        "Models": ", ".join(str(m.get("name")) for m in hello.get("models", [])) or "none",
        **({"Problems": "; ".join(map(str, problems))} if problems else {}),
    }
