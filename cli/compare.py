"""``rs-segment compare``: models side by side, as a table and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import Command, answer, command_line, not_empty
from .evaluate import MATCHING, pairs, parts_of, refuse, write
from .options import CLASSES, COMPUTING, REPORTING, compute, names, plan, with_options


@click.command(cls=Command)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--data", metavar="DIR", required=True, callback=not_empty, help="A training set, or a dataset.toml.")
@click.option("--classes", metavar="LIST", default="", help=CLASSES)
@click.option("--split", metavar="SPLIT", help="Only what this split holds out, as group:tile_3.")
@click.option(
    "--part",
    type=click.Choice(["validation", "test", "train"]),
    default="validation",
    show_default=True,
    help="With --split: which part of it.",
)
@click.option("--images", metavar="LIST", help="Images that the figure shows.  [default: four, from first to last]")
@with_options(*MATCHING, *COMPUTING)
@click.option("--png", "png_file", metavar="FILE", help="Write the figure: image, reference, each model's map.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the scores as a table.")
@click.option("--html", "html_file", metavar="FILE", help="Write a report with the table and the figure.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@with_options(*REPORTING)
def compare(**given: Any) -> None:
    """Scores of each MODEL on the same images, and their maps beside each other.

    \b
    rs-segment compare dubai-landcover my-model --data dubai/ --split group:tile_3
    rs-segment compare models/* --data dubai/ --png figure.png --html report.html
    """
    from rs_segment import registry
    from rs_segment.dataset import open_dataset
    from rs_segment.evaluation import (
        Scoring,
        compare_csv,
        compare_figure,
        compare_models,
        compare_page,
        compare_text,
    )
    from rs_segment.pictures import encoded

    from .progress import track

    files = [Path(given[key]) for key in ("png_file", "csv_file", "html_file") if given[key]]
    refuse(files, given["overwrite"], [])
    for model in given["models"]:
        registry.find(model)
    shown = track(given["progress"])
    dataset = open_dataset(given["data"], shown, given["classes"])
    scoring = Scoring(plan(given), compute(given), pairs(given), names(given["images"] or "") or None)
    found = compare_models(given["models"], dataset, parts_of(dataset, given), scoring, shown)
    contents: dict[Path, str | bytes] = {}
    if given["png_file"]:
        contents[Path(given["png_file"])] = encoded(compare_figure(found))
    if given["csv_file"]:
        contents[Path(given["csv_file"])] = compare_csv(found)
    if given["html_file"]:
        contents[Path(given["html_file"])] = compare_page(found, command_line())
    written = write(contents)
    text = "\n".join([f"on {found.evaluations[0].reference}", *compare_text(found)])
    answer(found.to_dict() | {"files": [str(path) for path in written]}, text, given["as_json"], err=False)
    if given["as_json"]:
        return
    for note in dict.fromkeys(note for e in found.evaluations for note in (e.matching, *e.notes)):
        click.echo(f"note: {note}", err=True)
    for path in written:
        click.echo(f"wrote {path}", err=True)
