"""``rssegment:polygonize``: polygons of a class raster, whoever made it."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterExtent,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterVectorDestination,
)

from .algorithm import Algorithm, text
from .host import Outcome
from .layers import Raster, Vector, place
from .parameters import add_area, add_class_raster, add_nodata, add_shaping, whole

FORMATS = (".gpkg", ".fgb", ".geojson", ".parquet", ".shp")


class Polygonize(Algorithm):
    """See the module."""

    NAME = "polygonize"
    TITLE = "Polygons of a class raster"
    TAGS = ("polygonize", "vectorize", "vectorise", "raster to vector", "simplify", "smooth", "sieve", "dissolve")
    SUMMARY = "Polygons of the classes in a raster, whoever made it: without gaps and overlaps, also when simplified."
    HELP = (
        "The raster is one band of whole numbers; names and colours come from its palette, its categories or its "
        "attribute table. Without any option polygons are exactly the patches of pixels that share sides."
    )

    def define(self) -> None:
        """Add the parameters and the outputs."""
        add_class_raster(self)
        self.add(
            text("CLASSES", "Classes"),
            "--classes",
            "Only these, by value or name, with commas: 1,3 or Water,Road. Empty: all.",
        )
        self.add(
            QgsProcessingParameterExtent("EXTENT", "Extent", None, True), "", "Only here. Empty: the whole raster."
        )
        add_area(self)
        self.add(
            QgsProcessingParameterRasterLayer("CONFIDENCE", "Confidence raster", None, True),
            "",
            "Probabilities as “Class map of a raster” writes them, for the mean in each polygon. Empty: none.",
        )
        self.add(
            QgsProcessingParameterRasterLayer("MASK", "Mask raster", None, True),
            "",
            "On the same grid: only where it is not 0. Empty: everywhere.",
            advanced=True,
        )
        add_nodata(self, "raster")
        add_shaping(self)
        self.add(
            whole("SPLIT", "Cut along a grid (pixels)", 1),
            "--split",
            "Polygons are cut where cells of so many pixels meet, so that none is huge. Empty: they are not cut.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean("DISSOLVE", "One multipolygon a class", False),
            "--dissolve",
            "All polygons of a class become one feature.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterVectorDestination("OUTPUT", "Polygons", QgsProcessing.SourceType.TypeVectorPolygon),
            "",
            "GeoPackage (with its style), FlatGeobuf, GeoJSON, GeoParquet or Shapefile.",
        )
        self.addOutput(QgsProcessingOutputNumber("COUNT", "Number of polygons"))
        self.addOutput(QgsProcessingOutputNumber("SECONDS", "Seconds"))

    def prepare_job(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        """Look at the layers."""
        self.rasters = {}
        for name in ("INPUT", "CONFIDENCE", "MASK"):
            if name == "INPUT" or parameters.get(name):
                self.rasters[name] = Raster.given(self, parameters, name, context)
        self.area = Vector.of(self, parameters, "AOI", context)

    def subject(self) -> str:
        """The raster's name."""
        return self.rasters["INPUT"].name

    def job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """``polygonize RASTER ...``."""
        paths = {name: raster.file() for name, raster in self.rasters.items()}
        self.wanted = self.file(parameters, "OUTPUT", context, FORMATS)
        return [
            "polygonize",
            paths["INPUT"],
            "-o",
            self.wanted,
            *place(self, parameters, context, feedback, self.rasters["INPUT"], self.area),
            *(["--confidence", paths["CONFIDENCE"]] if "CONFIDENCE" in paths else []),
            *(["--mask", paths["MASK"]] if "MASK" in paths else []),
            *self.options(parameters, context),
            "--overwrite",
        ]

    def promised(self, outcome: Outcome) -> list[str]:
        """The layer."""
        return [self.wanted]

    def outputs(
        self,
        outcome: Outcome,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """The layer, and some facts."""
        made = outcome.result
        return {
            "OUTPUT": self.load(self.wanted, "OUTPUT", context),
            "COUNT": made.get("polygons"),
            "SECONDS": made.get("seconds"),
        }
