"""``rs-segment polygonize``: polygons of a class raster, whoever made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command, answer, not_empty
from .options import REPORTING, SHAPING, names, shapes, with_options

if TYPE_CHECKING:
    from rs_segment.vectorise import Polygonized

MANY = 20


@click.command(cls=Command)
@click.argument("classes_raster", metavar="RASTER", callback=not_empty)
@click.option("-o", "--output", help="A .gpkg, .fgb, .parquet, .geojson or .shp file, or a folder.  [default: .gpkg]")
@click.option("--layer", metavar="NAME", help="Name of the layer; added to a GeoPackage that is there.")
@click.option("--classes", metavar="LIST", help="Only these classes, by value or name: 1,3 or Water,Road.")
@click.option("--band", type=click.IntRange(min=1), help="The band that holds the classes.  [default: the only one]")
@click.option("--nodata", type=float, help="Value of missing pixels, if the raster does not say it.")
@click.option("--mask", metavar="FILE", help="Only where this raster, on the same grid, is not 0.")
@click.option("--aoi", metavar="FILE|BOUNDS", help="Only here: a vector file, or left,bottom,right,top.")
@click.option("--confidence", metavar="FILE", help="Probabilities by rs-segment, for the mean in each polygon.")
@with_options(*SHAPING)
@click.option("--overwrite", is_flag=True, help="Replace the file that is there; with --layer, only that layer.")
@with_options(*REPORTING)
def polygonize(**given: Any) -> None:
    """Polygons of the classes in RASTER, whoever made it.

    RASTER is whatever GDAL opens: one band of whole numbers. Names and colours come from its palette, its categories or
    its attribute table. Polygons are exactly the patches of pixels of one class that share sides, unless options change
    them.

    Lengths are in pixels (2px), metres on the ground (3m) or units of the CRS (1.5); areas in square metres (50),
    hectares (0.5ha) or pixels (100px).

    \b
    rs-segment polygonize scene_classes.tif
    rs-segment polygonize landcover.tif -o water.fgb --classes Water --min-area 0.1ha
    rs-segment polygonize fields.tif --min-area 100px --simplify 2px --aoi parcels.gpkg
    """
    from rs_segment.classmap import Pick
    from rs_segment.vectorise import polygonize_raster

    from .progress import track

    classes = names(given["classes"]) if given["classes"] is not None else None
    result = polygonize_raster(
        given["classes_raster"],
        given["output"],
        Pick(given["band"], classes, given["mask"], given["aoi"], given["nodata"], given["confidence"]),
        shapes(given),
        given["layer"],
        given["overwrite"],
        track(given["progress"]),
    )
    answer(result.to_dict(), summary(result), given["as_json"])


def summary(result: Polygonized) -> str:
    """What a person wants to know when it is done."""
    from rs_segment.result import without_secrets

    lines = [f"{Path(without_secrets(result.source)).name}, {result.polygons:,} polygons"]
    shown = sorted(result.classes, key=lambda c: -c.pixels)[:MANY]
    wide = max((len(c.name) for c in shown), default=0)
    changed = any(c.change for c in result.classes)
    for found in sorted(shown, key=lambda c: c.value):
        size = f"{found.pixels:>12,} px" if found.area_m2 is None else f"{found.area_m2 / 10_000:>12,.2f} ha"
        change = f"  ({found.change:+.2%})" if changed else ""
        lines.append(f"  {found.name:<{wide}} {found.polygons:>9,} polygons {size}{change}")
    if len(result.classes) > MANY:
        lines.append(f"  and {len(result.classes) - MANY:,} smaller classes")
    height, width = result.geobox.shape
    speed = height * width / 1e6 / max(result.seconds, 1e-9)
    lines.append(f"{width} x {height} px in {result.seconds:.1f} s ({speed:.1f} Mpx/s)")
    lines += [f"note: {note}" for note in result.notes]
    lines += [f"wrote {path}" for path in result.files]
    return "\n".join(lines)
