"""What a host program meets: one job, events in lines of JSON, an end that tells the truth, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from archives import archive, deadly, wait_for
from archives import fake_model as fake_model
from click.testing import CliRunner, Result
from fakes import COLORS, make_scene
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rs_segment.errors import CancelledError
from rs_segment_cli import main
from rs_segment_cli.host import Host, Lines
from rs_segment_cli.worker import ENDS, JOBS, Heard, serve

SOON = 8.0
"""Seconds in which what must be over in two is over, on a machine that others use too."""
LONG = 120.0
OPTIONS = ["-m", "fake", "--tile", "32", "--overlap", "16"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class Conversation:
    """A worker process, and what it said."""

    def __init__(self, *job: object, before: str = "", **more: str) -> None:
        path = os.pathsep.join(p for p in sys.path if p)
        command = [sys.executable, "-m", "rs_segment_cli", "worker"]
        command = ["bash", "-c", before + '; exec "$@"', "-", *command] if before else command
        env = {**os.environ, "PYTHONPATH": path, **more}
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.events: list[dict[str, Any]] = []
        self.noise = b""
        self._news = threading.Condition()
        self._ears = [threading.Thread(target=self._listen), threading.Thread(target=self._overhear)]
        for ear in self._ears:
            ear.start()
        if job:
            self.say({"protocol": 1, "job": [str(word) for word in job]})

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self.events.append(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _overhear(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self.noise = lines.read()

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def say(self, order: Any) -> None:
        assert self.process.stdin is not None
        line = order if isinstance(order, bytes) else json.dumps(order).encode() + b"\n"
        with suppress(BrokenPipeError):
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def until(self, name: str, number: int = 1, **like: Any) -> dict[str, Any]:
        """The event of a name, when it is told."""

        def told() -> list[dict[str, Any]]:
            return [e for e in self.events if e["event"] == name and like.items() <= e.items()]

        with self._news:
            there = self._news.wait_for(lambda: len(told()) >= number or not self._ears[0].is_alive(), LONG)
        assert there, f"no {name} in {self.events}"
        return told()[number - 1]

    def ended(self, seconds: float = LONG) -> tuple[int, dict[str, Any]]:
        """(exit code, last event); the others are no ends, and the first says hello."""
        code = self.process.wait(seconds)
        for ear in self._ears:
            ear.join(seconds)
        self.hang_up()
        names = [event["event"] for event in self.events]
        assert names[0] == "hello"
        assert [name for name in names if name in ENDS] == names[-1:]
        assert b"Traceback" not in self.noise, self.noise.decode()
        return code, self.events[-1]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    @property
    def family(self) -> list[psutil.Process]:
        """The worker, its job, and whatever that has started."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]


def gone(processes: list[psutil.Process], seconds: float = SOON) -> bool:
    return not psutil.wait_procs(processes, seconds)[1]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rs_segment(*job: object) -> Result:
    """What the command line says to the same, in this process."""
    return CliRunner().invoke(main, [str(word) for word in job])


@pytest.fixture
def tall(tmp_path: Path) -> Iterator[Path]:
    """A scene of a hundred tiles, in a folder of its own; nothing may be left in it but the scene."""
    folder = tmp_path / "tall"
    folder.mkdir()
    yield make_scene(folder / "scene.tif", (1600, 30))
    assert names(folder) == {"scene.tif"}
    assert not list(Path(os.environ["TMPDIR"]).iterdir())


