"""Words in pictures are where they were put, and as legible as five by seven dots can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.lettering import HEIGHT, WIDTH, legend, lettered, shortened, write


def dots(char: str) -> list[str]:
    return ["".join(" #"[int(d)] for d in row).rstrip() for row in lettered(char, 1)]


def test_letters_look_like_letters() -> None:
    assert dots("T") == ["#####", *["  #"] * 6, ""]
    assert dots("L") == [*["#"] * 6, "#####", ""]
    assert dots("g")[7] == " ###"


def test_every_letter_is_another() -> None:
    shapes = {lettered(chr(c), 1).tobytes() for c in range(32, 127)}
    assert len(shapes) == 95


@settings(deadline=None)
@given(st.text(max_size=20), st.integers(1, 3))
def test_any_text_can_be_written(text: str, dot: int) -> None:
    ink = lettered(text, dot)
    assert ink.shape[0] == HEIGHT * dot
    assert ink.shape[1] % (WIDTH * dot) == 0


def test_accents_are_left_out() -> None:
    assert (lettered("Forêt–Straße", 1) == lettered("Foret-Strasse", 1)).all()
    assert (lettered("田", 1) == lettered("?", 1)).all()


@pytest.mark.parametrize(("row", "col"), [(0, 0), (15, 3), (2, 35), (30, 50)])
def test_what_does_not_fit_is_cut_off(row: int, col: int) -> None:
    picture = np.full((20, 40, 3), 255, np.uint8)
    write(picture, "words", row, col, 1)
    whole = np.full((60, 120, 3), 255, np.uint8)
    write(whole, "words", row, col, 1)
    assert (picture == whole[:20, :40]).all()


def test_long_texts_keep_their_end() -> None:
    assert shortened("tile_3/image_part_001", 12 * 10) == "..part_001"
    assert shortened("short", 12 * 10) == "short"


def test_a_legend_has_all_colours_in_as_many_lines_as_it_needs() -> None:
    entries = [((i, 40, 200), f"class {i}") for i in range(7)]
    for width in (200, 500, 2000):
        picture = legend(entries, width)
        assert picture.shape[1] == width
        found = {tuple(c) for c in np.unique(picture.reshape(-1, 3), axis=0).tolist()}
        assert {color for color, _ in entries} <= found
    assert legend(entries, 200).shape[0] > legend(entries, 2000).shape[0] == 16
