"""How does a layer of QGIS become a file that the engine reads? As it is, or written to a temporary one."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeatureRequest,
    QgsGeometry,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingUtils,
    QgsProviderRegistry,
    QgsRasterBlockFeedback,
    QgsRasterDataProvider,
    QgsRasterFileWriter,
    QgsRasterLayer,
    QgsRasterPipe,
    QgsRectangle,
    QgsVectorFileWriter,
)

MOST_PIXELS = 100_000_000
STRIP = 512
ALPHA = 4
"""The band of images that QGIS writes which says where they are."""
NEARLY = 1e-6
"""Of a pixel: what rounding makes of a whole number."""


@dataclass(frozen=True)
class Raster:
    """A raster layer, as far as a background thread may know it.

    Args:
        name: What people call it.
        path: What the engine opens; "" where only QGIS can read the layer.
        crs: Its CRS in QGIS, which may be one that somebody has given it there.
        extent: In that CRS.
        upside_down: Whether y is a row below 0 in QGIS and above it in the engine, as it is without any georeference.
        provider: What reads it in QGIS, where that is needed.
    """

    name: str
    path: str
    crs: QgsCoordinateReferenceSystem
    extent: QgsRectangle
    upside_down: bool = False
    provider: QgsRasterDataProvider | None = None

    @classmethod
    def of(cls, layer: QgsRasterLayer) -> Raster:
        """The raster of a layer; to be called in the thread of the layer."""
        provider, extent = layer.dataProvider(), layer.extent()
        path = raster_path(layer)
        nowhere = QgsRectangle(0, -layer.height(), layer.width(), 0)
        upside_down = not provider.crs().isValid() and extent == nowhere
        copy = None if path else provider.clone()
        return cls(layer.name(), path, layer.crs(), extent, upside_down, copy)

    @classmethod
    def given(
        cls,
        algorithm: QgsProcessingAlgorithm,
        parameters: dict[str, Any],
        name: str,
        context: QgsProcessingContext,
    ) -> Raster:
        """The raster of a parameter; to be called in the main thread.

        Raises:
            QgsProcessingException: There is no such layer.
        """
        layer = algorithm.parameterAsRasterLayer(parameters, name, context)
        if layer is None:
            raise QgsProcessingException(algorithm.invalidRasterError(parameters, name))
        return cls.of(layer)

    def file(self) -> str:
        """What the engine opens.

        Raises:
            QgsProcessingException: Only QGIS can read the layer.
        """
        if not self.path:
            raise QgsProcessingException(
                f"{self.name} is no file that the engine can read (it comes from “{self.provider.name()}”): "
                "save the layer to a GeoTIFF first"
            )
        return self.path

    def bounds(self, extent: QgsRectangle) -> str:
        """A rectangle in the layer's CRS as the engine reads it: left,bottom,right,top."""
        bottom, top = extent.yMinimum(), extent.yMaximum()
        if self.upside_down:
            bottom, top = -top, -bottom
        return ",".join(format(v, ".15g") for v in (extent.xMinimum(), bottom, extent.xMaximum(), top))

    def export(
        self, extent: QgsRectangle | None, pixel: float | None, context: QgsProcessingContext, feedback: Any
    ) -> str:
        """The path of a temporary GeoTIFF of a part of a layer that only QGIS can read.

        Args:
            extent: The part, in the layer's CRS; None is refused.
            pixel: Side of a pixel in units of the CRS; None takes that of the layer.

        Raises:
            QgsProcessingException: The layer has no pixels of its own, there would be too many, or it cannot be read.
        """
        provider = self.provider
        if provider is None:
            return self.path
        if extent is None or extent.isEmpty():
            raise QgsProcessingException(
                f"{self.name} is no file that the engine can read (it comes from “{provider.name()}”): "
                "choose an extent, and only that part is written to a temporary GeoTIFF; or save the layer to a file"
            )
        extent, columns, rows = self._grid(extent, pixel)
        if columns * rows > MOST_PIXELS:
            raise QgsProcessingException(
                f"{self.name} is no file, and the extent would be {columns} x {rows} px; at most "
                f"{MOST_PIXELS // 1_000_000} million are written: choose a smaller extent or larger pixels"
            )
        feedback.pushInfo(f"{self.name} is no file: {columns} x {rows} px of it are written to a temporary GeoTIFF")
        path = QgsProcessingUtils.generateTempFilename("scene.tif")
        pipe = QgsRasterPipe()
        if not pipe.set(provider.clone()):
            raise QgsProcessingException(f"{self.name} cannot be read by QGIS; save the layer to a GeoTIFF first")
        watch = QgsRasterBlockFeedback()
        feedback.canceled.connect(watch.cancel)
        writer = QgsRasterFileWriter(path)
        problem = writer.writeRaster(pipe, columns, rows, extent, self.crs, context.transformContext(), watch)
        # In QGIS 3 it is a number, in QGIS 4 an enumeration.
        if getattr(problem, "value", problem) != 0 and not feedback.isCanceled():
            raise QgsProcessingException(f"{self.name} cannot be written to {path}; save the layer to a GeoTIFF first")
        if provider.bandCount() == 1 and _blank(path):
            raise QgsProcessingException(
                f"{self.name} gave no image for the extent: does its server answer, and has it data there?"
            )
        return path

    def _grid(self, extent: QgsRectangle, pixel: float | None) -> tuple[QgsRectangle, int, int]:
        """(extent, columns, rows) of what is exported: whole pixels of the layer, where it has such."""
        provider = self.provider
        if pixel:
            columns, rows = math.ceil(extent.width() / pixel), math.ceil(extent.height() / pixel)
            left, top = extent.xMinimum(), extent.yMaximum()
            return QgsRectangle(left, top - rows * pixel, left + columns * pixel, top), columns, rows
        if provider.xSize() <= 0:
            raise QgsProcessingException(
                f"{self.name} is no file and has no pixels of its own: "
                "say how large they are to be with “Pixel size of layers that are no files”"
            )
        whole = provider.extent()
        across, down = whole.width() / provider.xSize(), whole.height() / provider.ySize()
        part = extent.intersect(whole)
        first_column = math.floor((part.xMinimum() - whole.xMinimum()) / across + NEARLY)
        first_row = math.floor((whole.yMaximum() - part.yMaximum()) / down + NEARLY)
        columns = math.ceil((part.xMaximum() - whole.xMinimum()) / across - NEARLY) - first_column
        rows = math.ceil((whole.yMaximum() - part.yMinimum()) / down - NEARLY) - first_row
        left, top = whole.xMinimum() + first_column * across, whole.yMaximum() - first_row * down
        return QgsRectangle(left, top - rows * down, left + columns * across, top), columns, rows


