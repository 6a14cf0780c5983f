"""How are several rasters seen as one, without copying a pixel? By GDAL's virtual rasters, which are small XML files.

``stack`` puts bands of several files behind one another, ``mosaic`` lays class rasters side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from affine import Affine

from ..card import ClassInfo
from ..geobox import GeoBox
from ..types import NODATA

MAX_SIDE = 2**31 - 2
"""GDAL counts rows and columns in 32 bits."""

TYPES = {"uint8": "Byte", "int8": "Int8"} | {
    f"{kind}{bits}": f"{name}{bits}"
    for kind, name in (("uint", "UInt"), ("int", "Int"), ("float", "Float"))
    for bits in (16, 32, 64)
    if (kind, bits) != ("float", 16)
}
"""What GDAL calls the pixel types of numpy."""
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Layer:
    """One band of a file that becomes a band of a stack.

    Args:
        file: Path, or GDAL's name of an address (``/vsicurl/...``).
        band: 1-based.
        name: What the band is called in the stack.
        dtype: Its pixel type, as numpy calls it.
        nodata: Value of missing pixels, or None.
        block: (rows, cols) of the file's blocks.
        box: Its grid; over the same place as that of the others.
    """

    file: str
    band: int
    name: str
    dtype: str
    nodata: float | None
    block: tuple[int, int]
    box: GeoBox


def stack(layers: Sequence[Layer]) -> str:
    """A virtual raster of the layers as its bands, on the finest of their grids; coarser pixels are repeated."""
    box = max((layer.box for layer in layers), key=lambda b: b.shape)
    height, width = box.shape
    bands = []
    for index, layer in enumerate(layers, start=1):
        nodata = "" if layer.nodata is None else f"    <NoDataValue>{layer.nodata!r}</NoDataValue>\n"
        (rows, cols), (tall, wide) = layer.block, layer.box.shape
        bands.append(
            f'  <VRTRasterBand dataType="{TYPES[layer.dtype]}" band="{index}" '
            f'blockXSize="{min(cols, width)}" blockYSize="{min(rows, height)}">\n'
            f"    <Description>{escape(layer.name)}</Description>\n{nodata}    <SimpleSource>\n"
            f'      <SourceFilename relativeToVRT="0">{escape(layer.file)}</SourceFilename>\n'
            f"      <SourceBand>{layer.band}</SourceBand>\n"
            f'      <SourceProperties RasterXSize="{wide}" RasterYSize="{tall}" DataType="{TYPES[layer.dtype]}" '
            f'BlockXSize="{cols}" BlockYSize="{rows}"/>\n'
            f'      <SrcRect xOff="0" yOff="0" xSize="{wide}" ySize="{tall}"/>\n'
            f'      <DstRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>\n'
            "    </SimpleSource>\n  </VRTRasterBand>\n"
        )
    return _dataset(box, "".join(bands))


def fits_mosaic(box: GeoBox) -> bool:
    """Whether a grid can be part of a mosaic: it has a CRS, and is north-up."""
    return box.crs is not None and not box.rotated and box.transform.a > 0 > box.transform.e


def mosaic(tiles: Sequence[tuple[str, GeoBox]], classes: Sequence[ClassInfo]) -> str:
    """A virtual raster of class rasters on north-up grids of one CRS; where they overlap, the last one is seen.

    Its pixels are the finest of theirs, counted from the top left of them all. Pixels on another grid are shown where
    they are nearest; what is underneath shows through where there is no data.

    Args:
        tiles: (path relative to the virtual raster, grid) of each, at least one.
        classes: Names and colours of the values.
    """
    bounds = [box.bounds for _, box in tiles]
    left, top = min(b[0] for b in bounds), max(b[3] for b in bounds)
    reach = max(b[2] for b in bounds) - left, top - min(b[1] for b in bounds)
    size = [min(box.resolution[axis] for _, box in tiles) for axis in (0, 1)]
    across, down = (max(pixel, length / MAX_SIDE) for pixel, length in zip(size, reach, strict=True))
    shape = max(1, round(reach[1] / down)), max(1, round(reach[0] / across))
    sources = []
    for (file, box), (west, south, east, north) in zip(tiles, bounds, strict=True):
        height, width = box.shape
        at = [_pixels(v) for v in ((west - left) / across, (top - north) / down)]
        extent = [_pixels(v) for v in ((east - west) / across, (north - south) / down)]
        sources.append(
            f'    <ComplexSource>\n      <SourceFilename relativeToVRT="1">{escape(file)}</SourceFilename>\n'
            "      <SourceBand>1</SourceBand>\n"
            f'      <SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType="Byte" '
            f'BlockXSize="{_BLOCK}" BlockYSize="{_BLOCK}"/>\n'
            f'      <SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>\n'
            f'      <DstRect xOff="{at[0]}" yOff="{at[1]}" xSize="{extent[0]}" ySize="{extent[1]}"/>\n'
            f"      <NODATA>{NODATA}</NODATA>\n    </ComplexSource>\n"
        )
    named = {c.value: c for c in classes}
    colors = "".join(
        '      <Entry c1="{}" c2="{}" c3="{}" c4="{}"/>\n'.format(*(named[v].rgb if v in named else (0, 0, 0)), alpha)
        for v, alpha in ((v, 0 if v == NODATA else 255) for v in range(256))
    )
    names = "".join(
        f"      <Category>{escape(named[v].name) if v in named else ''}</Category>\n"
        for v in range(max(named, default=-1) + 1)
    )
    band = (
        f'  <VRTRasterBand dataType="Byte" band="1" blockXSize="{_BLOCK}" blockYSize="{_BLOCK}">\n'
        f"    <Description>class</Description>\n    <NoDataValue>{NODATA}</NoDataValue>\n"
        f"    <ColorInterp>Palette</ColorInterp>\n    <ColorTable>\n{colors}    </ColorTable>\n"
        f"    <CategoryNames>\n{names}    </CategoryNames>\n{''.join(sources)}  </VRTRasterBand>\n"
    )
    grid = Affine(across, 0, left, 0, -down, top)
    return _dataset(GeoBox(shape, grid, tiles[0][1].crs), band)


def _pixels(value: float) -> str:
    """A number of pixels; what differs from a whole one by rounding only is whole."""
    return str(round(value)) if abs(value - round(value)) < 1e-6 * max(1.0, abs(value) ** 0.5) else repr(value)


def _dataset(box: GeoBox, bands: str) -> str:
    srs = "" if box.crs is None else f"  <SRS>{escape(box.crs.to_wkt())}</SRS>\n"
    numbers = ", ".join(repr(float(v)) for v in box.transform.to_gdal())
    place = f"  <GeoTransform>{numbers}</GeoTransform>\n" if box.georeferenced else ""
    return (
        f'<VRTDataset rasterXSize="{box.shape[1]}" rasterYSize="{box.shape[0]}">\n{srs}{place}'
        f'  <Metadata>\n    <MDI key="TIFFTAG_SOFTWARE">rs-segment</MDI>\n  </Metadata>\n{bands}</VRTDataset>\n'
    )
