"""Scenes on a Dask cluster of this machine: who kills a worker is named, and so is who does not answer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from archives import archive, contents, deadly, one_by_one, run
from archives import fake_model as fake_model

from rs_segment.archive import spread
from rs_segment.archive.batch import News
from rs_segment.archive.source import Source
from rs_segment.errors import DeviceError, OptionError

if not os.environ.get("CI"):
    pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def found_by_workers(monkeypatch: pytest.MonkeyPatch, fake_model: Path) -> None:
    """What this process can import, workers can."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__DAEMON", "False")


def test_a_local_cluster_gives_up_a_scene_that_kills(tmp_path: Path) -> None:
    sources = archive(tmp_path / "in", 6)
    expected = one_by_one(sources, tmp_path / "one")
    sources.insert(1, deadly(tmp_path / "in"))
    Path(tmp_path / "in" / "empty.tif").touch()
    sources.append(Source("empty", str(tmp_path / "in" / "empty.tif")))
    out = tmp_path / "out"
    notes: list[News] = []
    report = run(sources, out, scheduler="local", workers=2, attempts=2, tell=notes.append)
    failed = {r.id: r for r in report.failed}
    assert failed.keys() == {"deadly", "empty"}
    assert failed["deadly"].error == "KilledWorker"
    assert "2 workers died" in failed["deadly"].message
    assert {k: v for k, v in contents(out).items() if k in expected} == expected
    assert any("127.0.0.1" in n.message for n in notes if n.kind == "note")


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "ANSWER_SECONDS", 1)
    sources = archive(tmp_path / "in", 1)
    with pytest.raises(DeviceError, match="no scheduler answers at tcp://127.0.0.1:9"):
        run(sources, tmp_path / "out", scheduler="tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(OptionError, match=r"rs-segment\[dask\]"):
        run(sources, tmp_path / "out", scheduler="local")
