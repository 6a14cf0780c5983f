"""The laws of many scenes: the same bytes as one by one, nothing done twice, every failure named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from archives import OPTIONS, PLAIN, PLAN, archive, contents, one_by_one, rs_segment, run
from archives import fake_model as fake_model
from fakes import make_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment import Compute, Length, Outputs, Plan, Shapes, Size, View
from rs_segment.archive import fingerprint
from rs_segment.archive.agenda import forecast, in_shard
from rs_segment.archive.job import Job, Outcome, Recipe, Task
from rs_segment.archive.manifest import Output
from rs_segment.archive.source import Source
from rs_segment.errors import OptionError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_results_are_those_of_one_by_one(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", 9)
    outputs = Outputs(confidence=True, probabilities=True)
    expected = one_by_one(sources, tmp_path / "one", outputs)
    assert len(expected) == 9 * 8
    here = run(sources, tmp_path / "here", outputs=outputs)
    there = run(sources, tmp_path / "there", outputs=outputs, workers=2)
    assert here.exit_code == there.exit_code == 0
    assert contents(tmp_path / "here") == contents(tmp_path / "there") == expected
    for record in there.records:
        assert record.holds(tmp_path / "there", full=True)
        assert {o.path for o in record.outputs} >= {f"{record.id}_classes.tif", f"{record.id}_classes.gpkg"}
        assert record.result["classes"] == f"{record.id}_classes.tif"
        assert sum(a["pixels"] for a in record.result["areas"]) + record.result["nodata_pixels"] == record.pixels


def test_polygons_are_drawn_as_asked(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", 2)
    shapes = Shapes(sieve=4, simplify=Length.parse("2px"))
    expected = one_by_one(sources, tmp_path / "one", Outputs(shapes=shapes))
    options = [*OPTIONS, "--polygons", "--sieve", 4, "--simplify", "2px"]
    told = rs_segment(tmp_path / "in", "-o", tmp_path / "out", *options, "--workers", 1)
    assert told.exit_code == 0, told.output
    assert contents(tmp_path / "out") == expected


def steps(sources: list[Source], folder: Path, check: Any = "quick", **given: Any) -> list[str]:
    outputs, view = given.pop("outputs", PLAIN), given.pop("view", View())
    recipe = Recipe(given.pop("model", "fake"), view, given.pop("plan", PLAN), given.pop("compute", Compute()), outputs)
    return [p.what for p in forecast(sources, folder, recipe, full=check == "full")]


def test_what_changed_is_done_again_and_nothing_else(tmp_path: Path, fake_model: Path) -> None:
    sources = archive(tmp_path / "in", 4)
    out, done = tmp_path / "out", ["done"] * 4
    assert steps(sources, out) == ["new"] * 4
    assert not out.exists()
    run(sources, out)
    expected = contents(out)
    assert steps(sources, out) == done
    assert steps(sources, out, compute=Compute(batch=7, readers=1)) == done
    assert steps(sources, out, plan=Plan(tile=48, overlap=16)) == ["changed"] * 4
    assert steps(sources, out, outputs=Outputs(polygons=False, confidence=True)) == ["changed"] * 4
    assert steps(sources, out, view=View(nodata=7)) == ["changed"] * 4
    make_scene(Path(sources[0].location), (33, 44))
    (out / "scene-001_classes.tif").unlink()
    (out / "scene-002_classes.tif").write_bytes(b"something else")
    raster = out / "scene-003_classes.tif"
    stat = raster.stat()
    raster.write_bytes(raster.read_bytes()[:-1] + b"!")
    os.utime(raster, ns=(1, stat.st_mtime_ns))
    assert steps(sources, out) == ["changed", "changed", "changed", "done"]
    assert steps(sources, out, "full") == ["changed"] * 4
    assert run(sources, out, check="full").exit_code == 0
    again = contents(out)
    assert {name for name in again if again[name] != expected[name]} <= {
        f"scene-000_classes{end}" for end in (".tif", ".tif.aux.xml", ".qml")
    }
    assert steps(sources, out, "full") == done
    card = fake_model / "model.json"
    card.write_text(card.read_text().replace("class 1", "class one"))
    assert steps(sources, out) == ["changed"] * 4


def test_an_area_of_interest_is_known_by_what_it_holds(tmp_path: Path) -> None:
    aoi = tmp_path / "aoi.geojson"
    aoi.write_text("one")
    first = fingerprint.of_options(View(aoi=aoi), PLAN, Compute(), PLAIN)
    os.utime(aoi, (1, 1))
    assert fingerprint.of_options(View(aoi=str(aoi)), PLAN, Compute(), PLAIN) == first
    aoi.write_text("two")
    assert fingerprint.of_options(View(aoi=aoi), PLAN, Compute(), PLAIN) != first


@settings(deadline=None, max_examples=50)
@given(names=st.sets(st.text(max_size=12), max_size=30), count=st.integers(1, 9))
def test_shards_are_disjoint_and_together_all(names: set[str], count: int) -> None:
    for name in names:
        assert [in_shard(name, index, count) for index in range(1, count + 1)].count(True) == 1


def test_shards_make_one_whole(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", 8)
    parts = [run(sources, tmp_path / "out", shard=(index, 3)) for index in (1, 2, 3)]
    assert sorted(r.id for part in parts for r in part.records) == [s.id for s in sources]
    assert not (tmp_path / "out" / "index.html").exists()
    whole = run(sources, tmp_path / "out")
    assert len(whole.skipped) == 8
    assert (tmp_path / "out" / "index.html").exists()
    with pytest.raises(OptionError, match="1 to 3"):
        run(sources, tmp_path / "out", shard=(0, 3))


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", 2)
    out = tmp_path / "out"
    out.mkdir()
    own = out / "scene-001_classes.tif"
    own.write_text("mine")
    for _ in range(2):
        report = run(sources, out)
        assert [r.id for r in report.failed] == ["scene-001"]
        assert "already there" in report.failed[0].message
        assert own.read_text() == "mine"
    assert run(sources, out, outputs=Outputs(polygons=False, overwrite=True)).exit_code == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "index.html").write_text("mine")
    with pytest.raises(OptionError, match="of no batch"):
        run(sources, tmp_path / "new")


def test_two_archives_do_not_share_names(tmp_path: Path) -> None:
    first, second = archive(tmp_path / "2020", 2), archive(tmp_path / "2021", 3)
    out = tmp_path / "out"
    run(first, out)
    before = contents(out)
    for _ in range(2):
        report = run(second, out)
        assert [r.id for r in report.failed] == ["scene-000", "scene-001"]
        assert "2020" in report.failed[0].message
        assert "2021" in report.failed[0].message
        assert contents(out).items() >= before.items()
        assert len(run(first, out).skipped) == 2
    assert run(second, out, outputs=Outputs(polygons=False, overwrite=True)).exit_code == 0
    assert contents(out) == one_by_one(second, tmp_path / "one")


def test_an_archive_may_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = archive(tmp_path / "in", 2)
    run(sources, tmp_path / "out")
    (tmp_path / "in").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    moved = [Source(s.id, Path(s.location).name) for s in sources]
    assert len(run(moved, tmp_path / "out").skipped) == 2
    make_scene(Path(moved[0].location), (20, 21))
    report = run(moved, tmp_path / "out")
    assert (report.exit_code, report.skipped) == (0, ("scene-001",))


def test_it_stops_when_enough_have_failed(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", 5)
    for source in sources[1:4]:
        Path(source.location).unlink()
    report = run(sources, tmp_path / "out", max_failures=2)
    assert [r.id for r in report.failed] == ["scene-001", "scene-002"]
    assert report.left == ("scene-003", "scene-004")
    assert report.exit_code == 3
    (tmp_path / "in" / "scene-000.tif").write_bytes(b"")
    told = rs_segment(tmp_path / "in", "-o", tmp_path / "two", *OPTIONS, "--workers", 0, "--fail-fast", "--json")
    assert told.exit_code == 3
    assert json.loads(told.stdout)["left"] == ["scene-004"]


def test_two_scenes_of_one_name_are_refused(tmp_path: Path) -> None:
    a, b = Source("a", "x/a.tif"), Source("A", "y/A.tif")
    with pytest.raises(OptionError, match="x/a.tif and y/A.tif"):
        run([a, b], tmp_path / "out")


def test_what_cannot_be_used_is_a_failure_of_its_own(tmp_path: Path) -> None:
    sources = [Source("a", "a.tif", refused="a.tif leads out of the catalogue"), *archive(tmp_path / "in", 1)]
    report = run(sources, tmp_path / "out")
    assert [(r.id, r.error, r.message) for r in report.failed] == [("a", "SceneError", sources[0].refused)]


def test_what_travels_comes_out_as_it_went_in() -> None:
    view = View((1, "red"), (1.0, 2.0, 3.0, 4.0), (0.0, 1.0))
    shapes = Shapes(simplify=Length(2, "px"), min_area=Size(1, "ha"), skip=(1, "Water"))
    job = Job("/x", "1", "m", "c", view, PLAN, Compute("cuda"), Outputs(shapes=shapes))
    assert Job.from_json(job.to_json()) == job
    source = Source("a", "b", ("c", "d"), (1, 1), ("red", "nir"), (1.0, 2.0, 3.0, 4.0), item="i")
    assert Task.from_json(Task(source, 2, 3).to_json()) == Task(source, 2, 3)
    outcome = Outcome("done", outputs=(Output("a", 1, 2, "3"),), result={"areas": [1], "notes": []})
    assert Outcome.from_json(outcome.to_json()).outputs == outcome.outputs
