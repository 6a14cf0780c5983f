"""``rssegment:classstats``: how much of each class lies in each zone."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
)

from .algorithm import Algorithm
from .host import Outcome
from .layers import Raster, Vector
from .parameters import add_class_raster, add_nodata

COLUMNS = ("zone", "class_id", "class", "pixels", "area_m2", "share", "nodata_pixels")
FIELDS = "zone:string,class_id:integer,class:string,pixels:int8,area_m2:double,share:double,nodata_pixels:int8"


class ClassStats(Algorithm):
    """See the module."""

    NAME = "classstats"
    TITLE = "Class areas in zones"
    GROUP = "quality"
    ICON = "measure"
    TAGS = ("zonal statistics", "area", "share", "histogram", "tabulate", "zones", "districts", "parcels", "count")
    SUMMARY = "Pixels, area and share of each class in each zone."
    HELP = (
        "A pixel is in a zone when its centre is; zones may overlap, each is counted by itself. Areas are in square "
        "metres on the ground, also where the raster's coordinates are degrees. Shares (0 to 1) are of the zone's "
        "pixels that have a class."
    )

    def define(self) -> None:
        """Add the parameters and the outputs."""
        add_class_raster(self)
        self.add(
            QgsProcessingParameterFeatureSource("ZONES", "Zones", [QgsProcessing.SourceType.TypeVectorPolygon]),
            "",
            "Polygons, in any CRS.",
        )
        self.add(
            QgsProcessingParameterField("FIELD", "Names of the zones", None, "ZONES", optional=True),
            "",
            "The attribute that names a zone; polygons of one name are one zone. Empty: each by its number, from 1.",
        )
        add_nodata(self, "raster")
        self.add(
            QgsProcessingParameterFeatureSink("OUTPUT", "Class areas", QgsProcessing.SourceType.TypeVector),
            "",
            "Table with a row for each zone and class: pixels, area in square metres, share (0 to 1), and the zone's "
            "pixels without data.",
        )
        self.addOutput(QgsProcessingOutputNumber("ZONE_COUNT", "Number of zones"))
        self.addOutput(QgsProcessingOutputNumber("CLASS_COUNT", "Number of classes"))
        self.addOutput(QgsProcessingOutputNumber("SECONDS", "Seconds"))

    def prepare_job(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        """Look at the layers."""
        self.raster = Raster.given(self, parameters, "INPUT", context)
        self.zones = Vector.of(self, parameters, "ZONES", context)
        if self.zones is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, "ZONES"))

    def subject(self) -> str:
        """The raster's name."""
        return self.raster.name

    def job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """``zonal CLASSES ZONES ...``."""
        zones = self.zones
        field = self.parameterAsString(parameters, "FIELD", context)
        return [
            "zonal",
            self.raster.file(),
            zones.path or zones.export(context, feedback),
            *(["--layer", zones.layer] if zones.layer else []),
            *(["--field", field] if field else []),
            *self.options(parameters, context),
        ]

    def outputs(
        self,
        outcome: Outcome,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """The table, and some facts."""
        made = outcome.result
        rows = [[row[column] for column in COLUMNS] for row in made["rows"]]
        return {
            "OUTPUT": self.table(parameters, "OUTPUT", FIELDS, rows, context),
            "ZONE_COUNT": len({row["zone"] for row in made["rows"]}),
            "CLASS_COUNT": len(made["classes"]),
            "SECONDS": made.get("seconds"),
        }
