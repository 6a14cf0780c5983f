"""How are scenes spread over a Dask cluster? One task a scene; what travels is text, there and back.

Needs the extra ``dask``. Whoever can reach a scheduler can have anything run on all of its workers and on its clients,
as Dask itself sends pickles around: use one that only you can reach, or ``tls://``. The cluster that is made here
listens on this machine only. Workers need rs-segment, the model under the same name, and the folder of results under
the same path. Each should have one thread, as a scene uses the cores itself; where they have more, their scenes wait
for each other.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import CancelledError, DeviceError, OptionError, RsSegmentError
from ..types import Predictor
from .job import Job, Outcome, Task, do, load
from .source import Source

QUEUED = 1000
"""Scenes that are given to the scheduler at a time."""
ANSWER_SECONDS = 30
LONELY_SECONDS = 20
"""How long no worker is there before that is told."""

_loaded: dict[str, Predictor] = {}
_one_scene = threading.Lock()


class Cluster:
    """A crew of Dask workers.

    A worker that dies puts all scenes under suspicion that it was given, also those that only waited there. So those
    that Dask gives up are done once more, at the end, with no more of them at a time than there are threads: who kills
    a worker then is guilty.

    Args:
        job: How scenes are done.
        scheduler: Address, or path of a scheduler file; "local" makes a cluster on this machine.
        seats: The environment of each worker of a local cluster.
        attempts: How many workers a scene may kill, on a local cluster; others have a limit of their own, which is four
            unless ``distributed.scheduler.allowed-failures`` says otherwise.
        tell: Takes sentences about the cluster.

    Raises:
        OptionError: Dask is not installed.
        DeviceError: Nobody answers there.
    """

    def __init__(
        self,
        job: Job,
        scheduler: str,
        seats: Sequence[Mapping[str, str]],
        attempts: int,
        tell: Callable[[str], None],
    ) -> None:
        distributed = _dask("distributed")
        self._heard: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._job, self._text = job, job.to_json()
        self._futures: dict[str, Any] = {}
        self._tasks: dict[str, Task] = {}
        self._suspects: list[Task] = []
        self._tried: set[str] = set()
        self._worked = False
        self._tell, self._alone_since = tell, math.inf
        self._cluster = _local_cluster(seats, attempts) if scheduler == "local" else None
        where = {"address": self._cluster or scheduler}
        if self._cluster is None and Path(scheduler).is_file():
            where = {"scheduler_file": scheduler}
        try:
            self._client = distributed.Client(**where, timeout=ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise DeviceError(
                f"no scheduler answers at {scheduler}: {error}; start one with: dask scheduler"
            ) from error
        tell(self.title)

    @property
    def title(self) -> str:
        """What it is, for people."""
        threads = self._client.nthreads()
        dashboard = self._client.dashboard_link
        return f"{len(threads)} workers at {self._client.scheduler.address}" + (
            f", watch {dashboard}" if dashboard else ""
        )

    @property
    def free(self) -> int:
        """How many more scenes may be queued."""
        return QUEUED - len(self._futures)

    def give(self, task: Task) -> None:
        """Queue a task."""
        texts = self._text, replace(task, source=_absolute(task.source)).to_json()
        future = self._client.submit(work, *texts, pure=False, resources=self._resources())
        self._tasks[task.key], self._futures[task.key] = task, future
        future.add_done_callback(lambda done: self._heard.put((task.key, done)))

    def hear(self, seconds: float) -> tuple[str, Outcome] | None:
        """The next outcome."""
        if self._client.status not in ("running", "connecting"):
            raise DeviceError("the scheduler is gone; what is done is kept, run again to go on")
        self._try_suspects()
        try:
            name, future = self._heard.get(timeout=seconds)
        except queue.Empty:
            self._look_around()
            return None
        if self._futures.get(name) is not future:
            return None
        del self._futures[name]
        return self._understand(name, future)

    def close(self) -> None:
        """Take back what is queued; what is in work stops by itself and can be gone on with."""
        futures, self._futures = list(self._futures.values()), {}
        try:
            if futures and self._client.status == "running":
                self._client.cancel(futures)
        finally:
            self._client.close()
            if self._cluster is not None:
                self._cluster.close()

    def _understand(self, name: str, future: Any) -> tuple[str, Outcome] | None:
        if future.status == "cancelled":
            return name, Outcome(
                "stopped", "later", error=CancelledError.__name__, message="the cluster dropped the scene"
            )
        error = future.exception()
        if isinstance(error, _dask("distributed").scheduler.KilledWorker):
            if name not in self._tried:
                self._suspects.append(self._tasks[name])
                return None
            count = error.allowed_failures + 1
            told = f"{count} workers died while they did it; did memory run out? The logs of the workers say more"
            return name, Outcome("failed", error=type(error).__name__, message=told, exit_code=5)
        if error is not None:
            told = f"a worker cannot run rs-segment ({type(error).__name__}: {error}); install the same version there"
            return name, self._refuse(DeviceError(told), None)
        said = json.loads(future.result())
        if "refused" in said:
            kind = getattr(errors, said["refused"], RsSegmentError)
            return name, self._refuse(kind(f"{said['message']} (worker {said['worker']})"), said["worker"])
        self._worked = True
        return name, Outcome.from_json(said["outcome"])

    def _look_around(self) -> None:
        """Tell once when the last worker has been gone for a while; others may come, so that is no error."""
        if self._client.nthreads():
            self._alone_since = math.inf
        elif self._alone_since == math.inf:
            self._alone_since = time.monotonic()
        elif self._alone_since > 0 and time.monotonic() - self._alone_since > LONELY_SECONDS:
            self._alone_since = -math.inf
            where = self._client.scheduler.address
            self._tell(f"no worker is left at {where}; waiting for one. Ctrl-C ends this, and keeps what is done")

    def _try_suspects(self) -> None:
        """Give out suspects, when nobody else is in danger."""
        if not self._suspects or self._futures.keys() - self._tried:
            return
        room = sum(self._client.nthreads().values()) - len(self._futures)
        while self._suspects and room > 0:
            room -= 1
            task = self._suspects.pop()
            self._tried.add(task.key)
            self.give(task)

    def _refuse(self, error: RsSegmentError, worker: str | None) -> Outcome:
        """A worker cannot work: the end where none could so far; later on it is that one worker, which is sent away."""
        if not self._worked:
            raise error
        if worker is not None:
            self._client.retire_workers([worker])
        return Outcome("failed", "later", error=type(error).__name__, message=str(error), exit_code=error.exit_code)

    def _resources(self) -> dict[str, int] | None:
        """One GPU a scene, where workers count theirs."""
        if self._job.compute.device == "cpu":
            return None
        workers = _workers(self._client)
        counted = any("GPU" in worker.get("resources", {}) for worker in workers)
        return {"GPU": 1} if counted or (not workers and self._job.compute.device != "auto") else None


def work(job_text: str, task_text: str) -> str:
    """What a worker of the cluster runs: a task as text, and what became of it."""
    worker = _dask("distributed").get_worker()
    key = worker.get_current_task()

    def told(done: int, total: int) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise CancelledError("the scene was taken back")

    with _one_scene:
        job = Job.from_json(job_text)
        asked = Task.from_json(task_text)
        try:
            told(0, 0)
            if job_text not in _loaded:
                _loaded.clear()
                _loaded[job_text] = load(job)
        except CancelledError as error:
            return json.dumps({"outcome": Outcome.of(error, asked.source).to_json()})
        except RsSegmentError as error:
            return json.dumps({"refused": type(error).__name__, "message": str(error), "worker": worker.address})
        return json.dumps({"outcome": do(job, _loaded[job_text], asked, told).to_json()})


def _absolute(source: Source) -> Source:
    """The source as workers find it that were started in another folder."""

    def absolute(name: str) -> str:
        return str(Path(name).absolute()) if "://" not in name and Path(name).exists() else name

    return replace(source, location=absolute(source.location), assets=tuple(absolute(a) for a in source.assets))


def _workers(client: Any) -> list[Mapping[str, Any]]:
    try:
        told = client.scheduler_info(n_workers=-1)
    except TypeError:
        # Older versions tell of all workers unasked.
        told = client.scheduler_info()
    return list(told["workers"].values())


def _dask(module: str) -> Any:
    """A module of Dask, which only those need who want a cluster."""
    try:
        return importlib.import_module(module)
    except ImportError:
        told = f"a scheduler needs Dask, but there is no module {module}; get it with: pip install 'rs-segment[dask]'"
        raise OptionError(told) from None


def _threads(seat: Mapping[str, str]) -> dict[str, str]:
    """How many threads libraries may have, out of an environment."""
    return {name: value for name, value in seat.items() if name.endswith("_THREADS")}


def _local_cluster(seats: Sequence[Mapping[str, str]], attempts: int) -> Any:
    """A cluster that only this machine can reach, with a worker of one thread a seat."""
    distributed = _dask("distributed")

    def options(seat: Mapping[str, str]) -> dict[str, Any]:
        gpu = {"GPU": 1} if "CUDA_VISIBLE_DEVICES" in seat else {}
        env = {**seat, "DASK_LOGGING__DISTRIBUTED": "critical"}
        return {"nthreads": 1, "env": env, "host": "127.0.0.1", "resources": gpu, "silence_logs": logging.CRITICAL}

    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
    }
    workers = {i: {"cls": distributed.Nanny, "options": options(seat)} for i, seat in enumerate(seats)}
    try:
        with _dask("dask").config.set(
            {
                "distributed.scheduler.allowed-failures": attempts - 1,
                # Workers get these settings whatever their environment says. Those of Dask wake every process some
                # hundred times a second, while all cores compute.
                "distributed.worker.profile.enabled": False,
                "distributed.admin.tick.interval": "1s",
                "distributed.worker.memory.monitor-interval": "1s",
                # Instead of Dask's own, which have memory go back at once, to be taken anew by pages. So does the arena
                # of a thread, and scenes are done in one.
                "distributed.nanny.pre-spawn-environ": {**_threads(seats[0]), "MALLOC_ARENA_MAX": "1"},
            }
        ):
            return distributed.SpecCluster(scheduler=scheduler, workers=workers, silence_logs=logging.CRITICAL)
    except (RuntimeError, OSError) as error:
        raise DeviceError(
            f"no cluster can be started on this machine: {error} A script that does it must call it below "
            'if __name__ == "__main__":'
        ) from error
