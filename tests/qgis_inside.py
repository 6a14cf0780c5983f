"""What does a person do in QGIS? This script does it, started by ``qgis --code``.

DESK_ORDERS names a JSON list of orders; each is carried out by the function that ``do`` names, and answered by one
line of JSON in the file that DESK_ANSWERS names. Functions are generators that yield what they wait for, so that the
GUI thread is as free as it is for a person.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import processing
from qgis.core import (
    QgsApplication,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsTask,
)
from qgis.PyQt.QtCore import Qt, QThreadPool, QTimer
from qgis.PyQt.QtWidgets import QApplication, QMessageBox, QPlainTextEdit, QTextBrowser, QTextEdit
from qgis.utils import iface

Wait = Iterator[Callable[[], Any]]
PATIENCE = 240


def queued() -> float:
    """Seconds for which this thread has been ready to go on, and the machine had no core for it."""
    with open("/proc/thread-self/schedstat", encoding="ascii") as source:
        return int(source.read().split()[1]) / 1e9


class Meter:
    """How long the GUI thread was deaf: gaps between the beats of a timer, less the time in which it had no core."""

    def __init__(self) -> None:
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.setInterval(5)
        self.timer.timeout.connect(self.beat)
        self.gaps: list[tuple[float, float, float]] = []

    def start(self) -> None:
        self.gaps.clear()
        self.began = self.last = time.perf_counter()
        self.waited = queued()
        self.timer.start()

    def beat(self) -> None:
        now, waited = time.perf_counter(), queued()
        gap = now - self.last
        self.gaps.append((gap - (waited - self.waited), gap, self.last - self.began))
        self.last, self.waited = now, waited

    def stop(self) -> list[dict[str, int]]:
        """The longest stalls, with the time that passed, and when that was, in milliseconds."""
        self.timer.stop()
        self.beat()
        worst = sorted(self.gaps, reverse=True)[:8]
        return [{"ms": round(1000 * s), "passed_ms": round(1000 * p), "at_ms": round(1000 * at)} for s, p, at in worst]


METER = Meter()


class Run:
    """An algorithm in a background task."""

    def __init__(self, algorithm: str, parameters: dict[str, Any]) -> None:
        self.algorithm = QgsApplication.processingRegistry().createAlgorithmById(algorithm)
        self.context = QgsProcessingContext()
        self.context.setProject(QgsProject.instance())
        self.feedback = QgsProcessingFeedback()
        self.began = time.perf_counter()
        self.working: float | None = None
        self.ended: float | None = None
        self.ok, self.results = False, {}
        self.feedback.progressChanged.connect(self.progress)
        self.task = QgsProcessingAlgRunnerTask(self.algorithm, parameters, self.context, self.feedback)
        self.task.executed.connect(self.executed)
        QgsApplication.taskManager().addTask(self.task)

    def progress(self, done: float) -> None:
        if done > 0 and self.working is None:
            self.working = time.perf_counter()

    def executed(self, ok: bool, results: dict[str, Any]) -> None:
        self.ok, self.results, self.ended = ok, results, time.perf_counter()

    def told(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "results": plain(self.results),
            "working": self.working,
            "ended": self.ended,
            "log": self.feedback.textLog(),
        }


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def layers() -> list[dict[str, Any]]:
    """What is on the canvas, and its legend."""
    found = []
    for layer in QgsProject.instance().mapLayers().values():
        renderer, legend = layer.renderer(), []
        if renderer.type() == "paletted":
            legend = [[int(c.value), c.label, c.color.name()] for c in renderer.classes()]
        elif renderer.type() == "categorizedSymbol":
            legend = [[int(c.value()), c.label(), c.symbol().color().name()] for c in renderer.categories()]
        found.append({"name": layer.name(), "source": layer.source(), "renderer": renderer.type(), "legend": legend})
    return found


def pause(seconds: float) -> Wait:
    until = time.perf_counter() + seconds
    yield lambda: time.perf_counter() > until


def picture(widget: Any, path: str | None) -> None:
    if path:
        widget.grab().save(path)


def log_of(dialog: Any) -> str:
    for kind in (QTextEdit, QTextBrowser, QPlainTextEdit):
        for widget in dialog.findChildren(kind):
            text: str = widget.toPlainText()
            if "Input parameters" in text:
                return text
    return ""


def offered(provider: str) -> list[str]:
    """The models that a dialog lists."""
    predict = QgsApplication.processingRegistry().createAlgorithmById(f"{provider}:predict")
    found: list[str] = predict.parameterDefinition("MODEL").metadata().get("widget_wrapper", {}).get("value_hints", [])
    return found


def algorithms(order: dict[str, Any]) -> Wait:
    """The provider's algorithms, and whether each can run, once it knows the models that the engine has."""
    registry = QgsApplication.processingRegistry()
    yield lambda: registry.providerById(order["provider"])
    yield lambda: "model" not in order or order["model"] in offered(order["provider"])
    provider = registry.providerById(order["provider"])
    answer(
        algorithms={a.name(): list(a.canExecute()) for a in provider.algorithms()},
        warning=provider.warningMessage(),
    )


