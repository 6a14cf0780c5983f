"""Any id becomes a name that any file system takes, and names that some file system mixes up are known to be alike."""

from __future__ import annotations

import tempfile
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rs_segment.archive.hrefs import MAX_NAME_BYTES, alike, safe_name

WORDS = [
    "CON",
    "nul",
    "LPT1",
    ".",
    "..",
    "/",
    "\\",
    ":",
    "a",
    "é",
    "е\u0301",
    "图",
    "हिन्दी",
    "\u202e",
    " ",
    "-",
    "\x00",
    "x" * 90,
]


@settings(deadline=None, max_examples=150)
@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=6).map("".join))
@example("")
@example("../../etc/cron.d/x")
@example("\udcff")
def test_a_name_is_a_file_name_everywhere(text: str) -> None:
    name = safe_name(text)
    assert safe_name(name) == name
    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
    assert name.isprintable()
    assert not set(name) & set('/\\:*?"<>| \x00')
    assert not name.startswith((".", "-"))
    assert not name.endswith((".", "-", " "))
    assert ".." not in name
    for ending in ("", "_classes.tif", ".vrt"):
        assert not PureWindowsPath(name + ending).is_reserved()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f".{name}_classes_probabilities.tif.{'f' * 32}.tmp").touch()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("LC08_L1TP_001002_20200101", "LC08_L1TP_001002_20200101"),
        ("S2A.SAFE", "S2A.SAFE"),
        ("a b", "a-b"),
        ("../x", "x"),
        ("a/../b", "a-.-b"),
        ("", "scene"),
        ("...", "scene"),
        ("con", "con_"),
        ("Aux.x", "Aux_.x"),
        ("हिन्दी", "हिन्दी"),
        ("A\u030a", "Å"),
        ("=cmd|' /C calc'!A0", "cmd-C-calc-A0"),
    ],
)
def test_names_stay_close_to_what_they_were(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_long_names_that_begin_alike_stay_apart() -> None:
    a, b = safe_name("x" * 300 + "a"), safe_name("x" * 300 + "b")
    assert a != b
    assert a.startswith("x" * 80)


@pytest.mark.parametrize(("a", "b"), [("Scene", "sCENE"), ("straße", "STRASSE"), ("A\u030a", "å"), ("ﬁle", "FILE")])
def test_what_some_file_system_mixes_up_is_alike(a: str, b: str) -> None:
    assert alike(a) == alike(b)


def test_what_differs_is_not_alike() -> None:
    assert len({alike(n) for n in ("a", "b", "a-", "a_", "á", "а")}) == 6
