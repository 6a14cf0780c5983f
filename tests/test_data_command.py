"""``rs-segment data`` tells what a training set holds and what is wrong with it, with an exit code that is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from fakes import make_pixels
from training_sets import BLUE, GREEN, HEX, RED, grouped, painted, patches, png, tif

from rs_segment.dataset import open_dataset, read_spec
from rs_segment_cli import main

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SHAPE = (40, 52)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, args)])


def told(*args: str | Path, code: int = 0) -> dict[str, Any]:
    result = run(*args, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grouped(tmp_path_factory.mktemp("tiles"))


def test_what_is_there(tiles: Path) -> None:
    found = told(tiles)
    assert found["images"] == 6
    assert found["groups"] == {"tile_0": 2, "tile_1": 2, "tile_2": 2}
    assert sum(c["pixels"] for c in found["classes"]) == found["labelled_pixels"] == found["pixels"] == 6 * 40 * 52
    assert sum(c["share"] for c in found["classes"]) == pytest.approx(1, abs=1e-5)
    assert {c["name"]: c["images"] for c in found["classes"]} == dict.fromkeys((HEX[RED], HEX[GREEN], HEX[BLUE]), 6)
    assert [b["name"] for b in found["bands"]] == ["red", "green", "blue"]
    assert found["split"]["leaks"] is None
    assert found["split"]["train"]["images"] == 4
    assert found["problems"] == []
    text = run(tiles)
    assert text.exit_code == 0
    for word in ("6 images", "3 groups: tile_0 (2)", HEX[RED], "52 x 40 px", "split group:"):
        assert word in text.output


def test_areas_where_the_ground_is_known(tmp_path: Path) -> None:
    tif(tmp_path / "a_rgb.tif", make_pixels(SHAPE))
    tif(tmp_path / "a_labels.tif", patches(SHAPE, 2))
    found = told(tmp_path)
    assert sum(c["hectares"] for c in found["classes"]) == pytest.approx(40 * 52 * 0.25 / 10_000, abs=1e-4)
    assert found["resolution_m"] == pytest.approx(0.5)
    assert " ha" in run(tmp_path).output


def test_a_random_split_that_leaks_is_named(tiles: Path) -> None:
    result = run(tiles, "--split", "random:0.5")
    assert result.exit_code == 0
    assert "note: the random split leaks" in result.output
    assert run(tiles, "--split", "random:3").exit_code == 2
    assert run(tiles, "--split", "group:tile_9").exit_code == 4


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_of_samples(tiles: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"samples.{ending}"
    assert run(tiles, "--picture", target, "--samples", "3").exit_code == 0
    with rasterio.open(target) as picture:
        pixels = picture.read().transpose(1, 2, 0).reshape(-1, 3)
        assert picture.driver == {"png": "PNG", "jpg": "JPEG"}[ending]
    if ending == "png":
        colors = {tuple(c) for c in np.unique(pixels, axis=0).tolist()}
        assert {RED, GREEN, BLUE} <= colors
    before = target.read_bytes()
    assert run(tiles, "--picture", target).exit_code == 4
    assert target.read_bytes() == before
    assert run(tiles, "--picture", target, "--samples", "3", "--overwrite").exit_code == 0
    assert target.read_bytes() == before
    assert run(tiles, "--picture", tmp_path / "x.gif").exit_code == 2
    assert run(tiles, "--picture", tmp_path / "no" / "x.png").exit_code == 1


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint16"), (2, "uint8"), (5, "float32")])
def test_a_picture_of_any_imagery(tmp_path: Path, bands: int, dtype: str) -> None:
    tif(tmp_path / "a_rgb.tif", make_pixels((30, 700), bands, dtype))
    tif(tmp_path / "a_labels.tif", patches((30, 700), 2))
    assert run(tmp_path, "--picture", tmp_path / "p.png").exit_code == 0


def test_what_was_found_is_written_to_be_edited(tmp_path: Path) -> None:
    root = grouped(tmp_path / "set", 2, 1)
    before = open_dataset(root)
    result = run(root, "--write")
    assert result.exit_code == 0
    assert "wrote" in result.stderr
    assert read_spec(root / "dataset.toml").classes == before.spec.classes
    assert [p.name for p in open_dataset(root).pairs] == [p.name for p in before.pairs]
    assert run(root, "--write").exit_code == 4
    assert sorted(p.name for p in root.iterdir()) == ["dataset.toml", "tile_0", "tile_1"]


def test_all_that_is_wrong_is_told(tmp_path: Path) -> None:
    for name in "abc":
        png(tmp_path / f"images/{name}.png", make_pixels(SHAPE))
        png(tmp_path / f"masks/{name}.png", painted(patches(SHAPE, 3), (RED, GREEN, BLUE)))
    png(tmp_path / "images/lonely.png", make_pixels(SHAPE))
    png(tmp_path / "masks/c.png", painted(patches((39, 52), 2), (RED, GREEN)))
    png(tmp_path / "masks/b.png", painted(np.zeros(SHAPE, np.uint8), ((9, 9, 9),)))
    (tmp_path / "dataset.toml").write_text(
        '[images]\nfiles = "images/*"\n[labels]\nfiles = "masks/*"\nkind = "colors"\nignore = ["#090909"]\n'
        f'[[classes]]\nname = "r"\ncolor = "{HEX[RED]}"\n[[classes]]\nname = "g"\ncolor = "{HEX[GREEN]}"\n'
        '[[classes]]\nname = "never"\ncolor = "#123456"\n',
        encoding="utf-8",
    )
    found = told(tmp_path, code=4)
    problems, notes = "\n".join(found["problems"]), "\n".join(found["notes"])
    for words in ("images/c.png has 52 x 40 px", f"masks/a.png: the label {HEX[BLUE]}"):
        assert words in problems
    for words in ("images/lonely.png", "masks/b.png is empty", "the class never occurs nowhere"):
        assert words in notes
    assert found["unknown_labels"] == [
        {"label": HEX[BLUE], "count": int((patches(SHAPE, 3) == 2).sum()), "files": [str(tmp_path / "masks/a.png")]}
    ]
    result = run(tmp_path)
    assert result.exit_code == 4
    assert "cannot be trained with as it is" in result.stderr


def test_one_class_only_is_a_problem(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", make_pixels(SHAPE))
    png(tmp_path / "masks/a.png", np.ones(SHAPE, np.uint8))
    assert "nothing to tell apart" in told(tmp_path, code=4)["problems"][0]


@pytest.mark.parametrize("what", ["missing", "empty", "file", "nothing left"])
def test_what_is_no_training_set_is_a_sentence(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "set"
    if what != "missing":
        folder.mkdir()
    if what == "file":
        folder = folder / "scene.tif"
        folder.write_bytes(b"not a toml")
    if what == "nothing left":
        png(folder / "images/a.png", make_pixels(SHAPE))
        png(folder / "masks/a.png", patches((20, 20), 2))
    result = run(folder, "--picture", tmp_path / "p.png")
    assert result.exit_code == 4
    assert "Traceback" not in result.output
    assert "unexpected" not in result.output
    assert not (tmp_path / "p.png").exists()


def test_progress_is_told(tiles: Path) -> None:
    lines = [json.loads(line) for line in run(tiles, "--progress", "jsonl").stderr.splitlines()]
    assert {line["stage"] for line in lines} == {"labels", "survey"}
    assert all(line["done"] <= line["total"] for line in lines)
