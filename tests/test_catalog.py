"""Inputs of all kinds give the scenes that they name, each once, with safe names; filters leave the others out."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
from affine import Affine
from fakes import FakePredictor, make_card, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment import Outputs, Plan, segment
from rs_segment.archive.catalog import Query, Source, find_scenes
from rs_segment.archive.hrefs import alike, safe_name
from rs_segment.errors import AreaError, OptionError, RsSegmentError, SceneError

EAST = Affine(10, 0, 300_000, 0, -10, 2_800_000)
WEST = Affine(10, 0, 200_000, 0, -10, 2_800_000)
# EAST lies around 55.02, WEST around 54.03 degrees of longitude; both at 25.3 degrees of latitude.
BETWEEN = 54.5


def ids(found: Sequence[Source]) -> list[str]:
    return [s.id for s in found]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    (folder / "sub").mkdir(parents=True)
    make_scene(folder / "east.tif", (20, 30), transform=EAST)
    make_scene(folder / "west.TIF", (20, 30), transform=WEST)
    make_scene(folder / "sub" / "deep.tif", (20, 30), transform=EAST)
    for name in ("east.tif.ovr", "east.tfw", "notes.txt", ".hidden.tif", "map.vrt", "quick.jpg"):
        (folder / name).write_text("no scene")
    return folder


def test_a_folder_holds_its_rasters_and_no_more(archive: Path) -> None:
    assert ids(find_scenes([str(archive)])) == ["east", "west"]
    assert ids(find_scenes([f"{archive}/"], Query(pattern="**/*.tif"))) == ["east", "deep"]
    assert ids(find_scenes([str(archive)], Query(pattern="sub/*"))) == ["deep"]
    for pattern, error in (("*.img", SceneError), ("/etc/*", OptionError)):
        with pytest.raises(error, match="--pattern"):
            find_scenes([str(archive)], Query(pattern=pattern))


def test_results_of_ours_are_no_scenes_what_is_only_called_so_is(archive: Path) -> None:
    predictor = FakePredictor(make_card())
    outputs = Outputs(confidence=True, probabilities=True, polygons=False)
    segment(archive / "east.tif", archive / "east_classes.tif", predictor, plan=Plan(tile=32), outputs=outputs)
    make_scene(archive / "soil_classes.tif", transform=EAST)
    assert ids(find_scenes([str(archive)])) == ["east", "soil_classes", "west"]
    assert ids(find_scenes([str(archive / "*.[tT][iI][fF]")])) == ["east", "soil_classes", "west"]


def test_files_and_globs_are_taken_in_their_order_and_once(archive: Path) -> None:
    east, west = str(archive / "east.tif"), str(archive / "west.TIF")
    assert ids(find_scenes([west, str(archive / "e*.tif"), east, str(archive)])) == ["west", "east"]
    assert ids(find_scenes([str(archive / "**" / "*.tif")])) == ["east", "deep"]
    bracket = make_scene(archive / "a[1].tif", transform=EAST)
    assert find_scenes([str(bracket)])[0].id == "a-1"


def test_what_is_not_there_is_an_error(archive: Path, tmp_path: Path) -> None:
    for name in (str(archive / "gone.tif"), str(archive / "*.gone"), "gone.gpkg", "gone.txt", "gone.json"):
        with pytest.raises(SceneError):
            find_scenes([str(archive), name])


def test_addresses_are_taken_as_segment_takes_them() -> None:
    given = ["https://h/a.tif?x=1", "s3://b/b.tif", "/vsicurl/http://h/c.tif", "NETCDF:cube.nc:rain"]
    assert [s.location for s in find_scenes(given)] == given
    for catalogue in ("s3://b/catalog.json", "https://h/list.txt", "https://h/index.gpkg"):
        with pytest.raises(SceneError):
            find_scenes([catalogue])


def test_a_list_names_what_lies_beside_it(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "# scenes",
        "",
        "east.tif",
        " ./sub/deep.tif ",
        str(archive / "west.TIF"),
        "s3://b/x.tif",
        "/vsizip/x.zip/x.tif",
    ]
    (archive / "list.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    found = find_scenes([str(archive / "list.txt")])
    assert ids(found) == ["east", "deep", "west", "x", "list-line-7"]
    assert found[0].location == str(archive / "east.tif")
    assert "virtual file systems" in found[-1].refused
    monkeypatch.setattr(sys, "stdin", io.StringIO("east.tif\nvrt://x\n"))
    monkeypatch.chdir(archive)
    found = find_scenes(["-"])
    assert (found[0].location, found[1].id) == (str(archive / "east.tif"), "stdin-line-2")
    (archive / "latin.lst").write_bytes(b"\xe4.tif")
    with pytest.raises(SceneError, match=r"latin\.lst cannot be read as a list"):
        find_scenes([str(archive / "latin.lst")])


def write_gpkg(path: Path, table: geopandas.GeoDataFrame) -> Path:
    table.to_file(path, engine="pyogrio")
    return path


def write_parquet(path: Path, table: geopandas.GeoDataFrame) -> Path:
    pytest.importorskip("pyarrow")
    table.to_parquet(path)
    return path


INDEXES: dict[str, Callable[[Path, geopandas.GeoDataFrame], Path]] = {
    ".gpkg": write_gpkg,
    ".fgb": write_gpkg,
    ".parquet": write_parquet,
}


def table(archive: Path, **columns: Any) -> geopandas.GeoDataFrame:
    rows = {
        "location": ["east.tif", str(archive / "west.TIF"), "NETCDF:x.nc:y", "https://h/far.tif"],
        "datetime": ["2020-05-01", "2019-05-01T10:00:00Z", "2020-05-01", None],
    }
    places = [shapely.box(x, 25.2, x + 0.1, 25.3) for x in (55.0, 54.0, 55.0)] + [None]
    return geopandas.GeoDataFrame(rows | columns, geometry=places, crs="EPSG:4326")


@pytest.mark.parametrize("kind", INDEXES)
@pytest.mark.filterwarnings("ignore:.*null geometry.*")
def test_an_index_names_scenes_with_their_place_and_time(kind: str, archive: Path) -> None:
    path = INDEXES[kind](archive / f"index{kind}", table(archive).iloc[: 4 if kind != ".fgb" else 3])
    # A FlatGeobuf has its rows in the order of its spatial index.
    found = sorted(find_scenes([str(path)]), key=lambda s: (s.location == "https://h/far.tif", bool(s.refused), s.id))
    assert ids(found)[:2] == ["east", "west"]
    assert found[0].location == str(archive / "east.tif")
    assert found[0].bbox == pytest.approx((55.0, 25.2, 55.1, 25.3))
    assert found[0].datetime == "2020-05-01T00:00:00Z/2020-05-01T23:59:59.999999Z"
    assert found[1].datetime == "2019-05-01T10:00:00Z"
    assert "is not used" in found[2].refused
    if kind != ".fgb":
        assert (found[3].location, found[3].bbox, found[3].datetime) == ("https://h/far.tif", None, None)
    assert "index-3" not in ids(find_scenes([str(path)], Query(datetime="2019")))
    east = Query(bbox=(BETWEEN, 25, 56, 26), datetime="2020")
    assert "east" in ids(find_scenes([str(path)], east))
    assert "west" not in ids(find_scenes([str(path)], east))


def test_an_index_has_an_id_column_and_any_name_for_its_locations(archive: Path) -> None:
    names = table(archive, id=["a/b", 'x"', "..", "CON"]).rename(columns={"location": "file"})
    path = write_gpkg(archive / "index.gpkg", names)
    with pytest.raises(OptionError, match="say which one names the scenes with --location: .*file"):
        find_scenes([str(path)])
    with pytest.raises(OptionError, match="no column 'gone'"):
        find_scenes([str(path)], Query(location="gone"))
    assert ids(find_scenes([str(path)], Query(location="file"))) == ["a-b", "x", "scene", "CON_"]


def test_a_table_of_stac_items_is_a_catalogue(archive: Path) -> None:
    assets = [{c: {"href": f"{c}{i}.tif", "roles": ["data"]} for c in ("red", "green", "blue")} for i in range(2)]
    assets[1]["red"]["href"] = "/vsicurl/x.tif"
    rows = {"id": ["a", "b"], "assets": assets, "datetime": ["2020-05-01T00:00:00Z"] * 2}
    places = [shapely.box(0, 0, 1, 1)] * 2
    path = write_parquet(archive / "items.parquet", geopandas.GeoDataFrame(rows, geometry=places, crs="EPSG:4326"))
    found = find_scenes([str(path)], Query(names=("red", "green", "blue")))
    assert found[0].assets == tuple(str(archive / f"{c}0.tif") for c in ("red", "green", "blue"))
    assert (found[0].bbox, found[0].datetime) == ((0, 0, 1, 1), "2020-05-01T00:00:00Z")
    assert "virtual file systems" in found[1].refused


@pytest.mark.parametrize("content", [b"", b"no table", b"SQLite format 3\x00" + b"\0" * 100])
@pytest.mark.parametrize("kind", [".gpkg", ".parquet", ".shp", ".fgb"])
def test_a_broken_index_is_named(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / f"x{kind}").write_bytes(content)
    with pytest.raises(RsSegmentError, match=f"x{kind}"):
        find_scenes([str(tmp_path / f"x{kind}")])


def test_places_of_files_are_looked_up_where_they_are_asked_for(archive: Path) -> None:
    make_scene(archive / "nowhere.tif", crs=None)
    (archive / "broken.tif").write_bytes(b"II*\0 broken")
    found = find_scenes([str(archive)], Query(bbox=(BETWEEN, 25, 56, 26)))
    assert ids(found) == ["broken", "east", "nowhere"]
    by_id = {s.id: s for s in found}
    assert by_id["east"].bbox[0] > BETWEEN  # type: ignore[index]
    assert "it has no CRS" in by_id["nowhere"].refused
    assert not by_id["broken"].refused


def test_a_time_that_nobody_tells_is_no_reason_to_be_silent(archive: Path) -> None:
    found = find_scenes([str(archive)], Query(datetime="2020"))
    assert all("nothing tells its time" in s.refused for s in found)
    assert len(found) == 2


def test_an_area_of_interest_may_have_any_crs(archive: Path) -> None:
    parcels = geopandas.GeoDataFrame(geometry=[shapely.box(300_000, 2_799_900, 300_050, 2_799_990)], crs="EPSG:32640")
    path = write_gpkg(archive / "aoi.gpkg", parcels.to_crs("EPSG:3857"))
    assert ids(find_scenes([str(archive)], Query(aoi=path))) == ["east"]
    with pytest.raises(SceneError, match="none of 2 scenes lies in"):
        find_scenes([str(archive)], Query(bbox=(0, 0, 1, 1)))
    with pytest.raises(OptionError, match="do not meet"):
        find_scenes([str(archive)], Query(aoi=path, bbox=(0, 0, 1, 1)))
    lines = write_gpkg(archive / "lines.gpkg", parcels.boundary.to_frame())
    for wrong in (lines, archive / "gone.gpkg", archive / "notes.txt"):
        with pytest.raises(AreaError):
            find_scenes([str(archive)], Query(aoi=wrong))


@pytest.mark.parametrize("box", [(0, 5, 1, 4), (0, -91, 1, 0), (0, 0, 181, 1), (0, 0, float("nan"), 1)])
def test_a_box_that_is_none_is_refused(box: Any, archive: Path) -> None:
    with pytest.raises(OptionError, match="--bbox"):
        find_scenes([str(archive)], Query(bbox=box))


@pytest.mark.parametrize("text", ["yesterday", "2021/2020", "..", ""])
def test_a_time_that_is_none_is_refused(text: str, archive: Path) -> None:
    with pytest.raises(OptionError, match="--datetime"):
        find_scenes([str(archive)], Query(datetime=text))


def test_two_scenes_of_one_name_are_refused_naming_both(archive: Path, tmp_path: Path) -> None:
    other = make_scene(tmp_path / "EAST.tif", transform=EAST)
    with pytest.raises(SceneError, match=r"archive.east\.tif and .*EAST\.tif would both be called EAST_classes\.tif"):
        find_scenes([str(archive), str(other)])
    (archive / "list.txt").write_text("a b.tif\na-b.tif\nhttps://h/x.tif?token=secret\nhttps://h/y/x.tif\n")
    with pytest.raises(SceneError, match="a b.tif and .*a-b.tif .*2 times") as caught:
        find_scenes([str(archive / "list.txt")])
    assert "secret" not in str(caught.value)


def test_a_refused_row_gives_way_to_a_scene_of_its_name(archive: Path) -> None:
    items = [
        {"type": "Feature", "id": name, "assets": {"a": {"href": href}}}
        for name, href in (("s", "vrt://x"), ("S", "a.tif"), ("s", "vrt://y"))
    ]
    (archive / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    found = find_scenes([str(archive / "items.json")])
    assert [(s.id, bool(s.refused)) for s in found] == [("s-2", True), ("S", False), ("s-3", True)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True))
def test_names_are_safe_and_never_meet(names: list[str]) -> None:
    import tempfile

    features = [{"type": "Feature", "id": name, "assets": {"a": {"href": f"{i}.tif"}}} for i, name in enumerate(names)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        if len({alike(safe_name(name)) for name in names}) < len(names):
            with pytest.raises(SceneError, match="would both be called"):
                find_scenes([str(path)])
            return
        found = find_scenes([str(path)])
    assert len(found) == len(names)
    assert len({alike(s.id) for s in found}) == len(names)
    assert all(os.path.basename(s.id) == s.id for s in found)
