"""How does one job run? A child process that speaks JSON lines, watched in small steps from a background thread."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from qgis.core import QgsApplication, QgsProcessingFeedback
from qgis.PyQt.QtCore import QCoreApplication, QProcess

from .engine import Engine, EngineError, environment

PROTOCOL = 1
START_MS = 15_000
STEP_MS = 100
HELLO_SECONDS = 60.0
TERMINATE_AFTER_SECONDS = 3.0
KILL_AFTER_SECONDS = 5.0
LEAVE_SECONDS = 10.0
TELL_EVERY_SECONDS = 5.0
TAIL = 4000
LAST = ("result", "error", "canceled")


class JobFailed(Exception):
    """The job ended in an error; the message is a sentence, ``code`` the engine's exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class JobCanceled(Exception):
    """The job was cancelled, and its process is gone."""


@dataclass
class Outcome:
    """What a job told.

    Args:
        result: The document that the command prints with ``--json``.
        artifacts: (role, path) of each file that it wrote.
        plan: What was known before the work began: device, tiles, size, the command.
        hello: Version and executable of the engine.
    """

    result: dict[str, Any] = field(default_factory=dict)
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)
    hello: dict[str, Any] = field(default_factory=dict)

    def paths(self, role: str) -> list[str]:
        """The files with a role."""
        return [path for kind, path in self.artifacts if kind == role]


def run(engine: Engine, job: Sequence[str], feedback: QgsProcessingFeedback) -> Outcome:
    """What came of a job, a command line without its program.

    Raises:
        EngineError: The engine does not start, or is none that this plug-in understands.
        JobFailed: The job ended in an error, or its process died.
        JobCanceled: ``feedback`` was cancelled, and the process is gone.
    """
    host = _Host(engine, feedback)
    try:
        return host.run(job)
    finally:
        host.close()


def hear() -> None:
    """Let ``qgis_process`` hear of Ctrl-C, which is an event there; windows have a thread for theirs."""
    if QgsApplication.platform() == "qgis_process":
        QCoreApplication.processEvents()


class _Host:
    """One process, one job."""

    def __init__(self, engine: Engine, feedback: QgsProcessingFeedback) -> None:
        self._engine, self._feedback = engine, feedback
        self._outcome = Outcome()
        self._tail = b""
        self._buffer = b""
        self._last: dict[str, Any] | None = None
        self._canceled_at: float | None = None
        self._told = 0.0
        self._process = QProcess()
        self._process.setProcessEnvironment(environment())
        self._process.setProgram(engine.program)
        self._process.setArguments([*engine.arguments, "worker"])

    def run(self, job: Sequence[str]) -> Outcome:
        """See the function ``run``."""
        self._process.start()
        if not self._process.waitForStarted(START_MS):
            problem = self._process.errorString()
            raise EngineError(f"the engine {self._engine} does not start: {problem}; {self._engine.advice}")
        self._greet()
        self._say({"protocol": PROTOCOL, "job": list(job)})
        for event in self._events():
            self._handle(event)
        if self._last is not None and self._last["event"] == "result":
            self._outcome.result = self._last.get("result") or {}
            return self._outcome
        if self._canceled_at is not None or (self._last is not None and self._last["event"] == "canceled"):
            raise JobCanceled
        if self._last is not None:
            raise JobFailed(str(self._last.get("message") or "the engine failed"), int(self._last.get("code", 1)))
        raise JobFailed(self._obituary(), 1)

    def close(self) -> None:
        """Make sure that nothing goes on running."""
        if self._process.state() != QProcess.ProcessState.NotRunning:
            self._process.kill()
            self._process.waitForFinished(START_MS)

    def _greet(self) -> None:
        """Wait until the engine has said who it is."""
        by = time.monotonic() + HELLO_SECONDS
        for event in self._events():
            if event.get("event") == "hello":
                self._outcome.hello = event
                break
            if time.monotonic() > by:
                break
        hello = self._outcome.hello
        if self._canceled_at is not None:
            raise JobCanceled
        if not hello:
            raise EngineError(no_answer(self._engine, self._tail))
        refuse_protocol(self._engine, hello)

    def _say(self, message: dict[str, Any]) -> None:
        self._process.write((json.dumps(message) + "\n").encode())
        self._process.waitForBytesWritten(STEP_MS)

    def _events(self) -> Iterator[dict[str, Any]]:
        """Every event, and an empty one at each step in which nothing came, until the process is gone."""
        ended: float | None = None
        while True:
            alive = self._process.state() != QProcess.ProcessState.NotRunning
            if alive:
                self._process.waitForReadyRead(STEP_MS)
            hear()
            self._tail = (self._tail + bytes(self._process.readAllStandardError()))[-TAIL:]
            self._buffer += bytes(self._process.readAllStandardOutput())
            *lines, self._buffer = self._buffer.split(b"\n")
            for line in lines:
                yield self._parsed(line)
            self._watch_cancel()
            if not alive:
                return
            if self._last is not None:
                ended = ended or time.monotonic()
                if time.monotonic() - ended > LEAVE_SECONDS:
                    return
            yield {}

    def _parsed(self, line: bytes) -> dict[str, Any]:
        """The event in a line; what is no event is kept like what was said on stderr."""
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and "event" in event:
            return event
        self._tail = (self._tail + line + b"\n")[-TAIL:]
        return {}

    def _watch_cancel(self) -> None:
        """Ask for an end when the user wants one; insist when nothing happens."""
        if not self._feedback.isCanceled() or self._process.state() == QProcess.ProcessState.NotRunning:
            return
        if self._canceled_at is None:
            self._canceled_at = time.monotonic()
            self._say({"cmd": "cancel"})
            self._process.closeWriteChannel()
        waited = time.monotonic() - self._canceled_at
        if waited > KILL_AFTER_SECONDS:
            self._process.kill()
        elif waited > TERMINATE_AFTER_SECONDS:
            self._process.terminate()

    def _handle(self, event: dict[str, Any]) -> None:
        kind, feedback = event.get("event"), self._feedback
        if kind in LAST:
            self._last = event
        elif kind == "plan":
            news = {k: v for k, v in event.items() if self._outcome.plan.get(k) != v}
            self._outcome.plan.update(news)
            if planned(news):
                feedback.pushInfo(planned(news))
        elif kind == "progress":
            self._show(event)
        elif kind == "artifact":
            self._outcome.artifacts.append((str(event.get("role")), str(event.get("path"))))
        elif kind == "log":
            tell = feedback.pushWarning if event.get("level") == "warning" else feedback.pushInfo
            tell(str(event.get("message", "")))

    def _show(self, event: dict[str, Any]) -> None:
        """Move the bar, and say every few seconds where the work stands."""
        done, total = float(event.get("done") or 0), float(event.get("total") or 0)
        if total > 0:
            self._feedback.setProgress(100 * min(done / total, 1.0))
        now = time.monotonic()
        if done > 0 and (now - self._told >= TELL_EVERY_SECONDS or (done == total and self._told)):
            self._told = now
            self._feedback.setProgressText(standing(event, self._outcome.plan))

    def _obituary(self) -> str:
        """A sentence on a process that ended without one."""
        code = self._process.exitCode()
        crashed = self._process.exitStatus() == QProcess.ExitStatus.CrashExit
        if code == 137 or (crashed and code in (0, 9) and os.name != "nt"):
            return (
                "the engine was killed, probably because memory ran out: "
                "choose a smaller tile, a batch of 1, or close other programs"
            )
        said = told(self._tail)
        return f"the engine ended without a result (exit code {code})" + (f": {said}" if said else "")


