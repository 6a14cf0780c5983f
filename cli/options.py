"""What do all commands that segment ask alike? Options, and the groups of options that the engine takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rs_segment import Compute, Outputs, Plan, Shapes, View

F = TypeVar("F", bound=Callable[..., Any])


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


CLASSES = "Only these, in this order: Water,Road, or by label and new name: '#3C1098=Building'."
"""Help of the option that chooses classes of a training set."""

VIEWING = (
    click.option("-m", "--model", default="dubai-landcover", show_default=True, help="Name of a model, or its folder."),
    click.option(
        "-b", "--bidx", metavar="LIST", help="Bands for the model, by number or name: 1,2,3 or red,green,blue."
    ),
    click.option("--aoi", metavar="FILE|BOUNDS", help="Only here: a vector file, or left,bottom,right,top."),
    click.option("--rescale", type=Numbers(2), metavar="LOW,HIGH", help="Map these values onto the model's range."),
    click.option(
        "--resolution", type=click.FloatRange(min=0, min_open=True), help="Size of the scene's pixels in metres."
    ),
    click.option("--nodata", type=float, help="Value of missing pixels, if the scene does not say it."),
)
"""Which model looks at which pixels."""

COMPUTING = (
    click.option("--mode", type=click.Choice(["auto", "exact", "blend"]), default="auto", help="How tiles are joined."),
    click.option("--tile", type=click.IntRange(min=1), help="Side of a tile in pixels.  [default: by overlap]"),
    click.option("--overlap", type=click.IntRange(min=0), help="Pixels that tiles share.  [default: the model's]"),
    click.option(
        "--tta", type=click.Choice(["none", "flips", "d4"]), default="none", help="Average over flips and turns."
    ),
    click.option("--batch", type=click.IntRange(min=1), help="Tiles a forward pass.  [default: by device]"),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps."),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True),
    click.option("--threads", type=click.IntRange(min=1), help="Threads that read.  [default: by cores]"),
)
"""How a model is run over a scene."""

SEGMENTING = (
    *VIEWING,
    *COMPUTING,
    click.option("--confidence", is_flag=True, help="Also write the probability of each pixel's class."),
    click.option("--probabilities", is_flag=True, help="Also write the probability of every class."),
    click.option("--polygons/--no-polygons", default=True, show_default=True, help="Also write polygons (GeoPackage)."),
    click.option(
        "--min-confidence", type=click.FloatRange(0, 1), default=0.0, help="Below it, a pixel is unclassified."
    ),
    click.option("--format", "file_format", type=click.Choice(["cog", "gtiff"]), default="cog", show_default=True),
    click.option("--overwrite", is_flag=True, help="Replace results that are there."),
)
"""How a scene is segmented, and what is written."""

SHAPING = (
    click.option("--sieve", type=click.IntRange(min=0), default=0, metavar="N", help="Patches below N px give way."),
    click.option("--min-area", metavar="AREA", help="Polygons below it are small: 50 (m2), 0.5ha, 100px."),
    click.option(
        "--small",
        type=click.Choice(["merge", "drop", "keep"]),
        default="merge",
        show_default=True,
        help="Small polygons go to the neighbour with the longest shared border, leave holes, or are only counted.",
    ),
    click.option("--simplify", metavar="LENGTH", help="Fewer corners; shared borders stay shared: 2px, 1.5, 3m."),
    click.option("--smooth", metavar="LENGTH", help="Cut corners, at most so far: 1px, 0.5, 2m."),
    click.option("--skip", metavar="LIST", help="Classes that give no polygons, by value or name: 0,Water."),
    click.option("--split", type=click.IntRange(min=1), metavar="N", help="Cut polygons along a grid of N px."),
    click.option("--dissolve", is_flag=True, help="One multipolygon a class."),
)
"""How polygons are drawn."""

REPORTING = (
    click.option("--progress", type=click.Choice(["auto", "bar", "jsonl", "none"]), default="auto", show_default=True),
    click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout."),
)
"""How a run tells of itself."""


def with_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """A decorator that gives a command options, in the order in which help lists them."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def view(given: Mapping[str, Any]) -> View:
    """Which pixels are looked at, as the options say."""
    import rs_segment

    bands = given["bidx"]
    return rs_segment.View(
        bands=tuple(int(b) if b.isdecimal() else b for b in bands.replace(" ", "").split(",")) if bands else None,
        aoi=given["aoi"],
        rescale=given["rescale"],
        nodata=given["nodata"],
        resolution=given["resolution"],
    )


def plan(given: Mapping[str, Any]) -> Plan:
    """How a scene is cut, as the options say."""
    import rs_segment

    return rs_segment.Plan(given["mode"], given["tile"], given["overlap"], given["tta"])


def compute(given: Mapping[str, Any]) -> Compute:
    """What computes, as the options say."""
    import rs_segment

    return rs_segment.Compute(given["device"], given["precision"], given["batch"], given["threads"])


def outputs(given: Mapping[str, Any]) -> Outputs:
    """What is written, as the options say; ``resume`` and shapes only where the command has those options."""
    import rs_segment

    return rs_segment.Outputs(
        given.get("confidence_file") or given["confidence"],
        given["probabilities"],
        given.get("polygons_file") or given["polygons"],
        given["min_confidence"],
        given["file_format"],
        given["overwrite"],
        given.get("resume", False),
        shapes(given) if "simplify" in given else rs_segment.Shapes(),
    )


def shapes(given: Mapping[str, Any]) -> Shapes:
    """How polygons are drawn, as the options say."""
    from rs_segment import Length, Shapes, Size

    return Shapes(
        simplify=None if given["simplify"] is None else Length.parse(given["simplify"]),
        smooth=None if given["smooth"] is None else Length.parse(given["smooth"]),
        min_area=None if given["min_area"] is None else Size.parse(given["min_area"]),
        small=given["small"],
        sieve=given["sieve"],
        skip=names(given["skip"] or ""),
        split=given["split"],
        dissolve=given["dissolve"],
    )


def names(text: str) -> tuple[str, ...]:
    """What stands between the commas of a list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
