"""``rs-segment data``: what is in a training set, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command, Told, answer, not_empty
from .options import CLASSES, REPORTING, with_options

if TYPE_CHECKING:
    from rs_segment.dataset import Examined

REFUSED, MANY = 4, 30


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", callback=not_empty)
@click.option("--classes", metavar="LIST", default="", help=CLASSES)
@click.option(
    "--split", metavar="SPLIT", help="Also tell what this split does: group:tile_3, kfold:0/5, blocks, random."
)
@click.option("--picture", metavar="FILE", help="Write samples with their labels over them, as PNG or JPEG.")
@click.option(
    "--samples", type=click.IntRange(1, 200), default=8, show_default=True, help="How many are in the picture."
)
@click.option("--write", is_flag=True, help="Write what was found as dataset.toml into DIR, to be edited.")
@click.option("--overwrite", is_flag=True, help="Replace the picture and the dataset.toml that are there.")
@with_options(*REPORTING)
def data(folder: str, **given: Any) -> None:
    """What is in the training set DIR, and what keeps it from being trained with.

    DIR is a folder of images with masks (images/ and masks/, or scene_rgb.tif and scene_labels.tif, also in groups:
    tile_3/images/...), or of rasters with a layer of polygons; or a dataset.toml that says what is what. Everything is
    read once. Exit code 4 where something is wrong.

    \b
    rs-segment data dubai/
    rs-segment data dubai/ --picture samples.png
    rs-segment data dubai/ --write
    rs-segment data dubai/ --split group:tile_3 --json
    """
    from rs_segment.dataset import describe, examine, parse_split

    from .progress import track

    split = parse_split(given["split"]) if given["split"] else None
    shown = track(given["progress"])
    targets = [Path(given["picture"])] if given["picture"] else []
    if given["write"]:
        targets.append(toml_of(folder))
    refuse(targets, given["overwrite"])
    found = examine(folder, shown, given["classes"])
    told = describe(found, split, shown)
    written = write(found, folder, given)
    answer(told | {"files": [str(path) for path in written]}, text(told), given["as_json"], err=False)
    for path in written:
        click.echo(f"wrote {path}", err=True)
    problems = told["problems"]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise Told(f"{folder} cannot be trained with as it is: {problems[0]}{more}", REFUSED)


def toml_of(folder: str) -> Path:
    """Where the description of a training set lies."""
    from rs_segment.dataset import FILE_NAME

    path = Path(folder)
    return path / FILE_NAME if path.is_dir() else path


def refuse(targets: list[Path], overwrite: bool) -> None:
    """Raises where a file cannot be written, before everything is read."""
    from rs_segment.errors import OptionError
    from rs_segment.workfolder import refuse_existing

    for path in targets:
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".toml"):
            raise OptionError(f"{path} must end in .png or .jpg, which is what a picture can be")
    refuse_existing(targets, overwrite)


def write(found: Examined, folder: str, given: dict[str, Any]) -> list[Path]:
    """The files that were asked for, written."""
    from rs_segment.dataset import sample_picture, to_toml
    from rs_segment.pictures import encoded
    from rs_segment.workfolder import disk_errors, write_whole

    written: list[Path] = []
    if found.dataset is None:
        return written
    if given["write"]:
        target = toml_of(folder)
        with disk_errors(target.parent):
            write_whole(target, to_toml(found.dataset.spec))
        written.append(target)
    if given["picture"]:
        target = Path(given["picture"])
        picture = sample_picture(found.dataset, found.dataset.survey(), given["samples"])
        with disk_errors(target.parent):
            write_whole(target, encoded(picture, "png" if target.suffix.lower() == ".png" else "jpeg"))
        written.append(target)
    return written


def text(told: dict[str, Any]) -> str:
    """The description for people."""
    lines = [outline(told)] if "name" in told else []
    for found in told.get("classes", ()):
        wide = max(len(c["name"]) for c in told["classes"])
        area = "" if found["hectares"] is None else f" {found['hectares']:>11,.2f} ha"
        images = f"{found['images']:,} image{'s' * (found['images'] != 1)}"
        lines.append(f"  {found['name']:<{wide}} {found['share']:>7.2%} {found['pixels']:>14,} px{area}  in {images}")
    if "classes" in told:
        lines.append(f"  without a label {told['unlabelled_pixels']:,} px, without data {told['missing_pixels']:,} px")
    for band in told.get("bands", ()):
        ends = f"{band['min']:g} to {band['max']:g}, middle 96 % {band['p2']:g} to {band['p98']:g}"
        lines.append(f"  {band['name']:<8} mean {band['mean']:g}, std {band['std']:g}, {ends}")
    split = told.get("split")
    if split:
        sides = {side: split[side]["pixels"] for side in ("train", "validation", "test") if side in split}
        shares = ", ".join(f"{side} {pixels / sum(sides.values()):.1%}" for side, pixels in sides.items())
        lines.append(f"  split {split['name']} ({shares})")
    lines += [f"note: {note}" for note in told["notes"]]
    lines += [f"problem: {problem}" for problem in told["problems"][:MANY]]
    if len(told["problems"]) > MANY:
        lines.append(f"and {len(told['problems']) - MANY:,} more problems, which --json lists")
    return "\n".join(lines)


def outline(told: dict[str, Any]) -> str:
    """Size and kind of a training set in a few lines."""
    sizes, groups = told["sizes"], told["groups"]
    small, large = ("{} x {}".format(*sizes[end]) for end in ("smallest", "largest"))
    size = f"{small} px" if sizes["different"] == 1 else f"{small} to {large} px, {sizes['different']} sizes"
    bands = ", ".join(told["band_names"])
    ground = "ground resolution not known" if told["resolution_m"] is None else f"{told['resolution_m']:.3g} m"
    lines = [f"{told['name']}: {told['images']:,} images, {told['pixels'] / 1e6:,.1f} Mpx, {size}"]
    lines.append(f"  {told['dtype']}, {len(told['band_names'])} bands ({bands}), {ground}; labels are {told['labels']}")
    if 1 < len(groups) < told["images"]:
        listed = ", ".join(f"{name} ({count})" for name, count in list(groups.items())[:12])
        lines.append(f"  {len(groups)} groups: {listed}" + (" and more" if len(groups) > 12 else ""))
    return "\n".join(lines)
