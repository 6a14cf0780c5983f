"""``rs-segment batch`` at a terminal: what it tells before, during and after a run, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from archives import OPTIONS, archive, rs_segment, run
from archives import fake_model as fake_model
from fakes import make_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_a_dry_run_lists_and_writes_nothing(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", 3)
    make_scene(tmp_path / "in" / "two.tif", bands=2)
    out = tmp_path / "out"
    told = rs_segment(tmp_path / "in", "-o", out, *OPTIONS, "--dry-run")
    assert told.exit_code == 0, told.output
    assert "4 scenes: 4 new" in told.stdout
    assert "1 would fail" in told.stdout
    assert not out.exists()
    run(sources, out)
    make_scene(tmp_path / "in" / "unseen.tif")
    told = rs_segment(tmp_path / "in", "-o", out, *OPTIONS, "--dry-run")
    assert "2 new" in told.stdout
    assert "3 done" in told.stdout
    assert "worker's time" in told.stdout
    listed = json.loads(rs_segment(tmp_path / "in", "-o", out, *OPTIONS, "--dry-run", "--json").stdout)
    assert [one["what"] for one in listed] == ["done"] * 3 + ["new"] * 2


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--shard", "0/3"], 2, "no part"),
        (["--shard", "3"], 2, "no part"),
        (["--bbox", "1,2"], 2, "4 are needed"),
        (["--workers", "-1"], 2, "workers"),
        (["-m", "nothing"], 4, "there is no model"),
        (["--tile", "30"], 2, "multiples of the model's stride"),
        (["--skip", "Lava"], 2, "Lava"),
        (["--aoi", "nowhere.gpkg"], 4, "nowhere.gpkg does not exist"),
        (["--cut", "0"], 2, "--cut"),
        (["--scheduler", "nowhere.json"], 2, "is no scheduler file"),
        (["--pattern", "*.jp2"], 4, "--pattern"),
    ],
)
def test_bad_options_end_in_a_sentence(tmp_path: Path, options: list[str], code: int, sentence: str) -> None:
    archive(tmp_path / "in", 1)
    told = rs_segment(tmp_path / "in", "-o", tmp_path / "out", *OPTIONS, *options)
    assert told.exit_code == code
    assert sentence in told.stderr
    assert "Traceback" not in told.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("progress", ["bar", "jsonl", "none"])
def test_progress_tells_of_scenes_and_failures(tmp_path: Path, progress: str) -> None:
    archive(tmp_path / "in", 3)
    (tmp_path / "in" / "broken.tif").touch()
    told = rs_segment(tmp_path / "in", "-o", tmp_path / "out", *OPTIONS, "--workers", "0", "--progress", progress)
    assert told.exit_code == 3
    assert told.stdout == ""
    assert "1 failed" in told.stderr
    if progress == "bar":
        assert "Mpx/s" in told.stderr
        assert "failed broken: " in told.stderr
    if progress == "jsonl":
        news = [json.loads(line) for line in told.stderr.splitlines() if line.startswith("{")]
        assert news[0] | {"event": "plan", "scenes": 4} == news[0]
        assert [n["id"] for n in news if n["event"] == "failed"] == ["broken"]
        assert max(n["scenes_done"] for n in news) == 3