def _blank(path: str) -> bool:
    """Whether the image in a file is transparent everywhere; what is no image is not blank."""
    layer = QgsRasterLayer(path)
    provider, width, height, extent = layer.dataProvider(), layer.width(), layer.height(), layer.extent()
    if layer.bandCount() != ALPHA:
        return False
    for first in range(0, height, STRIP):
        rows = min(STRIP, height - first)
        top = extent.yMaximum() - first * extent.height() / height
        strip = QgsRectangle(extent.xMinimum(), top - rows * extent.height() / height, extent.xMaximum(), top)
        # Its data is only there while it is.
        block = provider.block(ALPHA, strip, width, rows)
        if bytes(block.data()).strip(b"\0"):
            return False
    return True


def raster_path(layer: QgsRasterLayer) -> str:
    """What GDAL opens outside of QGIS to read a layer, or "" where nothing does."""
    if layer.providerType() != "gdal":
        return ""
    source = layer.source()
    parts = QgsProviderRegistry.instance().decodeUri("gdal", source)
    if source.lstrip().startswith("<") or "/vsimem/" in source or "|" in source or parts.get("openOptions"):
        return ""
    return os.path.abspath(source) if os.path.exists(source) else source


@dataclass(frozen=True)
class Vector:
    """A vector layer, as far as a background thread may know it.

    Args:
        path: Its file; "" where it has to be written to one.
        layer: Its name in the file, where that holds several.
        source: Its features, with selection, filter and edits.
    """

    path: str
    layer: str
    source: QgsProcessingFeatureSource

    @classmethod
    def of(
        cls, algorithm: QgsProcessingAlgorithm, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> Vector | None:
        """The vector layer of a parameter, or None where none is given; to be called in ``prepareAlgorithm``."""
        value = parameters.get(name)
        if value is None or value == "":
            return None
        source = algorithm.parameterAsSource(parameters, name, context)
        if source is None:
            raise QgsProcessingException(algorithm.invalidSourceError(parameters, name))
        layer = algorithm.parameterAsVectorLayer(parameters, name, context)
        picky = isinstance(value, QgsProcessingFeatureSourceDefinition) and (
            value.selectedFeaturesOnly or value.featureLimit != -1
        )
        if layer is None or picky or layer.providerType() != "ogr" or layer.subsetString() or layer.isEditable():
            return cls("", "", source)
        parts = QgsProviderRegistry.instance().decodeUri("ogr", layer.source())
        path = str(parts.get("path") or "")
        if not os.path.exists(path) or layer.crs() != layer.dataProvider().crs():
            return cls("", "", source)
        several = len(QgsProviderRegistry.instance().querySublayers(path)) > 1
        return cls(os.path.abspath(path), str(parts.get("layerName") or "") if several else "", source)

    def alone(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> str:
        """The path of a file that holds this layer and no other."""
        return self.path if self.path and not self.layer else self.export(context, feedback)

    def export(
        self, context: QgsProcessingContext, feedback: QgsProcessingFeedback, within: QgsGeometry | None = None
    ) -> str:
        """The path of a temporary GeoPackage with the layer's features.

        Args:
            within: Only the parts of them in here, in the layer's CRS.

        Raises:
            QgsProcessingException: It cannot be written.
        """
        path, source = QgsProcessingUtils.generateTempFilename("layer.gpkg"), self.source
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName, options.layerName = "GPKG", "layer"
        options.layerOptions = ["FID=rs_segment_id"]
        writer = QgsVectorFileWriter.create(
            path, source.fields(), source.wkbType(), source.sourceCrs(), context.transformContext(), options
        )
        request = QgsFeatureRequest()
        if within is not None:
            request.setFilterRect(within.boundingBox())
        for feature in source.getFeatures(request):
            if feedback.isCanceled():
                break
            if within is not None:
                feature = _cut(feature, within)
            if not writer.addFeature(feature):
                break
        fine = writer.hasError() == QgsVectorFileWriter.WriterError.NoError
        problem = "" if fine else writer.errorMessage()
        # The file is whole only when the writer is gone.
        del writer
        if problem:
            raise QgsProcessingException(f"{source.sourceName()} cannot be written to {path}: {problem}")
        return path


def _cut(feature: QgsFeature, within: QgsGeometry) -> QgsFeature:
    part = QgsFeature(feature)
    part.setGeometry(feature.geometry().intersection(within))
    return part


def place(
    algorithm: QgsProcessingAlgorithm,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
    feedback: QgsProcessingFeedback,
    raster: Raster,
    area: Vector | None,
) -> list[str]:
    """The options that say where in a raster: by the parameter EXTENT, and by an area of interest.

    Raises:
        QgsProcessingException: The extent does not meet the raster.
    """
    extent = asked(algorithm, parameters, context, raster)
    if area and extent is not None and raster.path:
        within = algorithm.parameterAsExtentGeometry(parameters, "EXTENT", context, area.source.sourceCrs())
        return ["--aoi", area.export(context, feedback, within)]
    if area:
        return ["--aoi", area.alone(context, feedback)]
    # What was exported for an extent holds nothing else.
    return ["--aoi", raster.bounds(extent)] if extent is not None and raster.path else []


def asked(
    algorithm: QgsProcessingAlgorithm, parameters: dict[str, Any], context: QgsProcessingContext, raster: Raster
) -> QgsRectangle | None:
    """The parameter EXTENT in the CRS of a raster, or None where none is given.

    Raises:
        QgsProcessingException: It does not meet the raster.
    """
    if parameters.get("EXTENT") in (None, ""):
        return None
    extent = algorithm.parameterAsExtent(parameters, "EXTENT", context, raster.crs)
    if extent.isNull():
        return None
    if not raster.extent.intersects(extent):
        raise QgsProcessingException(
            f"the extent ({_rounded(extent)}) does not meet {raster.name} ({_rounded(raster.extent)}); "
            f"both are left, bottom, right, top in {raster.crs.authid() or 'the layer’s coordinates'}"
        )
    return extent


def _rounded(extent: QgsRectangle) -> str:
    corners = (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum())
    return ", ".join(format(v, ".8g") for v in corners)
