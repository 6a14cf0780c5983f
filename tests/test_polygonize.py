"""Polygons of a class raster, whoever made it: burnt back they are the raster, and bad input ends in a sentence."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from fakes import NORTH_UP, ROTATED, SOUTH_UP, FakePredictor, StopAfter, make_card, make_pixels, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize

from rs_segment import ClassInfo, Outputs, Plan, classmap, segment
from rs_segment.classmap import Pick
from rs_segment.errors import CancelledError, GridError, OptionError, PixelTypeError
from rs_segment.geobox import GeoBox
from rs_segment.shaping import Length, Shapes, Size
from rs_segment.vectorise import Polygonized, polygonize, polygonize_raster
from rs_segment_cli import main

SHAPE = (29, 37)
UTM = CRS.from_epsg(32640)
GRIDS = {"north-up": NORTH_UP, "south-up": SOUTH_UP, "rotated": ROTATED, "pixels": Affine.identity()}
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


def patches(shape: tuple[int, int], seed: int, classes: int = 4) -> NDArray[np.int64]:
    """Blobs with noise, as numbers 0 to ``classes`` - 1."""
    pixels = make_pixels(shape, bands=1, seed=seed)[0].astype(np.int64)
    return pixels * classes // 256


def burnt(layer: geopandas.GeoDataFrame, box: GeoBox) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(class of each pixel, whether a polygon lies on it), by GDAL."""
    number = np.zeros(box.shape, np.int32)
    if len(layer):
        shapes = zip(layer.geometry, range(1, len(layer) + 1), strict=True)
        # In pixels, so that no centre falls beside an edge by rounding.
        flat = ((shapely.transform(g, lambda xy: np.column_stack(~box.transform * tuple(xy.T))), n) for g, n in shapes)
        number = rasterize(flat, box.shape, fill=0, dtype="int32")
    return np.append(0, layer["class_id"].to_numpy(np.int64))[number], number > 0


def polygons_of(path: Path) -> geopandas.GeoDataFrame:
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    return geopandas.read_file(path, layer=geopandas.list_layers(path)["name"][0])