@pytest.fixture(autouse=True)
def own_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers have a folder for temporary files of their own, so that what they leave there is seen."""
    (tmp_path / "temp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))


# A line is a job, or a sentence.

WORDS = (st.text() | st.sampled_from(["predic", "worker", "data", "--help", "predict\0", "\ud800"])).filter(
    lambda word: word not in (*JOBS, "cancel")
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
ORDERS = st.fixed_dictionaries({}, optional={"protocol": st.just(1) | VALUES, "job": st.lists(WORDS) | VALUES})
LINES = st.binary(min_size=1) | (ORDERS | VALUES).map(lambda order: json.dumps(order).encode() + b"\n")


@settings(deadline=None, max_examples=150)
@given(LINES)
@example(b"\n")
@example(b"\xff\xfe{}\n")
@example(b"[" * 100_000)
@example(b"9" * 5000)
@example(b'{"protocol":true,"job":["info","x"]}')
@example(b'{"protocol":2,"job":["info","x"]}')
@example(b'{"protocol":1,"job":["info",7]}')
@example(b'{"protocol":1,"job":["info","a\\u0000b"]}')
@example(b'{"protocol":1,"job":"info"}')
@example(b"x" * (2**20 + 1))
def test_any_line_that_is_no_job_is_one_sentence_and_exit_code_2(line: bytes) -> None:
    told = io.BytesIO()
    code = serve(Host(told), io.BytesIO(line), Heard())
    hello, error = map(json.loads, told.getvalue().splitlines())
    assert (hello["event"], error["event"], error["code"], code) == ("hello", "error", 2, 2)
    assert 10 < len(error["message"]) < 400
    assert "job" in error["message"] or "protocol" in error["message"]


@pytest.mark.parametrize("orders", [b"", b'{"cmd": "cancel"}\n'], ids=["end", "cancel"])
def test_an_end_before_there_is_a_job_is_a_cancel(orders: bytes) -> None:
    started = time.monotonic()
    host = Conversation()
    host.say(orders)
    host.hang_up()
    assert host.ended() == (130, {"event": "canceled"})
    assert time.monotonic() - started < SOON, "nothing heavy is loaded for that"


def test_hello_comes_before_anything_heavy() -> None:
    program = (
        "import sys; from rs_segment_cli import worker, host\n"
        "heavy = {'torch', 'rasterio', 'numpy', 'rs_segment'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_whole_hello_tells_devices_models_and_problems() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "rs_segment_cli", "worker", "--hello"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    hello = json.loads(done.stdout)
    assert hello["protocol"] == 1
    assert "cpu" in [device["id"] for device in hello["devices"]]
    fake = next(model for model in hello["models"] if model["name"] == "fake")
    assert fake["bands"] == ["red", "green", "blue"]
    assert fake["classes"][1] == {"value": 1, "name": "class 1", "color": COLORS[1]}
    assert {"dubai-landcover", "fake"} <= {model["name"] for model in hello["models"]}
    assert isinstance(hello["problems"], list)


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab \r\n\u00e9\ud800"), max_size=9)))
def test_a_line_is_told_once_wherever_its_text_is_cut(texts: list[str]) -> None:
    told = io.BytesIO()
    stream = Lines(Host(told))
    for text in (*texts, "\n"):
        stream.write(text)
    messages = [json.loads(line)["message"] for line in told.getvalue().splitlines()]
    assert messages == [line.rstrip() for line in re.split("[\r\n]", "".join(texts)) if line.strip()]


def test_progress_is_told_at_most_five_times_a_second() -> None:
    told = io.BytesIO()
    host, started = Host(told), time.monotonic()
    while time.monotonic() - started < 0.7:
        host.progress("segment", 1, 2)
    assert 1 <= len(told.getvalue().splitlines()) <= 5
    host.stop.set()
    with pytest.raises(CancelledError):
        host.progress("segment", 2, 2)


# A job is a command line.


def test_a_job_makes_what_the_command_line_makes_and_tells_all_of_it(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", (300, 200))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    job = ["predict", scene, *OPTIONS, "--confidence"]
    host = Conversation(
        *job, "-o", tmp_path / "here", "--progress", "bar", FAKE_LOUD='{"event": "result"}', FAKE_SLOW="0.005"
    )
    straight = rs_segment(*job, "-o", tmp_path / "there", "--json")
    code, end = host.ended()
    assert code == straight.exit_code == 0
    assert host.noise.count(b'{"event": "result"}') == 2, "what libraries print is not in the protocol"
    found, expected = end["result"], json.loads(straight.stdout.replace("there", "here"))
    assert found.pop("seconds") > 0 < expected.pop("seconds")
    assert found == expected
    artifacts = {event["role"]: Path(event["path"]) for event in host.of("artifact")}
    assert artifacts.keys() == {"classes", "confidence", "polygons"}
    for role in ("classes", "confidence"):
        assert artifacts[role].read_bytes() == (tmp_path / "there" / artifacts[role].name).read_bytes()
    assert names(tmp_path / "here") == names(tmp_path / "there")

    first, plan = host.of("plan")
    assert (
        first["command"]
        == plan["command"]
        == shlex.join(["rs-segment", *map(str, job), "-o", str(tmp_path / "here"), "--progress", "bar"])
    )
    assert (plan["device"], plan["width"], plan["height"]) == ("cpu", 200, 300)
    progress = host.of("progress")
    done = [event["done"] for event in progress]
    assert done == sorted(done)
    assert progress[0]["done"] == 0 < progress[-1]["tiles_done"] <= plan["tiles"]
    assert all(event["total"] == 60_000 and event["stage"] == "segment" for event in progress)
    assert any("wrote" in event["message"] for event in host.of("log"))


def test_other_commands_are_jobs_too(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", bands=4, photometric="MINISBLACK")
    refused = Conversation("info", scene, "--model", "fake")
    code, end = refused.ended()
    assert code == end["code"] == 4
    assert end["kind"] == "BandError"
    assert end["hint"] in end["message"]
    assert end["result"]["model"]["fits"] is False, "what is known is told with the error"
    assert end["result"] | {"model": None} == json.loads(rs_segment("info", scene, "--json").stdout) | {"model": None}


def test_a_cancel_after_the_work_changes_nothing() -> None:
    host = Conversation("models", "list")
    host.say(b"what?\n")
    host.until("result")
    host.say({"cmd": "cancel"})
    code, end = host.ended()
    assert (code, end["event"]) == (0, "result")
    assert end["result"] == json.loads(rs_segment("models", "list", "--json").stdout)
    assert any("only cancel" in event["message"] for event in host.of("log"))


@pytest.mark.parametrize(
    ("job", "code", "kind", "sentence"),
    [
        (["predict", "s.tif", "--tile", "many"], 2, "BadParameter", "--tile"),
        (["predict", "nowhere.tif", "-m", "fake"], 4, "SceneError", "nowhere.tif"),
    ],
)
def test_a_job_that_cannot_be_done_is_one_sentence(job: list[str], code: int, kind: str, sentence: str) -> None:
    found, end = Conversation(*job).ended()
    assert found == end["code"] == code
    assert end["kind"] == kind
    assert sentence in end["message"]


def test_a_model_that_leaves_is_one_sentence(tall: Path) -> None:
    code, end = Conversation("predict", tall, *OPTIONS, FAKE_BROKEN="exit").ended()
    assert (code, end["code"], end["kind"]) == (1, 1, "SystemExit")


@posix
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", (1200, 900))
    (tmp_path / "out").mkdir()
    job = ["predict", scene, "-o", tmp_path / "out", "-m", "fake", "--tile", "512", "--no-polygons"]
    code, end = Conversation(*job, before="ulimit -f 40", PYTHONDONTWRITEBYTECODE="1").ended()
    assert (code, end["kind"]) == (5, "DiskFullError")
    assert not names(tmp_path / "out")


# Whoever stops it, it is over soon, and nothing is left.


@posix
@pytest.mark.parametrize("how", ["cancel", "killed"])
def test_a_job_is_stopped(tall: Path, how: str) -> None:
    host = Conversation("predict", tall, *OPTIONS, FAKE_SLOW="0.1")
    host.until("progress")
    time.sleep(random.uniform(0, 1))
    family, started = host.family, time.monotonic()
    assert len(family) == 2
    if how == "cancel":
        host.say({"cmd": "cancel"})
        assert host.ended(SOON) == (130, {"event": "canceled"})
    else:
        family[0].kill()
        assert host.process.wait(SOON) == -9
        host.hang_up()
    assert gone(family, SOON - (time.monotonic() - started))
    if how == "killed":
        # Its note of what is to be tidied up is all that is left of it.
        for ledger in Path(os.environ["TMPDIR"]).iterdir():
            ledger.unlink()


@posix
def test_a_job_that_does_not_listen_is_stopped_by_a_signal_too(tall: Path) -> None:
    host = Conversation("predict", tall, *OPTIONS, FAKE_SLOW="0.1")
    host.until("progress", 3)
    family = host.family
    family[1].suspend()
    family[0].terminate()
    assert host.ended(SOON) == (130, {"event": "canceled"})
    assert gone(family)


@posix
def test_a_job_that_is_killed_is_an_error(tall: Path) -> None:
    host = Conversation("predict", tall, *OPTIONS, FAKE_SLOW="0.1")
    host.until("progress", 3)
    host.family[1].kill()
    code, end = host.ended(SOON)
    assert (code, end["code"]) == (5, 5)
    assert "signal 9" in end["message"]
    assert "--batch 1" in end["hint"]


HOST = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-m", "rs_segment_cli", "worker"], stdin=subprocess.PIPE)
worker.stdin.write(sys.argv[1].encode() + b"\\n")
worker.stdin.flush()
worker.wait()
"""


