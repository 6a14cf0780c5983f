"""A scene in several files is opened as one: each band is what its file says, or the files are told not to fit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP, FakePredictor, make_card, make_pixels, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment import Outputs, Plan, View, segment
from rs_segment.archive.source import Source
from rs_segment.archive.vrt import TYPES
from rs_segment.errors import BandError, GridError, PixelTypeError, SceneError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

NAMES = ("red", "green", "blue")


def source(*files: Path, bands: tuple[int, ...] = (1, 1, 1), name: str = "s") -> Source:
    return Source(name, str(files[0]), tuple(map(str, files)), bands, NAMES)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 1000),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(sorted(set(TYPES) - {"uint64", "int64"})),
    st.sampled_from([NORTH_UP, SOUTH_UP, ROTATED, Affine.identity()]),
    st.sampled_from(["EPSG:32640", "EPSG:4326", None]),
    st.sampled_from([None, 0, 7]),
    st.tuples(*[st.sampled_from([1, 2])] * 3),
)
def test_joined_files_are_the_bands_of_one(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    shape: tuple[int, int],
    dtype: str,
    transform: Affine,
    crs: str | None,
    nodata: float | None,
    bands: tuple[int, int, int],
) -> None:
    folder = tmp_path_factory.mktemp("joined")
    pixels = [make_pixels(shape, 2, dtype, seed + i) for i in range(3)]
    files = [
        make_scene(folder / f"ä & {i}.tif", pixels=p, transform=transform, crs=crs, nodata=nodata)
        for i, p in enumerate(pixels)
    ]
    path = source(*files, bands=bands).scene(folder)
    with rasterio.open(path) as joined, rasterio.open(files[0]) as one:
        assert joined.descriptions == NAMES
        assert (joined.shape, joined.transform, joined.crs) == (one.shape, one.transform, one.crs)
        assert joined.nodatavals == (nodata,) * 3
        assert joined.dtypes == (dtype,) * 3
        assert np.array_equal(joined.read(), np.stack([p[b - 1] for p, b in zip(pixels, bands, strict=True)]))


def test_a_joined_scene_is_segmented_as_the_stacked_one(tmp_path: Path) -> None:
    pixels = make_pixels((61, 47), 3)
    pixels[:, :5] = 0
    whole = make_scene(tmp_path / "whole.tif", pixels=pixels, nodata=0, names=NAMES)
    files = [make_scene(tmp_path / f"{i}.tif", pixels=pixels[i : i + 1], nodata=0) for i in (2, 1, 0)]
    predictor, plan, outputs = FakePredictor(make_card()), Plan(tile=32, overlap=16), Outputs(polygons=False)
    joined = Source("s", str(files[0]), tuple(map(str, files[::-1])), (1, 1, 1), NAMES).scene(tmp_path)
    found = [
        segment(scene, tmp_path / f"{n}_classes.tif", predictor, plan=plan, outputs=outputs)
        for n, scene in enumerate((whole, joined))
    ]
    assert found[0].areas == found[1].areas
    assert found[0].nodata_pixels == 5 * 47
    labels = [rasterio.open(f.classes).read() for f in found]
    assert np.array_equal(*labels)


def test_missing_pixels_are_what_the_files_say_or_else_the_catalogue(tmp_path: Path) -> None:
    plain = make_scene(tmp_path / "plain.tif", bands=1)
    told = make_scene(tmp_path / "told.tif", bands=1, nodata=7)
    with rasterio.open(replace(source(plain, told, plain), nodata=0.0).scene(tmp_path)) as joined:
        assert joined.nodatavals == (0, 7, 0)
    masked = make_scene(tmp_path / "masked.tif", mask=np.ones((61, 47), np.bool_))
    alpha = make_scene(tmp_path / "alpha.tif", bands=4, photometric="RGB", alpha="YES")
    for file, nodata in ((plain, 0.0), (told, None), (masked, None), (alpha, None)):
        assert Source("s", str(file), nodata=0.0).seen(View()).nodata == nodata
        assert Source("s", str(file), nodata=0.0).seen(View(nodata=3)).nodata == 3
        assert Source("s", str(file)).seen(View()) == View()


def test_bands_are_those_of_the_user_or_else_of_the_catalogue(tmp_path: Path) -> None:
    one = Source("s", "https://h/a.tif", bands=(4, 2, 1))
    assert one.seen(View()).bands == (4, 2, 1)
    assert one.seen(View(bands=("red",))).bands == ("red",)
    several = Source("s", "a.tif", ("a.tif", "b.tif"), (2, 1), ("x", "y"), nodata=0.0)
    assert several.seen(View()) == View()


def test_coarser_bands_are_repeated(tmp_path: Path) -> None:
    fine = make_scene(tmp_path / "fine.tif", (20, 40), 1)
    coarse = make_scene(tmp_path / "coarse.tif", (10, 10), 1, transform=NORTH_UP * Affine.scale(4, 2))
    with rasterio.open(source(fine, coarse, fine).scene(tmp_path)) as joined, rasterio.open(coarse) as one:
        assert np.array_equal(joined.read(2), np.repeat(np.repeat(one.read(1), 2, axis=0), 4, axis=1))
        window = rasterio.windows.Window(3, 5, 7, 2)
        assert np.array_equal(joined.read(2, window=window), joined.read(2)[5:7, 3:10])


def test_it_is_written_once(tmp_path: Path) -> None:
    made = [make_scene(tmp_path / f"{i}.tif", bands=1) for i in range(3)]
    path = Path(source(*made).scene(tmp_path / "scenes"))
    os.utime(path, ns=(7, 7))
    assert source(*made).scene(tmp_path / "scenes") == str(path)
    assert path.stat().st_mtime_ns == 7
    source(*made[::-1]).scene(tmp_path / "scenes")
    assert path.stat().st_mtime_ns != 7
    assert [p.name for p in (tmp_path / "scenes").iterdir()] == ["s.vrt"]


def test_a_single_file_is_opened_as_it_is(tmp_path: Path) -> None:
    assert Source("s", "https://h/a.tif", bands=(4, 2, 1)).scene(tmp_path) == "https://h/a.tif"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("odd", "error", "why"),
    [
        ({"shape": (60, 47)}, GridError, "does not lie on the grid of"),
        ({"transform": NORTH_UP * Affine.translation(0.5, 0)}, GridError, "does not lie on the grid"),
        ({"crs": "EPSG:32641"}, GridError, "does not lie on the grid"),
        ({"crs": None}, GridError, "does not lie on the grid"),
        ({"mask": np.ones((61, 47), np.bool_)}, SceneError, "mask of its own"),
        ({"bands": 4, "photometric": "RGB", "alpha": "YES"}, SceneError, "mask of its own"),
        ({"dtype": "complex64"}, PixelTypeError, "complex64"),
    ],
)
def test_files_that_do_not_fit_are_told(odd: dict[str, Any], error: type[Exception], why: str, tmp_path: Path) -> None:
    good = make_scene(tmp_path / "good.tif", bands=1)
    settings: dict[str, Any] = {"bands": 1} | odd
    if odd.get("dtype"):
        settings = {"pixels": np.ones((1, 61, 47), odd["dtype"])}
    with pytest.raises(error, match=why):
        source(good, make_scene(tmp_path / "odd.tif", **settings), good).scene(tmp_path)


def test_a_band_that_is_not_there_is_told(tmp_path: Path) -> None:
    good = make_scene(tmp_path / "good.tif", bands=2)
    with pytest.raises(BandError, match=r"good\.tif has 2 bands, and no band 3 to read green from"):
        source(good, good, good, bands=(1, 3, 1)).scene(tmp_path)


def test_a_disguise_is_not_joined(tmp_path: Path) -> None:
    """What calls itself an image and reads another file is found out before GDAL follows it."""
    good = make_scene(tmp_path / "good.tif", bands=1)
    evil = tmp_path / "evil.tif"
    evil.write_text(Path(source(good, good, good).scene(tmp_path)).read_text())
    with pytest.raises(SceneError, match="no image but text"):
        source(good, evil, good).scene(tmp_path)


@pytest.mark.data
def test_three_files_of_landsat_are_one_scene(data: Path, tmp_path: Path) -> None:
    files = [data / "scenes" / f"LC80030172015001LGN00_B{i}.tiff" for i in (4, 3, 2)]
    with rasterio.open(source(*files).scene(tmp_path)) as joined:
        window = rasterio.windows.Window(700, 500, 100, 80)
        for index, file in enumerate(files, start=1):
            with rasterio.open(file) as one:
                assert np.array_equal(joined.read(index, window=window), one.read(1, window=window))
