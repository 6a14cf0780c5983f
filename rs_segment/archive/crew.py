"""Who does the scenes on this machine? Processes that load the model once, or this process itself.

A crew is given scenes and says what became of them. Workers are started afresh, never forked, and are spoken to in
lines of JSON: the job and scenes go in, progress and outcomes come out. Whoever dies is replaced; the scene that it had
is told as "died". When the line from above ends, because a run is stopped or was killed, a worker leaves its scene so
that the next run can go on in it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from .. import errors
from ..errors import CancelledError, DeviceError, RsSegmentError
from ..types import Predictor
from .job import Job, Outcome, Task, do, load

GRACE_SECONDS = 10.0
"""How long a worker that is told to stop may take to let go of its scene."""
STARTS = 3
_SERVE = "from rs_segment.archive.crew import serve; serve()"

Progress = Callable[[str, int, int], None]
"""Is told the key of a task, its pixels that are done, and all of them."""


class Crew(Protocol):
    """Those who do the scenes."""

    @property
    def free(self) -> int:
        """How many more tasks would be begun at once, or can be queued without harm."""

    def give(self, task: Task) -> None:
        """Have a task done."""

    def hear(self, seconds: float) -> tuple[str, Outcome] | None:
        """(key, what became of it) of a task; None when nothing came for that long.

        Raises:
            RsSegmentError: Nobody can work: the model cannot be loaded, say.
        """

    def close(self) -> None:
        """Stop whatever is in work, in a way that a later run can go on with."""


class Here:
    """A crew of one: this process, with a predictor that is there already, or is loaded first.

    Args:
        job: How scenes are done.
        progress: Told while they are done; an error from it stops the run.
        predictor: The job's model, where there is one.
    """

    def __init__(self, job: Job, progress: Progress, predictor: Predictor | None = None) -> None:
        self._job, self._progress = job, progress
        self._predictor = load(job) if predictor is None else predictor
        self._task: Task | None = None

    @property
    def free(self) -> int:
        """One, until it has a scene."""
        return int(self._task is None)

    def give(self, task: Task) -> None:
        """Remember a scene, to be done when the outcome is asked for."""
        self._task = task

    def hear(self, seconds: float) -> tuple[str, Outcome] | None:
        """Do the scene; what is raised while progress is told stops it, and is raised again."""
        if self._task is None:
            time.sleep(seconds)
            return None
        task, self._task = self._task, None
        stop: list[Exception] = []

        def told(done: int, total: int) -> None:
            try:
                self._progress(task.key, done, total)
            except Exception as error:
                stop.append(error)
                raise CancelledError("stopped") from error

        outcome = do(self._job, self._predictor, task, told)
        if stop:
            raise stop[0]
        return task.key, outcome

    def close(self) -> None:
        """Nothing is in work between two calls."""


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, what it is called, and what it has in hand."""

    seat: Mapping[str, str]
    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    ready: bool = False
    task: Task | None = None
    starts: int = 1