@posix
def test_a_killed_host_takes_everything_along(tall: Path) -> None:
    job = {"protocol": 1, "job": ["predict", str(tall), *OPTIONS]}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "FAKE_SLOW": "0.1"}
    host = subprocess.Popen([sys.executable, "-c", HOST, json.dumps(job)], env=env, stdout=subprocess.PIPE)
    assert host.stdout is not None
    with host.stdout as lines:
        next(line for line in lines if b"progress" in line)
        family = psutil.Process(host.pid).children(recursive=True)
        assert len(family) == 2
        host.kill()
        host.wait()
        assert gone(family)


@posix
def test_a_batch_survives_a_worker_and_is_stopped_with_all_of_them(tmp_path: Path) -> None:
    archive(tmp_path / "in", 2)
    deadly(tmp_path / "in")
    job = ["batch", tmp_path / "in", "-o", tmp_path / "out", *OPTIONS, "--workers", "1", "--attempts", "1"]
    host = Conversation(*job)
    code, end = host.ended()
    assert (code, end["event"]) == (3, "result")
    assert [failed["id"] for failed in end["result"]["failed"]] == ["deadly"]
    assert host.of("artifact")[0]["path"] == str(tmp_path / "out" / "summary.csv")
    assert [event for event in host.of("log") if event["level"] == "warning" and "deadly" in event["message"]]
    assert all(event["stage"] == "scenes" and event["total"] == 3 for event in host.of("progress"))

    job[1] = make_scene(tmp_path / "tall.tif", (3000, 30))
    host = Conversation(*job, FAKE_SLOW="0.1")
    wait_for(lambda: (tmp_path / "out" / ".tall_classes.tif.partial").exists(), LONG)
    family = host.family
    assert len(family) == 3
    host.say({"cmd": "cancel"})
    assert host.ended(SOON) == (130, {"event": "canceled"})
    assert gone(family)
    assert not list((tmp_path / "out").glob(".*.partial"))


def test_a_long_forward_pass_is_stopped(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", pixels=np.full((3, 6000, 2040), 90, np.uint8))
    host = Conversation("predict", scene)
    host.until("progress")
    time.sleep(random.uniform(0.3, 1))
    family, started = host.family, time.monotonic()
    host.say({"cmd": "cancel"})
    assert host.ended() == (130, {"event": "canceled"})
    assert gone(family)
    assert time.monotonic() - started < SOON
    assert names(tmp_path) == {"scene.tif", "temp"}
