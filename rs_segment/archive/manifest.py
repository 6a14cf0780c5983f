"""What has been done in this folder, by whatever runs there were? Lines of JSON that are only ever appended.

Each run writes a file of its own in ``manifest/``, whose name it takes for itself by creating it: no two processes
write to one file, on any file system, with or without locks. A line says all that is known of a scene at that moment,
and is on the disk before anybody goes on; a line that a crash tore is no JSON, and is passed over. Reading puts the
files together: what counts for a scene is the line that was written last.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ..workfolder import disk_errors, sync_folder

FOLDER = "manifest"
Status = Literal["begun", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Output:
    """A file that was made.

    Args:
        path: Its name in the folder of results.
        bytes: Its size.
        modified: Time of its last change, in ns since 1970, as the file system tells it.
        sha256: Its checksum.
    """

    path: str
    bytes: int
    modified: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Output:
        """What a file is now."""
        stat = path.stat()
        return cls(path.name, stat.st_size, stat.st_mtime_ns, checksum(path))

    def holds(self, folder: Path, full: bool = False) -> bool:
        """Whether the file is still what was made.

        Size and time of the last change are enough, unless the time differs, as it does in a copy, or ``full`` is
        asked for: then its checksum is taken.
        """
        path = folder / self.path
        try:
            stat = path.stat()
            if stat.st_size != self.bytes:
                return False
            return (not full and stat.st_mtime_ns == self.modified) or checksum(path) == self.sha256
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one scene of a batch.

    Args:
        id: Name of the scene in the batch; its results are ``ID_classes.tif`` and so on.
        status: "begun": it was handed to a worker, and what lies under its names is ours; "done"; "failed".
        source: Where it was, without what may be a password.
        item: Address of the STAC Item that named it, or None.
        model: Name of the model.
        key: What decided the result, as checksums: "model", "options", and what is known of the "input" without
            reading it (size and time of each file; ETag, Last-Modified, size of an address).
        time: When this was written, UTC, ISO 8601.
        seconds: How long it took, all attempts together.
        attempts: How many there were.
        outputs: The files that were made.
        result: ``Segmentation.to_dict``, with file names instead of paths.
        error: Class of what went wrong, or "".
        message: What went wrong, in a sentence.
        exit_code: What ``predict`` would have ended with.
    """

    id: str
    status: Status
    source: str = ""
    item: str | None = None
    model: str = ""
    key: Mapping[str, Any] = field(default_factory=dict)
    time: str = ""
    seconds: float = 0.0
    attempts: int = 0
    outputs: tuple[Output, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    message: str = ""
    exit_code: int = 0

    def holds(self, folder: Path, full: bool = False) -> bool:
        """Whether the scene is done, and all files that were made are still what they were."""
        return self.status == "done" and all(output.holds(folder, full) for output in self.outputs)

    @property
    def pixels(self) -> int:
        """Pixels of the scene, 0 where nothing is known."""
        height, width = self.result.get("shape", (0, 0))
        return int(height) * int(width)

    def to_json(self) -> str:
        """The record as a line, without what is empty."""
        return json.dumps({k: v for k, v in asdict(self).items() if v or k in ("id", "status")}, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> Record | None:
        """The record in a line, or None where there is none: the line was torn, or somebody edited it."""
        try:
            told = json.loads(line)
            known = {f.name: told[f.name] for f in fields(cls) if f.name in told}
            outputs = tuple(Output(**o) for o in known.pop("outputs", ()))
            record = cls(**known, outputs=outputs)
            texts = isinstance(record.id, str) and isinstance(record.time, str)
            sound = texts and record.status in ("begun", "done", "failed") and record.pixels >= 0
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        return record if sound else None


class Manifest:
    """The records of a folder: those that are there, and those that this run adds.

    Args:
        folder: Of the results; it must exist.

    Raises:
        OutputError: What is there cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._records: dict[str, Record] = {}
        self._read: dict[str, int] = {}
        self._file: int | None = None
        self._torn = False
        self.name = ""
        self.refresh()

    @property
    def records(self) -> Mapping[str, Record]:
        """The last record of each scene, by its id."""
        return self._records

    def refresh(self) -> None:
        """Take in what other runs have written since.

        Raises:
            OutputError: It cannot be read.
        """
        with disk_errors(self.folder):
            for path in sorted(self.folder.glob("*.jsonl")):
                if path.name != self.name:
                    for line in self._new_lines(path):
                        record = Record.from_json(line)
                        if record is not None:
                            self._take(record)

    def add(self, *records: Record) -> None:
        """Write records down; when this returns they are on the disk.

        Raises:
            DiskFullError, OutputError: They cannot be written.
        """
        if not records:
            return
        lines = "".join(record.to_json() + "\n" for record in records).encode()
        with disk_errors(self.folder):
            file = self.open()
            # What a full disk cut off must not run into what is written when there is room again.
            lines = b"\n" + lines if self._torn else lines
            self._torn = True
            while lines:
                lines = lines[os.write(file, lines) :]
            os.fsync(file)
            self._torn = False
        for record in records:
            self._take(record)

    def open(self) -> int:
        """The file of this run, which is made if it is not there yet."""
        if self._file is None:
            with disk_errors(self.folder):
                self.folder.mkdir(exist_ok=True)
                taken = [int(p.stem) for p in self.folder.glob("*.jsonl") if p.stem.isdecimal()]
                number = max(taken, default=0)
                while self._file is None:
                    number += 1
                    self.name = f"{number:04}.jsonl"
                    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                    try:
                        self._file = os.open(self.folder / self.name, flags, 0o644)
                    except FileExistsError:
                        continue
                sync_folder(self.folder)
        return self._file

    def close(self) -> None:
        """Close the file of this run."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_lines(self, path: Path) -> Iterator[bytes]:
        """The whole lines of a file that were not read yet."""
        start = self._read.get(path.name, 0)
        if path.stat().st_size <= start:
            return
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._read[path.name] = start + whole
        yield from data[:whole].splitlines()

    def _take(self, record: Record) -> None:
        before = self._records.get(record.id)
        if before is None or before.time <= record.time:
            self._records[record.id] = record


def checksum(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """The time, UTC, ISO 8601 with milliseconds, so that texts sort as times do."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
