"""Whoever made a class raster: its values, its names and colours, what is missing, and nothing of the rest."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from rs_segment.card import ClassInfo
from rs_segment.classmap import ClassMap, Pick
from rs_segment.errors import AreaError, BandError, GridError, OptionError, PixelTypeError, RsSegmentError, SceneError
from rs_segment.geobox import GeoBox
from rs_segment.styles import pam

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
SHAPE = (23, 31)


def make_classes(path: Path, pixels: NDArray[Any], **profile: Any) -> Path:
    return make_scene(path, pixels=pixels[None] if pixels.ndim == 2 else pixels, **profile)


def whole(source: Path, pick: Pick | None = None, rows: int | None = None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(labels as int64, where there are any) of the whole raster."""
    with ClassMap.open(source, pick) as classmap:
        labels = np.full(classmap.scene.geobox.shape, classmap.blank, classmap.dtype)
        for part in classmap.bands(rows):
            w = part.window
            labels[w.row_off : w.row_off + w.height, w.col_off : w.col_off + w.width] = part.labels
            assert part.labels.dtype == classmap.dtype
        return labels.astype(np.int64), labels != classmap.blank


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("maps")


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(INTEGERS + ("float32", "float64")),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["none", "tag", "mask", "option", "alpha"]),
    st.sampled_from([{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"blockysize": 5}]),
    st.integers(1, 30),
)
def test_every_value_comes_through_and_what_is_missing_is_missing(
    folder: Path, dtype: str, seed: int, missing: str, blocks: dict[str, Any], rows: int
) -> None:
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "ui" else np.iinfo(np.int16)
    low, high = max(info.min, 1 - 2**60), min(info.max, 2**60 - 1)
    values = np.unique(np.append(rng.integers(low, high, 4, endpoint=True), [low, high, 0, 1]))
    pixels = rng.choice(values, SHAPE).astype(dtype)
    gone = rng.random(SHAPE) < 0.3
    profile: dict[str, Any] = dict(blocks)
    pick, valid = Pick(), np.ones(SHAPE, bool)
    if missing == "tag":
        profile["nodata"] = int(values[0]) if abs(int(values[0])) < 2**53 else 0
        valid = pixels != np.asarray(profile["nodata"]).astype(dtype)
    elif missing == "option":
        pick, valid = Pick(nodata=1), pixels != 1
    elif missing == "mask":
        profile["mask"], valid = ~gone, ~gone
    if missing == "alpha":
        path = make_classes(folder / "map.tif", np.stack([pixels, (~gone).astype(dtype)]), **profile)
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        valid = ~gone
    else:
        path = make_classes(folder / "map.tif", pixels, **profile)
    labels, known = whole(path, pick, rows)
    assert np.array_equal(known, valid)
    assert np.array_equal(labels[valid], pixels[valid].astype(np.int64))


def test_nan_is_missing_and_whole_floats_are_classes(tmp_path: Path) -> None:
    pixels = np.array([[1, 2, np.nan], [-7, 1e6, np.inf]], "float32")
    labels, valid = whole(make_classes(tmp_path / "map.tif", pixels))
    assert valid.tolist() == [[True, True, False], [True, True, False]]
    assert labels[valid].tolist() == [1, 2, -7, 1_000_000]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_value_that_is_no_whole_number_is_named_with_its_place(tmp_path: Path, dtype: str) -> None:
    pixels = np.zeros((700, 9), dtype)
    pixels[650, 4] = 3.25
    path = make_classes(tmp_path / "heights.tif", pixels, blockysize=64)
    with pytest.raises(PixelTypeError, match=r"heights.tif holds 3.25 in row 650, column 4, but classes are whole"):
        whole(path, rows=64)


@pytest.mark.parametrize(("dtype", "value"), [("uint64", 2**64 - 3), ("int64", 1 - 2**62), ("float64", 2.0**60)])
def test_values_of_more_than_60_bits_are_refused(tmp_path: Path, dtype: str, value: float) -> None:
    path = make_classes(tmp_path / "map.tif", np.full((3, 4), value, dtype))
    with pytest.raises(PixelTypeError, match="in row 0, column 0, but classes have 60 bits"):
        whole(path)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([NORTH_UP, SOUTH_UP, ROTATED]), st.integers(1, 40), st.data())