def same(one: geopandas.GeoDataFrame, other: geopandas.GeoDataFrame) -> bool:
    """Whether two layers hold the same polygons, in whatever order and from whatever vertex on."""

    def keys(layer: geopandas.GeoDataFrame) -> list[Any]:
        shapes = shapely.normalize(shapely.simplify(layer.geometry.to_numpy(), 0))
        return sorted(zip(layer["class_id"], shapely.to_wkt(shapes, 6), layer["pixels"], strict=True))

    return keys(one) == keys(other)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(INTEGERS),
    st.sampled_from(list(GRIDS)),
    st.booleans(),
    st.sampled_from(["none", "value", "mask", "valid"]),
    st.integers(0, 999),
)
def test_an_array_burnt_back_is_the_array(dtype: str, grid: str, crs: bool, missing: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = max(np.iinfo(dtype).min, 1 - 2**60), min(np.iinfo(dtype).max, 2**60 - 1)
    values = np.concatenate([rng.integers(low, high, 3, dtype, endpoint=True), np.array([high, 255 % high], dtype)])
    labels = values[patches(SHAPE, seed, 5)]
    gone = rng.random(SHAPE) < 0.2
    box = GeoBox(SHAPE, GRIDS[grid], UTM if crs else None)
    options: dict[str, Any] = {"nodata": None}
    expected = np.ones(SHAPE, bool)
    given_labels: Any = labels
    if missing == "value":
        options["nodata"], expected = int(values[0]), labels != values[0]
    elif missing == "mask":
        given_labels, expected = np.ma.array(labels, mask=gone), ~gone
    elif missing == "valid":
        options["valid"] = expected = ~gone
    layer = polygonize(given_labels, box if crs else GRIDS[grid], **options)
    found, there = burnt(layer, box)
    assert np.array_equal(there, expected)
    assert np.array_equal(found[expected], labels[expected].astype(np.int64))
    assert layer.geometry.is_valid.all()
    assert layer["pixels"].sum() == expected.sum()
    assert (layer.crs is not None) == crs


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(("uint8", "int16", "uint32", "int64", "float32")),
    st.sampled_from(list(GRIDS)),
    st.booleans(),
    st.sampled_from(["none", "tag", "mask"]),
    st.sampled_from([None, (1, 3), ("2",), (3, 77)]),
    st.booleans(),
    st.integers(0, 999),
)
def test_a_raster_burnt_back_is_the_raster(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    grid: str,
    crs: bool,
    missing: str,
    classes: tuple[int | str, ...] | None,
    gated: bool,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("burnt")
    rng = np.random.default_rng(seed)
    labels = patches(SHAPE, seed, 5).astype(dtype)
    expected = np.ones(SHAPE, bool)
    profile: dict[str, Any] = {"transform": GRIDS[grid], "crs": "EPSG:32640" if crs else None}
    gate = rng.random(SHAPE) < 0.8
    if missing == "tag":
        profile["nodata"], expected = 0, labels != 0
    elif missing == "mask":
        expected = rng.random(SHAPE) < 0.9
    source = make_scene(
        folder / "map.tif", pixels=labels[None], mask=expected if missing == "mask" else None, blockysize=8, **profile
    )
    if gated:
        make_scene(folder / "gate.tif", pixels=gate[None].astype(np.uint8), **profile | {"nodata": None})
        expected = expected & gate
    if classes is not None:
        expected = expected & np.isin(labels, [int(c) for c in classes])
    pick = Pick(classes=classes, mask=folder / "gate.tif" if gated else None)
    result = polygonize_raster(source, pick=pick)
    layer = polygons_of(folder / "map.gpkg")
    found, there = burnt(layer, GeoBox(SHAPE, GRIDS[grid]))
    assert np.array_equal(there, expected)
    assert np.array_equal(found[expected], labels[expected])
    assert result.polygons == len(layer)
    assert all(c.change == 0 for c in result.classes)
    assert sum(c.pixels for c in result.classes) == expected.sum()
    assert sum("class 77" in note for note in result.notes) == (classes == (3, 77))


def test_polygons_of_our_own_map_are_those_that_predict_wrote(tmp_path: Path) -> None:
    card = make_card(resolution_limits=(0.01, 10.0))
    scene = make_scene(tmp_path / "scene.tif", (150, 97), nodata=0)
    outputs = Outputs(confidence=True, min_confidence=0.3)
    made = segment(scene, tmp_path / "map.tif", FakePredictor(card), plan=Plan(tile=32, overlap=16), outputs=outputs)
    assert made.polygons is not None
    pick = Pick(confidence=made.confidence)
    result = polygonize_raster(made.classes, tmp_path / "again.gpkg", pick)
    one, other = polygons_of(made.polygons), polygons_of(result.files[0])
    assert same(one, other)
    for column in ("class", "area_m2", "confidence"):
        assert sorted(one[column].fillna(-1)) == sorted(other[column].fillna(-1))
    assert [(c.name, c.pixels, c.area_m2) for c in result.classes] == [
        (a.name, a.pixels, a.area_m2) for a in made.areas if a.pixels
    ]


def make_source(folder: Path) -> Path:
    """A raster of 5 classes with names, missing pixels and many small patches."""
    pixels = patches((90, 110), 5, 5).astype(np.uint8)
    pixels[20:25, :9] = 255
    path = make_scene(folder / "map.tif", pixels=pixels[None], nodata=255, blockysize=8)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(CLASS_NAMES='{"0": "Haus", "1": "Feld, Wiese", "2": "Weg", "3": "See", "4": "Wald"}')
        dataset.write_colormap(1, {i: (40 * i, 9, 200 - 40 * i, 255) for i in range(5)})
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path)


def run(
    source: Path, name: str, shapes: Shapes | None = None, overwrite: bool = False, **options: Any
) -> tuple[Polygonized, Any]:
    result = polygonize_raster(source, source.with_name(name), Pick(**options), shapes, overwrite=overwrite)
    return result, polygons_of(source.with_name(name))


ALL_SHAPES = [
    Shapes(),
    Shapes(sieve=6),
    Shapes(min_area=Size(2.5)),
    Shapes(min_area=Size(10, "px"), small="drop", simplify=Length(1.5, "px")),
    Shapes(sieve=3, min_area=Size(3), smooth=Length(0.5, "m")),
    Shapes(split=16),
    Shapes(dissolve=True, sieve=4),
]


