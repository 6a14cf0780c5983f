"""Scenes on real Dask clusters: the same bytes, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_provider
import pytest
from archives import PLAIN, PLAN, archive, committed, contents, one_by_one, run, wait_for
from fakes import make_scene

from rs_segment import Compute, View
from rs_segment.archive import spread
from rs_segment.archive.batch import News
from rs_segment.archive.job import Job
from rs_segment.archive.source import Source
from rs_segment.errors import ModelError

if not os.environ.get("CI"):
    pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True, scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The model "fake" for this process, and for all that are started here."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("models")
        patch.syspath_prepend(str(place))
        patch.setenv(fake_provider.PLACE, str(place))
        patch.setenv("FAKE_SLOW", "0.02")
        patch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
        patch.setenv("DASK_DISTRIBUTED__WORKER__DAEMON", "False")
        yield fake_provider.install(place)


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, place: Path) -> None:
        self.file, self.log = place / "scheduler.json", (place / "log").open("wb")
        self.place = place
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard")
        self.workers: list[subprocess.Popen[bytes]] = []

    def _start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(self.file), *options]
        return subprocess.Popen(program, stdout=self.log, stderr=self.log, cwd=self.place)

    def add_worker(self) -> subprocess.Popen[bytes]:
        options = ("--no-nanny", "--nthreads", "1", "--resources", "GPU=1", "--no-dashboard")
        self.workers.append(self._start("worker", "--host", "127.0.0.1", *options))
        return self.workers[-1]

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.add_worker()
    made.add_worker()
    wait_for(made.file.exists)
    yield made
    made.close()


def test_a_killed_worker_takes_no_scene_along(tmp_path: Path, cluster: Cluster) -> None:
    sources = archive(tmp_path / "in", 12)
    sources.insert(2, Source("tall", str(make_scene(tmp_path / "in" / "tall.tif", (1500, 30)))))
    expected = one_by_one(sources, tmp_path / "one")
    out = tmp_path / "out"
    killed: list[News] = []

    def tell(news: News) -> None:
        if news.kind == "done" and not killed:
            wait_for((out / ".tall_classes.tif.partial" / "plan.json").exists)
            # Nobody says who does which scene; one of the two does this one, and the other goes on.
            victim = holder(out / ".tall_classes.tif.partial", cluster)
            victim.send_signal(signal.SIGKILL)
            cluster.workers.remove(victim)
            killed.append(news)

    report = run(sources, out, scheduler=str(cluster.file), tell=tell)
    assert killed
    assert report.exit_code == 0, [r.message for r in report.failed]
    assert contents(out) == expected
    assert not list(out.glob(".*"))


def holder(folder: Path, cluster: Cluster) -> subprocess.Popen[bytes]:
    """The worker that has files open in a folder."""
    import psutil

    for process in cluster.workers:
        if any(Path(file.path).is_relative_to(folder) for file in psutil.Process(process.pid).open_files()):
            return process
    raise AssertionError("no worker has it")


class StopError(Exception):
    """Enough."""


def test_a_batch_that_is_stopped_stops_its_workers(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Source("tall", str(make_scene(tmp_path / "tall.tif", (5_000, 30))))
    out = tmp_path / "out"
    hear = spread.Cluster.hear

    def stop(self: spread.Cluster, seconds: float) -> Any:
        if committed(out, "tall"):
            raise StopError
        return hear(self, 0.1)

    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr(spread.Cluster, "hear", stop)
        run([scene], out, scheduler=str(cluster.file))
    assert not (out / "tall_classes.tif").exists()
    monkeypatch.delenv("FAKE_SLOW")
    seen: list[News] = []
    assert run([scene], out, tell=seen.append, workers=0).exit_code == 0
    totals = [n.total for n in seen if n.kind == "progress"]
    assert totals[0] < 5_000 * 30, "what the worker had done was kept"
    assert contents(out) == one_by_one([scene], tmp_path / "one")


def test_parts_of_a_large_scene_are_done_by_several_workers(tmp_path: Path, cluster: Cluster) -> None:
    sources = [Source("tall", str(make_scene(tmp_path / "tall.tif", (1500, 30)))), *archive(tmp_path / "in", 2)]
    report = run(sources, tmp_path / "out", scheduler=str(cluster.file), cut=0.008)
    assert report.exit_code == 0, [r.message for r in report.failed]
    assert contents(tmp_path / "out") == one_by_one(sources, tmp_path / "one")
    assert not list((tmp_path / "out").glob(".*"))


def test_a_scene_waits_for_a_gpu_where_workers_count_theirs(tmp_path: Path, cluster: Cluster) -> None:
    asked = []
    for device in ("auto", "cpu", "cuda"):
        job = Job(str(tmp_path), "1", "fake", "c", View(), PLAN, Compute(device=device), PLAIN)
        crew = spread.Cluster(job, str(cluster.file), [], 3, print)
        asked.append(crew._resources())
        crew.close()
    assert asked == [{"GPU": 1}, None, {"GPU": 1}]


def test_workers_that_cannot_work_are_named(tmp_path: Path, cluster: Cluster, environment: Path) -> None:
    card = environment / "model.json"
    before = card.read_text()
    sources = archive(tmp_path / "in", 1)

    def tell(news: News) -> None:
        if news.kind == "begun":
            card.write_text(before.replace("class 1", "class one"))

    try:
        with pytest.raises(ModelError, match=r"another one here .*\(worker tcp://"):
            run(sources, tmp_path / "out", scheduler=str(cluster.file), tell=tell)
    finally:
        card.write_text(before)


def test_a_cluster_without_workers_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "LONELY_SECONDS", 1.0)
    empty = Cluster(tmp_path)
    told: list[str] = []

    def tell(news: News) -> None:
        if news.message.startswith("no worker is left at tcp://"):
            told.append(news.message)
            empty.add_worker()

    try:
        wait_for(empty.file.exists)
        report = run(archive(tmp_path / "in", 1), tmp_path / "out", scheduler=str(empty.file), tell=tell)
    finally:
        empty.close()
    assert report.exit_code == 0
    assert len(told) == 1
