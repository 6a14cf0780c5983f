"""A ``dataset.toml`` says what it says, also after it was written anew; what it cannot say is refused in a sentence."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_sets import grouped

from rs_segment.dataset import (
    ClassSpec,
    DatasetSpec,
    ImageSpec,
    LabelSpec,
    PairSpec,
    SplitSpec,
    open_dataset,
    read_spec,
    to_toml,
)
from rs_segment.dataset.look import groups_by_folder, pattern_filter, patterns_for, tell
from rs_segment.dataset.spec import KEYS
from rs_segment.errors import DatasetError

MINIMAL = '[images]\nfiles = "i/*"\n[labels]\nfiles = "m/*"\n[[classes]]\nname = "a"\n[[classes]]\nname = "b"\n'
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn", "Zl", "Zp")), max_size=12)
NAMES = TEXTS.filter(lambda t: t.strip() and t.isprintable())
PATTERNS = st.lists(TEXTS.filter(bool), min_size=1, max_size=3).map(tuple)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def written(root: Path, text: str) -> Path:
    path = root / "dataset.toml"
    path.write_text(text, encoding="utf-8")
    return path


@st.composite
def specs(draw: st.DrawFn) -> DatasetSpec:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    labels = draw(st.lists(st.integers(-(2**40), 2**40), min_size=len(names), max_size=12, unique=True))
    colors = st.integers(0, 0xFFFFFF).map(lambda c: f"#{c:06X}")
    classes = tuple(ClassSpec(n, draw(colors), (v,)) for n, v in zip(names, labels, strict=False))
    ignore = tuple(labels[len(names) :])
    held = st.one_of(st.floats(0, 0.99), st.lists(NAMES, min_size=1, max_size=3).map(tuple))
    whole = st.integers(0, 9)
    split = SplitSpec(
        draw(st.sampled_from(["group", "blocks", "kfold", "random"])),
        draw(held),
        draw(held),
        draw(st.integers(0, 4)),
        draw(st.integers(5, 9)),
        draw(whole),
        draw(whole),
        draw(whole),
    )
    weights = st.sampled_from([None, "balanced", tuple(1.5 for _ in classes)])
    return DatasetSpec(
        Path(),
        draw(NAMES),
        classes,
        ImageSpec(
            draw(PATTERNS),
            draw(st.none() | st.lists(st.integers(1, 9) | NAMES, min_size=1, max_size=3).map(tuple)),
            draw(PATTERNS),
            draw(st.none() | FLOATS),
            draw(st.none() | st.floats(0.01, 100)),
            draw(st.sampled_from(["folder", "file", r"tile_(\d+)"])),
        ),
        LabelSpec(
            draw(PATTERNS),
            "values",
            draw(whole),
            draw(st.booleans()),
            ignore,
            draw(st.sampled_from(["refuse", "ignore"])),
        ),
        draw(st.sampled_from([None, ("z-score", (1.5, 2.0), (3.0, 4.0)), ("fixed", (0.0,), (255.0,))])),
        draw(weights),
        draw(st.none() | st.just(split)),
        tuple(draw(st.lists(st.builds(PairSpec, TEXTS.filter(bool), TEXTS, TEXTS, TEXTS), max_size=2))),
        draw(TEXTS),
        draw(TEXTS),
    )


@settings(deadline=None, max_examples=80)
@given(specs())
def test_what_is_written_reads_the_same(tmp_path_factory: pytest.TempPathFactory, spec: DatasetSpec) -> None:
    root = tmp_path_factory.mktemp("toml")
    assert read_spec(written(root, to_toml(spec))) == replace(spec, root=root)


def test_little_is_enough(tmp_path: Path) -> None:
    spec = read_spec(written(tmp_path, MINIMAL))
    assert spec.name == tmp_path.name
    assert [c.labels for c in spec.classes] == [(0,), (1,)]
    assert len({c.color for c in spec.classes}) == 2
    assert (spec.split, spec.weights, spec.scaling) == (None, None, None)


def test_what_looking_finds_opens_the_same_from_its_file(tmp_path: Path) -> None:
    grouped(tmp_path / "set")
    looked = open_dataset(tmp_path / "set")
    (tmp_path / "set" / "dataset.toml").write_text(to_toml(looked.spec), encoding="utf-8")
    read = open_dataset(tmp_path / "set")
    assert read == replace(looked, notes=(), spec=read.spec)
    assert read.spec.images.files == ("*/images/image_*.png",)
    elsewhere = written(tmp_path, 'root = "set"\n' + to_toml(looked.spec))
    assert [p.name for p in open_dataset(elsewhere).pairs] == [p.name for p in looked.pairs]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[images", "is no TOML"),
        ("", "it names 0 classes"),
        (MINIMAL.replace("files", "fils"), "did you mean files"),
        (MINIMAL.replace("[images]", "[imges]"), "did you mean images"),
        ("format = 2\n" + MINIMAL, "format = 2"),
        ("name = 3\n" + MINIMAL, "must be a text"),
        (MINIMAL.replace('"b"', '"a"'), "two classes are called a"),
        (MINIMAL + "labels = [0]\n", "stands for both a and b"),
        (MINIMAL + 'labels = ["x"]\n', "labels are whole numbers"),
        (MINIMAL + "labels = [true]\n", "labels are whole numbers"),
        (MINIMAL + 'color = "red"\n', "must be written like"),
        (MINIMAL.replace('files = "m/*"', 'files = "m/*"\nkind = "colors"'), "class a has no color"),
        (MINIMAL.replace('files = "m/*"', 'files = "m/*"\nkind = "colour"'), "must be one of values, colors, polygons"),
        (MINIMAL.replace('files = "m/*"', 'files = "m/*"\nborder = -1'), "0 or more"),
        (MINIMAL.replace('files = "m/*"', 'files = "m/*"\noutside = "c"'), "there are a, b"),
        (MINIMAL.replace('files = "i/*"', 'files = "i/*"\nresolution = 0'), "above 0"),
        (MINIMAL.replace('files = "i/*"', 'files = "i/*"\nbands = [true]'), "list of numbers or names"),
        (MINIMAL.replace('files = "i/*"', 'files = "i/*"\ngroup = "("'), "regular expression"),
        (MINIMAL.replace('files = "i/*"', ""), "names no images and labels"),
        ("weights = [1, 2, 3]\n" + MINIMAL, "each of the 2 classes"),
        ("weights = {c = 1}\n" + MINIMAL, "no class"),
        ("weights = [0, 0]\n" + MINIMAL, "weights"),
        (MINIMAL + '[scaling]\nkind = "z-score"\n', "needs lists"),
        (MINIMAL + "[scaling]\na = [1.0]\nb = [0.0]\n", "nothing to divide by"),
        (MINIMAL + '[scaling]\nkind = "min-max"\na = [1.0]\nb = [1.0]\n', "nothing to divide by"),
        (MINIMAL + '[split]\nkind = "best"\n', "must be one of group"),
        (MINIMAL + "[split]\nvalidation = 1.5\n", "share"),
        (MINIMAL + "[split]\nfold = 5\n", "counted from 0"),
        (MINIMAL + '[[pairs]]\nlabels = "x"\n', "names no image"),
        (MINIMAL + "[classes]\n", "TOML"),
    ],
)
def test_what_it_cannot_say_is_refused(tmp_path: Path, text: str, wanted: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DatasetError) as caught:
        read_spec(path)
    assert wanted in str(caught.value)
    assert str(path) in str(caught.value)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(st.text("ab*?[].(", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join), unique=True),
    st.data(),
)
def test_patterns_fit_what_is_wanted_and_nothing_else(paths: list[str], data: st.DataObject) -> None:
    wanted = [p for p in paths if data.draw(st.booleans())]
    found = {p for pattern in patterns_for(wanted, paths) for p in pattern_filter(pattern, paths)}
    assert found == set(wanted)


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("*.png", ["a.png"]),
        ("**/*.png", ["a.png", "x/a.png", "x/y/a.png"]),
        ("x/**/*.png", ["x/a.png", "x/y/a.png"]),
        ("*/a.png", ["x/a.png"]),
        ("?/[ab].png", ["x/a.png"]),
        ("a.pn", []),
    ],
)
def test_patterns(pattern: str, fits: list[str]) -> None:
    assert pattern_filter(pattern, ["a.png", "x/a.png", "x/y/a.png", "a-png"]) == fits


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["t1/a", "t1/b", "t2/a"], ["t1", "t1", "t2"]),
        (["t1/a", "b"], ["t1", "b"]),
        (["site_a_01", "site_a_02", "site_b_01"], ["site_a", "site_a", "site_b"]),
        (["austin1_part_3", "austin1_part_4", "vienna2_part_1"], ["austin", "austin", "vienna"]),
        (["image_part_001", "image_part_002"], ["image", "image"]),
        (["001", "002", "003"], ["001", "002", "003"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_groups_by_folder_or_name(names: list[str], groups: list[str]) -> None:
    assert list(groups_by_folder(names).values()) == groups


def test_images_and_labels_have_one_key() -> None:
    for image, labels in (("a/images/x_1.tif", "a/masks/x_1.png"), ("X_RGB.tif", "X_labels.tif"), ("x.tif", "x.gpkg")):
        assert tell(image).key == tell(labels).key
        assert tell(labels).role == "labels"


ODD = (
    "true",
    "-1",
    "1e400",
    "nan",
    '""',
    "'x'",
    "[]",
    "[[1]]",
    "[nan]",
    '["", 3]',
    "{}",
    "{a = 1}",
    "1979-05-27",
    "99999999999999999999",
)


@pytest.mark.parametrize(("table", "key"), [(t, k) for t, keys in KEYS.items() for k in keys])
def test_any_value_is_read_or_refused_in_a_sentence(tmp_path: Path, table: str, key: str) -> None:
    tables = {
        "": {"name": "'n'"},
        "images": {"files": "'i/*'"},
        "labels": {"files": "'m/*'"},
        "classes": {"name": "'a'"},
        "scaling": {"kind": "'z-score'", "a": "[1.0]", "b": "[2.0]"},
        "split": {"kind": "'group'"},
        "pairs": {"image": "'i/a.png'", "labels": "'m/a.png'"},
    }
    for value in ODD:
        text = ""
        for name, told in tables.items():
            if name == key and not table:
                # The value stands where the table would.
                continue
            head = "" if not name else f"[[{name}]]\n" if name in ("classes", "pairs") else f"[{name}]\n"
            lines = told | ({key: value} if name == table else {})
            text += head + "".join(f"{k} = {v}\n" for k, v in lines.items())
        with suppress(DatasetError):
            to_toml(read_spec(written(tmp_path, text)))
