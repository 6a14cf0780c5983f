"""What is the plugin? A Processing provider; and where QGIS has windows, a menu and a page of settings."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication

from .provider import RsSegmentProvider


class Plugin:
    """What QGIS loads and unloads; ``iface`` is None where there are no windows."""

    def __init__(self, iface: Any) -> None:
        self._iface = iface
        self._provider: RsSegmentProvider | None = None
        self._shell: Any = None

    def initProcessing(self) -> None:
        """Add the provider; this is all that ``qgis_process`` calls."""
        if self._provider is None:
            self._provider = RsSegmentProvider()
            QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Add the provider, the menu, and the page of settings."""
        from .shell import Shell

        self.initProcessing()
        self._shell = Shell(self._iface)
        self._provider.failed.connect(self._shell.warn)

    def unload(self) -> None:
        """Take everything away again."""
        if self._shell is not None:
            self._shell.remove()
            self._shell = None
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