class Workers:
    """Processes on this machine.

    Args:
        job: How scenes are done.
        progress: Told while they are done.
        seats: The environment of each worker, over that of this process: which GPU, how many threads.
    """

    def __init__(self, job: Job, progress: Progress, seats: Sequence[Mapping[str, str]]) -> None:
        self._job, self._progress = job, progress
        self._heard: queue.Queue[tuple[_Worker, bytes]] = queue.Queue()
        self._crew: list[_Worker] = []
        try:
            for seat in seats:
                self._crew.append(self._start(seat, 1))
        except BaseException:
            self.close()
            raise

    @property
    def free(self) -> int:
        """Workers that are ready and have nothing to do."""
        return sum(w.ready and w.task is None for w in self._crew)

    def give(self, task: Task) -> None:
        """Hand a scene to a worker that is free."""
        worker = next(w for w in self._crew if w.ready and w.task is None)
        worker.task = task
        self._tell(worker, task.to_json())

    def hear(self, seconds: float) -> tuple[str, Outcome] | None:
        """The next outcome; progress is passed on, and the dead are replaced, meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                worker, line = self._heard.get(timeout=left)
            except queue.Empty:
                return None
            if worker not in self._crew:
                continue
            outcome = self._understand(worker, json.loads(line)) if line else self._bury(worker)
            if outcome is not None:
                return outcome
        return None

    def close(self) -> None:
        """Let all workers go; those that do not in time are killed, and lose a few seconds of work."""
        until = time.monotonic() + GRACE_SECONDS
        for worker in self._crew:
            _shut(worker.process.stdin)
        for worker in self._crew:
            _let_go(worker, until)
        self._crew.clear()

    def _start(self, seat: Mapping[str, str], starts: int) -> _Worker:
        # It finds the same modules as this process, however those were found.
        path = os.pathsep.join(p for p in sys.path if p)
        # A file, not a pipe: nobody has to read it, and it is there when the process is not.
        stderr = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": path, **seat},
        )
        worker = _Worker(seat, process, stderr, starts=starts)
        threading.Thread(target=self._listen, args=(worker,), name="rs-segment-listen", daemon=True).start()
        self._tell(worker, self._job.to_json())
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for line in lines:
                self._heard.put((worker, line))
        worker.process.wait()
        self._heard.put((worker, b""))

    def _tell(self, worker: _Worker, line: str) -> None:
        assert worker.process.stdin is not None
        try:
            worker.process.stdin.write(line.encode() + b"\n")
            worker.process.stdin.flush()
        except OSError:
            # It is dead, which will be heard.
            return

    def _understand(self, worker: _Worker, said: dict[str, Any]) -> tuple[str, Outcome] | None:
        if "refused" in said:
            kind = getattr(errors, said["refused"], RsSegmentError)
            raise kind(said["message"])
        if "ready" in said:
            worker.ready, worker.starts = True, 1
        elif worker.task is not None and "done" in said:
            self._progress(worker.task.key, said["done"], said["total"])
        elif worker.task is not None and "outcome" in said:
            task, worker.task = worker.task, None
            outcome = Outcome.from_json(said["outcome"])
            if outcome.again == "afresh" or outcome.status == "stopped":
                self._replace(worker, 1)
            return task.key, outcome
        return None

    def _bury(self, worker: _Worker) -> tuple[str, Outcome] | None:
        """Replace a dead worker; tell of the scene that it had."""
        why = _obituary(worker)
        if not worker.ready and worker.starts >= STARTS:
            self._crew.remove(worker)
            _let_go(worker, time.monotonic())
            raise DeviceError(f"a worker {why} {STARTS} times while it loaded {self._job.model}; try fewer --workers")
        self._replace(worker, 1 if worker.ready else worker.starts + 1)
        if worker.task is None:
            return None
        return worker.task.key, Outcome("died", "afresh", error="DeviceError", message=why, exit_code=5)

    def _replace(self, worker: _Worker, starts: int) -> None:
        self._crew.remove(worker)
        _let_go(worker, time.monotonic() + GRACE_SECONDS)
        self._crew.append(self._start(worker.seat, starts))


def serve() -> None:
    """Be a worker: read the job and its scenes from stdin, tell on stdout, end when stdin does."""
    # Whatever else is printed in this process must not run into what is told.
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # A Ctrl-C reaches all processes of a terminal; the one above decides what is to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    lines: queue.Queue[bytes] = queue.Queue()

    def say(**said: Any) -> None:
        told.write(json.dumps(said).encode() + b"\n")
        told.flush()

    def listen() -> None:
        # Not sys.stdin: Python locks it when it ends, and would wait for this thread.
        with os.fdopen(os.dup(0), "rb") as orders:
            for line in orders:
                lines.put(line)
        stop.set()
        lines.put(b"")

    def progress(done: int, total: int) -> None:
        try:
            say(done=done, total=total)
        except OSError:
            # Nobody listens any more.
            stop.set()
        if stop.is_set():
            raise CancelledError("stopped")

    threading.Thread(target=listen, daemon=True).start()
    try:
        if not (line := lines.get()):
            return
        job = Job.from_json(line)
        predictor = load(job)
    except Exception as error:
        known = isinstance(error, RsSegmentError)
        say(
            refused=type(error).__name__, message=str(error) if known else f"unexpected {type(error).__name__}: {error}"
        )
        return
    say(ready=True, device=predictor.device, precision=predictor.precision)
    while (line := lines.get()) and not stop.is_set():
        say(outcome=do(job, predictor, Task.from_json(line), progress).to_json())


def _shut(file: IO[bytes] | None) -> None:
    try:
        if file is not None:
            file.close()
    except OSError:
        # What could not be written to the dead is of no interest.
        return


def _let_go(worker: _Worker, until: float) -> None:
    """Wait for a worker to end, and kill it when its time is up."""
    _shut(worker.process.stdin)
    try:
        worker.process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()
    worker.stderr.close()


def _obituary(worker: _Worker) -> str:
    """How a worker ended, in words."""
    code = worker.process.wait()
    worker.stderr.seek(0)
    last = worker.stderr.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
    if code == -9:
        how = "was killed (signal 9, as the system does when memory runs out)"
    elif code < 0:
        how = f"ended by signal {-code}"
    else:
        how = f"ended with exit code {code}"
    return how + (f": {last[-1][:300]}" if last else "")
