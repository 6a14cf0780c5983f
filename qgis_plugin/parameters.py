"""Which parameters do several algorithms share? Those of models, of computing, of rasters, and of drawing polygons."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingParameterBand,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
)

from . import handshake
from .algorithm import Algorithm, choice, text


def add_model(algorithm: Algorithm, parent: str = "") -> None:
    """The model, and the folder of one that the engine does not know by name."""
    algorithm.add(
        text("MODEL", "Model", handshake.DEFAULT_MODEL, False, handshake.models()),
        "",
        "One that the engine has; “Model folder” takes any other. “Model card” tells what a model reads.",
    )
    algorithm.add(
        QgsProcessingParameterFile(
            "MODEL_FOLDER", "Model folder", QgsProcessingParameterFile.Behavior.Folder, "", None, True
        ),
        "",
        "A folder with model.json and model.safetensors, as training writes it; used instead of “Model”.",
        advanced=True,
    )


def model(algorithm: Algorithm, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
    """Name or folder of the model that is to be used."""
    folder = algorithm.parameterAsString(parameters, "MODEL_FOLDER", context)
    return folder or algorithm.parameterAsString(parameters, "MODEL", context).strip() or handshake.DEFAULT_MODEL


def add_device(algorithm: Algorithm) -> None:
    """What computes."""
    algorithm.add(
        text("DEVICE", "Device", "auto", False, handshake.devices()),
        "--device",
        "What computes: auto (the fastest there is), cpu, cuda, cuda:1, mps.",
    )


def add_computing(algorithm: Algorithm) -> None:
    """How a model is run over a scene."""
    algorithm.add(
        choice("MODE", "How tiles are joined", ["auto", "exact", "blend"], "auto"),
        "--mode",
        "exact: each pixel from the one tile that has enough around it; blend: overlapping tiles are averaged; "
        "auto: what the model was made for.",
        advanced=True,
    )
    algorithm.add(
        whole("TILE", "Side of a tile (pixels)", 1),
        "--tile",
        "Larger tiles are faster and take more memory. Empty: by overlap and model.",
        advanced=True,
    )
    algorithm.add(
        whole("OVERLAP", "Overlap of tiles (pixels)", 0),
        "--overlap",
        "Pixels that neighbouring tiles share. Empty: what the model needs.",
        advanced=True,
    )
    algorithm.add(
        choice("TTA", "Average over turned tiles", ["none", "flips", "d4"], "none"),
        "--tta",
        "flips: 4 times the work; d4, flips and quarter turns: 8 times the work. Often a little more accurate.",
        advanced=True,
    )
    algorithm.add(
        whole("BATCH", "Batch (tiles)", 1),
        "--batch",
        "Tiles that are computed at once; halved when memory runs out. Empty: by device.",
        advanced=True,
    )
    algorithm.add(
        choice("PRECISION", "Precision", ["auto", "fp32", "bf16", "fp16"], "auto"),
        "--precision",
        "Numbers to compute with; auto: what is fast on the device and gives the same classes.",
        advanced=True,
    )
    algorithm.add(
        number("MIN_CONFIDENCE", "Least confidence (0 to 1)", 0.0, 1.0),
        "--min-confidence",
        "Pixels whose class is less probable become “unclassified” (254). Empty or 0: none.",
        advanced=True,
    )


def add_reading(algorithm: Algorithm) -> None:
    """How pixel values and sizes are taken, where a scene does not say it."""
    algorithm.add(
        text("RESCALE", "Values to be mapped onto the model's range"),
        "--rescale",
        "Low and high, as 0,3000: needed for scenes of another pixel type than the model's, such as 16 bits. "
        "Empty: values are taken as they are.",
        advanced=True,
    )
    add_nodata(algorithm, "scene")
    algorithm.add(
        number("RESOLUTION", "Size of pixels on the ground (metres)", 0.0),
        "--resolution",
        "Where the scene does not say it or says it wrongly. Empty: what the scene says.",
        advanced=True,
    )


def add_nodata(algorithm: Algorithm, what: str) -> None:
    """Which pixels are missing."""
    algorithm.add(
        number("NODATA", "No data value"),
        "--nodata",
        f"Value of missing pixels, where the {what} does not say it. Empty: what the {what} says.",
        advanced=True,
    )


def add_class_raster(algorithm: Algorithm) -> None:
    """A class raster that somebody has made."""
    algorithm.add(QgsProcessingParameterRasterLayer("INPUT", "Class raster"), "", "One band of whole numbers.")
    algorithm.add(
        QgsProcessingParameterBand("BAND", "Band", None, "INPUT", True),
        "--band",
        "The band that holds the classes. Empty: the only one.",
    )


def add_area(algorithm: Algorithm) -> None:
    """Polygons that say which pixels count."""
    algorithm.add(
        QgsProcessingParameterFeatureSource(
            "AOI", "Area of interest", [QgsProcessing.SourceType.TypeVectorPolygon], None, True
        ),
        "",
        "Polygons: only the pixels with their centre in one of them. Empty: all pixels.",
    )


def add_shaping(algorithm: Algorithm) -> None:
    """How polygons are drawn."""
    algorithm.add(
        text("MIN_AREA", "Least area of polygons"),
        "--min-area",
        "Smaller ones are small: 50 (square metres), 0.5ha or 100px. Empty: none is small.",
        advanced=True,
    )
    algorithm.add(
        choice("SMALL", "What becomes of small polygons", ["merge", "drop", "keep"], "merge"),
        "--small",
        "merge: they go to the neighbour with the longest shared border; drop: they leave holes; keep: only counted.",
        advanced=True,
    )
    algorithm.add(
        text("SIMPLIFY", "Simplify by"),
        "--simplify",
        "Fewer corners, at most so far off; shared borders stay shared: 2px, 3m, or 1.5 in units of the CRS. "
        "Empty: borders of pixels.",
        advanced=True,
    )
    algorithm.add(
        text("SMOOTH", "Smooth by"),
        "--smooth",
        "Corners are cut, at most so far: 1px, 2m, or 0.5 in units of the CRS. Empty: not.",
        advanced=True,
    )
    algorithm.add(
        whole("SIEVE", "Patches that give way (pixels)", 0),
        "--sieve",
        "Patches with fewer pixels take the class around them; in predictions in the class raster as well. "
        "Empty or 0: none.",
        advanced=True,
    )
    algorithm.add(
        text("SKIP", "Classes without polygons"),
        "--skip",
        "By value or name, with commas: 0,Water. Empty: all classes get polygons.",
        advanced=True,
    )


def whole(name: str, description: str, least: int) -> QgsProcessingParameterNumber:
    """An optional whole number."""
    return QgsProcessingParameterNumber(name, description, QgsProcessingParameterNumber.Type.Integer, None, True, least)


def number(
    name: str, description: str, least: float | None = None, most: float | None = None
) -> QgsProcessingParameterNumber:
    """An optional number."""
    limits = [] if least is None else [least] if most is None else [least, most]
    return QgsProcessingParameterNumber(
        name, description, QgsProcessingParameterNumber.Type.Double, None, True, *limits
    )
