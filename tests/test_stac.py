"""STAC catalogues give the scenes that they name, with the assets that a model reads; what does not fit is refused."""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.archive import network, stac
from rs_segment.archive.source import Source
from rs_segment.archive.stac import Choosing, from_item, walk
from rs_segment.errors import SceneError

RGB = Choosing(("red", "green", "blue"))
HOME = os.path.abspath("catalog/item.json")


def asset(href: str, names: Sequence[str] = (), common: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """An asset of STAC 1.1, with the names and the common names of its bands."""
    pairs = list(zip(names, common, strict=False)) or [(n, "") for n in names]
    bands = [{"name": n} | ({"eo:common_name": c} if c else {}) for n, c in pairs]
    return {"href": href, "type": "image/tiff; application=geotiff", "bands": bands, "roles": ["data"], **more}


def old(href: str, name: str, common: str, **more: Any) -> dict[str, Any]:
    """An asset of STAC 1.0 with one band."""
    return {"href": href, "eo:bands": [{"name": name, "common_name": common}], **more}


def item(assets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "S",
        "geometry": None,
        "bbox": [10, 50, 11, 51],
        "properties": {"datetime": "2020-05-01T10:00:00Z"},
        "links": [],
        "assets": assets,
        **more,
    }


def read(assets: dict[str, Any], choosing: Choosing = RGB) -> Source:
    return from_item(item(assets), HOME, HOME, choosing).source


def beside(*names: str) -> tuple[str, ...]:
    return tuple(os.path.join(os.path.dirname(HOME), n) for n in names)


LANDSAT = {
    "thumbnail": {"href": "t.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
    "B1": old("B1.TIF", "B1", "coastal"),
    "B2": old("B2.TIF", "B2", "blue"),
    "B3": old("B3.TIF", "B3", "green"),
    "B4": old("B4.TIF", "B4", "red"),
    "MTL": {"href": "MTL.json", "type": "application/json", "roles": ["metadata"]},
}
SENTINEL = {
    "visual": asset("TCI.jp2", ["R", "G", "B"], ["red", "green", "blue"], type="image/jp2", roles=["visual"]),
    "B02": asset("B02.jp2", ["B02"], ["blue"], type="image/jp2", gsd=10),
    "B03": asset("B03.jp2", ["B03"], ["green"], type="image/jp2", gsd=10),
    "B04": asset("B04.jp2", ["B04"], ["red"], type="image/jp2", gsd=10),
    "B04_20m": asset("B04_20m.jp2", ["B04"], ["red"], type="image/jp2", gsd=20),
    "B05": asset("B05.jp2", ["B05"], ["rededge"], type="image/jp2", gsd=20),
    "B06": asset("B06.jp2", ["B06"], ["rededge"], type="image/jp2", gsd=20),
}
NAIP = {
    "image": asset("n.tif", ["R", "G", "B", "N"], ["red", "green", "blue", "nir"]),
    "rendered_preview": asset("p.png"),
}


def test_landsat_bands_of_stac_1_0_come_in_the_order_of_the_model() -> None:
    found = read(LANDSAT)
    assert found.assets == beside("B4.TIF", "B3.TIF", "B2.TIF")
    assert (found.bands, found.names) == ((1, 1, 1), ("red", "green", "blue"))
    assert found.location == found.assets[0]
    assert (found.bbox, found.datetime) == ((10, 50, 11, 51), "2020-05-01T10:00:00Z")
    assert not found.refused


def test_sentinel_bands_of_stac_1_1_are_the_fine_ones_and_not_the_picture() -> None:
    assert read(SENTINEL).assets == beside("B04.jp2", "B03.jp2", "B02.jp2")
    assert read(SENTINEL, Choosing(("B05", "b02"))).assets == beside("B05.jp2", "B02.jp2")
    only = {"visual": SENTINEL["visual"], "B05": SENTINEL["B05"]}
    assert (read(only).location, read(only).bands) == (beside("TCI.jp2")[0], (1, 2, 3))


def test_one_file_with_all_bands_is_one_scene_and_says_which() -> None:
    found = read(NAIP, Choosing(("nir", "red", "green")))
    assert (found.location, found.assets, found.bands) == (beside("n.tif")[0], (), (4, 1, 2))


@pytest.mark.parametrize(
    ("told", "nodata"),
    [
        ([{"raster:bands": [{"nodata": 0}]}] * 3, 0),
        ([{"nodata": -1}] * 3, -1),
        ([{"nodata": 0}, {"nodata": 0}, {}], None),
        ([{"nodata": 0}, {"nodata": 0}, {"nodata": 1}], None),
        ([{"raster:bands": [{"nodata": 0}, {"nodata": 1}]}] * 3, None),
        ([{"nodata": "nan"}] * 3, None),
        ([{"nodata": True}] * 3, None),
        ([{"nodata": 10**400}] * 3, None),
    ],
)
def test_the_value_of_missing_pixels_is_what_all_assets_tell(told: list[Any], nodata: float | None) -> None:
    assets = {name: {"href": f"{name}.jp2"} | more for name, more in zip(RGB.names, told, strict=True)}
    assert read(assets).nodata == nodata


def test_keys_are_names_where_nothing_else_is_told() -> None:
    assets = {k: {"href": f"{k}.tif"} for k in ("Blue", "Green", "Red", "qa")}
    assert read(assets).assets == beside("Red.tif", "Green.tif", "Blue.tif")


def test_a_single_image_is_left_to_tell_itself() -> None:
    found = read({"data": {"href": "a.tif"}, "thumbnail": LANDSAT["thumbnail"]}, Choosing(("b1", "b2")))
    assert (found.location, found.assets, found.bands) == (beside("a.tif")[0], (), ())
    assert read(NAIP, Choosing()).location == beside("n.tif")[0]


def test_what_holds_for_a_single_band_may_stand_with_the_asset() -> None:
    assets = {f"b{i}": asset(f"{c}.tif", [f"B{i}"], **{"eo:common_name": c}) for i, c in enumerate(RGB.names)}
    assert read(assets).assets == beside("red.tif", "green.tif", "blue.tif")


@pytest.mark.parametrize(
    ("wanted", "files", "bands"),
    [
        (("visual",), ("TCI.jp2",), (1, 2, 3)),
        (("B05",), ("B05.jp2",), ()),
        (("B02", "B03", "B04"), ("B02.jp2", "B03.jp2", "B04.jp2"), (1, 1, 1)),
        (("VISUAL",), ("TCI.jp2",), ()),
        (("data",), ("B04.jp2", "B03.jp2", "B02.jp2"), (1, 1, 1)),
    ],
)
def test_assets_are_chosen_by_key_or_role(
    wanted: tuple[str, ...], files: tuple[str, ...], bands: tuple[int, ...]
) -> None:
    found = read(SENTINEL, Choosing(RGB.names, wanted))
    assert found.files == beside(*files)
    assert found.bands == bands


@pytest.mark.parametrize(
    ("assets", "choosing", "why"),
    [
        ({}, RGB, "no asset that is an image"),
        (None, RGB, "it has no assets"),
        ([1], RGB, "it has no assets"),
        ({k: v for k, v in LANDSAT.items() if k != "B3"}, RGB, r"no assets have the bands .* B4 \(red\)"),
        (SENTINEL, Choosing(("rededge", "red")), "B05 and B06 all hold rededge"),
        ({"a": NAIP["image"], "b": NAIP["image"]}, RGB, "a and b all hold the bands red, green, blue"),
        (SENTINEL, Choosing(RGB.names, ("B99",)), "no asset has the key or role B99; choose with --assets from visual"),
        (SENTINEL, Choosing(RGB.names, ("B02", "B99", "B03")), "no asset has the key B99"),
        (SENTINEL, Choosing(RGB.names, ("B02", "B03")), "2 assets were asked for, but the model reads 3"),
        ({"a": asset("/vsicurl/http://h/a.tif", RGB.names)}, RGB, "virtual file systems"),
        ({"a": asset("NETCDF:a.nc:x", RGB.names)}, RGB, "is not used"),
        ({"a": asset("a.vrt", RGB.names)}, RGB, "is not used"),
        (LANDSAT | {"B4": old("vrt://B4.TIF", "B4", "red")}, RGB, "is not used"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_what_there_is(assets: Any, choosing: Choosing, why: str) -> None:
    found = read(assets, choosing)
    assert found.id == "S"
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found.refused)
    assert len(found.refused) < 1000


def tree() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    return st.recursive(
        leaves, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=5), t, max_size=3), max_leaves=5
    )


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_whatever_replaces_a_part_is_read_or_refused(data: st.DataObject) -> None:
    told = item(
        copy.deepcopy(SENTINEL), geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    )
    here: Any = told
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(here[key], (dict, list)) or not here[key] or data.draw(st.integers(0, 3)) == 0:
            break
        here = here[key]
    here[key] = data.draw(tree())
    found = from_item(told, HOME, HOME, RGB).source
    assert isinstance(found.id, str)
    assert found.refused or all(os.path.isabs(f) for f in found.files)


def write(path: Path, told: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))
    return str(path)


def catalog(*links: tuple[str, str], kind: str = "Catalog") -> dict[str, Any]:
    return {"type": kind, "id": "c", "links": [{"rel": rel, "href": href} for rel, href in links]}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A static catalogue: two levels, links back up, a link that is broken, one that leads out."""
    for name, year in (("a", 2019), ("b", 2020)):
        told = item(LANDSAT, id=name, properties={"datetime": f"{year}-05-01T10:00:00Z"})
        write(tmp_path / name / f"{name}.json", told)
    write(
        tmp_path / "catalog.json",
        catalog(("root", "./catalog.json"), ("child", "./sub/collection.json"), ("item", "./a/a.json")),
    )
    write(
        tmp_path / "sub" / "collection.json",
        catalog(
            ("parent", "../catalog.json"),
            ("child", "../catalog.json"),
            ("item", "../b/b.json"),
            ("item", "../gone.json"),
            ("item", "/vsicurl/http://h/x.json"),
            kind="Collection",
        ),
    )
    return tmp_path


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()


def test_a_static_catalogue_is_walked_once_round(archive: Path) -> None:
    found = [c.source for c in walk(str(archive / "catalog.json"), RGB)]
    assert [s.id for s in found if not s.refused] == ["a", "b"]
    a = next(s for s in found if s.id == "a")
    assert a.assets == tuple(str(archive / "a" / f"B{i}.TIF") for i in (4, 3, 2))
    assert a.item == str(archive / "a" / "a.json")
    assert sorted(s.id for s in found if s.refused) == ["collection", "gone"]
    assert "gone.json does not exist" in next(s.refused for s in found if s.id == "gone")


def test_the_same_catalogue_on_the_web_gives_addresses(archive: Path) -> None:
    with served(archive) as root:
        found = [c.source for c in walk(f"{root}/catalog.json", RGB)]
        assert [s.id for s in found if not s.refused] == ["a", "b"]
        assert next(s for s in found if s.id == "a").assets == tuple(f"{root}/a/B{i}.TIF" for i in (4, 3, 2))
        assert "404" in next(s.refused for s in found if s.id == "gone")


def test_a_catalogue_on_the_web_names_no_files_of_this_machine(tmp_path: Path) -> None:
    evil = {"image": asset("file:///etc/passwd", RGB.names)}
    write(tmp_path / "c.json", catalog(("item", "i.json"), ("item", "file:///etc/hostname"), ("child", "x.json?y")))
    write(tmp_path / "i.json", item(evil, id="../../evil"))
    write(tmp_path / "x.json", catalog())
    with served(tmp_path) as root:
        found = [c.source for c in walk(f"{root}/c.json", RGB)]
    assert [s.id for s in found] == ["c", "../../evil"]
    assert all("from the web may name" in s.refused for s in found)


def test_items_of_a_collection_lie_where_they_say_on_the_web_only(tmp_path: Path) -> None:
    items = [
        item(LANDSAT, id="here"),
        item(LANDSAT, id="there", links=[{"rel": "self", "href": "https://example.org/x/there.json"}]),
        item(LANDSAT, id="no", links=[{"rel": "self", "href": "file:///etc/there.json"}]),
        "no item",
        None,
    ]
    path = write(tmp_path / "items.json", {"type": "FeatureCollection", "features": items})
    found = [c.source for c in walk(path, RGB)]
    assert found[0].location == str(tmp_path / "B4.TIF")
    assert (found[1].location, found[1].item) == ("https://example.org/x/B4.TIF", "https://example.org/x/there.json")
    assert (found[2].location, found[2].item) == (str(tmp_path / "B4.TIF"), None)
    assert all(s.refused for s in found[3:])


def test_pages_of_a_server_are_followed_those_of_a_file_are_not(tmp_path: Path) -> None:
    first = {
        "type": "FeatureCollection",
        "features": [item(LANDSAT, id="a")],
        "links": [{"rel": "next", "href": "2.json"}],
    }
    write(tmp_path / "1.json", first)
    second = {
        "type": "FeatureCollection",
        "features": [item(LANDSAT, id="b")],
        "links": [{"rel": "next", "href": "1.json"}],
    }
    write(tmp_path / "2.json", second)
    with served(tmp_path) as root:
        assert [c.source.id for c in walk(f"{root}/1.json", RGB)] == ["a", "b"]
    assert [c.source.id for c in walk(str(tmp_path / "1.json"), RGB)] == ["a"]


def test_a_catalogue_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = {str(tmp_path / f"{i}.json"): catalog(("child", f"{i + 1}.json")) for i in range(100)}
    wide = {str(tmp_path / "wide.json"): catalog(*(("item", f"w{i}.json") for i in range(60)))}
    asked: list[str] = []

    def endless(place: str) -> Any:
        asked.append(place)
        return (deep | wide).get(place, item(LANDSAT))

    monkeypatch.setattr(stac, "read_json", endless)
    monkeypatch.setattr(stac, "MAX_DOCUMENTS", 50)
    for root in ("0.json", "wide.json"):
        with pytest.raises(SceneError, match="more than 50 documents, or deeper than 30"):
            list(walk(str(tmp_path / root), RGB))
    assert len(asked) < 40


@pytest.mark.parametrize(
    "told", [{}, [], 7, None, {"type": "Polygon"}, {"type": "Topology"}, {"type": ["Feature"]}, {"type": {"a": 1}}]
)
def test_what_is_no_stac_is_named(told: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", told)
    with pytest.raises(SceneError, match=r"x\.json is no STAC Item"):
        list(walk(path, RGB))


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PAUSES", ())
    for root in (str(tmp_path / "x.json"), "http://127.0.0.1:1/x.json"):
        with pytest.raises(SceneError, match=r"x\.json"):
            list(walk(root, RGB))


@pytest.mark.parametrize(
    ("told", "box"),
    [
        ({"bbox": [1, 2, 0, 3, 4, 9]}, (1, 2, 3, 4)),
        ({"bbox": [179, 2, -179, 4]}, (179, 2, -179, 4)),
        ({"bbox": [1, 2, float("nan"), 4]}, None),
        ({"bbox": "world"}, None),
        ({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 3], [0, 0]]]}}, (0, 0, 2, 3)),
        ({"geometry": {"type": "Polygon", "coordinates": "x"}}, (10, 50, 11, 51)),
        ({"geometry": {"type": "Polygon", "coordinates": []}}, (10, 50, 11, 51)),
    ],
)
def test_an_item_lies_where_it_says(told: dict[str, Any], box: object) -> None:
    assert from_item(item(LANDSAT, **told), HOME, HOME, RGB).source.bbox == box


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        (
            {"datetime": None, "start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "2020-02-01T00:00:00Z"},
            "2020-01-01T00:00:00Z/2020-02-01T00:00:00Z",
        ),
        ({"datetime": None, "start_datetime": "2020-01-01T00:00:00Z"}, "2020-01-01T00:00:00Z/.."),
        ({"datetime": None}, None),
        ({"datetime": "soon"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_an_item_was_when_it_says(properties: Any, told: str | None) -> None:
    assert from_item(item(LANDSAT, properties=properties), HOME, HOME, RGB).source.datetime == told
