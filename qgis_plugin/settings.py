"""What can be set? The Python of the engine, in the options of QGIS; beside it stands which engine is used now."""

from __future__ import annotations

from contextlib import suppress

from qgis.core import QgsSettings
from qgis.gui import QgsFileWidget, QgsOptionsPageWidget, QgsOptionsWidgetFactory
from qgis.PyQt.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from . import handshake
from .diagnostics import standing
from .engine import SETTING

TITLE = "RS Segment"
ORDER = (
    "The engine computes outside of QGIS, with a Python of its own. Empty: the one that the variable RS_SEGMENT_PYTHON "
    "names, else the environment that “Set up the engine” has made, else rs-segment on the PATH."
)


class Pages(QgsOptionsWidgetFactory):
    """Makes the page each time the options are opened."""

    def createWidget(self, parent: QWidget) -> QgsOptionsPageWidget:
        """The page."""
        return Page(parent)


class Page(QgsOptionsPageWidget):
    """The engine's Python, and what is known of the engine."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._python = QgsFileWidget(self)
        self._python.setDialogTitle("Python of the engine")
        self._python.setFilePath(str(QgsSettings().value(SETTING, "") or ""))
        self._standing = QLabel(standing(), self)
        order = QLabel(ORDER, self)
        for label in (self._standing, order):
            label.setWordWrap(True)
        form = QFormLayout()
        form.addRow("Python of the engine", self._python)
        form.addRow("In use", self._standing)
        buttons = QHBoxLayout()
        for text, does in (("Ask the engine", self.ask), ("Set up the engine…", self.set_up)):
            button = QPushButton(text, self)
            button.clicked.connect(does)
            buttons.addWidget(button)
        buttons.addStretch()
        layout = QVBoxLayout(self)
        layout.addWidget(order)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addStretch()

    def apply(self) -> None:
        """Keep what was chosen, and ask that engine what it has."""
        chosen = self._python.filePath().strip()
        settings = QgsSettings()
        if chosen == str(settings.value(SETTING, "") or ""):
            return
        if chosen:
            settings.setValue(SETTING, chosen)
        else:
            settings.remove(SETTING)
        handshake.refresh()

    def ask(self) -> None:
        """Keep what was chosen, ask the engine in the background, and say what it told."""
        self.apply()
        self._standing.setText("Asking; this takes some seconds.")
        handshake.refresh(self.told)

    def told(self) -> None:
        """Show what is known now."""
        # By now the page may be closed.
        with suppress(RuntimeError):
            self._standing.setText(standing())

    def set_up(self) -> None:
        """Open the dialog of ``rssegment:setupengine``."""
        from processing import execAlgorithmDialog

        execAlgorithmDialog("rssegment:setupengine", {})