def test_an_area_of_interest_reads_a_window_of_the_same_labels(
    folder: Path, transform: Affine, rows: int, data: st.DataObject
) -> None:
    pixels = np.random.default_rng(3).integers(0, 5, SHAPE, np.uint8)
    path = make_classes(folder / "area.tif", pixels, transform=transform, tiled=True, blockxsize=16, blockysize=16)
    top, left = data.draw(st.integers(0, SHAPE[0] - 1)), data.draw(st.integers(0, SHAPE[1] - 1))
    bottom, right = data.draw(st.integers(top + 1, SHAPE[0])), data.draw(st.integers(left + 1, SHAPE[1]))
    bounds = GeoBox(SHAPE, transform)[Window(left, top, right - left, bottom - top)].bounds
    labels, valid = whole(path, Pick(aoi=tuple(bounds)), rows)
    assert np.array_equal(labels[valid], pixels[valid])
    cols, lines = np.meshgrid(np.arange(SHAPE[1]) + 0.5, np.arange(SHAPE[0]) + 0.5)
    x, y = transform * (cols, lines)
    inside = (bounds[0] < x) & (x < bounds[2]) & (bounds[1] < y) & (y < bounds[3])
    assert np.array_equal(valid, inside)
    with ClassMap.open(path, Pick(aoi=tuple(bounds))) as classmap:
        w = classmap.window
        assert not valid[: w.row_off].any()
        assert classmap.geobox == classmap.scene.geobox[w]


def test_a_mask_says_where_to_look(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 4, SHAPE, np.uint8)
    gate = rng.integers(0, 3, SHAPE).astype("float32")
    gate[0, :4] = np.nan
    path = make_classes(tmp_path / "map.tif", pixels)
    mask = make_classes(tmp_path / "gate.tif", gate, nodata=2)
    labels, valid = whole(path, Pick(mask=mask), rows=7)
    assert np.array_equal(valid, gate == 1)
    assert np.array_equal(labels[valid], pixels[valid])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pixels": np.ones((1, 23, 30), np.uint8)}, "it has 30 x 23 px, not 31 x 23"),
        ({"crs": "EPSG:32639"}, "it has EPSG:32639, not EPSG:32640"),
        ({"crs": None}, "it has no CRS, not EPSG:32640"),
        ({"transform": NORTH_UP * Affine.translation(1, 0)}, r"it begins at \(300000.5"),
        ({"transform": SOUTH_UP}, "has other pixels"),
        ({"pixels": np.ones((3, *SHAPE), np.uint8)}, "has 3 bands"),
    ],
)
@pytest.mark.parametrize("what", ["mask", "confidence"])
def test_companions_on_another_grid_are_refused(tmp_path: Path, change: dict[str, Any], told: str, what: str) -> None:
    path = make_classes(tmp_path / "map.tif", np.ones(SHAPE, np.uint8))
    settings: dict[str, Any] = {"pixels": np.ones((1, *SHAPE), np.uint8), **change}
    other = make_scene(tmp_path / "other.tif", **settings)
    with pytest.raises((GridError, BandError), match=told):
        ClassMap.open(path, Pick(**{what: other}))


def test_confidence_comes_with_its_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = make_classes(tmp_path / "map.tif", rng.integers(0, 4, SHAPE, np.uint8), nodata=255)
    score = rng.integers(0, 256, SHAPE, np.uint8)
    other = make_classes(tmp_path / "score.tif", score, nodata=255, tiled=True, blockxsize=16, blockysize=16)
    with ClassMap.open(path, Pick(confidence=other)) as classmap:
        found = [part.confidence for part in classmap.bands(9)]
    assert np.array_equal(np.concatenate(found), score)  # type: ignore[arg-type]
    floats = make_classes(tmp_path / "floats.tif", score.astype("float32"))
    with pytest.raises(PixelTypeError, match="holds float32 values"):
        ClassMap.open(path, Pick(confidence=floats))


def legend(source: Path) -> dict[int, tuple[str, str]]:
    with ClassMap.open(source) as classmap:
        return {v: (classmap.info(v).name, classmap.info(v).color) for v in (0, 1, 2, 300)}


def test_names_and_colours_of_a_palette_and_of_categories(tmp_path: Path) -> None:
    path = make_classes(tmp_path / "map.tif", np.ones(SHAPE, np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255), 1: (0, 255, 16, 255)})
    made = legend(path)
    assert made[0] == ("class 0", "#010203")
    assert made[1] == ("class 1", "#00FF10")
    Path(f"{path}.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><CategoryNames><Category>Wald &amp; Wiese</Category>"
        "<Category></Category><Category>a\x1b[31mb\n</Category></CategoryNames></PAMRasterBand></PAMDataset>".replace(
            "\x1b", "&#10;"
        )
    )
    made = legend(path)
    assert made[0] == ("Wald & Wiese", "#010203")
    assert made[1] == ("class 1", "#00FF10")
    assert made[2][0] == "a[31mb"


def test_an_attribute_table_names_any_value(tmp_path: Path) -> None:
    path = make_classes(tmp_path / "map.tif", np.ones(SHAPE, np.int16))
    classes = [ClassInfo(-4, "Eis", "#A0B0C0"), ClassInfo(300, 'a "quoted" <name>', "#112233")]
    text = pam(classes)
    start, end = text.index("    <CategoryNames>"), text.index("    <GDALRasterAttributeTable")
    Path(f"{path}.aux.xml").write_text(text[:start] + text[end:])
    with ClassMap.open(path) as classmap:
        assert [classmap.info(c.value) for c in classes] == classes
        assert classmap.named == (-4, 300)


