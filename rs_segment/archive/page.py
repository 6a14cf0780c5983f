"""How does a person see at a glance what a batch made? One HTML page that holds all that it shows.

No script, nothing from elsewhere: pictures are in it, and a policy forbids the rest. What comes from scenes, models and
errors is escaped.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from ..card import ClassInfo
from ..types import NODATA, Labels
from .hrefs import beside
from .rows import Row
from .vrt import fits_mosaic

SIDE = 176
"""Long side of a thumbnail in pixels."""
MAX_PICTURES = 400
MAX_FAILED, MAX_SLOW, MAX_NOTES, MAX_NAMED = 200, 10, 30, 8

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1c2126;background:#fff}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .6rem}p{margin:.3rem 0}a{color:#0b5cad}
.quiet{color:#5b6670}.bad{color:#a61b1b}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .7rem .25rem 0;border-bottom:1px solid #e4e8eb;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.w{white-space:nowrap}td{overflow-wrap:anywhere}
.bar{display:flex;height:.8rem;border-radius:2px;overflow:hidden;background:#eef1f3}.bar i{display:block}
.key{display:inline-block;width:.8rem;height:.8rem;margin-right:.4rem;vertical-align:-1px;border:1px solid #0003}
.all{display:grid;grid-template-columns:repeat(auto-fill,minmax(12rem,1fr));gap:1rem}
figure{margin:0}figure a{display:flex;height:11rem;align-items:center;justify-content:center;background:#eef1f3}
figure img{max-width:100%;max-height:100%;image-rendering:pixelated}figcaption{font-size:.85rem;overflow-wrap:anywhere}
figcaption .bar{height:.45rem;margin:.25rem 0}
""".strip()


