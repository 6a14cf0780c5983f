"""Polygons as labels are the raster that they were made of, in any window, grid and CRS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP, make_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window
from training_sets import patches, tif

from rs_segment import ClassInfo, polygonize
from rs_segment.dataset import Dataset, Part, open_dataset, to_toml
from rs_segment.errors import DatasetError

SHAPE = (41, 53)
LABELS = patches(SHAPE, 3, 5)
NAMES = ("Water", "Road", "Field")
CLASSES = [ClassInfo(i, name, "#102030") for i, name in enumerate(NAMES)]


def make(root: Path, ending: str = "gpkg", crs: str | None = None, transform: Affine = NORTH_UP) -> Path:
    tif(root / "scene.tif", make_pixels(SHAPE), transform=transform)
    frame = polygonize(LABELS, transform, "EPSG:32640", classes=CLASSES)[["class", "geometry"]]
    (frame.to_crs(crs) if crs else frame).to_file(root / f"scene.{ending}")
    return root


def whole(dataset: Dataset) -> np.ndarray:
    return dataset.pairs[0].read(Part.of(dataset.pairs[0]).window).labels


def square(*box: float, **columns: Any) -> dict[str, Any]:
    """A rectangle in pixels: left, top, right, bottom."""
    left, top, right, bottom = box
    corners = [NORTH_UP * p for p in ((left, top), (right, top), (right, bottom), (left, bottom))]
    return {"geometry": shapely.Polygon(corners), **columns}


def layer(root: Path, *rows: dict[str, Any], name: str = "labels.gpkg", crs: Any = "EPSG:32640") -> Path:
    root.mkdir(exist_ok=True)
    if not (root / "scene.tif").exists():
        tif(root / "scene.tif", make_pixels(SHAPE))
    geopandas.GeoDataFrame(list(rows), geometry="geometry", crs=crs).to_file(root / name)
    return root


def toml(root: Path, labels: str, names: tuple[str, ...]) -> Path:
    text = f'[images]\nfiles = "scene.tif"\n[labels]\nfiles = "labels.gpkg"\nkind = "polygons"\n{labels}\n'
    (root / "dataset.toml").write_text(text + "".join(f'[[classes]]\nname = "{n}"\n' for n in names))
    return root


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        whole(open_dataset(root))
    return str(caught.value)


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED], ids=["north", "south", "rotated"])
@pytest.mark.parametrize(
    ("ending", "crs"), [("gpkg", None), ("shp", None), ("geojson", "EPSG:4326"), ("gpkg", "EPSG:3857")]
)
def test_burnt_in_they_are_the_raster(tmp_path: Path, ending: str, crs: str | None, transform: Affine) -> None:
    dataset = open_dataset(make(tmp_path, ending, crs, transform))
    names = [c.name for c in dataset.classes]
    assert names == sorted(NAMES)
    assert (np.array(names)[whole(dataset)] == np.array(NAMES)[LABELS]).all()
    assert any("attribute 'class'" in note for note in dataset.notes)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(make(tmp_path_factory.mktemp("set")))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(0, 52), st.integers(1, 30), st.integers(1, 30))
def test_any_window_is_a_piece_of_the_whole(found: Dataset, row: int, col: int, height: int, width: int) -> None:
    part = found.pairs[0].read(Window(col, row, width, height)).labels
    assert (part == whole(found)[row : row + height, col : col + width]).all()


def test_one_layer_is_for_all_rasters(tmp_path: Path) -> None:
    for i in range(3):
        tif(tmp_path / f"{i}.tif", make_pixels(SHAPE), transform=NORTH_UP * Affine.translation(20 * i, 0))
    geopandas.GeoDataFrame([square(0, 0, 50, 20, kind="a"), square(0, 20, 60, 41, kind="b")], crs=32640).to_file(
        tmp_path / "all.gpkg"
    )
    dataset = open_dataset(tmp_path)
    want = np.full((41, 120), 255)
    want[:20, :50], want[20:, :60] = 0, 1
    for i, pair in enumerate(dataset.pairs):
        assert (pair.read(Part.of(pair).window).labels == want[:, 20 * i : 20 * i + 53]).all()


def test_one_class_is_told_from_the_background(tmp_path: Path) -> None:
    dataset = open_dataset(layer(tmp_path, square(5, 5, 20, 30), name="buildings.gpkg"))
    assert [c.name for c in dataset.classes] == ["background", "buildings"]
    want = np.zeros(SHAPE, np.uint8)
    want[5:30, 5:20] = 1
    assert (whole(dataset) == want).all()
    assert any("background" in note for note in dataset.notes)


OVERLAPPING = (
    square(0, 0, 30, 30, kind="a", rank=5),
    square(10, 10, 20, 20, kind="b", rank=9),
    square(5, 5, 40, 40, kind="a", rank=7),
)


@pytest.mark.parametrize(("order", "wins"), [("file", "a"), ("area", "b"), ("rank", "b")])
def test_the_last_in_a_stated_order_wins(tmp_path: Path, order: str, wins: str) -> None:
    layer(tmp_path, *OVERLAPPING)
    labels = whole(open_dataset(toml(tmp_path, f'field = "kind"\norder = "{order}"', ("a", "b"))))
    assert labels[15, 15] == "ab".index(wins)
    assert labels[2, 2] == 0
    assert labels[40, 50] == 255


def test_outside_is_ignored_or_a_class_and_an_area_bounds_it(tmp_path: Path) -> None:
    layer(tmp_path, square(0, 0, 10, 10, kind="a"))
    rows = [square(0, 0, 20, 20)]
    geopandas.GeoDataFrame(rows, geometry="geometry", crs="EPSG:32640").to_file(tmp_path / "seen.gpkg")
    labels = whole(open_dataset(toml(tmp_path, 'field = "kind"\noutside = "ignore"', ("a", "rest"))))
    assert (labels[:10, :10] == 0).all()
    assert (labels == 0).sum() == 100
    assert (labels != 0).sum() == (labels == 255).sum()
    labels = whole(open_dataset(toml(tmp_path, 'field = "kind"\noutside = "rest"', ("a", "rest"))))
    assert (labels == 1).sum() == labels.size - 100
    labels = whole(open_dataset(toml(tmp_path, 'field = "kind"\noutside = "rest"\narea = "seen.gpkg"', ("a", "rest"))))
    assert (labels == 1).sum() == 300
    assert (labels[20:] == 255).all()


def test_labels_may_be_numbers_and_several_may_be_one_class(tmp_path: Path) -> None:
    rows = [square(5 * i, 0, 5 * i + 5, 9, code=float(i)) for i in range(3)]
    layer(tmp_path, *rows, square(20, 0, 25, 9, code=np.nan), square(40, 0, 41, 9, code=np.inf))
    toml(tmp_path, 'field = "code"\nignore = ["inf"]', ())
    with (tmp_path / "dataset.toml").open("a") as file:
        file.write('[[classes]]\nname = "even"\nlabels = [0, "2"]\n[[classes]]\nname = "odd"\nlabels = [1]\n')
    labels = whole(open_dataset(tmp_path))
    assert labels[0, [0, 5, 10, 20, 30, 40]].tolist() == [0, 1, 0, 255, 255, 255]


def test_labels_that_no_class_has_are_named(tmp_path: Path) -> None:
    layer(tmp_path, square(0, 0, 10, 10, kind="a"), square(10, 0, 20, 10, kind="lava"))
    told = refusal(toml(tmp_path, 'field = "kind"', ("a", "b")))
    assert "labels.gpkg" in told
    assert "lava" in told
    dataset = open_dataset(tmp_path)
    assert dataset.survey().pairs[0].strange == {"lava": 1}
    assert (whole(open_dataset(toml(tmp_path, 'field = "kind"\nunknown = "ignore"', ("a", "b")))) == 0).sum() == 100


def test_invalid_polygons_are_mended(tmp_path: Path) -> None:
    bow = shapely.Polygon([NORTH_UP * p for p in ((0, 0), (20, 20), (20, 0), (0, 20))])
    layer(tmp_path, {"geometry": bow, "kind": "a"})
    labels = whole(open_dataset(toml(tmp_path, 'field = "kind"', ("a", "b"))))
    assert labels[10, 2] == labels[10, 17] == 0
    assert labels[2, 10] == 255


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ('field = "nothing"', "no attribute 'nothing'; it has kind"),
        ('field = "kind"\norder = "kind"', "cannot be ordered by kind"),
        ('field = "kind"\nlayer = "other"', "no layer 'other'; it has labels"),
        ('field = "kind"\narea = "nowhere.gpkg"', "nowhere.gpkg"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, labels: str, wanted: str) -> None:
    layer(tmp_path, square(0, 0, 10, 10, kind="a"))
    assert wanted in refusal(toml(tmp_path, labels, ("a", "b")))


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_layers_that_are_no_polygons_or_lie_nowhere(tmp_path: Path) -> None:
    layer(tmp_path / "a", {"geometry": shapely.Point(NORTH_UP * (3, 3)), "kind": "x"})
    assert "holds no polygon" in refusal(tmp_path / "a")
    layer(tmp_path / "b", square(0, 0, 9, 9, kind="a"), square(9, 9, 12, 12, kind="b"), crs=None, name="labels.shp")
    assert "no CRS" in refusal(tmp_path / "b")
    layer(tmp_path / "c", square(0, 0, 9, 9, kind="a"), square(9, 9, 12, 12, kind="b"))
    (tmp_path / "c" / "labels.gpkg").write_bytes(b"no database")
    assert "labels.gpkg cannot be read" in refusal(tmp_path / "c")


def test_polygons_far_away_label_nothing(tmp_path: Path) -> None:
    far = shapely.box(-60, -30, -59, -29)
    layer(
        tmp_path, {"geometry": far, "kind": "a"}, {"geometry": shapely.box(0, 80, 1, 90), "kind": "b"}, crs="EPSG:4326"
    )
    assert (whole(open_dataset(tmp_path)) == 255).all()


def test_odd_names_of_classes_are_written_and_read(tmp_path: Path) -> None:
    rows = [
        square(9 * i, 0, 9 * i + 9, 9, kind=name) for i, name in enumerate(("a\nb", "ab", "wa\u00a0ter", 'q"\\', "é"))
    ]
    looked = open_dataset(layer(tmp_path, *rows))
    (tmp_path / "dataset.toml").write_text(to_toml(looked.spec), encoding="utf-8")
    read = open_dataset(tmp_path)
    assert read.classes == looked.classes
    assert (whole(read) == whole(looked)).all()
    assert len(np.unique(whole(read))) == 6
