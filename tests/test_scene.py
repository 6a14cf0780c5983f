"""Whatever a raster is like, its windows come back in its own values, with the missing pixels that it tells of."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP, make_card, make_pixels, make_scene
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.windows import Window

import rs_segment.scene
from rs_segment.errors import BandError, GridError, OptionError, PixelTypeError, SceneError
from rs_segment.scene import Chip, Scene
from rs_segment.types import View

SAME_FOLDER = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
HOLE = slice(10, 20), slice(5, 15)


def whole(scene: Scene) -> Chip:
    height, width = scene.geobox.shape
    return scene.read(Window(0, 0, width, height))


def hole(shape: tuple[int, int] = (61, 47)) -> NDArray[np.bool_]:
    valid = np.ones(shape, np.bool_)
    valid[HOLE] = False
    return valid


@st.composite
def windows(draw: st.DrawFn) -> Window:
    return Window(
        draw(st.integers(-30, 60)), draw(st.integers(-30, 70)), draw(st.integers(1, 80)), draw(st.integers(1, 80))
    )


@SAME_FOLDER
@given(windows(), st.sampled_from([NORTH_UP, SOUTH_UP, ROTATED]))
def test_a_window_is_what_numpy_would_cut_out(tmp_path: Path, window: Window, transform: Affine) -> None:
    path = tmp_path / f"{transform.b}{transform.e}.tif"
    if not path.exists():
        make_scene(path, transform=transform, mask=hole())
    with rasterio.open(path) as dataset:
        pixels = np.pad(dataset.read(), ((0, 0), (100, 100), (100, 100)))
    valid = np.pad(hole(), 100)
    rows = slice(window.row_off + 100, window.row_off + 100 + window.height)
    cols = slice(window.col_off + 100, window.col_off + 100 + window.width)
    with Scene.open(path) as scene:
        chip = scene.read(window)
        assert scene.geobox.transform.almost_equals(transform)
    assert np.array_equal(chip.pixels, pixels[:, rows, cols])
    assert np.array_equal(chip.valid, valid[rows, cols])


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 5)])
def test_pixels_keep_their_type_and_odd_sizes_are_ordinary(tmp_path: Path, dtype: str, shape: tuple[int, int]) -> None:
    pixels = make_pixels(shape, 2, dtype)
    with Scene.open(make_scene(tmp_path / "a.tif", pixels=pixels)) as scene:
        chip = scene.read(Window(-2, -2, shape[1] + 40, shape[0] + 40))
        assert chip.pixels.dtype == scene.dtype == np.dtype(dtype)
        assert np.array_equal(chip.pixels[:, 2 : shape[0] + 2, 2 : shape[1] + 2], pixels)
        assert chip.valid.sum() == shape[0] * shape[1]


def filled(dtype: str, value: float, bands: int = 3, where: slice = slice(None)) -> NDArray[Any]:
    pixels = make_pixels((61, 47), bands, dtype)
    pixels[(where, *HOLE)] = value
    return pixels


ONE = slice(1, 2)
MISSING: dict[str, tuple[dict[str, Any], bool, str]] = {
    "0 in all bands of bytes": ({"pixels": filled("uint8", 0), "nodata": 0}, True, "nodata 0"),
    "0 in one band of bytes": ({"pixels": filled("uint8", 0, where=ONE), "nodata": 0}, False, "nodata 0"),
    "255 in all bands": ({"pixels": filled("uint8", 255), "nodata": 255}, True, "nodata 255"),
    "0 that no tag tells of": ({"pixels": filled("uint8", 0)}, False, "all valid"),
    "-9999 in one band of floats": (
        {"pixels": filled("float32", -9999, where=ONE), "nodata": -9999},
        True,
        "nodata -9999",
    ),
    "-32768 in one band of shorts": (
        {"pixels": filled("int16", -32768, where=ONE), "nodata": -32768},
        True,
        "nodata -32768",
    ),
    "NaN in one band": ({"pixels": filled("float32", np.nan, where=ONE)}, True, "NaN"),
    "NaN by tag": ({"pixels": filled("float32", np.nan), "nodata": np.nan}, True, "nodata nan"),
    "infinite": ({"pixels": filled("float32", np.inf, where=ONE)}, True, "NaN"),
    "the lowest float": (
        {"pixels": filled("float32", np.finfo("f4").min), "nodata": np.finfo("f4").min},
        True,
        "nodata -3.4",
    ),
    "NaN beside a tag of -9999": ({"pixels": filled("float32", np.nan), "nodata": -9999}, True, "nodata -9999"),
    "internal mask": ({"mask": hole()}, True, "mask"),
}


@pytest.mark.parametrize("what", MISSING)
def test_missing_pixels_are_those_the_file_tells_of(tmp_path: Path, what: str) -> None:
    made, missing, told = MISSING[what]
    with Scene.open(make_scene(tmp_path / "a.tif", **made)) as scene:
        assert scene.validity.startswith(told)
        assert np.array_equal(whole(scene).valid, hole() if missing else np.ones((61, 47), bool))


def recolored(path: Path, *names: str) -> Path:
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp[name] for name in names]
    return path


@pytest.mark.parametrize("place", [0, 3, 4])
def test_an_alpha_band_is_believed_wherever_it_lies(tmp_path: Path, place: int) -> None:
    names = ["red", "green", "blue", "undefined"][: max(place, 3)]
    names.insert(place, "alpha")
    pixels = make_pixels((61, 47), len(names))
    pixels[place] = np.where(hole(), 255, 0)
    with Scene.open(recolored(make_scene(tmp_path / "a.tif", pixels=pixels), *names)) as scene:
        assert scene.validity == "alpha"
        assert np.array_equal(whole(scene).valid, hole())
        assert place + 1 not in scene.indexes
        fitted = scene.fit(make_card())
        assert [names[i - 1] for i in fitted.indexes] == ["red", "green", "blue"]
        assert np.array_equal(whole(fitted).valid, hole())


def test_a_mask_beside_the_file_is_believed(tmp_path: Path) -> None:
    path = make_scene(tmp_path / "a.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(hole())
    assert (tmp_path / "a.tif.msk").exists()
    with Scene.open(path) as scene:
        assert scene.validity == "mask"
        assert np.array_equal(whole(scene).valid, hole())


def vrt(path: Path, source: Path, *bands: tuple[int, str, str], shape: tuple[int, int] = (61, 47)) -> Path:
    """A VRT of bands (index in the source, data type, more XML)."""
    text = "".join(
        f'<VRTRasterBand dataType="{dtype}" band="{i}">{more}<SimpleSource><SourceFilename>{source}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for i, (band, dtype, more) in enumerate(bands, start=1)
    )
    grid = "<SRS>EPSG:32640</SRS><GeoTransform>300000,.5,0,2800000,0,-.5</GeoTransform>"
    path.write_text(f'<VRTDataset rasterXSize="{shape[1]}" rasterYSize="{shape[0]}">{grid}{text}</VRTDataset>')
    return path


def test_each_band_may_have_its_own_nodata_and_type(tmp_path: Path) -> None:
    pixels = make_pixels((61, 47), 2)
    pixels[0][HOLE], pixels[1][HOLE] = 0, 255
    pixels[0, 0, 0], pixels[1, 0, 0] = 255, 0
    source = make_scene(tmp_path / "a.tif", pixels=pixels)
    own = "<NoDataValue>{}</NoDataValue>"
    with Scene.open(vrt(tmp_path / "a.vrt", source, (1, "Byte", own.format(0)), (2, "Byte", own.format(255)))) as scene:
        assert scene.nodata == (0, 255)
        assert np.array_equal(whole(scene).valid, hole())
    with Scene.open(vrt(tmp_path / "b.vrt", source, (1, "Byte", ""), (2, "Float32", ""))) as scene:
        assert whole(scene).pixels.dtype == np.float32
        assert np.array_equal(whole(scene).pixels, pixels)


@pytest.mark.parametrize("value", [-9999, 300, 1.5, float("nan"), float("inf"), 1e300])
def test_a_nodata_value_that_no_pixel_can_have_marks_nothing(tmp_path: Path, value: float) -> None:
    with Scene.open(make_scene(tmp_path / "a.tif"), nodata=value) as scene:
        assert whole(scene).valid.all()
    path = vrt(tmp_path / "a.vrt", tmp_path / "a.tif", (1, "Byte", f"<NoDataValue>{value}</NoDataValue>"))
    with Scene.open(path) as scene:
        assert whole(scene).valid.all()


def test_a_nodata_value_can_be_told(tmp_path: Path) -> None:
    with Scene.open(make_scene(tmp_path / "a.tif", pixels=filled("uint8", 7)), nodata=7) as scene:
        assert np.array_equal(whole(scene).valid, hole())


# Bands


def test_bands_are_found_by_name_number_and_colour(tmp_path: Path) -> None:
    pixels = make_pixels((61, 47), 13, "uint16")
    names = ["coastal", "Blue", "green", "RED", *(f"B{i}" for i in range(5, 14))]
    with Scene.open(make_scene(tmp_path / "a.tif", pixels=pixels, names=names)) as scene:
        assert scene.count == 13
        card = make_card(dtype="uint16")
        assert scene.fit(card).indexes == (4, 3, 2)
        for bands, want in [((3, 1, 2), (3, 1, 2)), (("red", "b5", 13), (4, 5, 13)), (("4", "3", "2"), (4, 3, 2))]:
            found = scene.fit(card, View(bands=bands))
            assert found.indexes == want
            assert np.array_equal(whole(found).pixels, pixels[[i - 1 for i in want]])
        for bands in [(1, 2), (1, 2, 14), (0, 1, 2), ("red", "green", "violet"), (1, 2, -1)]:
            with pytest.raises(BandError) as caught:
                scene.fit(card, View(bands=bands))
            assert "a.tif" in str(caught.value)
        with pytest.raises(BandError, match=r"has 13 bands .* --bidx 1,2"):
            scene.fit(make_card(2, dtype="uint16"))
    swapped = recolored(make_scene(tmp_path / "bgr.tif"), "blue", "green", "red")
    with Scene.open(swapped) as scene:
        assert scene.fit(make_card()).indexes == (3, 2, 1)


@pytest.mark.parametrize(
    ("names", "wanted", "fits"),
    [
        (("", "", ""), ("red", "green", "blue"), True),
        (("Band 1", "Band 2", "Band 3"), ("red", "green", "blue"), True),
        (("red", "green", ""), ("red", "green", "nir"), True),
        (("nir", "red", "green"), ("red", "green", "blue"), False),
        (("nir", "swir16", "pan"), ("red", "green", "blue"), False),
        (("", "red", "x"), ("red", "green", "blue"), False),
        (("red", "green", "blue"), ("b1", "b2", "b3"), True),
    ],
)
def test_bands_are_taken_by_position_unless_their_names_contradict(
    tmp_path: Path, names: tuple[str, ...], wanted: tuple[str, ...], fits: bool
) -> None:
    card = make_card().replace(bands=wanted)
    path = make_scene(tmp_path / "a.tif", names=names, photometric="minisblack")
    with Scene.open(path) as scene:
        if fits:
            assert scene.fit(card).indexes == (1, 2, 3)
        else:
            with pytest.raises(BandError):
                scene.fit(card)


def test_a_colour_table_becomes_red_green_blue(tmp_path: Path) -> None:
    index = np.tile(np.array([1, 2], np.uint8), (1, 40, 20))
    path = make_scene(tmp_path / "p.tif", pixels=index)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (200, 0, 4, 255), 2: (0, 0, 200, 255)})
    with Scene.open(path) as scene:
        assert whole(scene).pixels.shape == (1, 40, 40)
        seen = scene.fit(make_card())
        assert (seen.count, seen.dtype) == (3, np.uint8)
        assert whole(seen).pixels[:, 0, :2].tolist() == [[200, 0], [0, 0], [4, 200]]
        # Colours are averaged, not numbers of colours.
        coarse = scene.fit(make_card(resolution=1.0))
        assert np.unique(whole(coarse).pixels.reshape(3, -1), axis=1).tolist() == [[100], [0], [102]]


# Values


def test_values_of_another_type_are_refused_or_mapped(tmp_path: Path) -> None:
    pixels = make_pixels((61, 47), 3, "uint16")
    with Scene.open(make_scene(tmp_path / "a.tif", pixels=pixels)) as scene:
        with pytest.raises(PixelTypeError, match=r"uint16 .* --rescale \d+,\d+"):
            scene.fit(make_card())
        seen = scene.fit(make_card(), View(rescale=(1000, 9000)))
        assert seen.dtype == np.float32
        want = np.clip((pixels.astype(float) - 1000) / 8000 * 255, 0, 255)
        assert whole(seen).pixels == pytest.approx(want, abs=1e-3)
        for rescale in [(5, 5), (9, 1), (float("nan"), 1), (0, float("inf"))]:
            with pytest.raises(OptionError, match="rescale"):
                scene.fit(make_card(), View(rescale=rescale))


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_values_are_refused(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", height=9, width=9, count=1, dtype=dtype, transform=NORTH_UP):
        pass
    with Scene.open(path) as scene:
        assert scene.dtype.kind == "c"
        with pytest.raises(PixelTypeError, match="complex"):
            scene.fit(make_card(1))


def test_percentiles_are_those_of_valid_pixels(tmp_path: Path) -> None:
    pixels = make_pixels((1500, 70), 2, "uint16")
    pixels[:, :500] = 0
    with Scene.open(make_scene(tmp_path / "a.tif", pixels=pixels, nodata=0)) as scene:
        low, high = scene.percentiles(2, 98)
    want = np.percentile(pixels[:, 500:].reshape(2, -1), [2, 98], axis=1)
    assert low == pytest.approx(want[0], rel=0.1)
    assert high == pytest.approx(want[1], rel=0.1)
    with Scene.open(make_scene(tmp_path / "b.tif", pixels=np.zeros((2, 9, 9), np.uint8), nodata=0)) as scene:
        assert [v.tolist() for v in scene.percentiles(2, 98)] == [[0, 0], [1, 1]]


# Ground resolution


def reference(
    pixels: NDArray[Any], valid: NDArray[np.bool_], shape: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Means weighted by covered share (coarser) or by distance (finer), with dense matrices."""

    def matrix(source: int, target: int) -> NDArray[np.float64]:
        step, at = source / target, np.arange(source)
        if source >= target:
            begin = np.arange(target)[:, None] * step
            return np.clip(np.minimum(at + 1, begin + step) - np.maximum(at, begin), 0, None).round(9)
        centre = (np.arange(target)[:, None] + 0.5) * step - 0.5
        return np.clip(1 - np.abs(at - centre), 0, None).round(9)

    rows, cols = matrix(valid.shape[0], shape[0]), matrix(valid.shape[1], shape[1])
    weight = rows @ valid.astype(float) @ cols.T
    total = np.stack([rows @ np.where(valid, band, 0).astype(float) @ cols.T for band in pixels])
    return total / np.where(weight > 0, weight, 1), weight > 0