def page(folder: Path, rows: Sequence[Row], classes: Sequence[ClassInfo], files: Iterable[str]) -> str:
    """The page of a batch.

    Args:
        folder: Of the results, where thumbnails are read from.
        rows: All scenes, in the order in which they are shown.
        classes: The legend.
        files: Names of other files in the folder to link to.
    """
    done, failed = [r for r in rows if r.done], [r for r in rows if not r.done]
    counted = f"{_count(len(done), 'scene')} done" + (f", {len(failed):,} failed" if failed else "")
    models = ", ".join(sorted({r.record.model for r in rows if r.record.model}))
    pixels, seconds = sum(r.record.pixels for r in done), sum(r.record.seconds for r in done)
    links = " · ".join(_link(name, name) for name in files)
    parts = [
        f"<h1>{counted}</h1>",
        f'<p class="quiet">{escape(models)} · {pixels / 1e6:,.1f} Mpx · {_time(seconds)} of work</p><p>{links}</p>',
        *_failed(failed),
        *_classes(done, classes),
        *_pictures(folder, done, classes),
        *_slowest(done),
        *_notes(done),
        *_others(done[MAX_PICTURES:]),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n<meta name="generator" content="rs-segment">\n'
        f"<title>{counted}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def png(labels: Labels, classes: Sequence[ClassInfo]) -> bytes:
    """Labels (row, col) as a PNG in the colours of their classes; what has no class is transparent."""
    colors = np.zeros((256, 3), np.uint8)
    alpha = np.zeros(256, np.uint8)
    for info in classes:
        colors[info.value], alpha[info.value] = info.rgb, 255
    height, width = labels.shape
    # Each line begins with the number of its filter, which is none.
    lines = np.zeros((height, width + 1), np.uint8)
    lines[:, 1:] = labels
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", colors.tobytes()),
        (b"tRNS", alpha.tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes())),
        (b"IEND", b""),
    )
    packed = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _failed(rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield '<h2 class="bad">Failed</h2>'
        yield _rows_of(
            ("Scene", "What went wrong", ""),
            ("", "", "w"),
            ((r.record.id, r.record.message or "it is not known why", r.record.error) for r in rows[:MAX_FAILED]),
        )
    if rows[MAX_FAILED:]:
        yield f"<p>The other {len(rows) - MAX_FAILED:,} are in {_link('summary.csv', 'summary.csv')}.</p>"


def _classes(rows: Sequence[Row], classes: Sequence[ClassInfo]) -> Iterator[str]:
    """How much of each class there is in all scenes together, on the ground where that is known of all of them."""
    told = [area for row in rows for area in row.areas]
    pixels = {c.value: sum(a["pixels"] for a in told if a["value"] == c.value) for c in classes}
    known = all(a["area_m2"] is not None for a in told)
    areas = {c.value: sum(a["area_m2"] for a in told if a["value"] == c.value) if known else 0.0 for c in classes}
    amounts = areas if known else pixels
    whole = sum(amounts.values())
    if not whole:
        return
    yield "<h2>Classes</h2>"
    yield _bar([(c, amounts[c.value] / whole) for c in classes])
    unit, name = (1e6, "km²") if max(areas.values()) >= 1e8 else (1e4, "ha")
    cells = (
        f'<tr><td><span class="key" style="background:{c.color}"></span>{escape(c.name)}</td>'
        f'<td class="n">{f"{areas[c.value] / unit:,.2f} {name}" if known else ""}</td>'
        f'<td class="n">{pixels[c.value]:,} px</td><td class="n">{amounts[c.value] / whole:.1%}</td></tr>'
        for c in classes
    )
    yield "<table>" + "".join(cells) + "</table>"
    yield '<p class="quiet">The sum of all scenes: ground that lies in two of them counts twice.</p>'


def _pictures(folder: Path, rows: Sequence[Row], classes: Sequence[ClassInfo]) -> Iterator[str]:
    if not rows:
        return
    few = f", the first {MAX_PICTURES} of {len(rows):,}" if len(rows) > MAX_PICTURES else ""
    yield f'<h2>Scenes{few}</h2>\n<div class="all">'
    colors = {c.value: c for c in classes}
    for row in rows[:MAX_PICTURES]:
        shares = [(colors[a["value"]], a["share"]) for a in row.areas if a["value"] in colors]
        picture = _picture(folder / row.raster, row.record.id, row.classes or classes)
        height, width = row.record.result.get("shape", (0, 0))
        yield (
            f'<figure><a href="{beside(row.raster)}">{picture}</a><figcaption>{escape(row.record.id)}{_bar(shares)}'
            f'<span class="quiet">{width:,} × {height:,} px {escape(row.time)}</span></figcaption></figure>'
        )
    yield "</div>"


def _picture(raster: Path, name: str, classes: Sequence[ClassInfo]) -> str:
    try:
        with rasterio.open(raster) as dataset:
            step = max(1.0, max(dataset.shape) / SIDE)
            shape = tuple(max(1, round(side / step)) for side in dataset.shape)
            labels = dataset.read(1, out_shape=shape)
    except (RasterioError, OSError):
        return '<span class="quiet">cannot be read</span>'
    if (labels == NODATA).all():
        return '<span class="quiet">no data</span>'
    data = base64.b64encode(png(labels, classes)).decode()
    size = f'width="{shape[1]}" height="{shape[0]}"'
    return f'<img alt="Classes of {escape(name)}" {size} src="data:image/png;base64,{data}">'


def _slowest(rows: Sequence[Row]) -> Iterator[str]:
    slow = sorted((r for r in rows if r.record.seconds > 0), key=lambda r: (-r.record.seconds, r.record.id))[:MAX_SLOW]
    if slow:
        yield "<h2>Slowest</h2>"
        yield _rows_of(
            ("Scene", "Time", "Mpx", "Mpx/s", "Tries"),
            ("", "n", "n", "n", "n"),
            (
                (
                    r.record.id,
                    _time(r.record.seconds),
                    f"{r.record.pixels / 1e6:,.2f}",
                    f"{r.record.pixels / 1e6 / r.record.seconds:,.2f}",
                    str(r.record.attempts or 1),
                )
                for r in slow
            ),
        )


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    """What a careful reader should know, and of which scenes."""
    found: dict[str, list[str]] = {}
    for row in rows:
        box = row.box
        notes = list(row.record.result.get("notes", ()))
        if box is not None and not fits_mosaic(box):
            notes.append("it is not in classes.vrt, because it has no CRS or is not north-up")
        for note in notes:
            found.setdefault(str(note), []).append(row.record.id)
    if found:
        yield "<h2>Notes</h2>"
        yield _rows_of(
            ("Note", "Scenes"),
            ("", ""),
            (
                (note, ", ".join(ids[:MAX_NAMED]) + (f" and {len(ids) - MAX_NAMED:,} more" if ids[MAX_NAMED:] else ""))
                for note, ids in list(found.items())[:MAX_NOTES]
            ),
        )
    if len(found) > MAX_NOTES:
        yield f"<p>The Items of the other scenes hold {len(found) - MAX_NOTES:,} more.</p>"


def _others(rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield f"<h2>The other {len(rows):,} scenes</h2><p>"
        yield ", ".join(_link(r.raster, r.record.id) for r in rows)
        yield "</p>"


def _rows_of(head: Sequence[str], kinds: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns are of a kind each: "n" for numbers, "w" for words that are not broken, "" for text."""
    marks = [f' class="{kind}"' if kind else "" for kind in kinds]
    titles = "".join(f"<th{mark}>{escape(title)}</th>" for title, mark in zip(head, marks, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{escape(cell)}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f"<table><tr>{titles}</tr>\n{body}</table>"


def _bar(shares: Iterable[tuple[ClassInfo, float]]) -> str:
    pieces = (
        f'<i style="width:{share:.3%};background:{c.color}" title="{escape(c.name)} {share:.1%}"></i>'
        for c, share in shares
        if share > 0
    )
    return f'<div class="bar">{"".join(pieces)}</div>'


def _link(name: str, shown: str) -> str:
    return f'<a href="{beside(name)}">{escape(shown)}</a>'


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