def test_the_tag_of_our_own_rasters_names_classes_where_the_sidecar_is_lost(tmp_path: Path) -> None:
    path = make_classes(tmp_path / "map.tif", np.ones(SHAPE, np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(CLASS_NAMES='{"0": "Building", "2": "Road"}')
    assert [name for name, _ in legend(path).values()] == ["Building", "class 1", "Road", "class 300"]
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(CLASS_NAMES="[1, 2")
    assert legend(path)[0][0] == "class 0"


def test_colours_of_classes_without_one_are_their_own_and_stay(tmp_path: Path) -> None:
    with ClassMap.open(make_classes(tmp_path / "map.tif", np.ones(SHAPE, np.uint8))) as classmap:
        infos = [classmap.info(v) for v in (*range(-20, 60), 111, 112, 10**12)]
    assert len({i.color for i in infos}) == len(infos)
    assert all(len(i.color) == 7 and i.name == f"class {i.value}" for i in infos)


def test_classes_are_found_by_value_and_name(tmp_path: Path) -> None:
    path = make_classes(tmp_path / "map.tif", np.ones(SHAPE, np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(CLASS_NAMES='{"0": "Building", "1": "road", "2": "Road", "3": "Road", "4": "WATER"}')
    with ClassMap.open(path) as classmap:
        assert classmap.find(["Building", 7, "-1", " 3 "]) == {0, 7, -1, 3}
        assert classmap.find(["Road"]) == {2, 3}
        assert classmap.find(["ROAD"]) == {1, 2, 3}
        assert classmap.find(["water"]) == {4}
        with pytest.raises(OptionError, match="no class 'Wald'; it has 0 Building, 1 road, 2 Road"):
            classmap.find(["Wald"])
    with (
        ClassMap.open(make_classes(tmp_path / "plain.tif", np.ones(SHAPE, np.uint8))) as plain,
        pytest.raises(OptionError, match="it names none"),
    ):
        plain.find(["Wald"])


def ground_control(path: Path) -> Path:
    points = [GroundControlPoint(r, c, c * 2.0, r * 2.0) for r, c in ((0, 0), (0, 30), (20, 0), (20, 30))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="GTiff", height=23, width=31, count=1, dtype="uint8") as dataset:
            dataset.gcps = (points, "EPSG:4326")
    return path


def bad(folder: Path) -> Iterator[tuple[Path, Pick, type[RsSegmentError], str]]:
    ones = np.ones(SHAPE, np.uint8)
    plain = make_classes(folder / "plain.tif", ones)
    (folder / "text.tif").write_text("no image")
    yield folder / "none.tif", Pick(), SceneError, "does not exist"
    yield folder / "text.tif", Pick(), SceneError, "cannot be opened as a raster"
    photo = make_scene(folder / "photo.tif")
    yield photo, Pick(), BandError, r"photo.tif has 3 bands \(1 red, 2 green, 3 blue\), but .* --band 1"
    yield photo, Pick(band=4), BandError, "photo.tif has no band 4; it has 1 red"
    yield photo, Pick(band=0), BandError, "has no band 0"
    odd = make_classes(folder / "odd.tif", ones.astype("complex64"))
    yield odd, Pick(), PixelTypeError, "odd.tif holds complex64 values, but classes are whole numbers"
    yield ground_control(folder / "gcp.tif"), Pick(), GridError, "gcp.tif has 4 ground control points"
    yield plain, Pick(mask=folder / "none.tif"), SceneError, "does not exist"
    yield plain, Pick(aoi=(0, 0, 1, 1)), AreaError, "does not meet"


def test_bad_input_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for source, pick, kind, told in bad(tmp_path):
        with pytest.raises(kind, match=told) as error, ClassMap.open(source, pick) as classmap:
            list(classmap.bands())
        assert "\n" not in str(error.value)


def test_a_chosen_band_of_a_photo_is_read(tmp_path: Path) -> None:
    photo = make_scene(tmp_path / "photo.tif")
    labels, valid = whole(photo, Pick(band=2))
    with rasterio.open(photo) as dataset:
        assert np.array_equal(labels, dataset.read(2))
    assert valid.all()


def test_bands_are_whole_blocks_and_the_rest(tmp_path: Path) -> None:
    path = make_classes(tmp_path / "map.tif", np.zeros((1100, 40), np.uint8), tiled=True, blockxsize=16, blockysize=64)
    with ClassMap.open(path) as classmap:
        parts = [part.window for part in classmap.bands(128)]
        assert [p.row_off for p in parts] == list(range(0, 1100, 128))
        assert sum(p.height for p in parts) == 1100
        assert all(p.width == 40 for p in parts)
        assert classmap.cache_bytes > 0
    with ClassMap.open(path, Pick(aoi=(300000, 2799700, 300010, 2799950))) as part:
        assert [p.window.row_off for p in part.bands(128)] == [100, 128, 256, 384, 512]
