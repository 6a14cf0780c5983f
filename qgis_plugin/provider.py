"""Which algorithms does QGIS get?"""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtGui import QIcon

from .algorithm import ICONS
from .classstats import ClassStats
from .doctor import Doctor
from .engine import EngineError, find
from .evaluate import Evaluate
from .modelinfo import ModelInfo
from .polygonize import Polygonize
from .predict import Predict
from .predictbatch import PredictBatch
from .setupengine import SetUpEngine
from .train import Train

ALGORITHMS = (Predict, PredictBatch, Polygonize, Evaluate, ClassStats, Train, ModelInfo, Doctor, SetUpEngine)


class RsSegmentProvider(QgsProcessingProvider):
    """All algorithms, whether there is an engine or not: those that cannot run say what to do."""

    failed = pyqtSignal(str)
    """The sentence of a run that failed, from whatever thread."""

    def loadAlgorithms(self) -> None:
        """Add one of each."""
        for kind in ALGORITHMS:
            self.addAlgorithm(kind())

    def id(self) -> str:
        """The identifier, which never changes."""
        return "rssegment"

    def name(self) -> str:
        """What the toolbox shows."""
        return "RS Segment"

    def longName(self) -> str:
        """What it is."""
        return "RS Segment: class maps of satellite and aerial images"

    def icon(self) -> QIcon:
        """The plug-in's icon."""
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        """The file of the icon."""
        return str(ICONS / "plugin.svg")

    def warningMessage(self) -> str:
        """What the toolbox warns of: that there is no engine."""
        try:
            find()
        except EngineError as error:
            return str(error)
        return ""

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        """The class rasters are GeoTIFFs."""
        return ["tif"]

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        """What the engine writes polygons as."""
        return ["gpkg", "fgb", "geojson", "parquet", "shp"]

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:
        """A GeoPackage holds the style."""
        return "gpkg"
