"""Maps against references: pixel by pixel by hand, on other grids and in other CRS, by polygons, by points."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.windows import Window

from rs_segment import classmap, polygonize
from rs_segment.classmap import ClassMap, Pick
from rs_segment.errors import DatasetError, GridError, OptionError, PixelTypeError, SceneError
from rs_segment.evaluation import Against, Pairs, PointFields, evaluate_map, evaluate_points, maps, nearest
from rs_segment.evaluation.codes import Codes
from rs_segment.evaluation.matching import Matching
from rs_segment.evaluation.overview import Overview

UTM = "EPSG:32640"


def labels(shape: tuple[int, int], classes: int = 4, seed: int = 0, missing: float = 0.1) -> Any:
    """Patches of classes with holes of nodata, uint8 (row, col)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (shape[0] // 3 + 1, shape[1] // 4 + 1))
    found = np.repeat(np.repeat(coarse, 3, axis=0), 4, axis=1)[: shape[0], : shape[1]].astype(np.uint8)
    found[rng.random(shape) < missing] = 255
    return found


def raster(path: Path, values: Any, names: dict[int, str] | None = None, **profile: Any) -> Path:
    """A class raster; ``names`` are kept the way that rs-segment keeps them."""
    made = make_scene(path, pixels=values[None], **{"nodata": 255, **profile})
    if names is not None:
        import json

        with rasterio.open(made, "r+") as target:
            target.update_tags(CLASS_NAMES=json.dumps({str(k): v for k, v in names.items()}))
    return made


def centres(shape: tuple[int, int], transform: Affine) -> tuple[Any, Any]:
    row, col = np.mgrid[: shape[0], : shape[1]] + 0.5
    t = transform
    return t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED])
def test_on_one_grid_every_pixel_counts_once(tmp_path: Path, transform: Affine) -> None:
    said, truth = labels((37, 53), seed=1), labels((37, 53), seed=2)
    found = evaluate_map(
        raster(tmp_path / "map.tif", said, transform=transform),
        raster(tmp_path / "truth.tif", truth, transform=transform),
    )
    both = (said != 255) & (truth != 255)
    table = [[int((both & (truth == i) & (said == j)).sum()) for j in range(4)] for i in range(4)]
    assert found.confusion.matrix.tolist() == table
    assert found.confusion.names == ("class 0", "class 1", "class 2", "class 3")
    np.testing.assert_allclose(found.hectares[:, :4], np.array(table) * 0.25 / 10_000)  # type: ignore[index]
    wrong = found.views[0].wrong
    np.testing.assert_array_equal(np.isnan(wrong), ~both)
    np.testing.assert_array_equal(wrong[both] == 1, (said != truth)[both])
    less = evaluate_map(tmp_path / "map.tif", tmp_path / "truth.tif", against=Against(Pairs(ignore=("2",))))
    np.testing.assert_array_equal(np.isnan(less.views[0].wrong), ~both | (truth == 2))
    assert less.confusion.total == int((both & (truth != 2)).sum())
    assert "which are the same" in found.grid
    assert "by value" in found.matching
    missing = int(((said == 255) & (truth != 255)).sum())
    assert f"{missing:,} px that the reference knows are not compared" in found.notes[0]


