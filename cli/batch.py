"""``rs-segment batch``: class maps and polygons of many scenes."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from .command import Command, Terminated, Told, answer
from .host import hosted
from .options import REPORTING, SEGMENTING, SHAPING, Numbers, compute, outputs, plan, view, with_options

if TYPE_CHECKING:
    from rs_segment.archive.agenda import Prospect
    from rs_segment.archive.batch import News, Report

EVERY_SECONDS = 0.5
LINE_EVERY_SECONDS = 60.0
SHOWN = 20
"""Failures that are listed at the end; all are told when they happen."""


class Shard(click.ParamType):  # type: ignore[type-arg]
    """One part of several: 3/40."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(which, of how many), or a sentence about what is wrong with it."""
        if isinstance(value, tuple):
            return value
        index, _, count = str(value).partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            self.fail(f"{value!r} is no part of several; the parts of 40 are called 1/40 to 40/40", param, ctx)
        return int(index), int(count)


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder of the results; made if it is missing.")
@click.option("--pattern", help="Which files of a folder: '**/*.jp2'.  [default: images in the folder itself]")
@click.option("--assets", metavar="LIST", help="Assets of STAC Items, by key or role: B4,B3,B2.  [default: by band]")
@click.option("--location", metavar="COLUMN", help="Column of an index that holds paths or addresses.")
@click.option("--bbox", type=Numbers(4), metavar="W,S,E,N", help="Only scenes that meet this, in degrees.")
@click.option("--datetime", metavar="TIME|FROM/TO", help="Only scenes of that time: 2020-05, 2020-05-01/.., ...")
@click.option("--workers", type=click.IntRange(min=0), help="Processes; 0 is this one.  [default: by GPUs or cores]")
@click.option("--scheduler", metavar="ADDRESS|FILE|local", help="A Dask cluster instead: tcp://host:8786, tls://...")
@click.option("--cut", type=click.FloatRange(min=0, min_open=True), metavar="MPX", help="Do larger scenes in parts.")
@click.option("--shard", type=Shard(), metavar="I/N", help="Only the I-th of N parts, for job arrays.")
@click.option(
    "--attempts", type=click.IntRange(min=1), default=3, show_default=True, help="For what may pass by itself."
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first scene that fails.")
@click.option("--max-failures", type=click.IntRange(min=1), metavar="N", help="Stop when N scenes have failed.")
@click.option(
    "--check",
    type=click.Choice(["quick", "full"]),
    default="quick",
    help="What is done: by size and time, or checksum.",
)
@click.option("--dry-run", is_flag=True, help="List what would be done.")
@with_options(*SEGMENTING, *SHAPING, *REPORTING)
def batch(**given: Any) -> None:
    """Class maps and polygons of many scenes, in one folder, each on its scene's own grid.

    INPUTS are files, folders, globs, http(s), s3, gs and az addresses, lists of those (.txt, or - for stdin), STAC
    Items, ItemCollections and static catalogues, and indexes (GeoPackage, GeoParquet) with a column of locations.

    \b
    rs-segment batch scenes/ -o maps/
    rs-segment batch scenes/ -o maps/ --pattern '**/*.jp2' --workers 4
    rs-segment batch catalog.json -o maps/ --bbox 54,24,56,26 --datetime 2020-05-01/..
    rs-segment batch list.txt -o maps/ --shard 3/40
    rs-segment batch scenes/ -o maps/ --scheduler tcp://host:8786

    Run it again to go on: what is done and unchanged is passed over, what was interrupted is finished, what failed or
    changed is done again. Exit code 3 where some scenes failed.
    """
    from rs_segment.archive.batch import Effort
    from rs_segment.archive.batch import batch as do_all
    from rs_segment.archive.catalog import Query, find_scenes
    from rs_segment.archive.job import Recipe
    from rs_segment.registry import find as find_model

    card, aoi = find_model(given["model"]).card, given["aoi"]
    query = Query(
        names=card.bands,
        assets=tuple(a.strip() for a in given["assets"].split(",")) if given["assets"] else (),
        pattern=given["pattern"],
        location=given["location"],
        bbox=given["bbox"],
        datetime=given["datetime"],
        aoi=aoi if aoi is not None and (Path(aoi).exists() or aoi.count(",") != 3) else None,
    )
    sources = find_scenes(given["inputs"], query)
    recipe = Recipe(given["model"], view(given), plan(given), compute(given), outputs(given))
    effort = Effort(
        workers=given["workers"],
        scheduler=given["scheduler"],
        shard=given["shard"],
        check=given["check"],
        cut=given["cut"],
        attempts=given["attempts"],
        max_failures=1 if given["fail_fast"] else given["max_failures"],
    )
    if given["dry_run"]:
        from rs_segment.archive.agenda import forecast

        found = forecast(sources, given["output"], recipe, given["shard"], given["check"] == "full")
        answer([asdict(one) for one in found], outlook(found), given["as_json"], err=False)
        return
    with Show(given["progress"]) as show:
        try:
            report = do_all(sources, given["output"], recipe, effort, show)
        except (KeyboardInterrupt, Terminated) as error:
            told = f"stopped; {show.done} scenes are done, what was in work is kept: the same command goes on"
            raise Told(told, 143 if isinstance(error, Terminated) else 130) from None
    answer(facts(report), summary(report), given["as_json"])
    click.get_current_context().exit(report.exit_code)


class Show:
    """Tells of a batch on stderr, while it runs: scenes, speed, time left, failures."""

    def __init__(self, kind: str) -> None:
        self._host = hosted()
        self._kind = ("bar" if sys.stderr.isatty() else "lines") if kind == "auto" else kind
        self._bar: Any = None
        self._told = self._started = time.monotonic()
        self._parts: dict[str, tuple[int, int]] = {}
        self.total = self.before = self.done = self.failed = self.pixels = 0

    def __enter__(self) -> Show:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, news: News) -> None:
        """Take note of something that happened."""
        if news.kind == "plan":
            self.total, self.before, self._started = news.total, news.done, time.monotonic()
            if self._kind == "bar" and self._host is None:
                shape = "{desc} |{bar}| {percentage:3.0f}%{postfix}"
                self._bar = tqdm(total=max(self.total - self.before, 1), bar_format=shape, leave=False)
        elif news.kind == "progress":
            self._parts[news.id] = news.done, news.total
        elif news.kind in ("done", "failed", "again"):
            self._parts.pop(news.id, None)
            self.done += news.kind == "done"
            self.failed += news.kind == "failed"
            self.pixels += news.done if news.kind == "done" else 0
        self._tell(news)

    @property
    def speed(self) -> float:
        """Mpx/s since the run began."""
        pixels = self.pixels + sum(done for done, _ in self._parts.values())
        return pixels / 1e6 / max(time.monotonic() - self._started, 1e-3)

    @property
    def finished(self) -> float:
        """Scenes that are finished, with the parts of those that are in work."""
        return self.done + self.failed + sum(done / max(total, 1) for done, total in self._parts.values())

    @property
    def left(self) -> float | None:
        """Seconds that are left, if what is left is like what was done; None at the beginning."""
        passed = time.monotonic() - self._started
        return passed * (self.total - self.before - self.finished) / self.finished if self.finished > 0 else None

    @property
    def state(self) -> str:
        """All of it in a line."""
        left = "" if self.left is None else f", {duration(self.left)} left"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.before + self.done} of {self.total} scenes done{failed}, {self.speed:.1f} Mpx/s{left}"

    def _tell(self, news: News) -> None:
        worth = news.kind in ("failed", "again", "note")
        line = f"{'' if news.kind == 'note' else news.kind} {news.id}: {news.message}".strip(" :")
        due = time.monotonic() - self._told >= (LINE_EVERY_SECONDS if self._kind == "lines" else EVERY_SECONDS)
        if due:
            self._told = time.monotonic()
        if self._host is not None:
            if worth:
                self._host.log(line)
            told = {"failed": self.failed, "eta_s": self.left, "note": self.state}
            self._host.progress("scenes", self.before + self.finished, self.total, **told)
        elif self._kind == "bar" and self._bar is not None:
            if worth:
                self._bar.write(line, file=sys.stderr)
            self._bar.n = min(round(self.finished, 3), self._bar.total)
            before, _, after = self.state.partition(", ")
            self._bar.set_description_str(before, refresh=False)
            self._bar.set_postfix_str(after, refresh=due)
        elif self._kind == "lines" and (worth or due):
            click.echo(line if worth else self.state, err=True)
        elif self._kind == "jsonl" and (news.kind != "progress" or due):
            click.echo(json.dumps(self._facts(news)), err=True)

    def _facts(self, news: News) -> dict[str, Any]:
        """What happened, and where the run stands, as plain data."""
        return {
            "event": news.kind,
            **{k: v for k, v in asdict(news).items() if k != "kind" and v != ""},
            "scenes": self.total,
            "scenes_done": self.before + self.done,
            "scenes_failed": self.failed,
            "mpx_s": round(self.speed, 3),
            "eta_s": None if self.left is None else round(self.left, 1),
        }


