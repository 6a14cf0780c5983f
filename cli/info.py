"""``rs-segment info``: what a scene is, and whether a model fits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .command import Command, answer, not_empty

if TYPE_CHECKING:
    from rs_segment import Scene


@click.command(cls=Command)
@click.argument("scene", callback=not_empty)
@click.option("-m", "--model", help="Also say whether this model fits; exit code 4 where it does not.")
@click.option("-b", "--bidx", metavar="LIST", help="Bands for the model, by number or name.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def info(scene: str, model: str | None, bidx: str | None, as_json: bool) -> None:
    """What SCENE is: size, grid, bands, what marks missing pixels.

    \b
    rs-segment info scene.tif
    rs-segment info scene.tif --model dubai-landcover --json
    """
    import rs_segment

    with rs_segment.Scene.open(scene) as opened:
        told = describe(opened)
        refusal = None
        if model is not None:
            from rs_segment.registry import find

            view = rs_segment.View(bands=tuple(bidx.replace(" ", "").split(",")) if bidx else None)
            try:
                opened.fit(find(model).card, view)
            except rs_segment.RsSegmentError as error:
                refusal = error
            told["model"] = {"name": model, "fits": refusal is None, "reason": refusal and str(refusal)}
    answer(told, text(told), as_json, err=False)
    if refusal is not None:
        raise refusal


def describe(scene: Scene) -> dict[str, Any]:
    """What is known of a scene, as plain data."""
    from rs_segment.result import without_secrets

    box = scene.geobox
    return {
        "scene": without_secrets(scene.source),
        "driver": scene.driver,
        "width": box.shape[1],
        "height": box.shape[0],
        "crs": None if box.crs is None else box.crs.to_string(),
        "transform": list(box.transform)[:6],
        "bounds": list(box.bounds),
        "ground_resolution_m": None if box.ground_resolution is None else list(box.ground_resolution),
        "grid": grid(scene),
        "bands": [{"index": b.index, "name": b.name, "dtype": b.dtype, "alpha": b.alpha} for b in scene.bands],
        "missing_pixels": scene.validity,
        "block": list(scene.block),
    }


def grid(scene: Scene) -> str:
    """How the pixels lie in the world, in a word or two."""
    if scene.ground_control:
        return f"not regular: {scene.ground_control}"
    if not scene.geobox.georeferenced:
        return "not georeferenced"
    if scene.geobox.rotated:
        return "rotated"
    return "south-up" if scene.geobox.transform.e > 0 else "north-up"


def text(told: dict[str, Any]) -> str:
    """The description for people."""
    ground = told["ground_resolution_m"]
    left, bottom, right, top = told["bounds"]
    lines = [
        f"{told['scene']} ({told['driver']})",
        f"  size         {told['width']} x {told['height']} px, blocks of {told['block'][1]} x {told['block'][0]}",
        f"  CRS          {told['crs'] or 'none'}",
        f"  grid         {told['grid']}" + (f", pixels of {ground[0]:.4g} x {ground[1]:.4g} m" if ground else ""),
        f"  bounds       {left:.10g}, {bottom:.10g}, {right:.10g}, {top:.10g}",
        f"  missing      {told['missing_pixels']}",
    ]
    for band in told["bands"]:
        lines.append(f"  band {band['index']:<7} {band['dtype']}" + (f", {band['name']}" if band["name"] else ""))
    if "model" in told and told["model"]["fits"]:
        lines.append(f"  model        {told['model']['name']} fits")
    return "\n".join(lines)
