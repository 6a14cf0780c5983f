"""What a person meets who evaluates and compares: tables, files, sentences, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fakes import FakePredictor, make_card, make_pixels, make_scene
from training_sets import patches, tif

from rs_segment import registry
from rs_segment_cli import main

CARD = make_card(resolution_limits=(0.01, 10.0))


@pytest.fixture
def rs_segment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line with two more models, "fake" and "other"."""
    find = registry.find

    def find_fake(name: Any) -> Any:
        known = str(name) in ("fake", "other")
        return registry.ModelFolder(Path(str(name)), CARD, shipped=True) if known else find(name)

    monkeypatch.setattr(registry, "find", find_fake)
    monkeypatch.setattr(
        registry, "load", lambda folder, compute, tta="none": FakePredictor(CARD, 3 if folder.name == "fake" else 1)
    )
    return lambda *args: CliRunner().invoke(main, [str(a) for a in args])


def told(result: Result) -> str:
    assert "Traceback" not in result.output
    return str(result.stderr)


@pytest.fixture
def rasters(tmp_path: Path) -> tuple[Path, Path]:
    """A map and a reference on one grid."""
    values = patches((40, 50), 3, 1), patches((40, 50), 3, 2)
    paths = tmp_path / "map.tif", tmp_path / "labels.tif"
    for path, labels in zip(paths, values, strict=True):
        make_scene(path, pixels=labels[None], nodata=255)
    return paths


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A training set of two groups."""
    for group in ("a", "b"):
        for i in range(2):
            shape, seed = (40, 44), 10 * i + ord(group)
            tif(tmp_path / "data" / group / "images" / f"p{i}.tif", make_pixels(shape, seed=seed))
            tif(tmp_path / "data" / group / "masks" / f"p{i}.tif", patches(shape, 3, seed))
    return tmp_path / "data"


MATCH = ("--map", "0=0", "--map", "1=1", "--map", "2=2")


def test_a_map_is_told_as_a_table_and_in_three_kinds_of_files(
    tmp_path: Path, rs_segment: Any, rasters: tuple[Path, Path]
) -> None:
    files = tmp_path / "scores.csv", tmp_path / "report.html"
    args = ("evaluate", *rasters, "--csv", files[0], "--html", files[1])
    result = rs_segment(*args)
    assert result.exit_code == 0, result.output
    assert "mean IoU" in result.stdout
    assert "matched by value" in told(result)
    assert f"wrote {files[1]}" in told(result)
    assert files[0].read_text().startswith("image,group,class,")
    page = files[1].read_text()
    assert "rs-segment" in page
    again = rs_segment(*args)
    assert again.exit_code == 4
    assert "scores.csv is already there; replace it with --overwrite" in told(again)
    assert rs_segment(*args, "--overwrite").exit_code == 0
    assert files[1].read_text() == page
    as_json = rs_segment("evaluate", *rasters, "--json")
    found = json.loads(as_json.stdout)
    same = [(40 * 50, found["pixels"]), (sum(map(sum, found["confusion"]["matrix"])), 2000)]
    assert all(a == b for a, b in same)
    assert {p.name for p in tmp_path.iterdir()} == {"map.tif", "labels.tif", "scores.csv", "report.html"}


def test_a_model_is_told_on_what_a_split_holds_out(tmp_path: Path, rs_segment: Any, data: Path) -> None:
    args = ("evaluate", "fake", "--data", data, *MATCH, "--split", "group:b")
    result = rs_segment(*args, "--html", tmp_path / "r.html", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [i["name"] for i in found["images"]] == ["b/p0", "b/p1"]
    assert found["reliability"]["ece"] > 0
    assert (tmp_path / "r.html").exists()
    whole = rs_segment("evaluate", "fake", "--data", data, *MATCH)
    assert "4 images" in whole.stdout
    none = rs_segment(*args, "--part", "test")
    assert none.exit_code == 2
    assert "has no test part" in told(none)
    leaking = rs_segment("evaluate", "fake", "--data", data, *MATCH, "--split", "random:0.5")
    assert "note: " in told(leaking)


def test_models_are_told_side_by_side(tmp_path: Path, rs_segment: Any, data: Path) -> None:
    files = [tmp_path / name for name in ("c.png", "c.csv", "c.html")]
    args = ("compare", "fake", "other", "--data", data, *MATCH, "--images", "a/p1,b/p0")
    result = rs_segment(*args, "--png", files[0], "--csv", files[1], "--html", files[2])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["fake", "other"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert all(f.exists() for f in files)
    assert json.loads(rs_segment(*args, "--json").stdout)["models"][1]["name"] == "other"
    assert rs_segment(*args, "--png", files[0]).exit_code == 4


def test_points_are_told_with_intervals(tmp_path: Path, rs_segment: Any, rasters: tuple[Path, Path]) -> None:
    rows = ["map,reference", *["0,0"] * 8, *["0,1"] * 2, *["1,1"] * 9, "1,2", *["2,2"] * 5]
    (tmp_path / "points.csv").write_text("\n".join(rows))
    files = tmp_path / "p.csv", tmp_path / "p.html"
    args = ("evaluate", rasters[0], "--points", tmp_path / "points.csv")
    result = rs_segment(*args, "--csv", files[0], "--html", files[1])
    assert result.exit_code == 0, result.output
    assert "overall accuracy" in result.stdout
    assert "±" in files[1].read_text()
    assert "area_95" in files[0].read_text()
    assert json.loads(rs_segment(*args, "--json").stdout)["points"] == 25


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("MAP",), 2, "give one of REFERENCE, --data and --points; there is none"),
        (("MAP", "LABELS", "--points", "x.csv"), 2, "there is both"),
        (("MAP", "LABELS", "--split", "group:a"), 2, "--split is for a model"),
        (("MAP", "LABELS", "--csv", "MAP", "--overwrite"), 2, "is what is evaluated"),
        (("MAP", "LABELS", "--csv", "NEW", "--html", "NEW"), 2, "two reports have one name"),
        (("MAP", "LABELS", "--csv", "NOWHERE"), 1, "is no folder"),
        (("MAP", "nothing.tif"), 4, "nothing.tif does not exist"),
        (("MAP", "LABELS", "--map", "water"), 2, "must be REFERENCE=MAP"),
        (("MAP", "LABELS", "--ignore", "water"), 2, "has no class 'water'"),
        (("fake", "--data", "nowhere"), 4, "nowhere"),
        (("nothing", "--data", "nowhere"), 4, "no model 'nothing'"),
        (("MAP", "points.csv"), 2, "give it as --points points.csv"),
        (("", "LABELS"), 2, "it is empty"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    tmp_path: Path, rs_segment: Any, rasters: tuple[Path, Path], args: tuple[str, ...], code: int, said: str
) -> None:
    paths = {"MAP": rasters[0], "LABELS": rasters[1], "NEW": tmp_path / "new", "NOWHERE": tmp_path / "no" / "x.csv"}
    before = [p.read_bytes() for p in rasters]
    result = rs_segment("evaluate", *(paths.get(a, a) for a in args))
    assert said in told(result)
    assert result.exit_code == code
    assert [p.read_bytes() for p in rasters] == before
    assert np.all([p in rasters for p in tmp_path.iterdir()])