@given(
    scale=st.sampled_from([0.37, 1.0, 2.5]),
    shift=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    turn=st.sampled_from([0, 0, 30]),
    south=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_a_pixel_takes_the_label_that_its_centre_falls_on(
    tmp_path_factory: pytest.TempPathFactory, scale: float, shift: tuple[float, float], turn: int, south: bool
) -> None:
    folder = tmp_path_factory.mktemp("nearest")
    other = (
        NORTH_UP * Affine.translation(*shift) * Affine.rotation(turn) * Affine.scale(scale, -scale if south else scale)
    )
    said, truth = labels((31, 29), seed=3), labels((40, 45), seed=4)
    x, y = centres(said.shape, NORTH_UP)
    inverse = ~other
    col, row = inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f
    # Where a centre falls on an edge, rounding decides.
    sure = (np.abs(col - np.rint(col)) > 1e-5) & (np.abs(row - np.rint(row)) > 1e-5)
    inside = (col >= 0) & (row >= 0) & (col < 45) & (row < 40)
    wanted = np.full(said.shape, 255)
    wanted[inside] = truth[row[inside].astype(int), col[inside].astype(int)]
    truth_file = raster(folder / "truth.tif", truth, transform=other)
    with ClassMap.open(raster(folder / "map.tif", said)) as mine, ClassMap.open(truth_file) as theirs:
        seen = nearest.Nearest.of(nearest.Labelled.of(theirs), mine.scene.geobox)
        whole = seen.read(Window(0, 0, 29, 31))
        np.testing.assert_array_equal(whole[sure], wanted[sure])
        parts = [
            seen.read(Window(c, r, min(7, 29 - c), min(5, 31 - r))) for r in range(0, 31, 5) for c in range(0, 29, 7)
        ]
        assert sum(p.size for p in parts) == whole.size
        np.testing.assert_array_equal(seen.read(Window(7, 5, 9, 11)), whole[5:16, 7:16])


def test_large_windows_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = raster(tmp_path / "t.tif", labels((90, 80)), transform=NORTH_UP * Affine.scale(0.5))
    with ClassMap.open(raster(tmp_path / "m.tif", labels((45, 40)))) as mine, ClassMap.open(truth) as theirs:
        seen = nearest.Nearest.of(nearest.Labelled.of(theirs), mine.scene.geobox)
        whole = seen.read(Window(0, 0, 40, 45))
        for name in ("MAX_PIXELS", "MAX_PLACES"):
            monkeypatch.setattr(nearest, name, 100)
            np.testing.assert_array_equal(seen.read(Window(0, 0, 40, 45)), whole)


@pytest.mark.parametrize(("crs", "metre"), [("EPSG:4326", 1e-5), ("EPSG:3857", 1.2)])
@pytest.mark.parametrize("ground", [0.5, 300])
def test_another_crs_is_followed_to_a_hundredth_of_a_pixel(
    tmp_path: Path, crs: str, metre: float, ground: float
) -> None:
    shape, size = (150, 130), metre * ground
    mine_box = Affine(ground, 0, 300000, 0, -ground, 2800000)
    move = Transformer.from_crs(UTM, crs, always_xy=True)
    x, y = move.transform(*centres(shape, mine_box))
    other = Affine(size, 0, x.min() - 3 * size, 0, -size, y.max() + 3 * size)
    truth = labels((220, 260), seed=7, missing=0)
    inverse = ~other
    col, row = inverse.a * x + inverse.c, inverse.e * y + inverse.f
    sure = (np.abs(col - np.rint(col)) > 0.01) & (np.abs(row - np.rint(row)) > 0.01)
    inside = (col >= 0) & (row >= 0) & (col < 260) & (row < 220)
    assert inside.mean() > 0.9
    theirs_file = raster(tmp_path / "t.tif", truth, transform=other, crs=crs)
    mine_file = raster(tmp_path / "m.tif", labels(shape), transform=mine_box)
    with ClassMap.open(mine_file) as mine, ClassMap.open(theirs_file) as theirs:
        seen = nearest.Nearest.of(nearest.Labelled.of(theirs), mine.scene.geobox)
        whole = seen.read(Window(0, 0, 130, 150))
        wanted = truth[np.clip(row.astype(int), 0, 219), np.clip(col.astype(int), 0, 259)]
        np.testing.assert_array_equal(whole[sure & inside], wanted[sure & inside])
        assert (whole[sure & ~inside] == theirs.blank).all()
        np.testing.assert_array_equal(seen.read(Window(33, 50, 40, 21)), whole[50:71, 33:73])


def test_the_reference_can_give_the_grid(tmp_path: Path) -> None:
    coarse, fine = labels((20, 20), seed=1, missing=0), labels((40, 40), seed=2, missing=0)
    said = raster(tmp_path / "m.tif", fine, transform=NORTH_UP * Affine.scale(0.5))
    truth = raster(tmp_path / "t.tif", coarse)
    assert evaluate_map(said, truth).confusion.total == 1600
    found = evaluate_map(said, truth, against=Against(grid="reference"))
    assert found.confusion.total == 400
    # The middle of a coarse pixel is a corner of four; the one to its lower right counts.
    picked = fine[1::2, 1::2]
    assert found.confusion.accuracy == pytest.approx(float((picked == coarse).mean()))
    assert "m.tif is taken at their centres" in found.grid


def test_areas_of_geographic_pixels_are_those_on_the_ellipsoid(tmp_path: Path) -> None:
    box = Affine(0.5, 0, 10, 0, -0.5, 60)
    said, truth = labels((60, 9), seed=1, missing=0), labels((60, 9), seed=2, missing=0)
    found = evaluate_map(
        raster(tmp_path / "m.tif", said, transform=box, crs="EPSG:4326"),
        raster(tmp_path / "t.tif", truth, transform=box, crs="EPSG:4326"),
    )
    from pyproj import Geod

    geod, wanted = Geod(ellps="WGS84"), np.zeros((4, 4))
    for r in range(60):
        ring = shapely.segmentize(shapely.box(10, 60 - 0.5 * (r + 1), 10.5, 60 - 0.5 * r), 0.005)
        area = abs(geod.geometry_area_perimeter(ring)[0]) / 10_000
        for c in range(9):
            wanted[truth[r, c], said[r, c]] += area
    np.testing.assert_allclose(found.hectares[:, :4], wanted, rtol=1e-5)  # type: ignore[index]


def test_polygons_are_burnt_into_the_pixels(tmp_path: Path) -> None:
    said, truth = labels((48, 40), seed=1), labels((48, 40), seed=2)
    drawn = polygonize(truth, NORTH_UP, UTM)
    drawn["kind"] = [f"k{v}" for v in drawn["class_id"]]
    drawn[["class_id", "kind", "geometry"]].to_crs("EPSG:4326").to_file(tmp_path / "truth.gpkg")
    said_file = raster(tmp_path / "m.tif", said, {0: "k0", 1: "k1", 2: "K2", 3: "k3"})
    by_pixels = evaluate_map(said_file, raster(tmp_path / "t.tif", truth))
    for field in ("kind", "class_id"):
        found = evaluate_map(said_file, tmp_path / "truth.gpkg", against=Against(field=field))
        assert found.confusion.matrix.tolist() == by_pixels.confusion.matrix.tolist()
        assert ("by name" in found.matching) == (field == "kind")
        assert f"truth.gpkg ({field}) are burnt" in found.grid
    outside = evaluate_map(said_file, tmp_path / "truth.gpkg", against=Against(field="kind", outside="k3"))
    assert outside.confusion.total == int((said != 255).sum())
    with pytest.raises(OptionError, match="say which tells the class with --field"):
        evaluate_map(said_file, tmp_path / "truth.gpkg")
    with pytest.raises(DatasetError, match="no attribute 'crop'"):
        evaluate_map(said_file, tmp_path / "truth.gpkg", against=Against(field="crop"))
    with pytest.raises(OptionError, match="polygons have no grid"):
        evaluate_map(said_file, tmp_path / "truth.gpkg", against=Against(field="kind", grid="reference"))


def test_classes_are_matched_as_told_then_by_name_then_by_value(tmp_path: Path) -> None:
    said = raster(tmp_path / "m.tif", np.array([[1, 2, 3, 3]], np.uint8), {1: "Water", 2: "Forest", 3: "Built up"})
    names = {7: "water", 8: "Lake", 9: "forest", 5: "cloud"}
    truth = raster(tmp_path / "t.tif", np.array([[7, 9, 8, 5]], np.uint8), names)
    told = Pairs.parse(["Lake=1"], ["cloud"])
    found = evaluate_map(said, truth, against=Against(told))
    assert found.confusion.names == ("Water", "Forest", "Built up")
    assert found.confusion.matrix.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert "by name, but as told for cloud (left out), Lake (is Water)" in found.matching
    assert "the reference has none of Built up" in found.notes[-1]
    with pytest.raises(OptionError, match=r"t.tif has class 'cloud'.*--ignore 'cloud'"):
        evaluate_map(said, truth, against=Against(Pairs.parse(["Lake=1"])))
    with pytest.raises(OptionError, match="no class 'Sea'"):
        evaluate_map(said, truth, against=Against(Pairs.parse(["Lake=Sea"])))
    with pytest.raises(OptionError, match="must be REFERENCE=MAP"):
        Pairs.parse(["Lake"])


def test_colours_are_classes_of_a_reference_in_three_bands(tmp_path: Path) -> None:
    said, truth = labels((30, 40), 3, 1, 0), labels((30, 40), 3, 2, 0)
    said_file = raster(tmp_path / "m.tif", said, {0: "a", 1: "b", 2: "c"})
    with rasterio.open(said_file, "r+") as target:
        target.write_colormap(1, {0: (10, 0, 0), 1: (0, 200, 0), 2: (0, 0, 30)})
    paint = np.array([(10, 0, 0), (0, 200, 0), (255, 255, 0)], np.uint8)
    picture = make_scene(tmp_path / "t.tif", pixels=paint[truth].transpose(2, 0, 1))
    with pytest.raises(OptionError, match=r"t.tif has class '#FFFF00'.*--map '#FFFF00=CLASS'"):
        evaluate_map(said_file, picture)
    found = evaluate_map(said_file, picture, against=Against(Pairs.parse(["#ffff00=c"])))
    by_values = evaluate_map(said_file, raster(tmp_path / "v.tif", truth))
    assert found.confusion.matrix.tolist() == by_values.confusion.matrix.tolist()
    less = evaluate_map(said_file, picture, against=Against(Pairs(ignore=("#FFFF00",))))
    assert less.confusion.reference.tolist() == [*by_values.confusion.reference[:2].tolist(), 0]
    with pytest.raises(OptionError, match="leave --grid at map"):
        evaluate_map(said_file, picture, against=Against(grid="reference"))


def test_names_of_which_none_is_alike_are_not_matched_by_chance() -> None:
    mine = ("m", {0: "Water", 1: "Land"})
    with pytest.raises(OptionError, match="'Forest'"):
        Matching.of(("t", {0: "Forest", 1: "Field"}), mine).target(0)
    assert Matching.of(("t", {0: "class 0", 1: "1"}), mine).target(1) == 1
    with pytest.raises(OptionError, match="'class 3'"):
        Matching.of(("t", {0: "class 3"}), mine).target(0)
    assert Matching.of(("t", {5: "Forest"}), ("m", {})).target(5) == 5


def test_unclassified_pixels_of_a_map_are_wrong(tmp_path: Path) -> None:
    names = {0: "a", 1: "b", 254: "unclassified"}
    said = raster(tmp_path / "m.tif", np.array([[0, 254, 1, 255]], np.uint8), names)
    found = evaluate_map(said, raster(tmp_path / "t.tif", np.array([[0, 1, 1, 1]], np.uint8)))
    assert found.confusion.names == ("a", "b")
    assert found.confusion.accuracy == pytest.approx(2 / 3)
    assert found.to_dict()["unclassified_hectares"] == pytest.approx(0.25 / 10_000)
    assert any("1 px are unclassified" in note for note in found.notes)
    for nothing in ("254", "255"):
        told = Against(Pairs.parse([f"1={nothing}"]))
        assert evaluate_map(said, tmp_path / "t.tif", against=told).confusion.total == 1


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_classes_may_be_any_whole_numbers(tmp_path: Path, dtype: str) -> None:
    values = np.array([3, 90, 200]) if dtype == "uint8" else np.array([-5, 300, 32000])
    values = np.abs(values) if dtype == "uint16" else values
    said, truth = labels((20, 30), 3, 1, 0), labels((20, 30), 3, 2, 0)
    found = evaluate_map(
        raster(tmp_path / "m.tif", values[said].astype(dtype), nodata=7),
        raster(tmp_path / "t.tif", values[truth].astype("int32"), nodata=None),
    )
    assert [c.value for c in found.classes] == sorted(values.tolist())
    assert found.confusion.accuracy == pytest.approx(float((said == truth).mean()))


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    said = raster(tmp_path / "m.tif", labels((20, 20)))
    far = raster(tmp_path / "far.tif", labels((20, 20)), transform=Affine(0.5, 0, 900000, 0, -0.5, 100))
    with pytest.raises(GridError, match=r"no pixel of m.tif could be compared with far.tif"):
        evaluate_map(said, far)
    bare = raster(tmp_path / "bare.tif", labels((21, 20)), crs=None)
    with pytest.raises(GridError, match=r"bare.tif has no CRS, the other grid has EPSG:32640"):
        evaluate_map(said, bare)
    with pytest.raises(SceneError, match="does not exist"):
        evaluate_map(said, tmp_path / "none.tif")
    noise = np.arange(400, dtype=np.int32).reshape(20, 20)
    with pytest.raises(PixelTypeError, match="more than 254 classes"):
        evaluate_map(said, raster(tmp_path / "noise.tif", noise, nodata=None))


def test_a_mask_without_georeference_lies_on_a_map_of_its_size(tmp_path: Path) -> None:
    values = labels((20, 20))
    bare = raster(tmp_path / "bare.png", values, crs=None, transform=Affine.identity(), driver="PNG")
    assert evaluate_map(raster(tmp_path / "m.tif", values), bare).confusion.accuracy == 1


def test_an_area_of_interest_limits_what_counts(tmp_path: Path) -> None:
    said, truth = labels((40, 40), seed=1, missing=0), labels((40, 40), seed=2, missing=0)
    aoi = (300005, 2799990, 300012, 2799997)
    paths = raster(tmp_path / "m.tif", said), raster(tmp_path / "t.tif", truth)
    found = evaluate_map(*paths, Pick(aoi=aoi))
    inside = said[6:20, 10:24] == truth[6:20, 10:24]
    assert found.confusion.total == inside.size
    assert found.confusion.accuracy == pytest.approx(float(inside.mean()))
    turned = evaluate_map(*paths, Pick(aoi=aoi), Against(grid="reference"))
    assert turned.confusion.total == inside.size


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    side=st.integers(1, 12),
    rows=st.integers(1, 9),
    cols=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_the_overview_is_the_same_however_windows_lie(
    shape: tuple[int, int], side: int, rows: int, cols: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    truth, said = rng.integers(0, 3, (2, *shape)).astype(np.uint8)
    compared = rng.random(shape) < 0.7
    wrong = compared & (truth != said)
    whole, parts = Overview(Window(5, 9, shape[1], shape[0]), side), Overview(Window(5, 9, shape[1], shape[0]), side)
    whole.add(Window(5, 9, shape[1], shape[0]), truth, said, compared, wrong)
    for r in range(0, shape[0], rows):
        for c in range(0, shape[1], cols):
            cut = slice(r, r + rows), slice(c, c + cols)
            tall, wide = truth[cut].shape
            parts.add(Window(5 + c, 9 + r, wide, tall), truth[cut], said[cut], compared[cut], wrong[cut])
    one, other = whole.view("x"), parts.view("x")
    for name in ("reference", "predicted", "wrong"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert max(one.wrong.shape) <= side
    step = one.step
    cell = compared[:step, :step]
    share = wrong[:step, :step].sum() / cell.sum() if cell.any() else math.nan
    np.testing.assert_allclose(one.wrong[0, 0], share, rtol=1e-6)
    assert 255 not in one.reference


def test_codes_tell_values_apart_that_are_far_apart() -> None:
    codes = Codes("x", -1)
    values = np.array([[10**12, -(10**12), -1], [10**12, 5, 5]])
    found = codes.encode(values)
    assert found[0, 2] == 255
    assert [codes.values[c] if c != 255 else -1 for c in found.ravel()] == values.ravel().tolist()


def test_memory_does_not_grow_with_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classmap, "BAND_PIXELS", 1 << 14)
    monkeypatch.setattr(maps, "Overview", lambda window: Overview(window, 50))

    def peak(height: int) -> int:
        values = np.tile(labels((64, 256)), (height // 64, 1))
        layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
        said = raster(tmp_path / f"m{height}.tif", values, **layout)
        truth = raster(tmp_path / f"t{height}.tif", values[::-1], transform=NORTH_UP * Affine.scale(1.1), **layout)
        tracemalloc.start()
        evaluate_map(said, truth)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(256)
    assert peak(8192) < 2 * peak(1024)


def points_csv(path: Path, counts: Any, names: list[str], delimiter: str = ",") -> Path:
    rows = [delimiter.join(("id", "Map", "REFERENCE"))]
    for i, row in enumerate(counts):
        for j, n in enumerate(row):
            rows += [delimiter.join((str(len(rows)), names[i], names[j])) for _ in range(n)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_points_give_the_areas_that_the_paper_prints(tmp_path: Path, delimiter: str) -> None:
    # The paper's map, 1000 times smaller; its pixels are 1000 times larger.
    mapped = [200, 150, 3200, 6450]
    values = np.repeat(np.arange(4, dtype=np.uint8), mapped).reshape(100, 100)
    size = 30 * math.sqrt(1000)
    names = ["loss", "gain", "forest", "other"]
    said = raster(
        tmp_path / "m.tif", values, dict(enumerate(names)), transform=Affine(size, 0, 300000, 0, -size, 2800000)
    )
    counts = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
    found = evaluate_points(said, points_csv(tmp_path / "points.csv", counts, names, delimiter))
    assert found.unit == "ha"
    assert found.estimate.area.round().tolist() == [21158, 11686, 285770, 581386]
    assert (1.96 * found.estimate.area_error).round().tolist() == [6158, 3756, 15510, 16282]
    told = found.to_dict()
    assert told["classes"][0]["area_95"] == pytest.approx(6158, abs=0.5)


def test_a_layer_of_points_asks_the_map(tmp_path: Path) -> None:
    values = labels((60, 60), 3, missing=0.05)
    said = raster(tmp_path / "m.tif", values, {0: "a", 1: "b", 2: "c"})
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(0, 60, (2, 90))
    truth = np.where(rng.random(90) < 0.8, values[rows, cols], 1)
    x, y = NORTH_UP * (cols + 0.5, rows + 0.5)
    layer = geopandas.GeoDataFrame(
        {"truth": truth.astype(float)}, geometry=shapely.points(np.append(x, 0.0), np.append(y, 0.0))[:90], crs=UTM
    ).to_crs("EPSG:4326")
    layer.to_file(tmp_path / "points.gpkg")
    found = evaluate_points(
        said, tmp_path / "points.gpkg", PointFields(reference="truth"), pairs=Pairs(ignore=("255",))
    )
    kept = (values[rows, cols] != 255) & (truth != 255)
    for i in range(3):
        for j in range(3):
            assert found.estimate.counts[i, j] == int((kept & (values[rows, cols] == i) & (truth == j)).sum())
    assert "was read from the map" in found.notes[0]
    assert f"{90 - kept.sum()} of 90 points" in found.notes[1]


def test_tables_of_points_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    said = raster(tmp_path / "m.tif", labels((9, 9), 2, missing=0), {0: "a", 1: "b"})

    def table(text: str) -> Path:
        (tmp_path / "p.csv").write_text(text)
        return tmp_path / "p.csv"

    for text, refusal in (
        ("map,truth\na,b\n", r"no column 'reference' \(it has map, truth\)"),
        ("said,reference\na,b\n", "no column 'map'.*--map-field"),
        ("map,reference\n", "holds no points"),
        ("", "holds no points"),
        ("map,reference\na,b,c\n", "row 2 of .* has 3 cells, but the header has 2"),
        ("map,reference\na,snow\n", "no class 'snow'"),
        ("map,reference\na,a\na,a\nb,b\n", "'b' covers .* 1 of the reference points"),
        ("map,reference\n7,a\n", "has class 7 at a point"),
    ):
        with pytest.raises((OptionError, SceneError), match=refusal):
            evaluate_points(said, table(text))
    with pytest.raises(SceneError, match="does not exist"):
        evaluate_points(said, tmp_path / "none.csv")
