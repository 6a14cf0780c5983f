"""Large scenes in a batch: parts side by side, the same bytes as in one piece."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from archives import archive, child, contents, deadly, one_by_one, run, wait_for
from archives import fake_model as fake_model
from fakes import make_scene

from rs_segment import Outputs, Source
from rs_segment.archive import News
from rs_segment.archive.job import target
from rs_segment.parts import folder_of

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def large(folder: Path, name: str = "large") -> Source:
    """Fifty thousand pixels in 94 rows of tiles."""
    folder.mkdir(exist_ok=True)
    return Source(name, str(make_scene(folder / f"{name}.tif", (1500, 33))))


@pytest.mark.parametrize("workers", [0, 2])
def test_large_scenes_in_parts_are_the_bytes_of_one_run(tmp_path: Path, workers: int) -> None:
    sources = [*archive(tmp_path / "in", 3), large(tmp_path / "in")]
    outputs = Outputs(confidence=True)
    expected = one_by_one(sources, tmp_path / "one", outputs)
    news: list[News] = []
    report = run(sources, tmp_path / "out", workers=workers, cut=0.01, outputs=outputs, tell=news.append)
    assert report.exit_code == 0
    assert contents(tmp_path / "out") == expected
    assert [(n.id, n.message) for n in news if n.message.startswith("is done in")] == [("large", "is done in 5 parts")]
    assert [n.kind for n in news if n.id == "large"].count("done") == 1
    assert not list((tmp_path / "out").glob(".*"))
    assert run(sources, tmp_path / "out", outputs=outputs).skipped == tuple(s.id for s in sources), (
        "parts decide nothing"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_parts_that_were_done_are_kept_when_the_run_is_killed(tmp_path: Path) -> None:
    source, out = large(tmp_path / "in"), tmp_path / "out"
    running = child([source.location], out, "--workers", "1", "--cut", "0.01")
    parts = folder_of(target(out, "large"))
    wait_for(lambda: len(list(parts.glob("*.tif"))) >= 2 or running.poll() is not None)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=30)
    before = {p: p.stat().st_mtime_ns for p in parts.glob("*.tif")}
    assert len(before) in (2, 3)
    later: dict[Path, int] = {}

    def tell(news: News) -> None:
        later.update({p: p.stat().st_mtime_ns for p in parts.glob("*.tif")})

    assert run([source], out, cut=0.01, tell=tell).exit_code == 0
    assert later.items() >= before.items()
    assert contents(out) == one_by_one([source], tmp_path / "one")


def test_a_part_that_cannot_be_done_names_the_scene_once(tmp_path: Path) -> None:
    good, out = archive(tmp_path / "in", 2), tmp_path / "out"
    bad = deadly(tmp_path / "in")
    broken = Path(large(tmp_path / "in", "broken").location)
    broken.write_bytes(broken.read_bytes()[:-9000])
    sources = [bad, Source("broken", str(broken)), *good]
    report = run(sources, out, workers=2, cut=0.0005, attempts=2)
    assert [r.id for r in report.failed] == ["deadly", "broken"]
    assert "in each of 2 attempts" in report.failed[0].message
    assert {p.name for p in out.glob("*_classes.tif")} == {f"{s.id}_classes.tif" for s in good}