def outlook(prospects: Sequence[Prospect]) -> str:
    """What would be done, a line a scene, and all of it together."""
    wide = max((len(p.id) for p in prospects), default=0)
    lines = []
    for p in prospects:
        size = "" if p.pixels is None else f"{p.pixels / 1e6:.1f} Mpx"
        lines.append(
            f"{p.what:<8}{p.id:<{wide}} {size:>12}  {p.source}" + (f"\n        {p.problem}" if p.problem else "")
        )
    kinds = Counter(p.what for p in prospects)
    todo = [p for p in prospects if p.what != "done"]
    told = ", ".join(f"{number} {what}" for what, number in kinds.items())
    good = [p for p in todo if not p.problem]
    mpx = sum(p.pixels or 0 for p in good) / 1e6
    refused = len(todo) - len(good)
    fail = f"; {refused} would fail" if refused else ""
    lines.append(f"{count(len(prospects))}{': ' if told else ''}{told}{fail}; {mpx:.1f} Mpx to do")
    known = [p.seconds for p in good if p.seconds is not None]
    if known:
        lines.append(f"about {duration(sum(known))} of one worker's time, by the scenes that were done here before")
    return "\n".join(lines)


def facts(report: Report) -> dict[str, Any]:
    """What came of a run, as plain data."""
    return {
        "folder": str(report.folder),
        "done": len(report.records) - len(report.failed),
        "done_before": len(report.skipped),
        "failed": [{"id": r.id, "source": r.source, "error": r.error, "message": r.message} for r in report.failed],
        "left": list(report.left),
        "stopped": report.stopped or None,
        "seconds": round(report.seconds, 3),
        "pixels": pixels(report),
    }


