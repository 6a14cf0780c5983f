"""``rssegment:train``: a model from raster layers and polygons that tell what is where."""

from __future__ import annotations

import os
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingUtils,
)

from .algorithm import Algorithm, choice, text
from .host import Outcome
from .layers import Raster, Vector
from .parameters import add_device, number, whole
from .trainingset import TrainingSet, colors, label, named_apart

NETWORKS = (
    *("default", "unet", "unet-resnet50", "unet-vgg19", "unet-inceptionv3", "segnet", "fcn"),
    *("unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3plus", "upernet", "segformer"),
)
LOSSES = ("cross-entropy+dice", "cross-entropy", "focal", "focal+dice", "dice", "lovasz")
POLYGONS = [QgsProcessing.SourceType.TypeVectorPolygon]
MOST_CLASSES = 254
BACKGROUND = "background"


class Train(Algorithm):
    """See the module."""

    NAME = "train"
    TITLE = "Train a model"
    GROUP = "models"
    ICON = "train"
    TAGS = ("train", "learn", "fine-tune", "samples", "labels", "u-net", "neural network", "machine learning")
    SUMMARY = "Makes a model from raster layers and a layer of polygons that tell what is where."
    HELP = (
        "Each text or number in the class field becomes a class, with its colour if the layer is drawn by that field. "
        "Pixels outside of all polygons teach nothing, unless “Class outside of all polygons” says what is there. A "
        "part of the image is held out to find out how good the model is: the report tells. A training that is "
        "cancelled is kept: run it again with the same parameters and “Go on with an interrupted training”."
    )
    CANCELED = "canceled; what was trained is kept: run it again with “Go on with an interrupted training”"

    def define(self) -> None:
        """Add the parameters and the outputs."""
        self.add(
            QgsProcessingParameterMultipleLayers("INPUT", "Raster layers", QgsProcessing.SourceType.TypeRaster),
            "",
            "Images that are files, with the same bands and of the same pixel type.",
        )
        self.add(QgsProcessingParameterFeatureSource("LABELS", "Polygons", POLYGONS), "", "What is where, in any CRS.")
        self.add(
            QgsProcessingParameterField("FIELD", "Class field", None, "LABELS", optional=True),
            "",
            "The attribute that tells a polygon's class. Empty: all polygons are of one class, and outside is another.",
        )
        self.add(
            text("OUTSIDE", "Class outside of all polygons"),
            "",
            "Its name, where everything of the other classes is drawn in. Empty: what lies outside teaches nothing "
            f"(without a class field: it is “{BACKGROUND}”).",
        )
        self.add(
            choice("NETWORK", "Network", list(NETWORKS), "default"),
            "--arch",
            "default: a small and fast U-Net with a MobileNetV2 encoder; the others are larger and slower.",
        )
        self.add(
            number("MINUTES", "Training time (minutes)", 0.1),
            "",
            "Measuring the model comes on top. Empty: by epochs.",
        )
        self.add(whole("EPOCHS", "Epochs", 1), "--epochs", "Empty, and no time either: 60.")
        add_device(self)
        self._add_advanced()
        self.add(
            QgsProcessingParameterBoolean("RESUME", "Go on with an interrupted training", False),
            "--resume",
            "Of the same model folder, with the same parameters.",
        )
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", "Model folder"), "", "Made anew.")
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))
        for name, what in (("ACCURACY", "Accuracy"), ("MEAN_IOU", "Mean IoU"), ("EPOCHS_DONE", "Epochs")):
            self.addOutput(QgsProcessingOutputNumber(name, what))

    def _add_advanced(self) -> None:
        """Add what is seldom needed."""
        for parameter, option, help in (
            (text("CLASSES", "Classes"), "", "Only these, in this order, with commas. Empty: all in the class field."),
            (
                QgsProcessingParameterFeatureSource("AREA", "Area that was looked at", POLYGONS, None, True),
                "",
                "Polygons outside of which nothing is learnt. Empty: everywhere.",
            ),
            (
                text("BANDS", "Bands"),
                "",
                "By number or name, with commas, in the order of the model: 4,3,2. Empty: all but alpha.",
            ),
            (
                number("RESOLUTION", "Size of pixels on the ground (metres)", 0.0),
                "",
                "For rasters that do not say it. Empty: what they say.",
            ),
            (
                text("SPLIT", "What is held out"),
                "--split",
                "blocks:0.2, squares of each raster; random:0.1, whole rasters; group:NAME, rasters by layer name. "
                "Empty: a tenth of three or more rasters, else a tenth of the area in blocks.",
            ),
            (
                whole("BLOCK", "Side of the blocks that are held out (pixels)", 1),
                "",
                "For small rasters; not used with “What is held out”. Empty: 128 to 1024, by the size of the rasters.",
            ),
            (
                whole("BUFFER", "Buffer around the blocks (pixels)", 0),
                "",
                "Neither trained on nor held out, so that the score does not flatter. Empty: 64.",
            ),
            (
                QgsProcessingParameterBoolean("BALANCED", "Rare classes weigh more", False),
                "",
                "Finds more of them, at the price of the others.",
            ),
            (text("ENCODER", "Encoder"), "--encoder", "resnet34, efficientnet-b3, ... Empty: the network's own."),
            (
                text("ENCODER_WEIGHTS", "Weights that the encoder begins with"),
                "--encoder-weights",
                "imagenet (the engine fetches them from the network), or a safetensors file. Empty: none.",
            ),
            (
                text("FINE_TUNE", "Model to go on from"),
                "--fine-tune",
                "A name (dubai-landcover) or a folder, whose network and weights it begins with. Empty: none.",
            ),
            (choice("LOSS", "Loss", list(LOSSES), LOSSES[0]), "--loss", "What training makes small."),
            (whole("BATCH", "Batch (windows)", 1), "--batch", "Windows a step; fewer need less memory. Empty: 8."),
            (whole("SIZE", "Side of the windows (pixels)", 8), "--size", "Empty: 256."),
            (number("RATE", "Highest learning rate", 0.0), "--lr", "Empty: 0.002."),
            (
                whole("PATIENCE", "Patience (epochs)", 0),
                "--patience",
                "Stop after so many epochs without a better one. Empty: the recipe's.",
            ),
            (whole("SEED", "Seed", 0), "--seed", "Of everything that is drawn by chance. Empty: 0."),
            (
                QgsProcessingParameterBoolean("FINISH", "Train no further", False),
                "--finish",
                "Make the model of the best epoch of an interrupted training.",
            ),
            (
                QgsProcessingParameterBoolean("OVERWRITE", "Replace a model that is there", False),
                "--overwrite",
                "Otherwise a folder with a model, or an interrupted training of it, is refused.",
            ),
        ):
            self.add(parameter, option, help, advanced=True)

    def check(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Time or epochs, not both."""
        if parameters.get("MINUTES") and parameters.get("EPOCHS"):
            return "time and epochs both say when training ends; choose one"
        return ""

    def prepare_job(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        """Look at the layers."""
        layers = self.parameterAsLayerList(parameters, "INPUT", context)
        if not layers:
            raise QgsProcessingException("there is nothing to learn from: choose one raster layer or several")
        rasters = [Raster.of(layer) for layer in layers]
        self.images = list(zip(named_apart([r.name for r in rasters]), [r.file() for r in rasters]))
        self.labels = Vector.of(self, parameters, "LABELS", context)
        if self.labels is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, "LABELS"))
        self.area = Vector.of(self, parameters, "AREA", context)
        self.field = self.parameterAsString(parameters, "FIELD", context)
        self.colors = colors(self.parameterAsVectorLayer(parameters, "LABELS", context), self.field)

    def job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """``train DATA -o MODEL ...``."""
        labels, area = self.labels, self.area
        classes, outside = self.classes(parameters, context)
        feedback.pushInfo(f"Classes: {', '.join(classes)}")
        bands = self.parameterAsString(parameters, "BANDS", context)
        resolution = self.parameterAsDouble(parameters, "RESOLUTION", context) if parameters.get("RESOLUTION") else None
        described = TrainingSet(
            labels.source.sourceName() or "polygons",
            self.images,
            labels.path or labels.export(context, feedback),
            labels.layer,
            self.field,
            classes,
            self.colors,
            outside,
            area.alone(context, feedback) if area else "",
            [band.strip() for band in bands.split(",") if band.strip()],
            resolution,
            self.parameterAsBool(parameters, "BALANCED", context),
            *(
                self.parameterAsInt(parameters, name, context) if parameters.get(name) not in (None, "") else None
                for name in ("BLOCK", "BUFFER")
            ),
        )
        toml = QgsProcessingUtils.generateTempFilename("dataset.toml")
        try:
            with open(toml, "w", encoding="utf-8") as file:
                file.write(described.toml())
        except OSError as error:
            raise QgsProcessingException(f"{toml} cannot be written: {error.strerror}") from None
        minutes = self.parameterAsDouble(parameters, "MINUTES", context) if parameters.get("MINUTES") else 0
        self.folder = os.path.abspath(self.parameterAsString(parameters, "OUTPUT", context))
        return [
            "train",
            toml,
            "-o",
            self.folder,
            *(["--time", f"{60 * minutes:.15g}s"] if minutes else []),
            *self.options(parameters, context),
        ]

    def classes(self, parameters: dict[str, Any], context: QgsProcessingContext) -> tuple[list[str], str]:
        """The classes in the order of their values, and the one outside of all polygons or "".

        Raises:
            QgsProcessingException: The class field is empty everywhere, or holds too many classes.
        """
        outside = self.parameterAsString(parameters, "OUTSIDE", context).strip()
        chosen = [c.strip() for c in self.parameterAsString(parameters, "CLASSES", context).split(",") if c.strip()]
        source = self.labels.source
        if not self.field:
            found, outside = [chosen[0] if chosen else source.sourceName() or "object"], outside or BACKGROUND
        else:
            place = source.fields().lookupField(self.field)
            values = {label(value) for value in source.uniqueValues(place)} - {""}
            found = chosen or sorted(values, key=lambda v: (0, int(v), v) if v.isdigit() else (1, 0, v))
        if not found:
            raise QgsProcessingException(f"no polygon has anything in {self.field}; choose the field with the classes")
        if outside and outside not in found:
            found.append(outside)
        if len(found) > MOST_CLASSES:
            raise QgsProcessingException(
                f"{self.field} holds {len(found)} different values; at most {MOST_CLASSES} classes are possible: "
                "choose the field with the classes, or name some in “Classes”"
            )
        return found, outside

    def promised(self, outcome: Outcome) -> list[str]:
        """The model's card and the report."""
        return [os.path.join(self.folder, name) for name in ("model.json", "model.safetensors", "report.html")]

    def outputs(
        self,
        outcome: Outcome,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """The folder, the report, and how good the model is on what was held out."""
        made = outcome.result
        scores = made.get("scores") or {}
        held_out = scores.get("test") or scores.get("validation") or {}
        return {
            "OUTPUT": self.folder,
            "REPORT": os.path.join(self.folder, "report.html"),
            "ACCURACY": held_out.get("accuracy"),
            "MEAN_IOU": held_out.get("mean_iou"),
            "EPOCHS_DONE": made.get("epochs"),
        }