@pytest.mark.parametrize("shapes", ALL_SHAPES)
def test_the_layer_does_not_depend_on_how_the_raster_is_read(
    source: Path, shapes: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = make_scene(source.with_name("score.tif"), pixels=make_pixels((90, 110), 1, seed=2), nodata=255)
    made = []
    for pixels in (1 << 22, 110 * 8, 1):
        monkeypatch.setattr(classmap, "BAND_PIXELS", pixels)
        result = polygonize_raster(source, source.with_name("a.gpkg"), Pick(confidence=score), shapes, overwrite=True)
        made.append((source.with_name("a.gpkg").read_bytes(), result.classes, result.notes))
    assert made[0] == made[1] == made[2]


def mean_confidence(layer: Any, box: GeoBox, score: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of each polygon, pixel by pixel."""
    found = []
    for geometry in layer.geometry:
        values = score[rasterize([geometry], box.shape, transform=box.transform) > 0]
        values = values[values != 255]
        found.append(values.mean() / 254 if len(values) else np.nan)
    return np.array(found)


def test_confidence_stays_with_its_pixels_when_sieves_lag(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classmap, "BAND_PIXELS", 1)
    score = make_pixels((90, 110), 1, seed=2)
    score[score < 20] = 255
    other = make_scene(source.with_name("score.tif"), pixels=score, nodata=255)
    for shapes in (Shapes(), Shapes(sieve=6, min_area=Size(4))):
        result, layer = run(source, f"{shapes.sieve}.gpkg", shapes, confidence=other)
        expected = mean_confidence(layer, result.geobox, score[0])
        assert np.allclose(layer["confidence"], expected, equal_nan=True)


def test_small_polygons_are_merged_dropped_or_kept(source: Path) -> None:
    _, plain = run(source, "plain.gpkg")
    big = plain[plain["pixels"] >= 12]
    told: dict[str, str] = {}
    for small in ("merge", "drop", "keep"):
        result, layer = run(source, f"{small}.gpkg", Shapes(min_area=Size(12, "px"), small=small))  # type: ignore[arg-type]
        told[small] = " ".join(result.notes)
        _, metres = run(source, f"{small}_m2.gpkg", Shapes(min_area=Size(3), small=small))  # type: ignore[arg-type]
        assert same(layer, metres)
        if small == "merge":
            assert layer["pixels"].min() >= 12
            assert layer["pixels"].sum() == plain["pixels"].sum()
            assert sum(c.change * c.pixels / (1 + c.change) for c in result.classes) == pytest.approx(0, abs=1e-6)
            assert any(c.change for c in result.classes)
        else:
            assert same(layer, big if small == "drop" else plain)
    assert told == {
        "merge": "",
        "drop": f"polygons below 12 px that are left out: {len(plain) - len(big):,}",
        "keep": f"polygons below 12 px that are kept: {len(plain) - len(big):,}",
    }
    _, sieved = run(source, "sieved.gpkg", Shapes(sieve=12))
    assert same(sieved, polygons_of(source.with_name("merge.gpkg")))


def test_what_is_small_does_not_depend_on_how_it_is_drawn(source: Path) -> None:
    drop = {"min_area": Size(3), "small": "drop"}
    result, exact = run(source, "exact.gpkg", Shapes(**drop))  # type: ignore[arg-type]
    drawn, smooth = run(source, "smooth.gpkg", Shapes(**drop, smooth=Length(1, "px")))  # type: ignore[arg-type]
    assert sorted(exact["pixels"]) == sorted(smooth["pixels"])
    assert result.notes == drawn.notes


def test_a_patch_without_a_neighbour_stays_and_is_told(tmp_path: Path) -> None:
    pixels = np.full((9, 9), 255, np.uint8)
    pixels[2:4, 3:5], pixels[3, 3], pixels[7, 7] = 1, 2, 3
    source = make_scene(tmp_path / "map.tif", pixels=pixels[None], nodata=255)
    result, layer = run(source, "out.gpkg", Shapes(min_area=Size(4, "px")))
    assert sorted(zip(layer["class_id"], layer["pixels"], strict=True)) == [(1, 4), (3, 1)]
    assert result.notes == ("polygons below 4 px that have no neighbour to go to, and stay: 1",)
    assert [(c.value, c.polygons, c.change) for c in result.classes] == [(1, 1, 1 / 3), (2, 0, -1.0), (3, 1, 0.0)]


@pytest.mark.parametrize("generalise", [{"simplify": Length(2, "px")}, {"smooth": Length(1, "px")}])
def test_generalised_polygons_are_still_a_coverage(source: Path, generalise: dict[str, Length]) -> None:
    exact, plain = run(source, "plain.gpkg")
    result, layer = run(source, "drawn.gpkg", Shapes(**generalise))  # type: ignore[arg-type]
    assert len(layer) == len(plain)
    assert shapely.coverage_is_valid(layer.geometry.to_numpy())
    assert layer.geometry.area.sum() == pytest.approx(plain.geometry.area.sum(), rel=1e-3)
    assert shapely.get_num_coordinates(layer.geometry).sum() < shapely.get_num_coordinates(plain.geometry).sum() * 1.5
    for found in result.classes:
        drawn = layer.geometry.area[layer["class_id"] == found.value].sum()
        assert found.change == pytest.approx(drawn / (found.pixels * 0.25) - 1, abs=1e-9)
        assert found.area_m2 == pytest.approx(drawn, rel=1e-6)
    assert [c.pixels for c in result.classes] == [c.pixels for c in exact.classes]


def test_dissolved_polygons_are_one_a_class(source: Path) -> None:
    exact, plain = run(source, "plain.gpkg")
    result, layer = run(source, "dissolved.gpkg", Shapes(dissolve=True))
    assert layer["class_id"].tolist() == [0, 1, 2, 3, 4]
    assert layer.geometry.is_valid.all()
    assert set(layer.geometry.geom_type) <= {"MultiPolygon"}
    for column in ("pixels", "area_m2"):
        assert layer[column].tolist() == pytest.approx(plain.groupby("class_id")[column].sum().tolist())
    parts = layer.explode()
    assert same(parts.assign(pixels=0), plain.assign(pixels=0))
    assert result.classes == exact.classes
    _, drawn = run(source, "drawn.gpkg", Shapes(dissolve=True, simplify=Length(2, "px"), smooth=Length(1, "px")))
    assert drawn.geometry.is_valid.all()
    assert drawn.geometry.area.sum() == pytest.approx(plain.geometry.area.sum(), rel=1e-3)


def test_split_cuts_along_a_grid(source: Path) -> None:
    _, plain = run(source, "plain.gpkg")
    _, layer = run(source, "split.gpkg", Shapes(split=16))
    left, bottom, right, top = layer.geometry.bounds.to_numpy().T
    assert max((right - left).max(), (top - bottom).max()) <= 16 * 0.5
    box = GeoBox((90, 110), NORTH_UP)
    assert all(np.array_equal(a, b) for a, b in zip(burnt(layer, box), burnt(plain, box), strict=True))
    assert len(layer) > len(plain)


def test_classes_by_name_are_the_whole_less_the_rest(source: Path) -> None:
    _, plain = run(source, "plain.gpkg")
    _, some = run(source, "some.gpkg", classes=("see", "Weg", 0))
    assert same(some, plain[plain["class_id"].isin([0, 2, 3])])
    result, rest = run(source, "rest.gpkg", Shapes(skip=("Wald", 1)))
    assert same(rest, some)
    assert [c.name for c in result.classes] == ["Haus", "Weg", "See"]
    assert dict(zip(rest["class"], rest["color"].str.upper(), strict=True)) == {
        "Haus": "#0009C8",
        "Weg": "#500978",
        "See": "#780950",
    }


def test_an_area_of_interest_gives_its_part(source: Path) -> None:
    bounds = (300005.0, 2799970.0, 300030.0, 2799990.0)
    result, layer = run(source, "part.gpkg", aoi=bounds)
    assert tuple(layer.total_bounds) == bounds
    assert result.geobox.bounds == bounds
    with rasterio.open(source) as dataset:
        expected = dataset.read(1, window=dataset.window(*bounds))
    assert np.array_equal(burnt(layer, result.geobox)[0], expected)


def test_a_raster_without_a_class_gives_an_empty_layer(tmp_path: Path) -> None:
    source = make_scene(tmp_path / "map.tif", pixels=np.zeros((1, 9, 8), np.uint8), nodata=0)
    result, layer = run(source, "out.gpkg")
    assert len(layer) == result.polygons == 0
    assert result.notes[0].startswith("no pixel holds a class (nodata 0)")


def test_thousands_of_classes_do_not_end_in_a_legend_of_thousands(tmp_path: Path) -> None:
    pixels = np.arange(40 * 50, dtype=np.int32).reshape(1, 40, 50)
    source = make_scene(tmp_path / "ids.tif", pixels=pixels)
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(CLASS_NAMES='{"7": "Haus"}')
    result, layer = run(source, "out.gpkg")
    assert len(layer) == len(result.classes) == 2000
    assert layer["class"][layer["class_id"] == 7].tolist() == ["Haus"]
    assert result.notes == ("1,999 classes without a name or a colour are not in the legend: they are too many",)
    assert "and 1,980 smaller classes" in cli(source, "-o", tmp_path / "again.gpkg").stderr


def test_what_python_is_given_wrongly_is_refused() -> None:
    ones = np.ones((4, 5), np.uint8)
    with pytest.raises(PixelTypeError, match="labels are float64"):
        polygonize(np.ones((4, 5)))
    with pytest.raises(PixelTypeError, match="labels go up to 18446744073709551615"):
        polygonize(np.full((4, 5), 2**64 - 1, np.uint64))
    with pytest.raises(GridError):
        polygonize(np.ones(5, np.uint8))
    with pytest.raises(GridError):
        polygonize(ones, valid=np.ones((5, 4), bool))
    with pytest.raises(GridError):
        polygonize(ones, GeoBox((5, 4), NORTH_UP))
    with pytest.raises(GridError, match="is no CRS"):
        polygonize(ones, NORTH_UP, "EPSG:nonsense")
    with pytest.raises(OptionError, match="has no class 'Wald'; it has 1 Feld"):
        polygonize(ones, classes=[ClassInfo(1, "Feld", "#112233")], shapes=Shapes(skip=("Wald",)))
    with pytest.raises(GridError, match="no CRS"):
        polygonize(ones, NORTH_UP, shapes=Shapes(min_area=Size(3)))


def test_python_gives_names_and_skips_by_them() -> None:
    classes = [ClassInfo(1, "Feld", "#112233"), ClassInfo(2, "Wald", "#445566")]
    labels = np.array([[1, 2, 255], [1, 2, 7]], np.uint8)
    layer = polygonize(labels, NORTH_UP, "EPSG:32640", classes=classes, shapes=Shapes(skip=("wald",)))
    assert sorted(layer["class"]) == ["Feld", "class 7"]
    assert layer["area_m2"].sum() == 0.75
    assert layer.crs == "EPSG:32640"


def cli(*arguments: object) -> Any:
    result = CliRunner().invoke(main, ["polygonize", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


def test_the_command_says_what_came_out(source: Path) -> None:
    result = cli(source, "--sieve", 4, "--classes", "See, Wald", "--layer", "Gewässer")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("map.tif, ")
    assert lines[1].split()[0] == "See"
    assert " ha " in lines[1]
    assert "%)" in lines[1]
    assert lines[-1] == f"wrote {source.with_suffix('.gpkg')}"
    assert geopandas.list_layers(source.with_suffix(".gpkg"))["name"][0] == "Gewässer"


def test_the_command_says_it_in_json(source: Path) -> None:
    options = ["--simplify", "1px", "--smooth", "0.5", "--min-area", "0.0003ha", "--small", "drop", "--split", 40]
    result = cli(source, "-o", source.with_name("out.gpkg"), *options, "--skip", "Weg", "--json", "--progress", "jsonl")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["files"][0] == str(source.with_name("out.gpkg"))
    assert told["polygons"] == sum(c["polygons"] for c in told["classes"]) == len(polygons_of(Path(told["files"][0])))
    assert [c["name"] for c in told["classes"]] == ["Haus", "Feld, Wiese", "See", "Wald"]
    stages = {json.loads(line)["stage"] for line in result.stderr.splitlines()}
    assert stages == {"classes", "polygons"}


def test_results_lie_where_they_are_asked_for(source: Path, tmp_path: Path) -> None:
    assert cli(source, "-o", f"{tmp_path}/new/deep/").exit_code == 0
    assert (tmp_path / "new/deep/map.gpkg").exists()
    before = (tmp_path / "new/deep/map.gpkg").read_bytes()
    refused = cli(source, "-o", tmp_path / "new/deep")
    assert refused.exit_code == 4
    assert "is already there; replace it with --overwrite" in refused.stderr
    assert (tmp_path / "new/deep/map.gpkg").read_bytes() == before
    assert cli(source, "-o", tmp_path / "new/deep", "--overwrite", "--classes", 1).exit_code == 0
    assert len(polygons_of(tmp_path / "new/deep/map.gpkg")["class_id"].unique()) == 1


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--classes", "Sea"], 2, "map.tif has no class 'Sea'; it has 0 Haus, 1 Feld, Wiese, 2 Weg"),
        (["--classes", "9,77"], 2, "holds no pixel of the classes that are left; it holds 0 Haus, 1 Feld"),
        (["--skip", "0,1,2,3,4"], 2, "holds no pixel of the classes that are left"),
        (["--band", "2"], 4, "map.tif has no band 2"),
        (["--simplify", "2 miles"], 2, "2 miles is no length"),
        (["--min-area", "much"], 2, "'much' is no number with a unit"),
        (["--small", "drop"], 2, "say how small with --min-area"),
        (["--split", "9", "--dissolve"], 2, "choose one of them"),
        (["--mask", "nowhere.tif"], 4, "nowhere.tif does not exist"),
        (["--aoi", "0,0,1,1"], 4, "does not meet the scene"),
        (["--confidence", "map.tif"], 0, ""),
        (["-o", "out.kml"], 2, "out.kml; its name must end in .gpkg, .fgb"),
        (["-o", "map.tif"], 2, "map.tif; its name must end in .gpkg"),
        (["-o", "nowhere/out.gpkg"], 1, "nowhere is no folder"),
    ],
)
def test_bad_options_end_in_a_sentence(
    source: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(source.parent)
    before = set(source.parent.rglob("*"))
    result = cli("map.tif", *options)
    assert result.exit_code == code, result.output
    assert told in result.stderr
    if code:
        assert len(result.stderr.splitlines()) == 1
        assert set(source.parent.rglob("*")) == before


def test_bad_rasters_end_in_a_sentence(tmp_path: Path) -> None:
    photo = make_scene(tmp_path / "photo.tif")
    (tmp_path / "notes.txt").write_text("no raster")
    assert cli(photo, "-o", f"{tmp_path}/new/").exit_code == 4
    assert not (tmp_path / "new").exists()
    odd = make_scene(tmp_path / "odd.tif", pixels=np.ones((1, 5, 5), np.complex64))
    heights = make_scene(tmp_path / "heights.tif", pixels=np.full((1, 5, 5), 2.5, np.float32))
    for path, told in (
        (photo, "photo.tif has 3 bands (1 red, 2 green, 3 blue)"),
        (tmp_path / "notes.txt", "cannot be opened as a raster"),
        (tmp_path / "none.tif", "does not exist"),
        (odd, "complex64"),
        (heights, "heights.tif holds 2.5 in row 0, column 0"),
    ):
        result = cli(path)
        assert result.exit_code == 4, result.output
        assert told in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*.gpkg")) + list(tmp_path.glob(".*"))


def test_the_layer_never_replaces_what_is_read(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "map.gpkg",
        "w",
        driver="GPKG",
        width=40,
        height=30,
        count=1,
        dtype="uint8",
        crs=UTM,
        transform=NORTH_UP,
    ) as dataset:
        dataset.write(patches((30, 40), 1).astype(np.uint8), 1)
    result = cli(tmp_path / "map.gpkg", "--overwrite", "--band", 1)
    assert result.exit_code == 2
    assert "is one of the inputs" in result.stderr


def test_stopping_leaves_nothing(source: Path) -> None:
    before = set(source.parent.iterdir())
    for tiles in (0, 1):
        with pytest.raises(CancelledError):
            polygonize_raster(source, track=StopAfter(tiles))
    assert set(source.parent.iterdir()) == before


@pytest.mark.parametrize("ending", [".gpkg", ".fgb", ".geojson", ".shp", ".parquet"])
def test_every_format_holds_the_same_polygons(source: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    _, plain = run(source, "plain.gpkg")
    result, layer = run(source, f"other{ending}")
    assert result.files[0].name == f"other{ending}"
    assert all(path.exists() for path in result.files)
    assert bool(result.notes) == (ending in (".geojson", ".shp"))
    moved = layer.to_crs(plain.crs)
    # FlatGeobuf has an order of its own; GeoJSON is rounded to a centimetre.
    found, expected = (
        x.assign(size=x.geometry.area.round(1)).sort_values(["class", "pixels", "size"]) for x in (moved, plain)
    )
    assert found["class"].tolist() == expected["class"].tolist()
    assert found["pixels"].tolist() == expected["pixels"].tolist()
    assert np.allclose(found["size"], expected["size"], rtol=0.05, atol=0.11)
    left = {p.name for p in source.parent.iterdir()} - {"map.tif", "plain.gpkg"}
    assert left == {path.name for path in result.files}
    again, _ = run(source, f"other{ending}", Shapes(skip=(1, 2, 3, 4)), overwrite=True)
    assert again.files == result.files


def test_a_layer_is_replaced_with_all_its_files(source: Path) -> None:
    target = source.with_name("old.shp")
    polygonize_raster(source, target)
    assert target.with_suffix(".prj").exists()
    plain = make_scene(source.with_name("plain.tif"), pixels=np.ones((1, 5, 5), np.uint8), crs=None)
    assert "is already there" in cli(plain, "-o", target).stderr
    result = polygonize_raster(plain, target, overwrite=True)
    assert target.with_suffix(".prj").exists() == (target.with_suffix(".prj") in result.files)
    assert {p for p in target.parent.iterdir() if p.stem == "old"} == set(result.files)
    assert len(polygons_of(target)) == 1


def test_the_style_of_a_raster_is_not_taken_for_that_of_a_layer(source: Path) -> None:
    style = source.with_suffix(".qml")
    style.write_text("the raster's")
    result = polygonize_raster(source, source.with_suffix(".fgb"))
    assert [p.name for p in result.files] == ["map.fgb"]
    assert result.notes == ("the style map.qml is not written, as a raster of that name would take it for its own",)
    polygonize_raster(source, source.with_suffix(".fgb"), overwrite=True)
    assert style.read_text() == "the raster's"
    other = polygonize_raster(source, source.with_name("other.fgb"))
    assert [p.name for p in other.files] == ["other.fgb", "other.qml"]


def test_layers_are_added_to_a_geopackage_by_name(source: Path) -> None:
    target = source.with_name("all.gpkg")
    first = polygonize_raster(source, target)
    polygonize_raster(source, target, Pick(classes=("See",)), layer="See")
    both = geopandas.read_file(target, layer="all")
    assert len(both) == first.polygons
    assert set(geopandas.read_file(target, layer="See")["class"]) == {"See"}
    refused = cli(source, "-o", target, "--layer", "See")
    assert refused.exit_code == 4
    assert len(refused.stderr.splitlines()) == 1
    polygonize_raster(source, target, Pick(classes=("Weg",)), layer="See", overwrite=True)
    assert set(geopandas.read_file(target, layer="See")["class"]) == {"Weg"}
    assert len(geopandas.read_file(target, layer="all")) == first.polygons
    polygonize_raster(source, target, overwrite=True)
    assert "See" not in set(geopandas.list_layers(target)["name"])


SLOW = """
import sys, time
from rs_segment import classmap
from rs_segment_cli import main
read = classmap.ClassMap.read
def slow(self, window):
    time.sleep(float(sys.argv[1]))
    return read(self, window)
classmap.ClassMap.read, classmap.BAND_PIXELS = slow, 1
main(sys.argv[2:], prog_name="rs-segment")
"""
SIGNALS = [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    """(raster, a layer of it, the layer that replaces it)."""
    source = make_source(tmp_path_factory.mktemp("versions"))
    made = []
    for shapes in (Shapes(), Shapes(sieve=5)):
        polygonize_raster(source, source.with_name("out.gpkg"), shapes=shapes, overwrite=True)
        made.append(source.with_name("out.gpkg").read_bytes())
    return source, made[0], made[1]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "status"), SIGNALS, ids=["kill", "terminate", "interrupt"])
def test_killed_at_any_moment_the_layer_is_old_or_new(
    tmp_path: Path, versions: tuple[Path, bytes, bytes], number: signal.Signals, status: int
) -> None:
    source, old, new = versions
    target = tmp_path / "out.gpkg"
    target.write_bytes(old)
    options = ["polygonize", str(source), "-o", str(target), "--overwrite", "--sieve", "5"]
    child = subprocess.Popen([sys.executable, "-c", SLOW, "0.03", *options], stderr=subprocess.PIPE, text=True)
    partial = tmp_path / ".out.gpkg.partial"
    while not partial.exists() and child.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.6))
    child.send_signal(number)
    _, told = child.communicate(timeout=30)
    assert child.returncode in (0, status)
    assert "Traceback" not in told
    assert target.read_bytes() in ((new,) if child.returncode == 0 else (old, new))
    if child.returncode != -9:
        assert not partial.exists()
    polygonize_raster(source, target, shapes=Shapes(sieve=5), overwrite=True)
    assert target.read_bytes() == new
    assert not partial.exists()
