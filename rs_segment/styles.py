"""What do GIS programs need beside a raster to show it with names and colours?

GDAL and what builds on it read ``x.tif.aux.xml`` (its Persistent Auxiliary Metadata, PAM); QGIS takes ``x.qml`` as the
style of ``x.tif``. Without the latter, QGIS shows a colour table as 256 classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from .card import ClassInfo
from .types import PROBABILITY_STEPS

_FIELDS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
_QML = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="AllStyleCategories" hasScaleBasedVisibilityFlag="0">
  <pipe>
{renderer}
    <brightnesscontrast brightness="0" contrast="0" gamma="1"/>
    <huesaturation colorizeOn="0" grayscaleMode="0" saturation="0"/>
    <rasterresampler maxOversampling="2"/>
  </pipe>
  <blendMode>0</blendMode>
</qgis>
"""


def pam(classes: Sequence[ClassInfo]) -> str:
    """A PAM file with the names as categories of band 1 and as a thematic attribute table with colours.

    Args:
        classes: In ascending order of their values; categories between them stay empty.
    """
    names = {c.value: c.name for c in classes}
    categories = "".join(
        f"      <Category>{escape(names.get(value, ''))}</Category>\n" for value in range(max(names, default=-1) + 1)
    )
    fields = "".join(
        f'      <FieldDefn index="{i}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>\n'
        for i, (name, kind, usage) in enumerate(_FIELDS)
    )
    rows = "".join(
        f'      <Row index="{i}">'
        + "".join(f"<F>{escape(str(value))}</F>" for value in (c.value, c.name, *c.rgb))
        + "</Row>\n"
        for i, c in enumerate(classes)
    )
    return (
        f'<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n{categories}    </CategoryNames>\n'
        f'    <GDALRasterAttributeTable tableType="thematic">\n{fields}{rows}    </GDALRasterAttributeTable>\n'
        f"  </PAMRasterBand>\n</PAMDataset>\n"
    )


def palette(classes: Sequence[ClassInfo]) -> str:
    """A QGIS style that paints exactly these classes of band 1."""
    entries = "".join(
        f'        <paletteEntry value="{c.value}" color="{c.color.lower()}" alpha="255" label={quoteattr(c.name)}/>\n'
        for c in classes
    )
    return _QML.format(
        renderer='    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        f"      <rasterTransparency/>\n      <colorPalette>\n{entries}      </colorPalette>\n    </rasterrenderer>"
    )


def gray(band: int = 1) -> str:
    """A QGIS style that paints one band of probabilities from black (0) to white (254), with per cent in its legend."""
    return _QML.format(
        renderer=f'    <rasterrenderer type="singlebandgray" grayBand="{band}" opacity="1" alphaBand="-1" '
        'gradient="BlackToWhite" nodataColor="">\n      <rasterTransparency/>\n      <contrastEnhancement>\n'
        f"        <minValue>0</minValue>\n        <maxValue>{PROBABILITY_STEPS}</maxValue>\n"
        "        <algorithm>StretchToMinimumMaximum</algorithm>\n      </contrastEnhancement>\n"
        '      <rampLegendSettings minimumLabel="0 %" maximumLabel="100 %" prefix="" suffix="" direction="0" '
        'orientation="2" useContinuousLegend="1"/>\n    </rasterrenderer>'
    )
