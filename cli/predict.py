"""``rs-segment predict``: a class map and polygons of a scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command, not_empty

if TYPE_CHECKING:
    from rs_segment import Segmentation


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Some numbers with commas between them."""

    name = "numbers"

    def __init__(self, count: int) -> None:
        self.count = count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers, or a sentence about what is wrong with them."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(v) for v in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} are not numbers with commas between them", param, ctx)
        if len(numbers) != self.count:
            self.fail(f"{value!r} has {len(numbers)} numbers; {self.count} are needed", param, ctx)
        return numbers


@click.command(cls=Command)
@click.argument("scene", callback=not_empty)
@click.option("-o", "--output", type=click.Path(), help="A .tif file or a folder.  [default: NAME_classes.tif beside]")
@click.option("-m", "--model", default="dubai-landcover", show_default=True, help="Name of a model, or its folder.")
@click.option("-b", "--bidx", metavar="LIST", help="Bands for the model, by number or name: 1,2,3 or red,green,blue.")
@click.option("--aoi", metavar="FILE|BOUNDS", help="Only here: a vector file, or left,bottom,right,top.")
@click.option("--rescale", type=Numbers(2), metavar="LOW,HIGH", help="Map these values onto the model's range.")
@click.option("--resolution", type=click.FloatRange(min=0, min_open=True), help="Size of the scene's pixels in metres.")
@click.option("--nodata", type=float, help="Value of missing pixels, if the scene does not say it.")
@click.option("--mode", type=click.Choice(["auto", "exact", "blend"]), default="auto", help="How tiles are joined.")
@click.option("--tile", type=click.IntRange(min=1), help="Side of a tile in pixels.  [default: by overlap]")
@click.option("--overlap", type=click.IntRange(min=0), help="Pixels that tiles share.  [default: the model's]")
@click.option("--tta", type=click.Choice(["none", "flips", "d4"]), default="none", help="Average over flips and turns.")
@click.option("--batch", type=click.IntRange(min=1), help="Tiles a forward pass.  [default: by device]")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Threads that read.  [default: by cores]")
@click.option("--confidence", is_flag=True, help="Also write the probability of each pixel's class.")
@click.option("--probabilities", is_flag=True, help="Also write the probability of every class.")
@click.option("--polygons/--no-polygons", default=True, show_default=True, help="Also write polygons (GeoPackage).")
@click.option("--min-confidence", type=click.FloatRange(0, 1), default=0.0, help="Below it, a pixel is unclassified.")
@click.option("--format", "file_format", type=click.Choice(["cog", "gtiff"]), default="cog", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace results that are there.")
@click.option("--resume", is_flag=True, help="Go on where the same command was interrupted.")
@click.option("--progress", type=click.Choice(["auto", "bar", "jsonl", "none"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
def predict(**given: Any) -> None:
    """A class map and polygons of SCENE, on SCENE's own grid.

    SCENE is whatever GDAL opens: a file, a /vsi path, an http(s) or s3 address.

    \b
    rs-segment predict scene.tif
    rs-segment predict scene.tif -o maps/ --confidence --min-confidence 0.6
    rs-segment predict naip.tif --bidx 1,2,3 --aoi parcels.gpkg
    rs-segment predict https://example.org/scene.tif --no-polygons --json
    """
    import rs_segment

    from .progress import TRACKS, track

    report = track(given["progress"])
    if report is TRACKS["bar"]:
        click.echo(f"loading {given['model']} ...", err=True)
    bands = given["bidx"]
    result = rs_segment.segment(
        given["scene"],
        given["output"],
        given["model"],
        view=rs_segment.View(
            bands=tuple(int(b) if b.isdecimal() else b for b in bands.replace(" ", "").split(",")) if bands else None,
            aoi=given["aoi"],
            rescale=given["rescale"],
            nodata=given["nodata"],
            resolution=given["resolution"],
        ),
        plan=rs_segment.Plan(given["mode"], given["tile"], given["overlap"], given["tta"]),
        compute=rs_segment.Compute(given["device"], given["precision"], given["batch"], given["threads"]),
        outputs=rs_segment.Outputs(
            given["confidence"],
            given["probabilities"],
            given["polygons"],
            given["min_confidence"],
            given["file_format"],
            given["overwrite"],
            given["resume"],
        ),
        track=report,
    )
    if given["as_json"]:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        click.echo(summary(result), err=True)


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
