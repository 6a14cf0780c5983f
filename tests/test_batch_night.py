"""A night's work: many scenes of all kinds, some of them broken, some too large for one worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from archives import OPTIONS, archive, contents, deadly, one_by_one, rs_segment
from archives import fake_model as fake_model
from fakes import make_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_a_hundred_scenes_five_of_them_broken(tmp_path: Path) -> None:
    where, out = tmp_path / "in", tmp_path / "out"
    good = archive(where, 95)
    cut = make_scene(where / "cut.tif")
    cut.write_bytes(cut.read_bytes()[:300])
    (where / "page.tif").write_text("<html>404</html>")
    (where / "empty.tif").touch()
    make_scene(where / "two.tif", bands=2)
    deadly(where)
    told = rs_segment(where, "-o", out, *OPTIONS, "--workers", 2, "--attempts", 2, "--json")
    assert told.exit_code == 3, told.output
    report = json.loads(told.stdout)
    assert report["done"] == 95
    named = {failed["id"]: failed["message"] for failed in report["failed"]}
    assert named.keys() == {"cut", "page", "empty", "two", "deadly"}
    assert "killed" in named["deadly"]
    assert "0 bytes" in named["empty"]
    made = contents(out)
    assert made.items() >= one_by_one(good[:16], tmp_path / "one").items()

    before = {p.name: p.stat().st_mtime_ns for p in out.glob("scene-*")}
    (where / "deadly.tif").unlink()
    again = rs_segment(where, "-o", out, *OPTIONS, "--workers", 0, "--json")
    assert again.exit_code == 3
    report = json.loads(again.stdout)
    assert report["done_before"] == report["done"] == 95
    assert len(report["failed"]) == 4
    assert {p.name: p.stat().st_mtime_ns for p in out.glob("scene-*")} == before
