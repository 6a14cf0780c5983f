"""A batch that is stopped at any moment, or meets another in its folder, ends with the same bytes."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from archives import archive, child, committed, contents, one_by_one, run, said, wait_for
from archives import fake_model as fake_model
from fakes import make_scene

from rs_segment.archive.batch import News
from rs_segment.archive.manifest import FOLDER, Manifest, Record
from rs_segment.archive.source import Source

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_at_any_moment_and_run_again(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", 3)
    make_scene(tmp_path / "in" / "tall.tif", (1500, 30))
    sources.append(Source("tall", str(tmp_path / "in" / "tall.tif")))
    expected = one_by_one(sources, tmp_path / "one")
    out = tmp_path / "out"
    statuses = []
    for number, workers in ((signal.SIGKILL, 0), (signal.SIGKILL, 2), (signal.SIGINT, 0)):
        before = said(out)
        running = child([str(tmp_path / "in")], out, "--workers", str(workers))
        wait_for(lambda: said(out) > before or running.poll() is not None)  # noqa: B023
        time.sleep(random.uniform(0, 1.0))
        running.send_signal(number)
        _, told = running.communicate(timeout=30)
        assert "Traceback" not in told, told
        statuses.append(running.returncode)
        for name, digest in contents(out).items():
            assert digest == expected[name], f"{name} is there, but not whole"
        records = Manifest(out).records.values()
        assert all(r.holds(out, full=True) for r in records if r.status == "done")
    assert set(statuses) <= {-9, 130, 0}
    report = run(sources, out)
    assert report.exit_code == 0
    assert contents(out) == expected
    assert not list(out.glob(".*.partial"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_stopped_batch_says_so_and_goes_on_inside_the_scene(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "tall.tif", (3000, 30))
    out = tmp_path / "out"
    running = child([str(scene)], out, "--workers", "1", "--progress", "jsonl", slow=0.05)
    assert running.stderr is not None
    lines = iter(running.stderr.readline, "")
    news = next(n for n in map(json.loads, lines) if n["event"] == "progress" and committed(out, "tall"))
    assert news["total"] == 90_000
    started = time.monotonic()
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=30)
    assert running.returncode == 143
    assert time.monotonic() - started < 10
    assert "the same command goes on" in told
    assert (out / ".tall_classes.tif.partial").exists()
    seen: list[News] = []
    assert run([Source("tall", str(scene))], out, tell=seen.append).exit_code == 0
    progress = [n for n in seen if n.kind == "progress"]
    assert progress[0].total < 90_000, "what was done is not done again"
    assert contents(out) == one_by_one([Source("tall", str(scene))], tmp_path / "one")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_two_runs_in_one_folder_share_the_work(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", 10)
    out = tmp_path / "out"
    running = [child([str(tmp_path / "in")], out, "--workers", "0", "--json", slow=0.1) for _ in range(2)]
    told = [json.loads(r.communicate(timeout=120)[0]) for r in running]
    assert [r.returncode for r in running] == [0, 0]
    assert [t["done"] for t in told] == [10, 10]
    assert contents(out) == one_by_one(sources, tmp_path / "one")
    lines = [line for file in (out / FOLDER).glob("*.jsonl") for line in file.read_bytes().splitlines()]
    done = [r for r in map(Record.from_json, lines) if r is not None and r.status == "done"]
    assert {r.id for r in done} == {s.id for s in sources}
    assert len(done) <= 12, "work is not done twice, unless both begin a scene at the very same moment"
