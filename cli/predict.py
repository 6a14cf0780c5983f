"""``rs-segment predict``: a class map and polygons of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command, answer, not_empty
from .options import REPORTING, SEGMENTING, SHAPING, compute, outputs, plan, view, with_options

if TYPE_CHECKING:
    from rs_segment import Segmentation


@click.command(cls=Command)
@click.argument("scene", callback=not_empty)
@click.option("-o", "--output", type=click.Path(), help="A .tif file or a folder.  [default: NAME_classes.tif beside]")
@with_options(*SEGMENTING, *SHAPING)
@click.option("--confidence-file", type=click.Path(), metavar="FILE", help="Write --confidence to this .tif file.")
@click.option("--polygons-file", type=click.Path(), metavar="FILE", help="Write polygons to this .gpkg file.")
@click.option("--resume", is_flag=True, help="Go on where the same command was interrupted.")
@with_options(*REPORTING)
def predict(**given: Any) -> None:
    """A class map and polygons of SCENE, on SCENE's own grid.

    SCENE is whatever GDAL opens: a file, a /vsi path, an http(s) or s3 address.

    \b
    rs-segment predict scene.tif
    rs-segment predict scene.tif -o maps/ --confidence --min-confidence 0.6
    rs-segment predict scene.tif --sieve 20 --simplify 2px --smooth 1px
    rs-segment predict naip.tif --bidx 1,2,3 --aoi parcels.gpkg
    rs-segment predict https://example.org/scene.tif --no-polygons --json
    """
    import rs_segment

    from .progress import TRACKS, forecast, track

    report = track(given["progress"])
    if report is TRACKS["bar"]:
        click.echo(f"loading {given['model']} ...", err=True)
    result = rs_segment.segment(
        given["scene"],
        given["output"],
        given["model"],
        view=view(given),
        plan=plan(given),
        compute=compute(given),
        outputs=outputs(given),
        track=report,
        begin=forecast,
    )
    answer(result.to_dict(), summary(result), given["as_json"])


def summary(result: Segmentation) -> str:
    """What a person wants to know when it is done."""
    from rs_segment.result import without_secrets

    lines = [f"{Path(without_secrets(result.scene)).name}, {result.model}"]
    wide = max(len(a.name) for a in result.areas)
    for area in result.areas:
        size = f"{area.pixels:>12,} px" if area.area_m2 is None else f"{area.area_m2 / 10_000:>12,.2f} ha"
        lines.append(f"  {area.name:<{wide}} {size} {area.share:>7.1%}")
    height, width = result.geobox.shape
    if result.nodata_pixels:
        lines.append(f"  {'no data':<{wide}} {result.nodata_pixels:>12,} px")
    speed = height * width / 1e6 / max(result.seconds, 1e-9)
    lines.append(
        f"{width} x {height} px in {result.seconds:.1f} s ({speed:.2f} Mpx/s) on {result.device}, {result.precision}"
    )
    lines += [f"note: {note}" for note in result.notes]
    lines += [f"wrote {path}" for path in result.files]
    return "\n".join(lines)


segment = Command(
    "segment",
    callback=predict.callback,
    params=[p for p in predict.params if p.name != "debug"],
    help=predict.help,
    short_help="A class map and polygons of a scene.",
)
