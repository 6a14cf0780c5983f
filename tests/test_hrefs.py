"""Whatever a catalogue says, it names an image in a place where it may lie, or is refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.archive.hrefs import DOCUMENTS, IMAGES, SCHEMES, UnfitError, ending, gdal_name, is_address, locate, stem

HERE = os.path.abspath(os.path.join("data", "catalog", "index.json"))
WEB = "https://example.org/catalog/index.json"
EVERYWHERE = ["https://example.org/a.tif", "http://h/a.TIF?x=y.vrt", "s3://b/a.jp2", "gs://b/a", "az://c/a.tiff"]
NOWHERE = [
    "",
    " ",
    None,
    7,
    "/vsicurl/http://example.org/a.tif",
    "/vsizip//data/a.zip/a.tif",
    "/VSIMEM/a.tif",
    "..//../..//../..//../..//vsimem/a.tif" if os.path.abspath("/") == "/" else "vrt://a.tif",
    "vrt://a.tif?bands=1",
    "NETCDF:cube.nc:rain",
    "GTIFF_DIR:1:a.tif",
    "HDF5:a.h5://x",
    "zip+https://example.org/a.zip!a.tif",
    "ftp://example.org/a.tif",
    "WMS:http://example.org/a.tif",
    "https:a.tif",
    "s3:/b/a.tif",
    "https://",
    "a.vrt",
    "a.gti.gpkg",
    "a.xml",
    "a.tif.ovr",
    "https://example.org/a.vrt",
    "https://example.org/a.vrt?x=.tif",
    "s3://b/a.nc",
    "//server/share/a.tif",
    "\\\\server\\share\\a.tif",
    "a\nb.tif",
    "a\x00.tif",
    "a\u202egpj.tif",
    "x" * 5000 + ".tif",
    "file://server/a.tif",
    "file:///vsicurl/http://example.org/a.tif",
]


@pytest.mark.parametrize("href", EVERYWHERE)
@pytest.mark.parametrize("home", [HERE, WEB])
def test_addresses_are_taken_as_they_are(href: str, home: str) -> None:
    assert locate(href, home) == href


@pytest.mark.parametrize("href", NOWHERE)
@pytest.mark.parametrize("home", [HERE, WEB])
def test_nothing_else_is_opened(href: object, home: str) -> None:
    if home == WEB and href in ("//server/share/a.tif", "/vsicurl/http://example.org/a.tif", "/VSIMEM/a.tif"):
        # From the web these are addresses of the web.
        assert locate(href, home).startswith("https://")
    elif home == WEB and isinstance(href, str) and href.startswith(("/vsizip", "..//")):
        assert locate(href, home).startswith("https://example.org/")
    else:
        with pytest.raises(UnfitError) as caught:
            locate(href, home)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("href", "beside"),
    [
        ("a.tif", "data/catalog/a.tif"),
        ("./x/a b.tif", "data/catalog/x/a b.tif"),
        ("../a.JPG", "data/a.JPG"),
        ("a", "data/catalog/a"),
        ("Ärger/图.tif", "data/catalog/Ärger/图.tif"),
    ],
)
def test_what_is_relative_lies_beside_the_catalogue(href: str, beside: str) -> None:
    assert locate(href, HERE) == os.path.abspath(beside)


def test_a_catalogue_of_this_machine_names_files_anywhere_one_of_the_web_none() -> None:
    there = os.path.abspath("/data/a b.tif")
    assert locate(there, HERE) == there
    assert locate("file:///data/a%20b.tif", HERE) == there
    assert locate("/data/a.tif", WEB) == "https://example.org/data/a.tif"
    assert locate("../a.tif", WEB) == "https://example.org/a.tif"
    for href in ("file:///data/a.tif", "file:a.tif", "C:\\a.tif", "..\\a.tif"):
        with pytest.raises(UnfitError, match="from the web"):
            locate(href, WEB)


def test_documents_have_other_endings() -> None:
    assert locate("x/item.json", WEB, DOCUMENTS) == "https://example.org/catalog/x/item.json"
    with pytest.raises(UnfitError):
        locate("a.tif", WEB, DOCUMENTS)


PIECES = [
    "/",
    "..",
    ".",
    "a",
    ".tif",
    "vsi",
    "/vsicurl/",
    ":",
    "//",
    "http",
    "s3",
    "file",
    "\\",
    "?",
    "#",
    "%2e",
    " ",
    "é",
    "\x7f",
]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=20), st.sampled_from([HERE, WEB]))
def test_what_is_located_is_an_image_in_a_proper_place(href: str, home: str) -> None:
    try:
        found = locate(href, home)
    except UnfitError:
        return
    assert ending(found) in ("", *IMAGES)
    if is_address(found):
        assert found.split("://")[0].lower() in SCHEMES
        assert gdal_name(found).startswith("/vsi")
    else:
        assert home == HERE
        assert os.path.isabs(found)
        assert os.path.normpath(found) == found
        assert not found.replace("\\", "/").lower().startswith("/vsi")
        assert gdal_name(found) == found


def test_gdal_has_names_of_its_own() -> None:
    assert gdal_name("https://h/a.tif?x") == "/vsicurl/https://h/a.tif?x"
    assert gdal_name("s3://b/k/a.tif") == "/vsis3/b/k/a.tif"
    assert gdal_name("az://c/a.tif") == "/vsiaz/c/a.tif"
    assert stem("https://h/x.y/a.b.tif?c=/d.e") == "a.b"
    assert stem("s3://b/folder/") == "folder"
    assert stem("/d.e/a") == "a"
