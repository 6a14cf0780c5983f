"""``rs-segment zonal``: how much of each class of a map lies in each zone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .command import Command, answer, not_empty
from .options import REPORTING, with_options

if TYPE_CHECKING:
    from rs_segment.zonal import Zonal

MANY = 200


@click.command(cls=Command)
@click.argument("classes", callback=not_empty)
@click.argument("zones", callback=not_empty)
@click.option("--field", metavar="NAME", help="Attribute that names zones; equal ones are one.  [default: row number]")
@click.option("--layer", default="", metavar="NAME", help="Layer of ZONES, in a file that has several.")
@click.option("--band", type=click.IntRange(min=1), help="The band that holds the classes.  [default: the only one]")
@click.option("--nodata", type=float, help="Value of missing pixels, if the raster does not say it.")
@click.option("-o", "--output", metavar="FILE", help="A .csv or .json table, or the zones as .gpkg.")
@click.option("--overwrite", is_flag=True, help="Replace the file that is there.")
@with_options(*REPORTING)
def zonal(**given: Any) -> None:
    """Pixels, area and share of each class of CLASSES in each zone of ZONES.

    CLASSES is a class raster, whoever made it; ZONES is a layer of polygons, in any CRS. A pixel is in a zone when its
    centre is. Zones may overlap: each is counted by itself. Shares are of the zone's pixels that have a class; areas
    are in square metres on the ground.

    A .csv or .json table has one row a zone and class, a .gpkg one feature a zone with an area and a share of each
    class.

    \b
    rs-segment zonal scene_classes.tif districts.gpkg --field name
    rs-segment zonal scene_classes.tif parcels.shp --field id -o areas.csv
    rs-segment zonal landcover.tif parcels.gpkg --layer y2024 -o areas.gpkg
    """
    from rs_segment import Pick, zonal

    from .progress import track

    result = zonal(
        given["classes"],
        given["zones"],
        given["field"],
        given["layer"],
        given["output"],
        Pick(band=given["band"], nodata=given["nodata"]),
        given["overwrite"],
        track(given["progress"]),
    )
    answer(result.to_dict(), "\n".join(lines(result)), given["as_json"], err=False)
    if not given["as_json"]:
        for note in result.notes:
            click.echo(f"note: {note}", err=True)
        if result.file is not None:
            click.echo(f"wrote {result.file}", err=True)


def lines(result: Zonal) -> list[str]:
    """The table for people: what zones hold, and no more rows than one reads."""
    rows = [row for row in result.table.rows() if row["pixels"]]
    shown = rows[:MANY]
    wide = [max((len(str(row[key])) for row in shown), default=0) for key in ("zone", "class")]
    found = []
    for row in shown:
        size = f"{row['pixels']:>12,} px" if row["area_m2"] is None else f"{row['area_m2'] / 10_000:>14,.4f} ha"
        found.append(f"  {row['zone']:<{wide[0]}}  {row['class']:<{wide[1]}} {size} {row['share']:>8.2%}")
    if len(rows) > MANY:
        found.append(f"  and {len(rows) - MANY:,} more rows; -o writes all")
    head = f"{len(result.table.zones):,} zones, {len(result.table.classes):,} classes"
    return [head, *found]
