"""Pages and pictures: what is text stays text, axes are round, images read back, wherever their values lie."""

from __future__ import annotations

import math
import warnings
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from rs_segment import html
from rs_segment.card import ClassInfo
from rs_segment.pictures import as_rgb, colored, encoded, overlaid, stretch, transparent

CLASSES = (ClassInfo(0, "a", "#102030"), ClassInfo(7, "b", "#FF0000"))


class Texts(HTMLParser):
    """The texts of a page, and its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [value or "" for _, value in attrs]


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30))
@settings(deadline=None, max_examples=100)
def test_what_is_text_stays_text_and_does_not_become_markup(text: str) -> None:
    page = html.page(text, html.section(text, html.table((text, text), [(text, text)])), html.code(text), lead=text)
    read = Texts(page)
    assert "".join(read.texts).count(text) >= 8
    assert page.count("<") == html.page(
        "x", html.section("x", html.table(("x", "x"), [("x", "x")])), html.code("x"), lead="x"
    ).count("<")
    assert text in Texts(html.element("img", alt=text)).attributes


@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e6), st.integers(2, 12))
@settings(deadline=None, max_examples=150)
def test_ticks_are_round_few_and_inside(low: float, span: float, most: int) -> None:
    high = low + span
    found = html.ticks(low, high, most)
    assert len(found) <= most + 1
    assert all(low - 1e-6 * span <= t <= high + 1e-6 * span for t in found)
    if len(found) > 2:
        step = found[1] - found[0]
        leading = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(leading - f) for f in (1, 2, 5, 10)) < 0.01


def test_a_chart_leaves_gaps_where_there_is_no_number() -> None:
    gaps = html.chart("c", [html.Line("l", [1, 2, 3, 4, 5], [1, 2, math.nan, 4, 5])], "x")
    assert gaps.count("<polyline") == 2
    assert "nan" not in gaps.casefold()
    assert "no values" in html.chart("c", [html.Line("l", [1], [math.nan])], "x")
    assert html.chart("c", [html.Line("l", [1], [3.0])], "x").count("<circle") == 1


@pytest.mark.parametrize(("last", "between"), [(3, False), (2.5, True)])
def test_between_whole_numbers_nothing_is_marked(last: float, between: bool) -> None:
    drawn = html.chart("c", [html.Line("l", [1, 2, last], [0.0, 10.0, 20.0])], "epoch")
    assert (">1.5<" in drawn, ">2<" in drawn) == (between, True)


def test_a_bar_is_as_long_as_its_share() -> None:
    assert "width:25.0%" in html.bar(0.25)
    assert "width:100.0%" in html.bar(1.7)
    assert html.bar(math.nan) == "–"


@pytest.mark.parametrize("alpha", [False, True])
def test_a_png_reads_back_and_is_the_same_bytes(alpha: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (13, 17, 3), np.uint8)
    if alpha:
        picture = transparent(picture, picture[..., 0] > 99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = encoded(picture)
        assert data == encoded(picture)
        assert encoded(picture[..., :3], "jpeg").startswith(b"\xff\xd8\xff")
    with warnings.catch_warnings(), MemoryFile(data) as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open() as opened:
            np.testing.assert_array_equal(opened.read().transpose(1, 2, 0), picture)
            assert opened.transform == rasterio.Affine.identity()


@given(
    arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.float32]),
        array_shapes(min_dims=3, max_dims=3, max_side=6),
        fill=st.nothing(),
    )
)
@settings(deadline=None, max_examples=80)
def test_any_pixels_can_be_looked_at(pixels: Any) -> None:
    valid = pixels[0] != pixels[0].flat[0]
    shown = as_rgb(pixels, valid)
    assert shown.shape == (*pixels.shape[1:], 3)
    assert shown.dtype == np.uint8
    assert (shown[~valid] == 255).all()
    if pixels.dtype == np.uint8:
        bands = [0, 1, 2] if len(pixels) >= 3 else [0, 0, 0]
        np.testing.assert_array_equal(shown[valid], pixels[bands].transpose(1, 2, 0)[valid])


def test_other_types_are_stretched_over_what_is_there() -> None:
    pixels = np.linspace(1000, 3000, 900).reshape(1, 30, 30).astype(np.uint16)
    shown = as_rgb(pixels)
    assert (shown.min(), shown.max()) == (0, 255)
    assert (np.diff(shown[..., 0].ravel().astype(int)) >= 0).all()
    low, high = stretch(pixels, np.zeros((30, 30), np.bool_))
    assert (low, high) == (0, 1)


def test_labels_are_shown_in_their_colours() -> None:
    labels = np.array([[0, 7, 255]], np.uint8)
    assert colored(labels, CLASSES).tolist() == [[[16, 32, 48], [255, 0, 0], [255, 255, 255]]]
    image = np.full((1, 3, 3), 100, np.uint8)
    assert overlaid(image, labels, CLASSES, 0.5).tolist() == [[[58, 66, 74], [178, 50, 50], [100, 100, 100]]]
