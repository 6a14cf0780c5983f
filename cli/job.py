"""What is done in the process of a job? The command, as at a terminal; what it says goes to the host program."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from . import main
from .command import Told, command_line, told
from .host import Host, Lines
from .worker import CANCELED, GRACE_SECONDS, moved, sweep

ROLES = ("classes", "confidence", "probabilities", "polygons", "table")
"""Members of a document that are the path of a file, which the host may want to show."""
ENDINGS = {".csv": "table", ".json": "table", ".html": "report", ".tif": "classes"}
"""What a file among several is, by its ending; others are polygons."""


def run() -> None:
    """Do the job that stands on stdin, tell of it on stdout, stop when stdin ends; ends the process."""
    orders, host = moved(0, "rb"), Host(moved(1, "wb"))
    job: list[str] = json.loads(orders.readline())
    sys.argv = ["rs-segment", *job]
    sys.stderr = Lines(host)
    threading.Thread(target=heed, args=(orders, host), daemon=True).start()
    try:
        event, facts, code = done(job, host)
        # From here on the end is told as it is.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        event, facts, code = "canceled", {}, CANCELED
    if event != "result":
        # The one who oversees it does this too, unless it was killed.
        sweep(os.environ["RS_SEGMENT_LEDGER"], job)
    if event == "result":
        for role, path in artifacts(job[0], host.document):
            host.say("artifact", role=role, path=os.path.abspath(path))
    host.say(event, **facts)
    # Threads of libraries may not hold up a process whose work is over.
    os._exit(code)


def done(job: list[str], host: Host) -> tuple[str, dict[str, Any], int]:
    """Do a job; returns the event that it ends with, and the exit code."""
    host.say("plan", command=command_line())
    try:
        code = main.main(args=job, prog_name="rs-segment", standalone_mode=False, obj=host) or 0
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if host.stop.is_set():
            return "canceled", {}, CANCELED
        facts = sentence(error, job)
        more = {} if host.document is None else {"result": host.document}
        return "error", facts | more, facts["code"]
    return "result", {"result": host.document}, code


def sentence(error: BaseException, job: list[str]) -> dict[str, Any]:
    """What went wrong, as an event tells it."""
    kind = type(error).__name__
    said = error if isinstance(error, click.ClickException) else told(error)
    if isinstance(error, Told):
        kind = "RsSegmentError" if error.__context__ is None else type(error.__context__).__name__
    elif said is not error:
        traceback.print_exception(error)
    message = said.format_message()
    hint = message.rpartition("; ")[2] if "; " in message else ""
    if isinstance(error, click.UsageError):
        hint = f"rs-segment {job[0]} --help lists what there is"
    return {"code": said.exit_code, "kind": kind, "message": message, "hint": hint}


def heed(orders: IO[bytes], host: Host) -> None:
    """Stop the job when its orders end: politely at first, and without asking if the one who oversees it is dead."""
    orders.read()
    host.stop.set()
    if sys.platform == "win32":
        import _thread

        _thread.interrupt_main()
    else:
        # A signal, unlike an interrupt from within, also ends a wait for a lock.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    time.sleep(2 * GRACE_SECONDS)
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(CANCELED)


def artifacts(command: str, document: Any) -> Iterator[tuple[str, str]]:
    """(role, path) of each file that a document tells of."""
    if not isinstance(document, dict):
        return
    for role in ROLES:
        if isinstance(document.get(role), str):
            yield role, document[role]
    if command in ("polygonize", "evaluate"):
        for path in document.get("files", ()):
            yield ENDINGS.get(Path(path).suffix.lower(), "polygons"), path
    if command == "train":
        yield "model", document["model"]
        yield "report", str(Path(document["model"]) / "report.html")
    if command == "batch" and (Path(document["folder"]) / "summary.csv").is_file():
        yield "summary", str(Path(document["folder"]) / "summary.csv")


def handshake() -> dict[str, Any]:
    """What a host program wants to know of this installation before it offers anything."""
    from .doctor import examine

    problems = examine(devices=False)["problems"]
    try:
        from rs_segment import registry

        devices = registry.device_names()
    except (ImportError, OSError):
        # The problems tell of it.
        return {"devices": [], "models": [], "problems": problems}
    return {
        "devices": [{"id": name, "name": title} for name, title in devices.items()],
        "models": [
            {
                "name": m.card.name,
                "path": str(m.path),
                "title": m.card.description or m.card.name,
                "bands": list(m.card.bands),
                "classes": [{"value": c.value, "name": c.name, "color": c.color} for c in m.card.classes],
                "pixel_m": None if m.card.resolution_expected is None else list(m.card.resolution_expected),
            }
            for m in registry.models()
        ],
        "problems": problems,
    }
