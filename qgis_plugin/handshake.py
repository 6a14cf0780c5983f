"""What does the engine have? Version, devices and models, asked once and remembered in the profile."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from qgis.core import QgsApplication, QgsFeedback, QgsTask
from qgis.PyQt.QtCore import QProcess

from .engine import Engine, EngineError, environment, find
from .host import START_MS, STEP_MS, TAIL, hear, no_answer, refuse_protocol

PATIENCE_SECONDS = 180.0
DEFAULT_MODEL = "dubai-landcover"

# QGIS deletes tasks that nobody holds.
_tasks: list[QgsTask] = []


def cached() -> dict[str, Any] | None:
    """What the engine told when it was last asked, or None where it is another one since; nothing is started."""
    try:
        engine = find()
        with open(_file(), encoding="utf-8") as file:
            kept = json.load(file)
        found = kept["hello"] if kept["engine"] == _identity(engine) else None
    except (EngineError, OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def ask(engine: Engine, feedback: QgsFeedback | QgsTask | None = None) -> dict[str, Any]:
    """What an engine tells of itself, which takes seconds and is remembered; an empty one after a cancel.

    Raises:
        EngineError: It does not start or answer, or is none that this plug-in understands.
    """
    process = QProcess()
    process.setProcessEnvironment(environment())
    process.start(engine.program, [*engine.arguments, "worker", "--hello"])
    by = time.monotonic() + PATIENCE_SECONDS
    said, tail = b"", b""
    while process.state() != QProcess.ProcessState.NotRunning:
        process.waitForReadyRead(STEP_MS)
        hear()
        said += bytes(process.readAllStandardOutput())
        tail = (tail + bytes(process.readAllStandardError()))[-TAIL:]
        canceled = feedback is not None and feedback.isCanceled()
        if canceled or time.monotonic() > by:
            process.kill()
            process.waitForFinished(START_MS)
            if canceled:
                return {}
    said += bytes(process.readAllStandardOutput())
    tail = (tail + bytes(process.readAllStandardError()))[-TAIL:]
    for line in said.splitlines():
        try:
            hello = json.loads(line)
        except ValueError:
            continue
        if isinstance(hello, dict) and hello.get("event") == "hello":
            refuse_protocol(engine, hello)
            _remember(engine, hello)
            return hello
    raise EngineError(no_answer(engine, tail))


def refresh(done: Callable[[], None] | None = None) -> None:
    """Ask in the background, so that no window waits; what goes wrong is told when the engine is used.

    Args:
        done: Called in the thread of the windows when it is over.
    """

    def work(task: QgsTask) -> None:
        with suppress(EngineError):
            ask(find(), task)

    def over(*_: Any) -> None:
        if done is not None:
            done()

    task = QgsTask.fromFunction("Asking the RS Segment engine", work, on_finished=over)
    _tasks[:] = [task]
    QgsApplication.taskManager().addTask(task)


def models() -> list[str]:
    """Names of the engine's models; none where they are not known yet."""
    return [str(m["name"]) for m in (cached() or {}).get("models", []) if "name" in m]


def devices() -> list[str]:
    """What a user may choose to compute on; nothing where it is not known yet."""
    ids = [str(d["id"]) for d in (cached() or {}).get("devices", []) if "id" in d]
    return ["auto", *ids] if ids else []


def _file() -> str:
    return os.path.join(QgsApplication.qgisSettingsDirPath(), "rs_segment", "handshake.json")


def _identity(engine: Engine) -> list[Any]:
    """What changes when an engine is another one."""
    return [engine.program, *engine.arguments, os.path.getmtime(engine.program)]


def _remember(engine: Engine, hello: dict[str, Any]) -> None:
    """Write the answer down; a profile that cannot be written to only means that it is asked again."""
    path = _file()
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"engine": _identity(engine), "hello": hello}, file)
        os.replace(temporary, path)
    except OSError:
        return


def heard(hello: dict[str, Any]) -> None:
    """Forget what is remembered where the engine has become another version since."""
    kept = cached()
    if kept is not None and hello.get("version") != kept.get("version"):
        with suppress(OSError):
            os.remove(_file())
