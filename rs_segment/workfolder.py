"""Who writes here, and when does a result get its name?

Results are made in a hidden folder beside their target, which one process at a time may use and a later one may resume.
They get their names when they are finished: by renaming, which the operating system does as a whole or not at all.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import DiskFullError, OptionError, OutputError, OutputExistsError

IMAGES = {".tif", ".tiff", ".jpg", ".jpeg", ".jp2", ".png", ".img", ".vrt", ".asc", ".bil"}
LEDGER = "RS_SEGMENT_LEDGER"
"""Names a file in which all processes of a job note what they make under hidden names, for whoever tidies up."""
_PLAN, _LOCK, _PUBLISHING = "plan.json", "lock", "publishing"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns what the operating system says while something is written to a folder into this package's errors.

    Raises:
        DiskFullError: The disk, a quota or a limit on the size of files leaves no room.
        OutputError: Anything else.
    """
    try:
        yield
    except (OutputError, OutputExistsError):
        raise
    except OSError as error:
        said = error.strerror or str(error)
        if error.errno in _FULL:
            raise DiskFullError(
                f"{folder} takes no more data ({said}); make room there, then run again and resume"
            ) from error
        raise OutputError(f"{error.filename or folder} cannot be written: {said}") from error


def partial_of(target: Path) -> Path:
    """Where a target is worked on."""
    return target.parent / f".{target.name}.partial"


