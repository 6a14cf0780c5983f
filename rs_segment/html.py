"""How does a report look? Parts of a page that needs nothing but itself: tables, charts, pictures, one stylesheet.

Every function takes plain text, which it escapes, and parts that are ``Html`` already. Nothing is fetched, no script
runs, and pages follow the reader's light or dark setting.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .card import ClassInfo
from .pictures import Rgb, encoded

COLORS = ("#3B7DD8", "#D9663B", "#2F9E6E", "#A166C9", "#B8932A", "#C74B7A", "#4AA3B5", "#8A8F98")
"""Of the lines of a chart, in their order; readable on white and on black."""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 460, 250, 58, 40, 12, 14
_STYLE = """
:root { --text: #1c2127; --faint: #626a73; --back: #ffffff; --panel: #f5f6f8; --line: #d9dde2; --warn: #fff3d6; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e7ea; --faint: #9aa3ad; --back: #16191d; --panel: #1f2429; --line: #363d45; --warn: #40351a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 20px 64px; color: var(--text); background: var(--back);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 36px 0 10px; padding-bottom: 4px; border-bottom: 1px solid var(--line); }
h3 { font-size: 15px; margin: 18px 0 6px; }
p { margin: 8px 0; max-width: 78ch; }
.lead, figcaption, caption, .small { color: var(--faint); }
.note { background: var(--warn); padding: 8px 12px; border-radius: 6px; max-width: none; }
table { border-collapse: collapse; margin: 10px 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 4px; }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; }
tbody th { font-weight: 500; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; }
.scroll { overflow-x: auto; }
.row { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; }
figure { margin: 0; }
img, svg { max-width: 100%; height: auto; display: block; }
figcaption { font-size: 13px; margin-top: 4px; }
.pixel { image-rendering: pixelated; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px;
  white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, Consolas, Menlo, monospace; }
