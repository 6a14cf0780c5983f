"""``rssegment:predictbatch``: class maps of many rasters, with one model that is loaded once."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputFile,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMultipleLayers,
)

from .algorithm import Algorithm, choice, text
from .host import JobFailed, Outcome
from .layers import Raster, Vector
from .parameters import add_area, add_computing, add_device, add_model, add_reading, add_shaping, model

SUMMARY = "summary.csv"


class PredictBatch(Algorithm):
    """See the module."""

    NAME = "predictbatch"
    TITLE = "Class maps of many rasters"
    CANCELED = "canceled; the scenes that are done stay, and running it again goes on"
    TAGS = ("predict", "batch", "folder", "archive", "resume", "many", "inference", "u-net")
    SUMMARY = "Class maps of many raster layers, or of all images in a folder, into one folder."
    HELP = (
        "The model is loaded once. Run it again to go on: what is done and unchanged is passed over. The folder also "
        "gets summary.csv, footprints.gpkg, classes.vrt (all maps as one layer) and index.html. Where a scene fails "
        "the run fails too, after the others, and the table says why; what was done stays."
    )

    def define(self) -> None:
        """Add the parameters and the outputs."""
        self.add(
            QgsProcessingParameterMultipleLayers(
                "LAYERS", "Raster layers", QgsProcessing.SourceType.TypeRaster, None, True
            ),
            "",
            "Layers that are files. Empty: those of the folder.",
        )
        self.add(
            QgsProcessingParameterFile(
                "FOLDER", "Folder of images", QgsProcessingParameterFile.Behavior.Folder, "", None, True
            ),
            "",
            "Its images are taken as well.",
        )
        self.add(
            text("PATTERN", "Which files of the folder"),
            "--pattern",
            "*.tif, or **/*.jp2 for those in folders below as well. Empty: all images in the folder itself.",
        )
        add_model(self)
        self.add(
            text("BANDS", "Bands"),
            "--bidx",
            "One for each band of the model, by number or name: 1,2,3 or red,green,blue. Empty: by name.",
        )
        add_area(self)
        add_device(self)
        self.add(
            choice("EXISTING", "Results that are there", ["skip", "overwrite", "fail"], "skip"),
            "",
            "skip: what an earlier run with the same parameters did is passed over; overwrite: all is done again; "
            "fail: a folder that holds results is refused.",
        )
        self.add(
            choice("ON_ERROR", "When a scene fails", ["go on", "stop"], "go on"),
            "",
            "go on: the others are done; stop: at the first.",
        )
        self.add(QgsProcessingParameterBoolean("POLYGONS", "Polygons", False), "", "Also a GeoPackage for each scene.")
        self.add(
            QgsProcessingParameterBoolean("CONFIDENCE", "Confidence", False),
            "--confidence",
            "Also the probability of each pixel's class, for each scene.",
        )
        add_computing(self)
        add_reading(self)
        add_shaping(self)
        self.add(
            QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the results"), "", "Made if it is missing."
        )
        self.addOutput(QgsProcessingOutputFile("SUMMARY", "Table of all scenes (CSV)"))
        self.addOutput(QgsProcessingOutputMultipleLayers("CLASSES", "Class rasters"))
        self.addOutput(QgsProcessingOutputNumber("DONE", "Scenes that were done"))
        self.addOutput(QgsProcessingOutputNumber("SKIPPED", "Scenes that were done before"))

    def check(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """There has to be something to do."""
        if not parameters.get("LAYERS") and not self.parameterAsString(parameters, "FOLDER", context):
            return "there is nothing to do: choose raster layers, or a folder of images"
        return ""

    def prepare_job(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        """Look at the layers."""
        self.scenes = [Raster.of(layer).file() for layer in self.parameterAsLayerList(parameters, "LAYERS", context)]
        folder = self.parameterAsString(parameters, "FOLDER", context)
        if folder:
            self.scenes.append(os.path.abspath(folder))
        self.area = Vector.of(self, parameters, "AOI", context)

    def job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """``batch SCENE... -o FOLDER``."""
        self.folder = Path(os.path.abspath(self.parameterAsString(parameters, "OUTPUT", context)))
        existing = self.parameterAsEnumString(parameters, "EXISTING", context)
        if existing == "fail" and ((self.folder / SUMMARY).exists() or any(self.folder.glob("*_classes.tif"))):
            raise QgsProcessingException(
                f"{self.folder} holds results already: choose another folder, or let them be skipped or overwritten"
            )
        stop = self.parameterAsEnumString(parameters, "ON_ERROR", context) == "stop"
        return [
            "batch",
            *self.scenes,
            "-o",
            str(self.folder),
            "--model",
            model(self, parameters, context),
            *(["--aoi", self.area.alone(context, feedback)] if self.area else []),
            *self.options(parameters, context),
            *([] if self.parameterAsBool(parameters, "POLYGONS", context) else ["--no-polygons"]),
            *(["--fail-fast"] if stop else []),
            *(["--overwrite"] if existing == "overwrite" else []),
        ]

    def outputs(
        self,
        outcome: Outcome,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """The folder, the table, the class rasters; a failure where a scene failed."""
        made = outcome.result
        failed = made.get("failed") or []
        if failed:
            first = failed[0]
            raise JobFailed(
                f"{len(failed)} of {len(failed) + made.get('done', 0) + len(made.get('left', []))} scenes failed, the "
                f"first is {first['id']}: {first['message']}; {self.folder / SUMMARY} tells of all",
                3,
            )
        return {
            "OUTPUT": str(self.folder),
            "SUMMARY": str(self.folder / SUMMARY),
            "CLASSES": self._rasters(),
            "DONE": made.get("done", 0) - made.get("done_before", 0),
            "SKIPPED": made.get("done_before"),
        }

    def _rasters(self) -> list[str]:
        """The class rasters that the table names."""
        with open(self.folder / SUMMARY, encoding="utf-8-sig", newline="") as file:
            named = [row["raster"] for row in csv.DictReader(file) if row["raster"]]
        return [str(self.folder / name) for name in named]
