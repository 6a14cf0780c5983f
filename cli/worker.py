"""``rs-segment worker``: how does a host program such as QGIS have a command run, and stay master of it?

Two processes. The one that the host starts loads nothing heavy: it says hello at once, reads one job, and listens. The
job, which is a command line, runs in a process of its own with its own group, so that it can be ended with all that it
started, whatever it computes, and so that somebody is left to say how it ended.
"""

from __future__ import annotations

import difflib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

import click

from .host import Host

PROTOCOL = 1
JOBS = ("predict", "batch", "polygonize", "evaluate", "train", "zonal", "info", "models", "doctor")
ENDS = ("result", "error", "canceled")
USAGE, DEVICE, CANCELED = 2, 5, 130
GRACE_SECONDS = 1.0
"""How long a job that is canceled may take to let go of its work."""
LET_GO_SECONDS = 0.3
LONGEST_LINE = 2**20
_CANCEL = b""
_RUN = "from rs_segment_cli.job import run; run()"

Heard = SimpleQueue[tuple[str, bytes]]
"""Who said something, and the line; signals may put into it whatever else goes on."""


class Refused(ValueError):
    """A line that is no job, in a sentence."""


@click.command()
@click.option("--hello", is_flag=True, help="Say what is installed, with devices and models, and end.")
def worker(hello: bool) -> None:
    """Do one job for a host program, in lines of JSON on stdin and stdout. Not for people; see DESIGN.md."""
    host = Host(moved(1, "wb"))
    if hello:
        from .job import handshake

        host.say("hello", **greeting(), **handshake())
        return
    orders, heard = moved(0, "rb"), Heard()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: heard.put(("host", _CANCEL)))
    sys.exit(serve(host, orders, heard))


@cache
def number() -> str:
    """The version of the engine."""
    try:
        return version("rs-segment")
    except PackageNotFoundError:
        return "unknown"


def greeting() -> dict[str, Any]:
    """Who speaks."""
    return {
        "protocol": PROTOCOL,
        "version": number(),
        "python": platform.python_version(),
        "executable": sys.executable,
    }


def moved(descriptor: int, mode: str) -> IO[bytes]:
    """The file behind stdin or stdout, under another number that nothing else in this process knows.

    What else is printed goes to stderr; what else reads finds an end. Windows would let any library that is loaded wait
    for a thread that reads from stdin.
    """
    file: IO[bytes] = os.fdopen(os.dup(descriptor), mode)
    if mode == "wb":
        os.dup2(2, descriptor)
    else:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, descriptor)
        os.close(nothing)
    return file


def serve(host: Host, orders: IO[bytes], heard: Heard) -> int:
    """Do the job that is ordered; returns the exit code.

    Args:
        host: Is told of it.
        orders: Lines from the host; their end means that the host is no more.
        heard: Takes those, and lines from the job.
    """
    threading.Thread(target=listen, args=("host", orders, heard), daemon=True).start()
    try:
        host.say("hello", **greeting())
        _, line = heard.get()
        if canceling(line):
            host.say("canceled")
            return CANCELED
        return Overseer(host, heard).run(parse(line))
    except Refused as error:
        advice = "send one line such as " + json.dumps({"protocol": PROTOCOL, "job": ["info", "/path/to/scene.tif"]})
        host.say("error", code=USAGE, kind="ProtocolError", message=str(error), hint=advice)
        return USAGE
    except BrokenPipeError:
        # The host is no more.
        return CANCELED
    except OSError as error:
        message = f"a job cannot be begun here: {error}; free memory and disk, then try again"
        host.say("error", code=DEVICE, kind=type(error).__name__, message=message, hint="free memory and disk")
        return DEVICE


def listen(who: str, lines: IO[bytes], heard: Heard) -> None:
    """Hear all lines of somebody, then an empty one."""
    try:
        while line := lines.readline(LONGEST_LINE + 1 if who == "host" else -1):
            heard.put((who, line))
    except (OSError, ValueError):
        # It is closed, which is an end too.
        pass
    heard.put((who, b""))


def canceling(line: bytes) -> bool:
    """Whether a line from the host ends the job."""
    if line == _CANCEL:
        return True
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("cmd") == "cancel"


def parse(line: bytes) -> list[str]:
    """The job in a line: a command and its arguments.

    Raises:
        Refused: It is none.
    """
    if len(line) > LONGEST_LINE:
        raise Refused(f"the job has more than {LONGEST_LINE} bytes; name a list or a folder instead of many files")
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused(f"{line[:60]!r} is no JSON, but a job is one line of it") from None
    if not isinstance(said, dict):
        raise Refused(f"a job is an object with protocol and job, not {line[:60]!r}")
    protocol, job = said.get("protocol"), said.get("job")
    if type(protocol) is not int or protocol != PROTOCOL:
        raise Refused(
            f"this is rs-segment {number()}, which speaks protocol {PROTOCOL}, not {protocol!r:.60}; "
            "install the engine and the host program in versions that go together"
        )
    if not isinstance(job, list) or not job or not all(isinstance(word, str) for word in job):
        raise Refused(f"the job is not a list of texts, a command and its arguments: {job!r:.60}")
    if any("\0" in word for word in job):
        raise Refused("an argument of the job holds a zero byte, which no file name can")
    if job[0] not in JOBS:
        near = difflib.get_close_matches(job[0], JOBS, 1)
        advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(JOBS)}"
        raise Refused(f"{job[0]!r:.60} is no job; {advice}")
    return job


