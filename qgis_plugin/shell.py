"""What does a person see of the plugin besides the toolbox? A menu, the message bar, and a page of settings."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsRasterLayer
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QApplication, QMenu

from . import handshake
from .algorithm import ICONS
from .diagnostics import report
from .settings import TITLE, Pages


class Shell:
    """The plugin's parts of the windows of QGIS."""

    def __init__(self, iface: Any) -> None:
        self._iface = iface
        icon = QIcon(str(ICONS / "plugin.svg"))
        self._menu = QMenu(TITLE, iface.mainWindow())
        self._menu.setIcon(icon)
        self._predict = self._menu.addAction(QIcon(str(ICONS / "map.svg")), "Class map of this layer…")
        self._predict.triggered.connect(self.predict)
        self._menu.addAction(QIcon(str(ICONS / "engine.svg")), "Engine…").triggered.connect(self.settings)
        self._menu.addAction("Copy diagnostics").triggered.connect(self.diagnose)
        iface.rasterMenu().addMenu(self._menu)
        # The kind of a layer is called differently in QGIS 3 and 4; a layer tells it in both.
        iface.addCustomActionForLayerType(self._predict, "", QgsRasterLayer().type(), True)
        self._pages = Pages(TITLE, icon)
        iface.registerOptionsWidgetFactory(self._pages)
        if handshake.cached() is None:
            handshake.refresh()

    def remove(self) -> None:
        """Take everything out of the windows."""
        self._iface.unregisterOptionsWidgetFactory(self._pages)
        self._iface.removeCustomActionForLayerType(self._predict)
        self._iface.rasterMenu().removeAction(self._menu.menuAction())
        self._menu.deleteLater()

    def predict(self) -> None:
        """Open the dialog of ``rssegment:predict`` with the active layer, if that is a raster."""
        # Processing is a plugin itself, and may come later than this one.
        from processing import execAlgorithmDialog

        layer = self._iface.activeLayer()
        execAlgorithmDialog("rssegment:predict", {"INPUT": layer} if isinstance(layer, QgsRasterLayer) else {})

    def settings(self) -> None:
        """Open the page of settings."""
        self._iface.showOptionsDialog(self._iface.mainWindow(), TITLE)

    def diagnose(self) -> None:
        """Copy what a report of an error needs."""
        QApplication.clipboard().setText(report())
        self._iface.messageBar().pushInfo(TITLE, "The diagnostics are in the clipboard: paste them into your report.")

    def warn(self, sentence: str) -> None:
        """Say in the message bar what went wrong."""
        self._iface.messageBar().pushCritical(TITLE, sentence)