class WorkFolder:
    """A hidden folder beside a target, ``.NAME.partial``, that one process at a time works in.

    Made by ``open``. Whatever lies in ``path`` is kept or removed as a whole. What is pushed on ``resources`` is closed
    with the folder; open files could not be removed on Windows.
    """

    def __init__(self, path: Path, lock: int, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self.resources = ExitStack()
        self._lock: int | None = lock

    @property
    def publishing(self) -> bool:
        """Whether an earlier process had begun to give results their names: then what lies there is its own."""
        return (self.path / _PUBLISHING).exists()

    def begin_publishing(self) -> None:
        """Note that results get their names from here on."""
        with disk_errors(self.path):
            write_whole(self.path / _PUBLISHING, "")

    @classmethod
    def open(cls, target: Path, plan: Mapping[str, Any], resume: bool = False) -> WorkFolder:
        """The work folder of a target, locked until ``close`` or the end of the process.

        Args:
            target: Path of the (main) result.
            plan: Everything that decides what the result will be, as JSON can say it.
            resume: Keep what an earlier process with an equal plan left behind; otherwise it is removed.

        Raises:
            OutputExistsError: Another process works on this target.
            OptionError: What is there to resume was made with another plan.
            OutputError: The folder cannot be made.
        """
        target = Path(target)
        path = partial_of(target)
        if not target.parent.is_dir():
            raise OutputError(f"{target.parent} is no folder; make it, or choose another place for {target.name}")
        note(path)
        with disk_errors(target.parent):
            lock = _lock_folder(path, target)
        try:
            with disk_errors(path):
                resumed = resume and _same_plan(path, plan)
                if not resumed:
                    _empty(path)
                    write_whole(path / _PLAN, json.dumps(plan, indent=1, sort_keys=True))
                    sync_folder(path.parent)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock, resumed)

    def close(self, keep: bool) -> None:
        """Unlock the folder, and remove it unless it is kept for a later resume. A second call does nothing."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        try:
            self.resources.close()
            if not keep:
                with disk_errors(self.path):
                    _empty(self.path)
                    if sys.platform != "win32":
                        (self.path / _LOCK).unlink()
        finally:
            os.close(lock)
        if not keep:
            # Another process may have come in since; then the folder is its own.
            with suppress(OSError):
                if sys.platform == "win32":
                    (self.path / _LOCK).unlink()
                self.path.rmdir()


def _lock_folder(path: Path, target: Path) -> int:
    """A descriptor that holds the lock of a work folder, which is made if need be."""
    while True:
        if path.is_symlink():
            raise OutputError(f"{path} is a symbolic link; a work folder must not lead elsewhere: remove it")
        # Not exist_ok, which raises when another process removes it at that moment.
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except FileNotFoundError:
            continue
        try:
            _lock_file(lock)
            # Whoever held the lock before may have removed the file, and a third process made it anew.
            if _is_at(lock, path / _LOCK):
                return lock
        except OSError as error:
            os.close(lock)
            if error.errno in _BUSY:
                raise OutputExistsError(
                    f"another process is writing {target} (it holds {path}); wait for it, or choose another name"
                ) from None
            raise
        os.close(lock)


def _lock_file(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems know no locks. A run alone is as safe there as elsewhere.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _same_plan(path: Path, plan: Mapping[str, Any]) -> bool:
    """Whether a work folder was begun with this plan; False if with none."""
    try:
        old = json.loads((path / _PLAN).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    if not isinstance(old, dict):
        return False
    new = json.loads(json.dumps(plan))
    if old == new:
        return True
    differing = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    listed = "; ".join(f"{k} was {old.get(k)!r:.80}, now {new.get(k)!r:.80}" for k in differing[:5])
    more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
    raise OptionError(
        f"{path} was begun with other options: {listed}{more}; run with the old ones, or without resume to start afresh"
    )


def _empty(path: Path) -> None:
    """Removes all that a work folder holds but its lock; the plan first, so that a rest is never resumed."""
    (path / _PLAN).unlink(missing_ok=True)
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != _LOCK:
            os.unlink(entry.path)


def sync(file: IO[bytes]) -> None:
    """Make what was written to a file durable."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the operating system has a way to."""
    if sys.platform == "win32":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        # One may write to a folder that one may not list.
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do it for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def note(path: Path) -> None:
    """Write down what is made under a hidden name, where ``LEDGER`` says so."""
    if ledger := os.environ.get(LEDGER):
        # Tidiness is no reason to fail.
        with suppress(OSError), open(ledger, "a", encoding="utf-8") as file:
            file.write(json.dumps(os.path.abspath(path)) + "\n")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a small file so that it is there as a whole or as it was before."""
    temp = path.with_name(f".{path.name}.tmp")
    note(temp)
    with open(temp, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        sync(file)
    os.replace(temp, path)


def refuse_existing(finals: Iterable[Path], overwrite: bool) -> None:
    """Raises if results cannot get their final names; to be asked before the work begins.

    Raises:
        OutputExistsError: A result is already there and must not be overwritten.
        OutputError: A folder is missing or cannot be written to, or a folder has the name of a result.
    """
    for final in map(Path, finals):
        if final.is_dir():
            raise OutputError(f"{final} is a folder; choose another name for the result")
        style = final.with_suffix(".qml")
        for path in (final, style) if final.suffix.lower() in (".tif", ".tiff") else (final,):
            if not overwrite and os.path.lexists(path):
                raise OutputExistsError(f"{path} is already there; replace it with --overwrite, or choose another name")
        if not final.parent.is_dir():
            raise OutputError(f"{final.parent} is no folder; make it, or choose another place for {final.name}")
        if not os.access(final.parent, os.W_OK | os.X_OK):
            raise OutputError(f"{final.parent} cannot be written to; choose another place for {final.name}")


def refuse_inputs(target: Path, inputs: Iterable[object]) -> None:
    """Raises ``OptionError`` if a result would replace something that is read."""
    for path in (Path(i.removeprefix("file://")) if isinstance(i, str) else i for i in inputs):
        if isinstance(path, Path) and target.exists() and path.exists() and target.samefile(path):
            raise OptionError(f"the output {target} is one of the inputs; choose another name with -o")


def sidecars(final: Path) -> tuple[Path, ...]:
    """The files that programs read along with a result, whether they are there or not.

    World files and styles go by the name without its ending: where another image has the same one, or where there was
    no such result before, they are not the result's.
    """
    if final.suffix.lower() in (".tif", ".tiff"):
        beside = [f"{final.name}.{end}" for end in ("aux.xml", "ovr", "msk")]
        others = {p.suffix.lower() for p in final.parent.glob(f"{glob.escape(final.stem)}.*") if p != final}
        if final.exists() and not others & IMAGES:
            beside += [final.with_suffix(end).name for end in (".qml", ".tfw")]
    else:
        beside = [f"{final.name}{end}" for end in ("-wal", "-shm", "-journal")]
    return tuple(final.with_name(name) for name in beside)


def publish(files: Sequence[tuple[Path, Path]], overwrite: bool) -> None:
    """Give finished files their final names; one that lies on another disk is copied over first, under a hidden name.

    The sidecars of results that are replaced go first: whenever the process dies, no file has a sidecar that belongs
    to another.

    Args:
        files: (finished file, final path) of each.
        overwrite: Whether final paths may be taken already.

    Raises:
        OutputExistsError: One is, and must not be.
        DiskFullError, OutputError: A name cannot be given.
    """
    refuse_existing([final for _, final in files], overwrite)
    with _near(files) as near:
        _rename(near)


@contextmanager
def _near(files: Sequence[tuple[Path, Path]]) -> Iterator[list[tuple[Path, Path]]]:
    """The same pairs, durable, with copies in place of what cannot be renamed; copies that are left over go."""
    near: list[tuple[Path, Path]] = []
    try:
        for made, final in files:
            with disk_errors(final.parent):
                if made.stat().st_dev != final.parent.stat().st_dev:
                    near.append((final.with_name(f".{final.name}.tmp"), final))
                    note(near[-1][0])
                    shutil.copyfile(made, near[-1][0])
                else:
                    near.append((made, final))
                with open(near[-1][0], "r+b") as file:
                    os.fsync(file.fileno())
        yield near
    finally:
        for (made, _), (copy, _) in zip(files, near, strict=False):
            if copy != made:
                copy.unlink(missing_ok=True)


def _rename(files: Sequence[tuple[Path, Path]]) -> None:
    for _, final in files:
        with disk_errors(final.parent):
            for sidecar in sidecars(final):
                sidecar.unlink(missing_ok=True)
            sync_folder(final.parent)
    for made, final in files:
        with disk_errors(final.parent):
            os.replace(made, final)
            sync_folder(final.parent)
