"""Satellite and aerial images into class maps and polygons.

Three lines are enough::

    import rs_segment

    result = rs_segment.segment("scene.tif")
    print(result.classes, result.areas)

An archive of them is done by ``rs_segment.batch(rs_segment.find_scenes(["scenes/"]), "maps/")``.
"""

from .archive import Effort, Query, Recipe, Report, Source, batch, find_scenes
from .card import ClassInfo, ModelCard, Scaling
from .classmap import ClassMap, Pick
from .dataset import Dataset, open_dataset
from .errors import RsSegmentError
from .evaluation import compare_models, evaluate_map, evaluate_model, evaluate_points
from .geobox import GeoBox
from .registry import models
from .result import ClassArea, Segmentation
from .scene import Chip, Scene
from .segment import segment
from .shaping import Length, Shapes, Size
from .tiles import Tile, TileGrid
from .types import NODATA, UNCLASSIFIED, Compute, Outlook, Outputs, Plan, Prediction, Predictor, Track, View
from .vectorise import ClassPolygons, Polygonized, polygonize, polygonize_raster
from .zonal import Zonal, zonal
from .zonetable import ZoneTable

__all__ = [
    "NODATA",
    "UNCLASSIFIED",
    "Chip",
    "ClassArea",
    "ClassInfo",
    "ClassMap",
    "ClassPolygons",
    "Compute",
    "Dataset",
    "Effort",
    "GeoBox",
    "Length",
    "ModelCard",
    "Outlook",
    "Outputs",
    "Pick",
    "Plan",
    "Polygonized",
    "Prediction",
    "Predictor",
    "Query",
    "Recipe",
    "Report",
    "RsSegmentError",
    "Scaling",
    "Scene",
    "Segmentation",
    "Shapes",
    "Size",
    "Source",
    "Tile",
    "TileGrid",
    "Track",
    "View",
    "Zonal",
    "ZoneTable",
    "batch",
    "compare_models",
    "evaluate_map",
    "evaluate_model",
    "evaluate_points",
    "find_scenes",
    "models",
    "open_dataset",
    "polygonize",
    "polygonize_raster",
    "segment",
    "zonal",
]
