"""The classes that a person lists are the same labels in another order, under other names; all else teaches nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import make_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window
from test_dataset_polygons import make
from training_sets import BLUE, GREEN, HEX, RED, grouped, patches, png

from rs_segment.dataset import Dataset, examine, open_dataset, read_spec, to_toml
from rs_segment.errors import OptionError, RsSegmentError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SHAPE = (40, 52)
LISTED = {HEX[GREEN]: "Trees", HEX[BLUE]: "Water", HEX[RED]: "Roof"}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grouped(tmp_path_factory.mktemp("tiles"), 3, 1, SHAPE)


def names(dataset: Dataset) -> np.ndarray:
    """The first image's labels as names of classes; "" is no label."""
    called = np.array([*(c.name for c in dataset.classes), *[""] * (256 - len(dataset.classes))])
    return called[dataset.pairs[0].read(Window(0, 0, SHAPE[1], SHAPE[0])).labels]


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(list(LISTED)), count=st.integers(1, 3), called=st.booleans())
def test_labels_keep_their_class_in_any_order(tiles: Path, order: list[str], count: int, called: bool) -> None:
    kept = order[:count]
    dataset = open_dataset(tiles, classes=",".join(f"{c.lower()}={LISTED[c]}" if called else c for c in kept))
    assert [c.name for c in dataset.classes] == [LISTED[c] if called else c for c in kept]
    assert [c.color for c in dataset.classes] == kept
    was = names(open_dataset(tiles))
    want = np.select([was == c for c in kept], [LISTED[c] if called else c for c in kept], "")
    assert (names(dataset) == want).all()
    told = "\n".join(dataset.notes)
    assert ("nothing is learnt from what --classes does not list" in told) == (count < 3)
    assert ("classes are called by their colours" in told) != called


def test_those_called_alike_are_one(tiles: Path) -> None:
    dataset = open_dataset(tiles, classes=f"{HEX[RED]}=Any,{HEX[BLUE]}=Any,{HEX[GREEN]}=Trees")
    assert [c.name for c in dataset.classes] == ["Any", "Trees"]
    assert ((names(dataset) == "Trees") == (names(open_dataset(tiles)) == HEX[GREEN])).all()


def test_names_and_labels_of_a_file_and_its_weights(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", make_pixels(SHAPE))
    png(tmp_path / "masks/a.png", patches(SHAPE, 4))
    (tmp_path / "dataset.toml").write_text(
        'weights = {Water = 3, Both = 2}\n[images]\nfiles = "images/*"\n[labels]\nfiles = "masks/*"\nignore = [3]\n'
        '[[classes]]\nname = "Water"\nlabels = [0]\n[[classes]]\nname = "Both"\nlabels = [1, 2]\n'
    )
    dataset = open_dataset(tmp_path, classes=" Both , 0 = Sea ,3=Other")
    assert [(c.name, c.labels) for c in dataset.spec.classes] == [("Both", (1, 2)), ("Sea", (0,)), ("Other", (3,))]
    assert dataset.weights == (2, 3, 1)
    assert (names(dataset) == np.array(["Sea", "Both", "Both", "Other"])[patches(SHAPE, 4)]).all()
    only = open_dataset(tmp_path, classes="2=Two")
    assert ((names(only) == "Two") == (patches(SHAPE, 4) == 2)).all()
    assert any(note.endswith("does not list: Water, 1") for note in only.notes)
    with pytest.raises(OptionError, match="Wet of classes with different weights"):
        open_dataset(tmp_path, classes="Water=Wet,Both=Wet")


def test_what_was_chosen_is_written_and_read(tiles: Path, tmp_path: Path) -> None:
    chosen = open_dataset(tiles, classes=f"{HEX[RED]}=Roof,{HEX[BLUE]}")
    (tmp_path / "dataset.toml").write_text(to_toml(chosen.spec))
    read = read_spec(tmp_path / "dataset.toml")
    assert (read.classes, read.labels) == (chosen.spec.classes, chosen.spec.labels)


def test_polygons_by_their_attribute(tmp_path: Path) -> None:
    root = make(tmp_path)
    every, dataset = open_dataset(root), open_dataset(root, classes="Water=Sea,Field")
    want = {"Water": "Sea", "Field": "Field", "Road": "", "": ""}
    assert (names(dataset)[:39] == np.vectorize(want.get)(names(every)[:39])).all()


@pytest.mark.parametrize(
    ("classes", "wanted"),
    [
        ("#C80001", "'#C80001', which is no class of {root}; did you mean #C80000?"),
        ("Buildings=#C80000", "'Buildings', which is no class of {root}; there are #00B414, #0A14E6, #C80000"),
        ("#C80000=A,#C80000=B", "lists #C80000 twice"),
        (" , ", "lists 0 classes"),
        ("=Roof", "'', which is no class"),
    ],
)
def test_classes_that_do_not_match_are_a_sentence(tiles: Path, classes: str, wanted: str) -> None:
    with pytest.raises(RsSegmentError) as caught:
        examine(tiles, classes=classes)
    assert wanted.format(root=tiles) in str(caught.value)
