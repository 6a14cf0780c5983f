"""``rssegment:evaluate``: how good a class raster is, against a reference."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBand,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMatrix,
    QgsProcessingParameterRasterLayer,
)

from .algorithm import Algorithm, choice, text
from .host import Outcome
from .layers import Raster, Vector, place
from .parameters import add_area, add_nodata, number
from .trainingset import label

COLUMNS = ("value", "name", "reference_pixels", "predicted_pixels", "iou", "precision", "recall", "f1")
FIELDS = (
    "value:integer,class:string,reference_pixels:int8,predicted_pixels:int8,"
    "iou:double,precision:double,recall:double,f1:double"
)
POLYGONS = [QgsProcessing.SourceType.TypeVectorPolygon]


class Evaluate(Algorithm):
    """See the module."""

    NAME = "evaluate"
    TITLE = "Accuracy of a class raster"
    GROUP = "quality"
    ICON = "measure"
    TAGS = (
        "accuracy",
        "assessment",
        "confusion matrix",
        "iou",
        "f1",
        "kappa",
        "reference",
        "ground truth",
        "validation",
    )
    SUMMARY = "How well a class raster agrees with a reference: accuracy, IoU, precision, recall, F1, confusion matrix."
    HELP = (
        "The reference is a raster, on any grid and in any CRS, or polygons with a class field. Classes are matched as "
        "“Which class is which” says, else by name or colour, else by value. Scores are from 0 to 1."
    )

    def define(self) -> None:
        """Add the parameters and the outputs."""
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Class raster"), "", "What is to be judged.")
        self.add(
            QgsProcessingParameterRasterLayer("REFERENCE", "Reference raster", None, True),
            "",
            "Class values or colours. Empty: the polygons are the reference.",
        )
        self.add(
            QgsProcessingParameterFeatureSource("POLYGONS", "Reference polygons", POLYGONS, None, True),
            "",
            "Instead of a raster. Empty: the raster is the reference.",
        )
        self.add(
            QgsProcessingParameterField("FIELD", "Class field of the polygons", None, "POLYGONS", optional=True),
            "",
            "The attribute that tells a polygon's class. Empty: the one that is called class, or the like.",
        )
        self.add(
            QgsProcessingParameterMatrix(
                "MATCHES", "Which class is which", 1, False, ["In the reference", "In the class raster"], [], True
            ),
            "",
            "Values, names, or colours like #3C1098. Empty: by name, else by value.",
        )
        self.add(
            text("IGNORE", "Classes of the reference to leave out"),
            "--ignore",
            "By value or name, with commas. Empty: none.",
        )
        self.add(QgsProcessingParameterExtent("EXTENT", "Extent", None, True), "", "Only here. Empty: everywhere.")
        add_area(self)
        self._add_advanced()
        self.add(
            QgsProcessingParameterFeatureSink(
                "OUTPUT", "Scores by class", QgsProcessing.SourceType.TypeVector, None, True
            ),
            "",
            "Table with a row for each class: pixels, IoU, precision, recall and F1, from 0 to 1.",
        )
        self.add(
            QgsProcessingParameterFileDestination("HTML", "Report", "HTML files (*.html)", None, True),
            "",
            "A page with scores, confusion matrix and a map of errors.",
        )
        for name, what in (("ACCURACY", "Accuracy"), ("MEAN_IOU", "Mean IoU"), ("MEAN_F1", "Mean F1")):
            self.addOutput(QgsProcessingOutputNumber(name, what))
        self.addOutput(QgsProcessingOutputNumber("KAPPA", "Kappa"))
        self.addOutput(QgsProcessingOutputNumber("PIXELS", "Pixels that were compared"))

    def _add_advanced(self) -> None:
        """Add what is seldom needed."""
        self.add(
            text("OUTSIDE", "Class outside of all polygons"),
            "--outside",
            "By value or name. Empty: what lies there is left out.",
            advanced=True,
        )
        self.add(
            choice("GRID", "Whose pixels count", ["map", "reference"], "map"),
            "--grid",
            "map: those of the class raster; reference: those of the reference raster.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBand("BAND", "Band", None, "INPUT", True),
            "--band",
            "The band that holds the classes. Empty: the only one.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBand("REFERENCE_BAND", "Band of the reference", None, "REFERENCE", True),
            "--reference-band",
            "The band that holds the classes. Empty: the only one, or three as colours.",
            advanced=True,
        )
        add_nodata(self, "class raster")
        self.add(
            number("REFERENCE_NODATA", "No data value of the reference"),
            "--reference-nodata",
            "Value of missing pixels, where the reference does not say it. Empty: what the raster says.",
            advanced=True,
        )

    def check(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """There has to be one reference."""
        given = [name for name in ("REFERENCE", "POLYGONS") if parameters.get(name)]
        if len(given) != 1:
            return f"give a reference raster or reference polygons; there are {'both' if given else 'none'}"
        return ""

    def prepare_job(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        """Look at the layers."""
        self.raster = Raster.given(self, parameters, "INPUT", context)
        wanted = parameters.get("REFERENCE")
        self.reference = Raster.given(self, parameters, "REFERENCE", context) if wanted else None
        self.polygons = Vector.of(self, parameters, "POLYGONS", context)
        self.area = Vector.of(self, parameters, "AOI", context)

    def subject(self) -> str:
        """The raster's name."""
        return self.raster.name

    def job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """``evaluate MAP REFERENCE ...``."""
        polygons, field = self.polygons, self.parameterAsString(parameters, "FIELD", context)
        if polygons is None:
            reference = [self.reference.file()]
        else:
            reference = [
                polygons.path or polygons.export(context, feedback),
                *(["--layer", polygons.layer] if polygons.layer else []),
                *(["--field", field] if field else []),
            ]
        cells = [label(cell) for cell in self.parameterAsMatrix(parameters, "MATCHES", context)]
        matches = [f"{its}={mine}" for its, mine in zip(cells[::2], cells[1::2]) if its and mine]
        self.html = self.parameterAsFileOutput(parameters, "HTML", context) if parameters.get("HTML") else ""
        return [
            "evaluate",
            self.raster.file(),
            *reference,
            *(word for match in matches for word in ("--map", match)),
            *place(self, parameters, context, feedback, self.raster, self.area),
            *self.options(parameters, context),
            *(["--html", self.html, "--overwrite"] if self.html else []),
        ]

    def outputs(
        self,
        outcome: Outcome,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """The table, the page, and the scores of the whole."""
        made = outcome.result
        rows = [[one.get(column) for column in COLUMNS] for one in made["classes"]]
        return {
            "OUTPUT": self.table(parameters, "OUTPUT", FIELDS, rows, context),
            "HTML": self.html,
            "ACCURACY": made.get("accuracy"),
            "MEAN_IOU": made.get("mean_iou"),
            "MEAN_F1": made.get("mean_f1"),
            "KAPPA": made.get("kappa"),
            "PIXELS": made.get("pixels"),
        }
