"""Whatever befalls a batch and those who work for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from archives import PLAIN, PLAN, archive, child, run
from archives import fake_model as fake_model
from fakes import FakePredictor, make_card, make_scene

from rs_segment import Compute, View
from rs_segment.archive import crew
from rs_segment.archive.manifest import FOLDER
from rs_segment.archive.source import Source
from rs_segment.errors import DeviceError, ModelError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_nobody_can_work(tmp_path: Path, fake_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = archive(tmp_path / "in", 1)
    with pytest.raises(OptionError, match="predictor"):
        run(sources, tmp_path / "out", model=FakePredictor(make_card()), workers=2)
    monkeypatch.setenv("FAKE_BROKEN", "ModelError")
    for workers in (0, 1):
        with pytest.raises(ModelError, match="are damaged"):
            run(sources, tmp_path / "out", workers=workers)
    monkeypatch.setenv("FAKE_BROKEN", "exit")
    monkeypatch.setattr(crew, "STARTS", 2)
    with pytest.raises(DeviceError, match="exit code 7 2 times"):
        run(sources, tmp_path / "out", workers=1)


def test_a_worker_has_the_model_and_the_folder_of_the_batch(tmp_path: Path) -> None:
    from rs_segment.archive import job

    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "0001.jsonl").touch()
    told = job.Job(str(tmp_path), "0001.jsonl", "fake", "?", View(), PLAN, Compute(), PLAIN)
    with pytest.raises(ModelError, match="another one"):
        job.load(told)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_ends_the_batch(tmp_path: Path) -> None:
    sources = [Source("big", str(make_scene(tmp_path / "big.tif", (500, 400)))), *archive(tmp_path / "in", 2)]
    out = tmp_path / "out"
    full = child([s.location for s in sources], out, "--workers", "1", slow=0, before='ulimit -f 16; exec "$@"')
    _, told = full.communicate(timeout=60)
    assert full.returncode == 5, told
    assert "takes no more data" in told
    assert "Traceback" not in told
    assert not list(out.glob("big*"))
    assert run(sources, out).exit_code == 0
