"""``rssegment:predict``: a class map and polygons of a raster layer."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterBand,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterVectorDestination,
)

from .algorithm import Algorithm
from .host import Outcome
from .layers import Raster, Vector, asked, place
from .parameters import add_area, add_computing, add_device, add_model, add_reading, add_shaping, model, number

RASTERS = (".tif", ".tiff")
FIELDS = "value:integer,class:string,pixels:int8,area_m2:double,share:double"


class Predict(Algorithm):
    """See the module."""

    NAME = "predict"
    TITLE = "Class map of a raster"
    TAGS = ("predict", "classify", "inference", "u-net", "neural network", "buildings", "roads", "vegetation", "water")
    SUMMARY = "A class map of a raster layer by a trained model, on the layer's own grid, with polygons and areas."
    HELP = (
        "What has no data stays without data. Layers arrive with the model's classes as their legend, and the files "
        "keep that style. The engine runs outside of QGIS: the log shows device, tiles, time left, and the same as a "
        "command line."
    )

    def define(self) -> None:
        """Add the parameters and the outputs."""
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", "Raster layer"),
            "",
            "The image. A layer that is no file (WMS, XYZ) needs an extent.",
        )
        add_model(self)
        self.add(
            QgsProcessingParameterBand("BANDS", "Bands", None, "INPUT", True, True),
            "--bidx",
            "One for each band of the model, in the model's order. Empty: by the bands' names, or as they come.",
        )
        self.add(
            QgsProcessingParameterExtent("EXTENT", "Extent", None, True),
            "",
            "Only here; all else has no data in the result. Empty: the whole layer.",
        )
        add_area(self)
        add_device(self)
        add_computing(self)
        add_reading(self)
        self.add(
            number("PIXEL_SIZE", "Pixel size of layers that are no files", 0.0),
            "",
            "In units of the layer's CRS, for WMS and XYZ. Empty: that of the layer, if it has one.",
            advanced=True,
        )
        add_shaping(self)
        self.add(
            QgsProcessingParameterRasterDestination("OUTPUT", "Classes"),
            "",
            "GeoTIFF of class values, one byte a pixel; 255 is no data, 254 unclassified.",
        )
        self.add(
            QgsProcessingParameterRasterDestination("CONFIDENCE", "Confidence", None, True, False),
            "",
            "GeoTIFF of the probability of each pixel's class, 0 to 254 in steps of 1/254; 255 is no data.",
        )
        self.add(
            QgsProcessingParameterVectorDestination(
                "POLYGONS", "Polygons", QgsProcessing.SourceType.TypeVectorPolygon, None, True, False
            ),
            "",
            "GeoPackage with class, area in square metres and mean confidence of each polygon.",
        )
        self.add(
            QgsProcessingParameterFeatureSink(
                "AREAS", "Class areas", QgsProcessing.SourceType.TypeVector, None, True, False
            ),
            "",
            "Table with pixels, area in square metres and share (0 to 1) of each class.",
        )
        self.addOutput(QgsProcessingOutputNumber("NODATA_PIXELS", "Pixels without data"))
        self.addOutput(QgsProcessingOutputNumber("SECONDS", "Seconds"))
        self.addOutput(QgsProcessingOutputString("DEVICE_USED", "Device that computed"))

    def prepare_job(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        """Look at the layers."""
        self.raster = Raster.given(self, parameters, "INPUT", context)
        self.area = Vector.of(self, parameters, "AOI", context)

    def subject(self) -> str:
        """The layer's name."""
        return self.raster.name

    def job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """``predict SCENE ...``."""
        raster, scene = self.raster, self.raster.path
        if not scene:
            side = self.parameterAsDouble(parameters, "PIXEL_SIZE", context) if parameters.get("PIXEL_SIZE") else None
            scene = raster.export(asked(self, parameters, context, raster), side, context, feedback)
        self.wanted = {
            "OUTPUT": self.file(parameters, "OUTPUT", context, RASTERS),
            "CONFIDENCE": self.file(parameters, "CONFIDENCE", context, RASTERS),
            "POLYGONS": self.file(parameters, "POLYGONS", context, (".gpkg",)),
        }
        confidence, polygons = self.wanted["CONFIDENCE"], self.wanted["POLYGONS"]
        return [
            "predict",
            scene,
            "-o",
            self.wanted["OUTPUT"],
            "--model",
            model(self, parameters, context),
            *place(self, parameters, context, feedback, raster, self.area),
            *self.options(parameters, context),
            *(["--confidence-file", confidence] if confidence else []),
            *(["--polygons-file", polygons] if polygons else ["--no-polygons"]),
            "--overwrite",
        ]

    def promised(self, outcome: Outcome) -> list[str]:
        """What was asked for."""
        return [path for path in self.wanted.values() if path]

    def outputs(
        self,
        outcome: Outcome,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Layers, the table, and some facts."""
        made = outcome.result
        rows = [[a["value"], a["name"], a["pixels"], a["area_m2"], a["share"]] for a in made.get("areas", [])]
        return {
            **{name: self.load(path, name, context) for name, path in self.wanted.items() if path},
            "AREAS": self.table(parameters, "AREAS", FIELDS, rows, context),
            "NODATA_PIXELS": made.get("nodata_pixels"),
            "SECONDS": made.get("seconds"),
            "DEVICE_USED": made.get("device"),
        }