class Overseer:
    """A job while it runs, seen from outside.

    Args:
        host: Is told what the job tells.
        heard: Lines from the host, and from the job.
    """

    def __init__(self, host: Host, heard: Heard) -> None:
        self._host, self._heard = host, heard
        self._end = b""
        self._deadline: float | None = None

    def run(self, job: Sequence[str]) -> int:
        """Have a job done, and say how it ended; returns the exit code."""
        descriptor, ledger = tempfile.mkstemp(prefix="rs-segment-", suffix=".ledger")
        os.close(descriptor)
        try:
            process = begin(job, ledger)
            try:
                code = self._watch(process)
            finally:
                end(process)
                sweep(ledger, job)
        finally:
            Path(ledger).unlink(missing_ok=True)
        return self._conclude(code)

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        """Pass on what the job says until it has ended."""
        assert process.stdout is not None
        threading.Thread(target=listen, args=("job", process.stdout, self._heard), daemon=True).start()
        while True:
            left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            try:
                who, line = self._heard.get(timeout=left)
            except Empty:
                end(process)
                return process.wait()
            if who == "host":
                self._obey(line, process)
            elif not line:
                return process.wait()
            elif (said := event(line)) in ENDS:
                self._end = line
            elif said:
                self._host.forward(line)

    def _obey(self, line: bytes, process: subprocess.Popen[bytes]) -> None:
        if not canceling(line):
            self._host.say("log", level="warning", message=f"{line[:60]!r} is no order; there is only cancel")
        elif self._deadline is None:
            self._deadline = time.monotonic() + GRACE_SECONDS
            assert process.stdin is not None
            process.stdin.close()

    def _conclude(self, code: int) -> int:
        """Tell the host how the job ended."""
        if event(self._end) != "result" and self._deadline is not None:
            self._host.say("canceled")
            return CANCELED
        if self._end:
            self._host.forward(self._end)
            return code
        how, advice = f"ended by itself (status {code})", "the same command in a terminal may tell more"
        if code == -signal.SIGTERM or code == -9:
            how, advice = f"was killed (signal {-code})", "where memory ran out, try a smaller --tile, or --batch 1"
        self._host.say("error", code=DEVICE, kind="DeviceError", message=f"the job {how}; {advice}", hint=advice)
        return DEVICE


def event(line: bytes) -> str:
    """What a line of a job tells of; "" where the job died within the line."""
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return ""


def begin(job: Sequence[str], ledger: str) -> subprocess.Popen[bytes]:
    """A process that does a job, in a group of its own."""
    windows = sys.platform == "win32"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _RUN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # It finds the same modules as this process, however those were found.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "RS_SEGMENT_LEDGER": ledger},
        start_new_session=not windows,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) if windows else 0,
    )
    assert process.stdin is not None
    # If it is dead already, that will be heard.
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(list(job)).encode() + b"\n")
        process.stdin.flush()
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it has started."""
    if sys.platform == "win32":
        with suppress(OSError):
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # None of them is left.
        return


def sweep(ledger: str | Path, job: Sequence[str]) -> None:
    """Remove what a job and its processes have left under hidden names, when all of them have ended.

    What a training left, or a job that was to resume something, is there for a later one.

    Args:
        ledger: Lists those names, see ``workfolder.note``; the engine is too heavy to be loaded here.
        job: Which it was.
    """
    if job[0] == "train" or "--resume" in job:
        return
    noted = Path(ledger).read_text(encoding="utf-8").splitlines()
    for path in map(Path, dict.fromkeys(json.loads(line) for line in noted)):
        if path.is_dir():
            if idle(path):
                shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def idle(folder: Path) -> bool:
    """Whether no process works in a work folder; those that were killed may take a moment to end."""
    if sys.platform == "win32":
        # Its lock is a file that cannot be removed while it is open.
        with suppress(FileNotFoundError, PermissionError):
            (folder / "lock").unlink()
        return not (folder / "lock").exists()
    import fcntl

    until = time.monotonic() + LET_GO_SECONDS
    try:
        with open(folder / "lock", "rb") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                except BlockingIOError:
                    if time.monotonic() > until:
                        return False
                    time.sleep(0.02)
    except OSError:
        return True
