"""A training set is found by looking, means the same however its masks are stored, and is read by window."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from fakes import NORTH_UP, make_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window
from training_sets import BLACK, BLUE, GREEN, HEX, RED, grouped, painted, patches, png, tif

from rs_segment.dataset import Dataset, Part, examine, open_dataset
from rs_segment.dataset.files import Files
from rs_segment.errors import DatasetError, SceneError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SHAPE = (40, 52)
PIXELS = make_pixels(SHAPE)
LABELS = patches(SHAPE, 3)
COLORS = (RED, GREEN, BLUE)


def whole(dataset: Dataset, index: int = 0) -> np.ndarray:
    pair = dataset.pairs[index]
    return pair.read(Part.of(pair).window).labels


def toml(root: Path, text: str) -> Path:
    (root / "dataset.toml").write_text(text, encoding="utf-8")
    return root


def named(dataset: Dataset, labels: np.ndarray) -> np.ndarray:
    """Labels as names of classes."""
    names = np.array([*(c.name for c in dataset.classes), *[""] * (256 - len(dataset.classes))])
    return names[labels]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grouped(tmp_path_factory.mktemp("tiles"))


def test_groups_of_images_and_colour_masks_are_found(tiles: Path) -> None:
    dataset = open_dataset(tiles)
    assert [p.name for p in dataset.pairs] == [f"tile_{g}/image_part_00{p}" for g in range(3) for p in range(2)]
    assert dataset.groups == ("tile_0", "tile_1", "tile_2")
    assert [c.name for c in dataset.classes] == [HEX[GREEN], HEX[BLUE], HEX[RED]]
    assert (dataset.bands, dataset.dtype, dataset.band_names) == (3, "uint8", ("red", "green", "blue"))
    assert (dataset.resolution, dataset.ignore) == (None, 255)
    want = np.array([HEX[c] for c in COLORS])[patches(SHAPE, 3, 21)]
    assert (named(dataset, whole(dataset, 5)) == want).all()


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("images/a.png", "masks/a.png"),
        ("image/a.png", "label/a.png"),
        ("img/a.png", "gt/a.png"),
        ("Images/a.png", "Labels/a.png"),
        ("train_images/a.png", "train_masks/a.png"),
        ("JPEGImages/a.png", "SegmentationClass/a.png"),
        ("a_rgb.png", "a_labels.png"),
        ("a_sat.png", "a_mask.png"),
        ("top_2_10_RGB.png", "top_2_10_label.png"),
        ("image_a.png", "mask_a.png"),
        ("a.png", "a_mask.png"),
        ("x/images/y/a.png", "x/masks/y/a.png"),
        ("images/image_a.png", "masks/mask_a.png"),
        ("images/a.png", "labels/a_rgb.png"),
    ],
)
def test_images_and_masks_are_told_by_folder_or_name(tmp_path: Path, image: str, labels: str) -> None:
    png(tmp_path / image, PIXELS)
    png(tmp_path / labels, LABELS)
    dataset = open_dataset(tmp_path)
    assert len(dataset.pairs) == 1
    assert (whole(dataset) == LABELS).all()
    sample = dataset.pairs[0].read(Window(0, 0, 52, 40))
    assert (sample.pixels == PIXELS).all()
    assert sample.valid.all()


def test_the_same_classes_whether_masks_are_palettes_or_colours(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", PIXELS)
    png(tmp_path / "images/b.png", PIXELS)
    png(tmp_path / "images/c.png", PIXELS)
    png(tmp_path / "masks/a.png", painted(LABELS, COLORS))
    png(tmp_path / "masks/b.png", LABELS, dict(enumerate(COLORS)))
    png(tmp_path / "masks/c.png", 7 - LABELS, {7 - i: c for i, c in enumerate(COLORS)})
    dataset = open_dataset(tmp_path)
    assert len(dataset.classes) == 3
    assert (whole(dataset, 0) == whole(dataset, 1)).all()
    assert (whole(dataset, 0) == whole(dataset, 2)).all()


def test_one_palette_for_all_gives_values_their_colours(tmp_path: Path) -> None:
    for name in "ab":
        png(tmp_path / f"images/{name}.png", PIXELS)
        png(tmp_path / f"masks/{name}.png", LABELS + 4, {i + 4: c for i, c in enumerate(COLORS)})
    dataset = open_dataset(tmp_path)
    assert [(c.value, c.name, c.color) for c in dataset.classes] == [
        (i, f"class {i + 4}", HEX[c]) for i, c in enumerate(COLORS)
    ]
    assert (whole(dataset) == LABELS).all()


def test_rare_black_is_no_label_and_frequent_black_a_class(tmp_path: Path) -> None:
    rare = LABELS.copy()
    rare[3:6, 3:6] = 3
    for name, labels in (("a", LABELS), ("b", LABELS), ("c", rare)):
        png(tmp_path / f"few/images/{name}.png", PIXELS)
        png(tmp_path / f"few/masks/{name}.png", painted(labels, (*COLORS, BLACK)))
    dataset = open_dataset(tmp_path / "few")
    assert dataset.spec.labels.ignore == ("#000000",)
    assert any("black" in note for note in dataset.notes)
    assert ((whole(dataset, 2) == 255) == (rare == 3)).all()
    png(tmp_path / "many/images/a.png", PIXELS)
    png(tmp_path / "many/masks/a.png", painted(LABELS, (BLACK, GREEN, BLUE)))
    assert "#000000" in [c.name for c in open_dataset(tmp_path / "many").classes]


def test_255_is_no_label_but_in_masks_of_black_and_white(tmp_path: Path) -> None:
    png(tmp_path / "some/images/a.png", PIXELS)
    png(tmp_path / "some/masks/a.png", np.where(LABELS == 2, 255, LABELS).astype(np.uint8))
    dataset = open_dataset(tmp_path / "some")
    assert len(dataset.classes) == 2
    assert ((whole(dataset) == 255) == (LABELS == 2)).all()
    png(tmp_path / "two/images/a.png", PIXELS)
    png(tmp_path / "two/masks/a.png", np.where(LABELS == 2, 255, 0).astype(np.uint8))
    dataset = open_dataset(tmp_path / "two")
    assert [c.labels for c in dataset.spec.classes] == [(0,), (255,)]
    assert (whole(dataset) == (LABELS == 2)).all()


def test_names_of_classes_come_from_the_mask(tmp_path: Path) -> None:
    tif(tmp_path / "a_rgb.tif", PIXELS)
    mask = tif(tmp_path / "a_labels.tif", LABELS)
    import rasterio

    with rasterio.open(mask, "r+") as target:
        target.update_tags(CLASS_NAMES='{"0": "Land", "1": "Water", "2": "Road"}')
    dataset = open_dataset(tmp_path)
    assert [c.name for c in dataset.classes] == ["Land", "Water", "Road"]
    assert dataset.resolution == pytest.approx(0.5)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(-10, 60),
    st.integers(-10, 60),
    st.integers(0, 70),
    st.integers(0, 70),
    st.integers(0, 25),
    st.booleans(),
)
def test_any_window_is_a_piece_of_the_whole(
    tiles: Path, row: int, col: int, height: int, width: int, border: int, kept: bool
) -> None:
    dataset = _bordered(tiles, border, kept)
    pair = dataset.pairs[1]
    labels = patches(SHAPE, 3, 1)
    want = np.array([2, 0, 1], np.uint8)[labels]
    if border:
        inner = np.zeros(SHAPE, bool)
        inner[border : SHAPE[0] - border, border : SHAPE[1] - border] = True
        want = np.where(inner, want, 255)
    sample = pair.read(Window(col, row, width, height))
    rows = slice(min(max(row, 0), 40), min(max(row + height, 0), 40))
    cols = slice(min(max(col, 0), 52), min(max(col + width, 0), 52))
    assert sample.labels.shape == sample.valid.shape == sample.pixels.shape[1:] == want[rows, cols].shape
    assert (sample.labels == want[rows, cols]).all()
    assert (sample.pixels == make_pixels(SHAPE, seed=1)[:, rows, cols]).all()
    sample.labels[:] = 9
    sample.pixels[:] = 9


_OPENED: dict[tuple[int, bool], Dataset] = {}


def _bordered(tiles: Path, border: int, kept: bool) -> Dataset:
    from dataclasses import replace

    if (border, kept) not in _OPENED:
        plain = _OPENED.setdefault((0, True), open_dataset(tiles))
        files = plain._files if kept else Files(0)
        pairs = tuple(replace(p, border=border, _files=files) for p in plain.pairs)
        _OPENED[border, kept] = replace(plain, pairs=pairs)
    return _OPENED[border, kept]


def test_threads_read_the_same(tmp_path: Path) -> None:
    """Some images from memory, some by window, all from several threads, with more files than are kept open."""
    for i in range(30):
        # 6 Mpx in tiles are not kept in memory.
        tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
        tif(tmp_path / f"images/{i}.tif", make_pixels(SHAPE, seed=i), **tiled)
        tif(tmp_path / f"masks/{i}.tif", patches(SHAPE, 3, i), **tiled)
    dataset = open_dataset(tmp_path)
    from dataclasses import replace

    pairs = [replace(p, image=replace(p.image, block=(16, 16))) for p in dataset.pairs]
    windows = [(i, Window(i % 9, i % 7, 20, 20)) for i in range(30)] * 8

    def read(job: tuple[int, Window]) -> bool:
        index, window = job
        sample = pairs[index].read(window)
        rows, cols = window.toslices()
        same = sample.pixels == make_pixels(SHAPE, seed=index)[:, rows, cols]
        return bool(same.all() and (sample.labels == patches(SHAPE, 3, index)[rows, cols]).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, windows))
    dataset.close()


def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    files = Files(cache_bytes=250)
    made: list[int] = []

    def load(key: int) -> tuple[np.ndarray, ...]:
        made.append(key)
        return (np.full(100, key, np.uint8),)

    for key in (1, 2, 1, 3, 1, 2):
        assert files.arrays(key, lambda key=key: load(key))[0][0] == key
    assert made == [1, 2, 3, 2]
    assert files._bytes <= 250


def test_missing_pixels_have_no_label(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[:, :9] = 0
    tif(tmp_path / "images/a.tif", pixels, nodata=0)
    tif(tmp_path / "masks/a.tif", LABELS, nodata=2)
    sample = open_dataset(tmp_path).pairs[0].read(Window(0, 0, 52, 40))
    assert not sample.valid[:9].any()
    assert sample.valid[9:].all()
    assert ((sample.labels == 255) == (~sample.valid | (LABELS == 2))).all()


@pytest.mark.parametrize(
    ("dtype", "bands"), [("uint16", 1), ("int16", 4), ("float32", 16), ("float64", 2), ("uint8", 3)]
)
def test_any_number_of_bands_of_any_type(tmp_path: Path, dtype: str, bands: int) -> None:
    pixels = make_pixels(SHAPE, bands, dtype)
    tif(tmp_path / "images/a.tif", pixels)
    tif(tmp_path / "masks/a.tif", LABELS)
    dataset = open_dataset(tmp_path)
    assert (dataset.bands, dataset.dtype) == (bands, dtype)
    assert (dataset.pairs[0].read(Window(0, 0, 52, 40)).pixels == pixels).all()


def test_bands_are_chosen_by_number_or_name(tmp_path: Path) -> None:
    pixels = make_pixels(SHAPE, 4)
    tif(tmp_path / "images/a.tif", pixels, names=["blue", "green", "red", "nir"])
    tif(tmp_path / "masks/a.tif", LABELS)
    text = '[images]\nfiles = "images/*"\nbands = ["nir", 3]\n[labels]\nfiles = "masks/*"\n'
    toml(tmp_path, text + "".join(f'[[classes]]\nname = "c{i}"\n' for i in range(3)))
    dataset = open_dataset(tmp_path)
    assert dataset.band_names == ("nir", "red")
    assert (dataset.pairs[0].read(Window(0, 0, 52, 40)).pixels == pixels[[3, 2]]).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_values_of_any_type_are_classes(tmp_path: Path, dtype: str) -> None:
    big = 70_000 if np.dtype(dtype).itemsize >= 4 else 200
    values = np.array([0, 5, big])
    if np.dtype(dtype).kind != "u":
        values[0] = -3
    png(tmp_path / "images/a.png", PIXELS)
    tif(tmp_path / "masks/a.tif", values[LABELS].astype(dtype), transform=Affine.identity(), crs=None)
    dataset = open_dataset(tmp_path)
    assert [c.labels for c in dataset.spec.classes] == [(int(v),) for v in values]
    assert (whole(dataset) == LABELS).all()


def test_several_labels_are_one_class(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", PIXELS)
    png(tmp_path / "masks/a.png", LABELS)
    toml(
        tmp_path,
        '[images]\nfiles = "images/*"\n[labels]\nfiles = "masks/*"\n'
        '[[classes]]\nname = "both"\nlabels = [0, 2]\n[[classes]]\nname = "one"\nlabels = [1]\n',
    )
    assert (whole(open_dataset(tmp_path)) == (LABELS == 1)).all()


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    return str(caught.value)


def test_sizes_that_differ_are_refused_or_cut(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", PIXELS)
    png(tmp_path / "masks/a.png", LABELS[:-1, :-2])
    told = refusal(tmp_path)
    assert "images/a.png" in told
    assert "masks/a.png" in told
    assert "52 x 40" in told
    assert "50 x 39" in told
    head = '[images]\nfiles = "images/*"\n[labels]\nfiles = "masks/*"\nsizes = "cut"\n'
    toml(tmp_path, head + "".join(f'[[classes]]\nname = "c{i}"\n' for i in range(3)))
    dataset = open_dataset(tmp_path)
    assert dataset.pairs[0].shape == (39, 50)
    assert (whole(dataset) == LABELS[:-1, :-2]).all()
    assert (dataset.pairs[0].read(Window(0, 0, 99, 99)).pixels == PIXELS[:, :-1, :-2]).all()
    png(tmp_path / "masks/a.png", LABELS[::2, ::2])
    assert "26 x 20" in refusal(tmp_path)


def test_masks_elsewhere_are_refused(tmp_path: Path) -> None:
    tif(tmp_path / "images/a.tif", PIXELS)
    tif(tmp_path / "masks/a.tif", LABELS, transform=NORTH_UP * Affine.translation(3, 0))
    told = refusal(tmp_path)
    assert "masks/a.tif" in told
    assert "does not lie on" in told
    tif(tmp_path / "masks/a.tif", LABELS, crs="EPSG:32641")
    assert "CRS" in refusal(tmp_path)


def test_a_mask_without_image_is_named_and_an_image_without_mask_left_out(tmp_path: Path) -> None:
    for name in "ab":
        png(tmp_path / f"images/{name}.png", PIXELS)
        png(tmp_path / f"masks/{name}.png", LABELS)
    (tmp_path / "masks/a.png").unlink()
    dataset = open_dataset(tmp_path)
    assert [p.name for p in dataset.pairs] == ["b"]
    assert any("images/a.png" in note for note in dataset.notes)
    png(tmp_path / "masks/lonely.png", LABELS)
    assert "masks/lonely.png has no image" in refusal(tmp_path)


def test_everything_wrong_is_listed_at_once(tmp_path: Path) -> None:
    for name in "abcd":
        png(tmp_path / f"images/{name}.png", PIXELS)
        png(tmp_path / f"masks/{name}.png", LABELS)
    png(tmp_path / "images/b.png", make_pixels(SHAPE, 1))
    png(tmp_path / "masks/c.png", LABELS[:20])
    (tmp_path / "images/d.png").write_bytes(b"")
    found = examine(tmp_path)
    assert found.dataset is not None
    assert [p.name for p in found.dataset.pairs] == ["a"]
    for file, problem in zip("bcd", found.problems, strict=True):
        assert f"{file}.png" in problem
    assert "2 more" in refusal(tmp_path)


def test_labels_that_no_class_has_are_named(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", PIXELS)
    png(tmp_path / "masks/a.png", painted(LABELS, COLORS))
    head = '[images]\nfiles = "images/*"\n[labels]\nfiles = "masks/*"\nkind = "colors"\n'
    some = f'[[classes]]\nname = "r"\ncolor = "{HEX[RED]}"\n[[classes]]\nname = "g"\ncolor = "{HEX[GREEN].lower()}"\n'
    dataset = open_dataset(toml(tmp_path, head + some))
    with pytest.raises(DatasetError) as caught:
        whole(dataset)
    assert "masks/a.png" in str(caught.value)
    assert HEX[BLUE] in str(caught.value)
    assert dataset.survey().pairs[0].strange == {HEX[BLUE]: int((LABELS == 2).sum())}
    for line in ('unknown = "ignore"\n', f'ignore = ["{HEX[BLUE]}"]\n'):
        labels = whole(open_dataset(toml(tmp_path, head + line + some)))
        assert (labels == np.where(LABELS == 2, 255, LABELS)).all()


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, "no images"),
        ({"images/a.png": PIXELS}, "no labels"),
        ({"masks/a.png": LABELS}, "no images"),
        ({"images/a.png": PIXELS, "masks/b.png": LABELS}, "none of them belong together"),
        ({"images/a.png": PIXELS, "masks/a.png": PIXELS}, "cannot all be classes"),
        ({"images/a.png": PIXELS, "masks/a.tif": make_pixels(SHAPE, 2)}, "2 bands"),
        ({"images/a.png": PIXELS, "masks/a.png": LABELS, "gt/a.png": LABELS}, "keep one of them"),
    ],
)
def test_folders_that_are_no_training_set(tmp_path: Path, files: dict[str, np.ndarray], wanted: str) -> None:
    for name, pixels in files.items():
        (tif if name.endswith("tif") else png)(tmp_path / name, pixels)
    assert wanted in refusal(tmp_path)


def test_a_broken_mask_is_named(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", PIXELS)
    mask = png(tmp_path / "masks/a.png", LABELS)
    mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(SceneError, match="masks/a.png is cut off"):
        open_dataset(tmp_path)


def test_no_folder_is_a_sentence(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")


def test_links_are_followed_once(tmp_path: Path) -> None:
    grouped(tmp_path / "there", 1, 1)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "again").symlink_to(tmp_path / "set")
    assert len(open_dataset(tmp_path / "set").pairs) == 1


def test_a_scaling_for_other_bands_is_refused(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", PIXELS)
    png(tmp_path / "masks/a.png", LABELS)
    head = '[images]\nfiles = "images/*"\n[labels]\nfiles = "masks/*"\n'
    classes = "".join(f'[[classes]]\nname = "c{i}"\n' for i in range(3))
    toml(tmp_path, head + classes + "[scaling]\na = [1.0, 2.0]\nb = [3.0]\n")
    assert "another number of bands than the 3" in refusal(tmp_path)
    toml(tmp_path, head + classes + "[scaling]\na = [1.0]\nb = [3.0]\n")
    assert open_dataset(tmp_path).scaling.b == (3.0,)
