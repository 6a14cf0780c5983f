"""What does QGIS load? The plugin, by ``classFactory``."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """The plugin; ``iface`` is None where QGIS has no windows, as in ``qgis_process``."""
    from .plugin import Plugin

    return Plugin(iface)
