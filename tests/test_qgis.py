"""What QGIS makes of the results: its own Python opens them, and ``qgis_process`` computes with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP, FakePredictor, make_card, make_scene
from numpy.typing import NDArray

from rs_segment import NODATA, Outputs, Plan, Segmentation, segment
from rs_segment.result import UNCLASSIFIED_CLASS
from rs_segment.types import PROBABILITY_STEPS

pytestmark = [pytest.mark.qgis, pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")]

PREDICTOR = FakePredictor(make_card(classes=5))
CLASSES = PREDICTOR.card.classes
SHAPE = (61, 47)
# What belongs to the Python that runs the tests misleads the one of QGIS.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB")

SCRIPT = """
import json, os, sys
from qgis.core import QgsApplication, QgsRasterLayer, QgsRenderContext, QgsVectorLayer

app = QgsApplication([], False)
app.initQgis()


def common(layer):
    e = layer.extent()
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid() if layer.crs().isValid() else None,
        "extent": [e.xMinimum(), e.yMinimum(), e.xMaximum(), e.yMaximum()],
        "renderer": layer.renderer().type(),
        "styled": layer.loadDefaultStyle()[1],
    }


def raster(path):
    layer = QgsRasterLayer(path)
    found, provider, renderer = common(layer), layer.dataProvider(), layer.renderer()
    block = renderer.block(1, layer.extent(), layer.width(), layer.height())
    found["painted"] = [[block.color(r, c) for c in range(block.width())] for r in range(block.height())]
    found["bands"] = [layer.bandName(i + 1) for i in range(layer.bandCount())]
    found["nodata"] = [provider.sourceNoDataValue(i + 1) for i in range(layer.bandCount())]
    if renderer.type() == "paletted":
        found["legend"] = [[c.value, c.label, c.color.name()] for c in renderer.classes()]
    else:
        stretch, legend = renderer.contrastEnhancement(), renderer.legendSettings()
        found["stretch"] = [stretch.minimumValue(), stretch.maximumValue(), int(renderer.minMaxOrigin().limits())]
        found["legend"] = [legend.minimumLabel(), legend.maximumLabel()]
    return found


def vector(path):
    layer = QgsVectorLayer(path, "", "ogr")
    found, renderer, context = common(layer), layer.renderer(), QgsRenderContext()
    found["fields"] = layer.fields().names()
    found["count"] = layer.featureCount()
    found["attribute"] = renderer.classAttribute()
    found["legend"] = [[int(c.value()), c.label(), c.symbol().color().name()] for c in renderer.categories()]
    found["painted"] = []
    renderer.startRender(context, layer.fields())
    for feature in layer.getFeatures():
        symbol = renderer.originalSymbolForFeature(feature, context)
        found["painted"].append([feature["class_id"], feature["class"], symbol and symbol.color().name()])
    renderer.stopRender(context)
    return found


found = {path: (vector if path.endswith(".gpkg") else raster)(path) for path in sys.argv[2:]}
with open(sys.argv[1], "w") as target:
    json.dump(found, target)
# Tearing QGIS down from Python crashes now and then.
os._exit(0)
"""