def refuse_protocol(engine: Engine, hello: dict[str, Any]) -> None:
    """Raises ``EngineError`` where an engine's greeting is not in the protocol of this plug-in."""
    if hello.get("protocol") != PROTOCOL:
        older = isinstance(hello.get("protocol"), int) and hello["protocol"] < PROTOCOL
        how = f'"{engine.program}" -m pip install --upgrade rs-segment' if engine.arguments else engine.advice
        raise EngineError(
            f"the engine {engine} is rs-segment {hello.get('version')} and speaks protocol {hello.get('protocol')}, "
            f"but this plug-in speaks {PROTOCOL}: " + (f"update the engine: {how}" if older else "update the plug-in")
        )


def no_answer(engine: Engine, tail: bytes) -> str:
    """A sentence on an engine that did not say hello."""
    said = told(tail)
    if "No module named" in said and "rs_segment_cli" in said:
        return f"the Python {engine} has no rs-segment: {engine.advice}"
    return f"the engine {engine} does not answer" + (f" ({said})" if said else "") + f": {engine.advice}"


def told(tail: bytes) -> str:
    """The last line of what a process said."""
    lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def planned(plan: dict[str, Any]) -> str:
    """What is going to be done, for the log."""
    facts = []
    if plan.get("device"):
        facts.append(f"on {plan['device']}")
    if plan.get("width") and plan.get("height"):
        facts.append(f"{plan['width']} x {plan['height']} px")
    if plan.get("tiles"):
        facts.append("1 tile" if plan["tiles"] == 1 else f"{plan['tiles']} tiles")
    lines = [f"The same on the command line: {plan['command']}"] if plan.get("command") else []
    return "\n".join([*lines, *([", ".join(facts)] if facts else [])])


def standing(event: dict[str, Any], plan: dict[str, Any]) -> str:
    """Where the work stands: stage, tiles or share, time left, a note."""
    parts = [str(event.get("stage") or "working")]
    if event.get("tiles_done") is not None and plan.get("tiles"):
        parts.append(f"{event['tiles_done']} of {plan['tiles']} tiles")
    elif event.get("total"):
        parts.append(f"{100 * (event.get('done') or 0) / event['total']:.0f} %")
    if event.get("eta_s") is not None:
        parts.append(f"{clock(event['eta_s'])} left")
    if event.get("note"):
        parts.append(str(event["note"]))
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Some seconds for people: 0:07, 12:30, 3:20:00."""
    whole = int(seconds + 0.5)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
