"""Where do errors become sentences and exit codes? Here, once for all commands."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click


class Told(click.ClickException):
    """An error that has been put into a sentence, with the exit code that tells the truth."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code


class Terminated(SystemExit):
    """SIGTERM arrived."""


def not_empty(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The value of a parameter, or a sentence where it is empty."""
    if not value:
        raise click.BadParameter("it is empty; name a file or an address", ctx, param)
    return value


def answer(facts: Any, text: str, as_json: bool, err: bool = True) -> None:
    """Tell what came of a command: the text to people, or the facts as JSON on stdout; a host program hears both.

    Args:
        facts: Plain data.
        text: The same for people.
        as_json: Whether a person wants the facts.
        err: Whether the text goes to stderr.
    """
    from .host import hosted

    host = hosted()
    if host is not None:
        host.document = facts
        click.echo(text, err=True)
    elif as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo(text, err=err)


def command_line() -> str:
    """What was typed, without what may be a password."""
    from rs_segment.result import without_secrets

    return shlex.join(["rs-segment", *map(without_secrets, sys.argv[1:])])


class Command(click.Command):
    """A command that ends in a sentence and an exit code, and in a traceback only with ``--debug``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; translate what goes wrong."""
        debug = ctx.params.pop("debug", False) or bool(os.environ.get("RS_SEGMENT_DEBUG"))
        with _sigterm_raises():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except BaseException as error:
                if isinstance(error, OSError) and error.errno == errno.EPIPE:
                    # Whoever reads the output has heard enough; click ends the process quietly.
                    raise
                if debug and not isinstance(error, (KeyboardInterrupt, Terminated)):
                    raise
                raise told(error) from None


def told(error: BaseException) -> Told:
    """An error as a sentence with an exit code."""
    from rs_segment.errors import CancelledError, RsSegmentError

    if isinstance(error, (KeyboardInterrupt, CancelledError, Terminated)):
        kept = "; what is finished is kept: the same command with --resume goes on from there"
        stopped = "stopped" + (kept if getattr(error, "kept", False) else "")
        return Told(stopped, 143 if isinstance(error, Terminated) else 130)
    if isinstance(error, RsSegmentError):
        return Told(str(error), error.exit_code)
    if isinstance(error, MemoryError):
        return Told("out of memory; try a smaller --tile, or --batch 1", 5)
    kind = type(error).__name__
    return Told(f"unexpected {kind}: {error}\nThe same command with --debug shows where; please report it.", 1)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """While a command runs, SIGTERM unwinds it like Ctrl-C does, so that it tidies up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