@pytest.mark.parametrize("resolution", [1.0, 1.7, 30.0, 0.25, 0.31])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_warped_pixels_are_means_of_valid_ones(tmp_path: Path, resolution: float, dtype: str) -> None:
    made = {"pixels": filled(dtype, 0 if dtype == "uint8" else -9999), "nodata": 0 if dtype == "uint8" else -9999}
    with Scene.open(make_scene(tmp_path / "a.tif", **made)) as scene:
        seen = scene.fit(make_card(dtype=dtype, resolution=resolution))
        found, source = whole(seen), whole(scene)
    assert seen.geobox.shape == (max(1, round(61 * 0.5 / resolution)), max(1, round(47 * 0.5 / resolution)))
    assert seen.geobox.bounds == pytest.approx(scene.geobox.bounds)
    pixels, valid = reference(source.pixels, source.valid, seen.geobox.shape)
    assert np.array_equal(found.valid, valid)
    assert found.pixels[:, valid] == pytest.approx(pixels[:, valid], abs=0.51 if dtype == "uint8" else 1e-4)


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED])
@pytest.mark.parametrize("resolution", [1.3, 0.31])
def test_every_split_of_a_warped_grid_gives_the_same_pixels(
    tmp_path: Path, transform: Affine, resolution: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_scene(tmp_path / "a.tif", transform=transform, mask=hole())
    with Scene.open(path) as scene:
        seen = scene.fit(make_card(resolution=resolution))
        want = whole(seen)
        height, width = seen.geobox.shape
        rng = np.random.default_rng(0)
        for limit in (2**22, 100):
            monkeypatch.setattr("rs_segment.resample.MAX_SOURCE_PIXELS", limit)
            for _ in range(15):
                row, col = int(rng.integers(height)), int(rng.integers(width))
                part = Window(col, row, int(rng.integers(1, width - col + 9)), int(rng.integers(1, height - row + 9)))
                chip, end, right = seen.read(part), row + part.height, col + part.width
                tall, wide = min(end, height) - row, min(right, width) - col
                assert np.array_equal(chip.pixels[:, :tall, :wide], want.pixels[:, row:end, col:right])
                assert np.array_equal(chip.valid[:tall, :wide], want.valid[row:end, col:right])


def test_ground_resolution_decides_what_fits(tmp_path: Path) -> None:
    with Scene.open(make_scene(tmp_path / "a.tif")) as scene:
        assert scene.fit(make_card(resolution=0.52)) == scene.fit(make_card())
        assert scene.fit(make_card(resolution=1.0), View(resolution=1.0)).geobox == scene.geobox
        assert scene.fit(make_card(resolution_limits=(0.1, 1.0))).geobox == scene.geobox
        for card, view in [
            (make_card(resolution=0.1), None),
            (make_card(resolution=50.0), None),
            (make_card(resolution_limits=(1.0, 5.0)), None),
            (make_card(resolution=1.0), View(resolution=90.0)),
        ]:
            with pytest.raises(GridError, match="pixels of"):
                scene.fit(card, view)
        for told in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(OptionError, match="resolution"):
                scene.fit(make_card(resolution=1.0), View(resolution=told))
    with Scene.open(make_scene(tmp_path / "b.tif", crs=None, transform=Affine.identity())) as scene:
        assert not scene.geobox.georeferenced
        assert scene.fit(make_card()).geobox == scene.geobox
        with pytest.raises(GridError, match="--resolution"):
            scene.fit(make_card(resolution=1.0))
        assert scene.fit(make_card(resolution=1.0), View(resolution=0.5)).geobox.shape == (30, 24)


def test_the_cache_is_bounded_whatever_the_scene(tmp_path: Path) -> None:
    with Scene.open(make_scene(tmp_path / "a.tif", shape=(640, 640))) as scene:
        for resolution in (None, 30.0, 0.2):
            for tile in (64, 100_000):
                size = scene.fit(make_card(resolution=resolution)).cache_bytes(tile)
                assert 2**26 <= size <= 2**30


# What is refused


def bare(path: Path) -> Any:
    """A file without a grid, open for changes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, "r+")


def test_grids_of_points_and_coefficients_are_refused(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 50 + c / 1000, 25 - r / 1000) for r, c in ((0, 0), (0, 40), (60, 0), (60, 40))]
    path = make_scene(tmp_path / "gcp.tif", crs=None, transform=Affine.identity())
    with bare(path) as dataset:
        dataset.gcps = (points, rasterio.CRS.from_epsg(4326))
    with Scene.open(path) as scene:
        assert scene.ground_control == "4 ground control points"
        with pytest.raises(GridError, match="warp it first"):
            scene.fit(make_card())
    rpc = RPC(0, 1, 25, 1, [1.0] * 20, [1.0] * 20, 0, 1, 50, 1, [1.0] * 20, [1.0] * 20, 0, 1, 0.0, 0.0)
    path = make_scene(tmp_path / "rpc.tif", crs=None, transform=Affine.identity())
    with bare(path) as dataset:
        dataset.rpcs = rpc
    with Scene.open(path) as scene, pytest.raises(GridError, match="RPC"):
        scene.fit(make_card())


def test_what_is_no_raster_is_refused_with_a_reason_of_its_own(tmp_path: Path) -> None:
    make_scene(tmp_path / "scene.tif", compress="deflate", pixels=make_pixels((400, 400)))
    (tmp_path / "empty.tif").touch()
    (tmp_path / "page.tif").write_text("\n <!DOCTYPE html>\n<html>404</html>")
    (tmp_path / "words.tif").write_text("not an image")
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "cut.tif").write_bytes((tmp_path / "scene.tif").read_bytes()[:150])
    for name, want in [
        ("scnee.tif", "does not exist; did you mean .*scene.tif"),
        ("no/where.tif", "does not exist"),
        ("empty.tif", "0 bytes"),
        ("page.tif", "<!DOCTYPE html>"),
        ("words.tif", "cannot be opened as a raster"),
        ("folder.tif", "folder"),
        ("cut.tif", "cannot be opened as a raster"),
    ]:
        with pytest.raises(SceneError, match=want) as caught:
            Scene.open(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_block_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = make_scene(tmp_path / "a.tif", compress="deflate", pixels=make_pixels((400, 400)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Scene.open(path) as scene, pytest.raises(SceneError, match=r"rows \d+ to \d+, columns 0 to 400"):
        whole(scene)


def test_a_block_as_large_as_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    grid = {"height": 40000, "width": 40000, "count": 1, "dtype": "uint8", "transform": NORTH_UP, "crs": "EPSG:32640"}
    tiles = {"tiled": True, "blockxsize": 20000, "blockysize": 20000, "SPARSE_OK": True, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", **grid, **tiles):
        pass
    with Scene.open(path) as scene, pytest.raises(SceneError, match="blocks of 20000 x 20000"):
        scene.fit(make_card(1))


@pytest.mark.parametrize(
    "name", ["a b.tif", "a%20b.tif", "äö 图.tif", "-x.tif", "a#b?c=d&e.tif", "ab:c.tif", "x!y.tif", "zip+a"]
)
def test_files_may_have_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_scene(tmp_path / "plain.tif").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (name, tmp_path / name):
        with Scene.open(path) as scene:
            assert whole(scene).valid.all()
            assert scene.name == name


PAM = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{}</MDI></Metadata></PAMDataset>'
EVIL = "rasterXSize='40' rasterYSize='40'"


def raw(secret: Path) -> str:
    """A VRT that shows a file of bytes as pixels."""
    band = f"<SourceFilename>{secret}</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
    return f"<VRTDataset {EVIL}><VRTRasterBand dataType='Byte' band='1' subClass='VRTRawRasterBand'>{band}<LineOffset>40</LineOffset></VRTRasterBand></VRTDataset>"  # noqa: E501


def simple(source: Path | str) -> str:
    """A VRT that shows another raster."""
    return f"<VRTDataset {EVIL}><VRTRasterBand dataType='Byte' band='1'><SimpleSource><SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"  # noqa: E501


@pytest.mark.parametrize("make", [raw, simple])
@pytest.mark.parametrize("sidecar", ["", ".ovr", ".msk", ".aux.xml", ".aux.xml beside", ".ovr inside"])
def test_a_file_that_reaches_outside_its_folder_is_refused(
    tmp_path: Path, make: Callable[[Path], str], sidecar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_VRT_RAWRASTERBAND_ALLOWED_SOURCE", "ALL")
    secret = make_scene(tmp_path / "secret.tif", pixels=make_pixels((40, 40), 1))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "scene.tif"
    if sidecar == "":
        path.write_text(make(secret))
    else:
        make_scene(path, pixels=make_pixels((80, 80), 1))
        if sidecar == ".aux.xml":
            Path(f"{path}.aux.xml").write_text(PAM.format(secret))
        elif sidecar == ".aux.xml beside":
            (tmp_path / "in" / "inner.dat").write_text(make(secret))
            Path(f"{path}.aux.xml").write_text(PAM.format(":::BASE:::inner.dat"))
        elif sidecar == ".ovr inside":
            (tmp_path / "in" / "inner.dat").write_text(make(secret))
            Path(f"{path}.ovr").write_text(
                simple("inner.dat").replace("<SourceFilename>", '<SourceFilename relativeToVRT="1">')
            )
        else:
            Path(f"{path}{sidecar}").write_text(make(secret))
    with pytest.raises(SceneError) as caught:
        Scene.open(path)
    assert "refused" in str(caught.value) or "no image" in str(caught.value)


def test_honest_companions_and_links_are_read(tmp_path: Path) -> None:
    path = make_scene(tmp_path / "a.tif", pixels=make_pixels((300, 300)))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    assert (tmp_path / "a.tif.ovr").exists()
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    (tmp_path / "links").mkdir()
    os.symlink(path, tmp_path / "links" / "b.tif")
    (tmp_path / "links" / "b.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    for name in ("a.tif", "links/b.tif"):
        with Scene.open(tmp_path / name) as scene:
            assert whole(scene).valid.all()
    with Scene.open(vrt(tmp_path / "links" / "c.vrt", path, (1, "Byte", ""))) as scene:
        assert whole(scene).valid.all()


# Threads and servers


def test_threads_read_what_one_reads(tmp_path: Path) -> None:
    path = make_scene(
        tmp_path / "a.tif", pixels=make_pixels((300, 300)), compress="deflate", tiled=True, blockxsize=64, blockysize=64
    )
    rng = np.random.default_rng(1)
    parts = [Window(*map(int, (*rng.integers(-20, 280, 2), *rng.integers(1, 120, 2)))) for _ in range(120)]
    with Scene.open(path) as scene, ThreadPoolExecutor(4) as pool:
        together = list(pool.map(scene.read, parts))
        for part, chip in zip(parts, together, strict=True):
            alone = scene.read(part)
            assert np.array_equal(chip.pixels, alone.pixels)
            assert np.array_equal(chip.valid, alone.valid)


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves parts of files; stops sending in the middle where a name says so."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path.replace("cut-", "")))
        if not path.is_file():
            self.send_error(404)
            return
        content, asked = path.read_bytes(), self.headers.get("Range", "")
        first, last = 0, len(content) - 1
        if asked.startswith("bytes="):
            begin, end = asked[6:].split("-")
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        part = content[first : last + 1]
        cut = "cut-" in self.path and first > 0
        self.wfile.write(part[: len(part) // 3] if cut else part)
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"CONNECTTIMEOUT": 1, "LOW_SPEED_TIME": 1, "MAX_RETRY": 1, "RETRY_DELAY": 0.1}
    for name, value in times.items():
        monkeypatch.setitem(rs_segment.scene.GDAL_OPTIONS, f"GDAL_HTTP_{name}", value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tmp_path))) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


@pytest.mark.usefixtures("short_times")
def test_a_scene_on_a_server_is_read_in_parts(tmp_path: Path, server: str) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 400, 400), dtype=np.uint8)
    make_scene(tmp_path / "a.tif", pixels=pixels)
    with Scene.open(f"{server}/a.tif") as scene:
        assert scene.name == "a.tif"
        assert np.array_equal(scene.read(Window(10, 300, 50, 60)).pixels, pixels[:, 300:360, 10:60])
    with pytest.raises(SceneError, match="404"):
        Scene.open(f"{server}/nothing.tif")
    with pytest.raises(SceneError), Scene.open(f"{server}/cut-a.tif") as scene:
        whole(scene)


@pytest.mark.usefixtures("short_times")
def test_a_server_that_says_nothing_does_not_hold_us_for_ever() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        done: list[BaseException] = []

        def attempt() -> None:
            try:
                Scene.open(f"http://127.0.0.1:{silent.getsockname()[1]}/a.tif")
            except SceneError as error:
                done.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(25)
        assert not thread.is_alive()
        assert done