.key { display: inline-block; width: 13px; height: 13px; border-radius: 3px; margin-right: 6px; vertical-align: -2px;
  border: 1px solid #8888; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 8px 0; font-size: 14px; }
.bar { display: inline-block; width: 72px; height: 11px; background: var(--panel); border: 1px solid var(--line);
  margin-right: 8px; vertical-align: -1px; }
.bar i { display: block; height: 100%; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 14px 0; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px; }
.card b { display: block; font-size: 22px; line-height: 1.3; }
svg text { fill: var(--text); font: 11.5px system-ui, "Segoe UI", sans-serif; }
svg .axis { stroke: var(--line); }
"""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Part = str | Html


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Args:
        name: For the legend.
        x, y: Equally many numbers; where y is no number the line has a gap.
        dashed: For what is there to compare with.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def escape(part: Part) -> Html:
    """The part as markup: escaped, unless it is markup already."""
    return part if isinstance(part, Html) else Html(html.escape(part, quote=True))


def element(tag: str, *parts: Part, **attributes: object) -> Html:
    """``<tag ...>parts</tag>``; ``class_`` is the attribute class, underscores are hyphens, None is left out."""
    told = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{tag}{told}>{joined(*parts)}</{tag}>")


def joined(*parts: Part) -> Html:
    """Parts one after the other."""
    return Html("".join(escape(part) for part in parts))


def page(title: str, *parts: Part, lead: str = "") -> str:
    """A whole page, ready to be written to a file.

    Args:
        title: Of the page.
        parts: One below the other.
        lead: A sentence under the title.
    """
    head = joined(
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        Html('<meta http-equiv="Content-Security-Policy" content="'),
        Html("default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"),
        element("title", title),
        Html(f"<style>{_STYLE}</style>"),
    )
    body = joined(element("h1", title), element("p", lead, class_="lead") if lead else "", *parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def section(title: str, *parts: Part) -> Html:
    """A heading and what stands under it."""
    return Html(f"\n{element('section', element('h2', title), *parts)}")


def paragraph(*parts: Part) -> Html:
    """A paragraph."""
    return element("p", *parts)


def notes(sentences: Iterable[str]) -> Html:
    """Sentences that a reader must not miss, one a box."""
    return joined(*(element("p", sentence, class_="note") for sentence in sentences))


def code(text: str) -> Html:
    """A command, as it is typed."""
    return element("pre", text)


def cards(figures: Sequence[tuple[str, str]]) -> Html:
    """The few numbers that matter most: (what, value) each."""
    return element("div", *(element("div", element("b", v), k, class_="card") for k, v in figures), class_="cards")


def row(*parts: Part) -> Html:
    """Parts beside each other, as far as the page is wide."""
    return element("div", *parts, class_="row")


def table(header: Sequence[Part], rows: Iterable[Sequence[Part]], caption: str = "", text: int = 1) -> Html:
    """A table.

    Args:
        header: One cell a column.
        rows: Cells.
        caption: What it shows.
        text: How many columns from the left are text; the others are numbers, set to the right.
    """

    def cells(tag: str, parts: Sequence[Part]) -> Iterator[Html]:
        for i, part in enumerate(parts):
            yield element("th" if i == 0 else tag, part, class_="n" if i >= text else None)

    head = element("thead", element("tr", *cells("th", header))) if any(header) else Html("")
    body = element("tbody", *(element("tr", *cells("td", parts)) for parts in rows))
    named = element("caption", caption) if caption else Html("")
    return element("div", element("table", named, head, body), class_="scroll")


def facts(pairs: Iterable[tuple[str, Part]]) -> Html:
    """A table of (what, value)."""
    return table((), pairs, text=2)


def picture(
    image: Rgb, caption: Part = "", alt: str = "", kind: Literal["png", "jpeg"] = "png", width: int = 0
) -> Html:
    """A picture in the page itself.

    Args:
        image: uint8 (row, col, 3).
        caption: Under it.
        alt: What it shows, for those who cannot see it; None is the caption.
        kind: "png" for maps, "jpeg" for photographs.
        width: Of the picture on the page, in CSS pixels; 0 is its own.
    """
    data = base64.b64encode(encoded(image, kind)).decode("ascii")
    shown = width or image.shape[1]
    tall = max(1, round(shown * image.shape[0] / image.shape[1]))
    img = element(
        "img",
        src=f"data:image/{kind};base64,{data}",
        alt=alt or str(caption),
        width=shown,
        height=tall,
        class_="pixel" if shown > image.shape[1] else None,
    ).removesuffix("</img>")
    return element("figure", Html(img), element("figcaption", caption) if caption else "")


def key(color: str) -> Html:
    """A small square of a colour, #RRGGBB."""
    return element("span", class_="key", style=f"background:{color}")


def legend(classes: Sequence[ClassInfo]) -> Html:
    """Names of classes with their colours."""
    return element("div", *(element("span", key(c.color), c.name) for c in classes), class_="legend")


def bar(share: float, color: str = COLORS[0], digits: int = 3) -> Html:
    """A bar as long as a share, 0 to 1, with its number; a dash where it is not defined."""
    if not math.isfinite(share):
        return Html("–")
    wide = f"width:{100 * min(max(share, 0), 1):.1f}%;background:{color}"
    return joined(element("span", element("i", style=wide), class_="bar"), f"{share:.{digits}f}")


def matrix(
    names: Sequence[str],
    values: NDArray[np.float64],
    shown: Sequence[Sequence[str]],
    columns: Sequence[str],
    corner: str = "",
) -> Html:
    """A matrix of which each cell is shaded by its share of the row; hits are blue, the others red.

    Args:
        names: Of the rows.
        values: float64 (row, column), what is shaded.
        shown: What stands in the cells.
        columns: Names of the columns; the first ones are those of the rows, in their order.
        corner: What rows and columns are.
    """
    whole = np.maximum(values.sum(axis=1, keepdims=True), 1e-300)
    share = values / whole

    def cells(i: int) -> Iterator[Html]:
        yield element("th", names[i])
        for j, text in enumerate(shown[i]):
            tint = "59 125 216" if i == j else "217 90 59"
            shade = f"background:rgb({tint} / {0.6 * share[i, j]:.2f})" if share[i, j] >= 0.005 else None
            yield element("td", text, class_="n", style=shade)

    first = element("th", corner, class_="small")
    head = element("thead", element("tr", first, *(element("th", name, class_="n") for name in columns)))
    body = element("tbody", *(element("tr", *cells(i)) for i in range(len(names))))
    return element("div", element("table", head, body), class_="scroll")


def chart(title: str, lines: Sequence[Line], x_name: str, y_range: tuple[float, float] | None = None) -> Html:
    """A chart of lines.

    Args:
        title: Above it.
        lines: What is drawn; a colour each.
        x_name: What runs to the right.
        y_range: (low, high) of the axis; None is that of the values.
    """
    xs = [x for line in lines for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    ys = [y for line in lines for y in line.y if math.isfinite(y)]
    if not xs:
        return element("figure", element("h3", title), element("p", "no values", class_="small"))
    left, right = _apart(min(xs), max(xs))
    low, high = y_range or _apart(min(ys), max(ys))
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + wide * (x - left) / (right - left), _TOP + tall * (1 - (y - low) / (high - low))

    # Where only whole numbers can be, as epochs, nothing lies between them.
    broken = any(x != round(x) for x in xs)
    across = [x for x in ticks(left, right) if broken or x == round(x)]
    drawn = [*_axes(place, (left, right), (low, high), across, x_name)]
    for line, color in zip(lines, _cycle(len(lines)), strict=True):
        for points in _pieces(line):
            told = " ".join("{:.1f},{:.1f}".format(*place(x, min(max(y, low), high))) for x, y in points)
            dash = "5 4" if line.dashed else None
            drawn.append(
                element("polyline", points=told, fill="none", stroke=color, stroke_width=2, stroke_dasharray=dash)
            )
            if len(points) <= 20 and not line.dashed:
                spots = [place(x, min(max(y, low), high)) for x, y in points]
                drawn += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.6, fill=color) for x, y in spots]
    svg = element("svg", *drawn, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", width=_WIDTH, height=_HEIGHT, role="img")
    named = [element("span", key(c), line.name) for line, c in zip(lines, _cycle(len(lines)), strict=True)]
    return element("figure", element("h3", title), svg, element("div", *named, class_="legend"))


def _axes(
    place: Callable[[float, float], tuple[float, float]],
    across: tuple[float, float],
    up: tuple[float, float],
    marks: Sequence[float],
    x_name: str,
) -> Iterator[Html]:
    (left, right), (low, high) = across, up
    for y in ticks(low, high):
        (x0, y0), (x1, _) = place(left, y), place(right, y)
        yield element("line", x1=f"{x0:.1f}", x2=f"{x1:.1f}", y1=f"{y0:.1f}", y2=f"{y0:.1f}", class_="axis")
        yield element("text", f"{y:.6g}", x=f"{x0 - 6:.1f}", y=f"{y0 + 4:.1f}", text_anchor="end")
    for x in marks:
        x0, y0 = place(x, low)
        yield element("text", f"{x:.6g}", x=f"{x0:.1f}", y=f"{y0 + 16:.1f}", text_anchor="middle")
    yield element("text", x_name, x=_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2, y=_HEIGHT - 6, text_anchor="middle")


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two, at most so many, as far apart as 1, 2 or 5 times a power of ten."""
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _apart(low: float, high: float) -> tuple[float, float]:
    """Two ends of an axis, which must differ."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _cycle(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]


def _pieces(line: Line) -> Iterator[list[tuple[float, float]]]:
    """The runs of points whose y is a number."""
    run: list[tuple[float, float]] = []
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(y):
            run.append((x, y))
        elif run:
            yield run
            run = []
    if run:
        yield run


def by_name(rows: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """One number of each row, NaN where the row lacks it."""
    return [float(found) if (found := r.get(name)) is not None else math.nan for r in rows]