def summary(report: Report) -> str:
    """What a person wants to know when it is over."""
    done = len(report.records) - len(report.failed) - len(report.skipped)
    speed = f" ({pixels(report) / 1e6 / max(report.seconds, 1e-3):.2f} Mpx/s)" if done else ""
    lines = [f"{count(done)} done in {duration(report.seconds)}{speed}"]
    if done:
        last = next(r.result for r in reversed(report.records) if r.result and r.id not in report.skipped)
        lines[0] += f" on {last['device']}, {last['precision']}"
    if report.skipped:
        lines += [f"{len(report.skipped)} were done before"]
    if report.failed:
        lines += [f"{len(report.failed)} failed:", *(f"  {r.id}: {r.message}" for r in report.failed[:SHOWN])]
        if report.failed[SHOWN:]:
            lines += [f"  and {len(report.failed) - SHOWN} more, see {report.folder / 'summary.csv'}"]
    if report.left:
        lines += [f"{len(report.left)} are left: {report.stopped}; the same command goes on"]
    lines += [f"results are in {report.folder}"]
    return "\n".join(lines)


def pixels(report: Report) -> int:
    """Pixels of the scenes that this run did."""
    before = set(report.skipped)
    return sum(r.pixels for r in report.records if r.status == "done" and r.id not in before)


def duration(seconds: float) -> str:
    """Some seconds for people: 4.2 s, 12 min, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def count(scenes: int) -> str:
    """A number of scenes: 1 scene, 2 scenes."""
    return "1 scene" if scenes == 1 else f"{scenes} scenes"
