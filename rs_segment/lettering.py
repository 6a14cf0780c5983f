"""How are words put into a picture, without a library for pictures?

One typeface of 5 x 7 dots, such as matrix displays have; it knows the letters of ASCII, and writes others without their
accents.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from .pictures import BLANK, Rgb
from .types import Mask

HEIGHT, WIDTH = 8, 6
"""Rows and columns of a letter with the space around it, in dots."""
_PLAIN = str.maketrans({"ß": "ss", "–": "-", "—": "-", "×": "x", "²": "2"})
# 5 columns of 8 dots for each character from the space to the tilde, the topmost dot in the lowest bit.
_GLYPHS = bytes.fromhex(
    "000000000000005F00000007000700147F147F14242A7F2A12231308646236495522500000070000001C2241000041221C00"
    "2A1C7F1C2A08083E080800806000000808080808006060000020100804023E5149453E00427F400042615149462141454B31"
    "1814127F1027454545393C4A49493001710905033649494936064949291E003636000000806C000008142241001414141414"
    "004122140802015109063E415D551E7E1111117E7F494949363E414141227F4141221C7F494949417F090909013E4149497A"
    "7F0808087F00417F41002040413F017F081422417F404040407F020C027F7F0408107F3E4141413E7F090909063E4151215E"
    "7F09192946464949493101017F01013F4040403F1F2040201F3F4038403F631408146307087008076151494543007F414100"
    "02040810200041417F0004020102048080808080000102040020545454787F484444383844444420384444487F3854545418"
    "087E09010218A4A4A47C7F0804047800447D40004080847D007F1028440000417F40007C041804787C080404783844444438"
    "FC2424241818242418FC7C080404084854545420043F4440203C4040207C1C2040201C3C4030403C44281028441CA0A0A07C"
    "4464544C44000836410000007F000000413608000804081008"
)


def lettered(text: str, dot: int = 2) -> Mask:
    """bool (row, col), True where ink is; 8 x 6 dots a letter.

    Args:
        text: One line.
        dot: Pixels of a dot, down and across.
    """
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    codes = [ord(c) if " " <= c <= "~" else ord("?") for c in plain if not unicodedata.combining(c)]
    table = np.frombuffer(_GLYPHS, np.uint8).reshape(-1, 5)
    columns = np.pad(table[np.array(codes, np.int64) - ord(" ")], ((0, 0), (0, 1))).reshape(-1)
    ink = (columns >> np.arange(HEIGHT)[:, None]) & 1 > 0
    return np.repeat(np.repeat(ink, dot, axis=0), dot, axis=1)


def write(picture: Rgb, text: str, row: int, col: int, dot: int = 2, ink: tuple[int, int, int] = (32, 32, 32)) -> None:
    """Write a line into a picture, in place; what does not fit is cut off.

    Args:
        picture: uint8 (row, col, 3).
        text: One line.
        row, col: Where its top left corner is.
        dot: Pixels of a dot.
        ink: Red, green, blue.
    """
    place = picture[row : row + HEIGHT * dot, col:]
    letters = lettered(text, dot)[: place.shape[0], : place.shape[1]]
    place[: letters.shape[0], : letters.shape[1]][letters] = ink


def shortened(text: str, width: int, dot: int = 2) -> str:
    """The text, or its end after two dots where it is wider than ``width`` pixels."""
    most = max(2, width // (WIDTH * dot))
    return text if len(text) <= most else ".." + text[len(text) - most + 2 :]


def legend(entries: Sequence[tuple[tuple[int, int, int], str]], width: int, dot: int = 2) -> Rgb:
    """uint8 (row, width, 3), a patch of each colour with its words beside it, in as many lines as they need.

    Args:
        entries: (red, green, blue) and words of each.
        width: In pixels.
        dot: Pixels of a dot of the letters.
    """
    patch, gap = HEIGHT * dot, 4 * dot
    sizes = [patch + gap + WIDTH * dot * len(text) + 3 * gap for _, text in entries]
    places, row, col = [], 0, 0
    for size in sizes:
        if col and col + size > width:
            row, col = row + patch + gap, 0
        places.append((row, col))
        col += size
    picture = np.full((row + patch, width, 3), BLANK, np.uint8)
    for (color, text), (row, col) in zip(entries, places, strict=True):
        picture[row : row + patch, col : col + patch] = color
        write(picture, text, row, col + patch + gap, dot)
    return picture
