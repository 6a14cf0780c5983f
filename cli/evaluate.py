"""``rs-segment evaluate``: how good a class map or a model is, against labels or sampled points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command, answer, command_line, not_empty
from .options import CLASSES, COMPUTING, REPORTING, compute, names, plan, with_options

if TYPE_CHECKING:
    from rs_segment.dataset import Dataset, Part
    from rs_segment.evaluation import Evaluation, Pairs, PointEvaluation

MATCHING = (
    click.option(
        "--map", "table", multiple=True, metavar="REF=MAP", help="Class of the reference that is this one of the map."
    ),
    click.option("--ignore", metavar="LIST", help="Classes of the reference to leave out, by value or name."),
)
"""Which class is which."""


@click.command(cls=Command)
@click.argument("what", metavar="MAP|MODEL", callback=not_empty)
@click.argument("reference", required=False)
@click.option("--data", metavar="DIR", help="Evaluate a model on this training set: a folder, or a dataset.toml.")
@click.option("--classes", metavar="LIST", default="", help=f"With --data: {CLASSES[0].lower()}{CLASSES[1:]}")
@click.option("--split", metavar="SPLIT", help="With --data: only what this split holds out, as group:tile_3.")
@click.option(
    "--part",
    type=click.Choice(["validation", "test", "train"]),
    default="validation",
    show_default=True,
    help="With --split: which part of it.",
)
@click.option("--points", metavar="FILE", help="Stratified reference points, CSV or GeoPackage: areas with intervals.")
@click.option("--map-field", default="map", show_default=True, help="With --points: column of the map's class.")
@click.option(
    "--reference-field", default="reference", show_default=True, help="With --points: column of the true class."
)
@with_options(*MATCHING)
@click.option("--field", help="Attribute of polygons that tells their class.")
@click.option("--layer", default="", help="Layer of the reference or the points, in a file that has several.")
@click.option("--outside", default="", metavar="CLASS", help="Class outside of all polygons.  [default: left out]")
@click.option(
    "--grid", type=click.Choice(["map", "reference"]), default="map", show_default=True, help="Whose pixels count."
)
@click.option("--aoi", metavar="FILE|BOUNDS", help="Only here: a vector file, or left,bottom,right,top.")
@click.option("--band", type=click.IntRange(min=1), help="The band of MAP that holds the classes.")
@click.option("--nodata", type=float, help="Value of missing pixels of MAP, if it does not say it.")
@click.option("--reference-band", type=click.IntRange(min=1), help="The band of the reference.")
@click.option("--reference-nodata", type=float, help="Value of missing pixels of the reference.")
@with_options(*COMPUTING)
@click.option("--csv", "csv_file", metavar="FILE", help="Write the scores as a table.")
@click.option("--html", "html_file", metavar="FILE", help="Write a report with a map of errors.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@with_options(*REPORTING)
def evaluate(**given: Any) -> None:
    """How good MAP or MODEL is: accuracy, IoU, precision, recall, F1, confusion matrix.

    MAP is a class raster, whoever made it; REFERENCE is another, on any grid and in any CRS, a mask in colours, or
    polygons. Classes are matched by --map, else by name (or colour), else by value. With --data, MODEL is scored on
    the images of a training set, as predict would map them. With --points, MAP is judged by points drawn at random
    within each of its classes.

    \b
    rs-segment evaluate scene_classes.tif labels.tif --html report.html
    rs-segment evaluate scene_classes.tif parcels.gpkg --field crop --map maize=3 --ignore bare
    rs-segment evaluate scene_classes.tif mask.png --map '#3C1098=Building' --ignore '#000000'
    rs-segment evaluate my-model --data dubai/ --split group:tile_3
    rs-segment evaluate scene_classes.tif --points points.csv --csv areas.csv
    """
    check(given)
    files = [Path(given[key]) for key in ("csv_file", "html_file") if given[key]]
    refuse(files, given["overwrite"], [given["what"], given["reference"], given["points"]])
    if given["points"]:
        by_points(given)
    else:
        tell(on_data(given) if given["data"] else on_map(given), given)


def check(given: Mapping[str, Any]) -> None:
    """Raises where arguments do not go together."""
    chosen = [key for key in ("reference", "data", "points") if given[key]]
    if len(chosen) != 1:
        told = "both" if len(chosen) == 2 else ("all three" if chosen else "none")
        raise click.UsageError(f"give one of REFERENCE, --data and --points; there is {told} of them")
    if not given["data"] and (Path(given["what"]) / "model.json").is_file():
        raise click.UsageError(f"{given['what']} is a model; say with --data DIR what it is to be scored on")
    if Path(given["reference"] or "").suffix.lower() in (".csv", ".tsv"):
        raise click.UsageError(f"a table is no reference map; give it as --points {given['reference']}")
    for key in ("split", "classes"):
        if given[key] and not given["data"]:
            raise click.UsageError(f"--{key} is for a model on a training set; give --data too")


def on_map(given: Mapping[str, Any]) -> Evaluation:
    """A map against a reference."""
    from rs_segment.classmap import Pick
    from rs_segment.evaluation import Against, evaluate_map

    from .progress import track

    against = Against(
        pairs(given),
        given["grid"],
        given["reference_band"],
        given["reference_nodata"],
        given["field"],
        given["layer"],
        given["outside"],
    )
    pick = Pick(band=given["band"], aoi=given["aoi"], nodata=given["nodata"])
    return evaluate_map(given["what"], given["reference"], pick, against, track(given["progress"]))


def on_data(given: Mapping[str, Any]) -> Evaluation:
    """A model on a training set."""
    from rs_segment import registry
    from rs_segment.dataset import open_dataset
    from rs_segment.evaluation import Scoring, evaluate_model

    from .progress import track

    registry.find(given["what"])
    shown = track(given["progress"])
    dataset = open_dataset(given["data"], shown, given["classes"])
    scoring = Scoring(plan(given), compute(given), pairs(given))
    return evaluate_model(given["what"], dataset, parts_of(dataset, given), scoring, shown)


def parts_of(dataset: Dataset, given: Mapping[str, Any]) -> tuple[Part, ...] | None:
    """What of a training set is scored, as the options say; None is all.

    A split that leaks is told, since the score that follows is too good.
    """
    from rs_segment.errors import OptionError

    if not given["split"]:
        return None
    split = dataset.split(given["split"])
    parts = dict(split.parts)[given["part"]]
    if not parts:
        raise OptionError(f"the split {split.name} has no {given['part']} part; write it as {given['split']}/GROUPS")
    if split.leaks and given["part"] != "train":
        click.echo(f"note: {split.leaks}", err=True)
    return parts


def by_points(given: Mapping[str, Any]) -> None:
    """A map by sampled points, told."""
    from rs_segment.classmap import Pick
    from rs_segment.evaluation import PointFields, evaluate_points, points_csv, points_page, points_text

    from .progress import track

    fields = PointFields(given["map_field"], given["reference_field"], given["layer"])
    pick = Pick(band=given["band"], aoi=given["aoi"], nodata=given["nodata"])
    found = evaluate_points(given["what"], given["points"], fields, pick, pairs(given), track(given["progress"]))
    texts: dict[Path, str | bytes] = {}
    if given["csv_file"]:
        texts[Path(given["csv_file"])] = points_csv(found)
    if given["html_file"]:
        texts[Path(given["html_file"])] = points_page(found, command_line())
    written = write(texts)
    say(found, points_text(found), found.notes, written, given["as_json"])


def tell(found: Evaluation, given: Mapping[str, Any]) -> None:
    """Write and print an evaluation."""
    from rs_segment.evaluation import evaluation_page, table_csv, table_text

    texts: dict[Path, str | bytes] = {}
    if given["csv_file"]:
        texts[Path(given["csv_file"])] = table_csv(found)
    if given["html_file"]:
        texts[Path(given["html_file"])] = evaluation_page(found, command_line())
    written = write(texts)
    head = [f"{Path(found.subject).name} against {found.reference}"]
    said = [f"compared on {found.grid}", found.matching, *found.notes]
    say(found, [*head, *table_text(found)], said, written, given["as_json"])


def say(
    found: Evaluation | PointEvaluation,
    lines: Sequence[str],
    notes: Sequence[str],
    written: Sequence[Path],
    as_json: bool,
) -> None:
    """Print a result: JSON on stdout, or lines for people."""
    answer(found.to_dict() | {"files": [str(path) for path in written]}, "\n".join(lines), as_json, err=False)
    if as_json:
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    for path in written:
        click.echo(f"wrote {path}", err=True)


def pairs(given: Mapping[str, Any]) -> Pairs:
    """Which class is which, as the options say."""
    from rs_segment.evaluation import Pairs

    return Pairs.parse(given["table"], names(given["ignore"] or ""))


def refuse(files: Sequence[Path], overwrite: bool, inputs: Sequence[str | None]) -> None:
    """Raises where a file cannot be written, before anything is read."""
    from rs_segment.errors import OptionError, OutputExistsError
    from rs_segment.workfolder import refuse_existing

    read = {Path(path).resolve() for path in inputs if path}
    for file in files:
        if file.resolve() in read:
            raise OptionError(f"{file} is what is evaluated; choose another name for the report")
    if len({file.resolve() for file in files}) < len(files):
        raise OptionError("two reports have one name; give each its own")
    try:
        refuse_existing(files, overwrite)
    except OutputExistsError as error:
        there = next((file for file in files if str(file) in str(error)), files[0])
        raise OutputExistsError(
            f"{there} is already there; replace it with --overwrite, or choose another name"
        ) from None


def write(texts: Mapping[Path, str | bytes]) -> list[Path]:
    """Write files, each whole or not at all."""
    from rs_segment.workfolder import disk_errors, write_whole

    for path, text in texts.items():
        with disk_errors(path.parent):
            write_whole(path, text)
    return list(texts)