def show(order: dict[str, Any]) -> Wait:
    """Rasters on the canvas."""
    for path in order["rasters"]:
        QgsProject.instance().addMapLayer(QgsRasterLayer(path, os.path.splitext(os.path.basename(path))[0]))
    yield from pause(0.3)
    iface.mapCanvas().zoomToFullExtent()
    answer()


def dialog(order: dict[str, Any]) -> Wait:
    """An algorithm's dialog, filled and run by its button; a message box is read and closed."""
    pictures, seen, ended = order.get("pictures", {}), [], []
    shown = processing.createAlgorithmDialog(order["algorithm"], order["parameters"])
    shown.show()
    yield from pause(0.3)
    picture(shown, pictures.get("filled"))
    shown.algorithmFinished.connect(lambda ok, results: ended.append((ok, results)))
    METER.start()
    QTimer.singleShot(0, shown.runButton().click)

    def over() -> bool:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            seen.append(box.text())
            picture(box, pictures.get("box"))
            box.close()
        return bool(ended or seen)

    yield lambda: over() or (shown.feedback is not None and shown.feedback.progress() >= order.get("look_at", 30))
    picture(shown, pictures.get("running"))
    yield over
    stalls = METER.stop()
    yield from pause(order.get("settle", 0.3))
    picture(shown, pictures.get("ended"))
    ok, results = ended[0] if ended else (False, {})
    answer(ok=ok, results=plain(results), log=log_of(shown), boxes=seen, stalls=stalls, layers=layers())
    shown.close()
    yield from pause(0.2)
    picture(iface.mainWindow(), pictures.get("canvas"))


def together(order: dict[str, Any]) -> Wait:
    """Algorithms at the same time, each in a task of its own."""
    METER.start()
    # On two cores the pool has two threads, and what QGIS does beside may hold one of them.
    pool = QThreadPool.globalInstance()
    pool.setMaxThreadCount(max(4, pool.maxThreadCount()))
    runs = [Run(order["algorithm"], parameters) for parameters in order["runs"]]
    yield lambda: any(run.ended for run in runs) or all(run.task.status() == QgsTask.TaskStatus.Running for run in runs)
    at_once = not any(run.ended for run in runs)
    yield lambda: all(run.ended for run in runs)
    answer(at_once=at_once, runs=[run.told() for run in runs], stalls=METER.stop())


def cancel(order: dict[str, Any]) -> Wait:
    """An algorithm, cancelled while it works."""
    run = Run(order["algorithm"], order["parameters"])
    yield lambda: run.working or run.ended
    yield from pause(order.get("after", 0.2))
    cancelled = time.perf_counter()
    # QGIS deletes a task that has ended.
    if not run.ended:
        run.task.cancel()
    yield lambda: run.ended
    answer(**run.told(), seconds=(run.ended or 0) - cancelled)


def wait(order: dict[str, Any]) -> Wait:
    """Nothing, until a file is there."""
    yield lambda: os.path.exists(order["file"])
    answer()


def work(order: dict[str, Any]) -> Wait:
    """An algorithm in the middle of its work; whoever reads the answer may do to QGIS what he wants."""
    run = Run(order["algorithm"], order["parameters"])
    yield lambda: run.working or run.ended
    answer(working=run.ended is None, log=run.feedback.textLog())
    yield lambda: False


VERBS = {f.__name__: f for f in (algorithms, show, dialog, together, cancel, wait, work)}


def answer(**told: Any) -> None:
    with open(os.environ["DESK_ANSWERS"], "a", encoding="utf-8") as target:
        target.write(json.dumps({"pid": os.getpid(), **told}) + "\n")


def day() -> Wait:
    """All orders, one after the other."""
    with open(os.environ["DESK_ORDERS"], encoding="utf-8") as source:
        orders = json.load(source)
    for order in orders:
        yield from VERBS[order["do"]](order)


class Driver:
    """Goes on with the day whenever what it waits for is there."""

    def __init__(self) -> None:
        self.day, self.waiting, self.since = day(), lambda: True, time.perf_counter()
        self.timer = QTimer()
        self.timer.timeout.connect(self.turn)
        self.timer.start(20)

    def turn(self) -> None:
        try:
            if self.waiting():
                self.waiting, self.since = next(self.day), time.perf_counter()
            elif time.perf_counter() - self.since > PATIENCE:
                raise TimeoutError(f"nothing came in {PATIENCE} s")
        except StopIteration:
            os._exit(0)
        except Exception:
            answer(failed=traceback.format_exc())
            os._exit(1)


DRIVER = Driver()
