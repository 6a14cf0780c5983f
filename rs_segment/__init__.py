"""Satellite and aerial images into class maps and polygons.

Three lines are enough::

    import rs_segment

    result = rs_segment.segment("scene.tif")
    print(result.classes, result.areas)
"""

from .card import ClassInfo, ModelCard, Scaling
from .errors import RsSegmentError
from .geobox import GeoBox
from .registry import models
from .result import ClassArea, Segmentation
from .scene import Chip, Scene
from .segment import segment
from .tiles import Tile, TileGrid
from .types import NODATA, UNCLASSIFIED, Compute, Outputs, Plan, Prediction, Predictor, Track, View

__all__ = [
    "NODATA",
    "UNCLASSIFIED",
    "Chip",
    "ClassArea",
    "ClassInfo",
    "Compute",
    "GeoBox",
    "ModelCard",
    "Outputs",
    "Plan",
    "Prediction",
    "Predictor",
    "RsSegmentError",
    "Scaling",
    "Scene",
    "Segmentation",
    "Tile",
    "TileGrid",
    "Track",
    "View",
    "models",
    "segment",
]
