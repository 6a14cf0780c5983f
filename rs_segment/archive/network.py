"""What may a server do to a run? How long it may take, which of its failures may pass, and how they are forgotten.

Pixels are read by GDAL, under the limits that are set here. JSON documents are read by Python, without a flood and
without a hang: http and https only, also behind redirects. A server may be silent for ``SILENCE`` seconds and take
``PATIENCE`` seconds for a document, names and handshakes included. What may pass by itself (429, 5xx, a connection that
is cut) is tried again after each of ``PAUSES``, or later where the server asks for it.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request as web
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import rasterio
from rasterio.errors import RasterioError

from ..errors import SceneError
from ..result import without_secrets

SILENCE = 20.0
PATIENCE = 120.0
PAUSES = (1.0, 3.0, 9.0)
MAX_PAUSE = 60.0
MAX_BYTES = 128 * 2**20
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of HTTP after which the same request may succeed."""

GDAL_HTTP_TIMEOUT = 300
"""Seconds that one request for pixels may take in all; silence ends it after 30, see ``scene.GDAL_OPTIONS``."""

FORGET_SECONDS = 3

_STATUS = re.compile(r"HTTP (?:response|error) code\D{0,3}(\d{3})")
_FINAL = re.compile(
    r"not supported by this server|access ?denied|credentials|_ACCESS_KEY|specified (?:key|bucket)", re.I
)
_WITHOUT_MEMORY = "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/:/vsiadls/"

T = TypeVar("T")


def limit() -> None:
    """Sets a limit to every request that GDAL makes in this process, where the user has not set one."""
    os.environ.setdefault("GDAL_HTTP_TIMEOUT", str(GDAL_HTTP_TIMEOUT))


def remote(name: str) -> bool:
    """Whether a path leads over the network."""
    return "://" in name or name.startswith("/vsi")


def may_pass(error: BaseException, files: Iterable[str]) -> bool:
    """Whether an error may be gone in a while: a server that is busy, away, or breaks off.

    A read that fails half way is told by GDAL as damaged data, without a word about the network; so, of an address, all
    but a clear refusal is tried again.
    """
    if not isinstance(error, SceneError) or not any(map(remote, files)):
        return False
    status = _STATUS.search(str(error))
    if status is not None:
        return int(status[1]) in PASSING
    return _FINAL.search(str(error)) is None


def forget(files: Iterable[str]) -> None:
    """Makes GDAL forget what it knows of addresses.

    It remembers a failure for as long as the process lives, and tells it again without another request. A file that is
    opened where nothing is to be remembered takes all that is known of it along when it is closed.
    """
    options = {"CPL_VSIL_CURL_NON_CACHED": _WITHOUT_MEMORY, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    limits = {"GDAL_HTTP_MAX_RETRY": 0, "GDAL_HTTP_TIMEOUT": FORGET_SECONDS}
    with rasterio.Env(**options, **limits):
        for file in filter(remote, files):
            with suppress(RasterioError, OSError):
                rasterio.open(file).close()


class _PassingError(Exception):
    """It did not work, and may work a little later: not before ``wait`` seconds."""

    def __init__(self, said: str, wait: float = 0.0) -> None:
        super().__init__(said)
        self.wait = wait


def read_json(where: str) -> Any:
    """The JSON document at a path or an http(s) address.

    Raises:
        SceneError: It is not there, too large, no JSON, or the server does not answer in time.
    """
    data = _download(where) if "://" in where else _read(where)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        start = data[:30].decode("ascii", "replace").split("\n")[0]
        raise SceneError(f"{without_secrets(where)} is no JSON (it starts with {start!r}): {error!s:.120}") from None


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SceneError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise SceneError(f"{path!r:.300} cannot be read: {error}") from None
    _refuse_flood(path, len(data))
    return data


def _download(address: str) -> bytes:
    said: _PassingError
    for tries, pause in enumerate((*PAUSES, 0.0), start=1):
        try:
            return _within(PATIENCE, lambda: _get(address))
        except _PassingError as error:
            said = error
            if tries <= len(PAUSES):
                time.sleep(max(pause, min(error.wait, MAX_PAUSE)))
    raise SceneError(f"{without_secrets(address)} cannot be read: {said}; it was tried {len(PAUSES) + 1} times")


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What a call returns or raises, unless it takes too long; then it is left to itself.

    The time limits of sockets are for single calls: they end neither the search for a name, nor a server that drips.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise _PassingError(f"it was not here after {seconds:g} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def _get(address: str) -> bytes:
    shown = without_secrets(address)
    safe = urllib.parse.quote(address, safe="%:/?#[]@!$&'()*+,;=~")
    headers = {"User-Agent": "rs-segment", "Accept": "application/geo+json, application/json"}
    try:
        with _opener().open(web.Request(safe, headers=headers), timeout=SILENCE) as answer:
            return _body(answer, shown)
    except SceneError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in PASSING:
            raise _PassingError(f"the server says {error.code} {error.reason}", _retry_after(error)) from None
        raise SceneError(f"{shown} cannot be read: the server says {error.code} {error.reason}") from None
    except (http.client.InvalidURL, UnicodeError, ValueError) as error:
        raise SceneError(f"{shown} is no address: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError) or str(reason).startswith("unknown url type"):
            raise SceneError(f"{shown} cannot be read: {reason}") from None
        raise _PassingError(str(reason) or type(error).__name__) from None


def _body(answer: Any, shown: str) -> bytes:
    """All that is sent, in whatever pieces; a server that drips is not asked for more than there is."""
    told = answer.headers.get("Content-Length", "")
    data = bytearray()
    while piece := answer.read1(1 << 20):
        data += piece
        _refuse_flood(shown, len(data))
    if told.isdecimal() and len(data) < int(told):
        raise _PassingError(f"the connection was cut after {len(data)} of {told} bytes")
    return bytes(data)


def _refuse_flood(shown: str, size: int) -> None:
    if size > MAX_BYTES:
        raise SceneError(f"{shown} is larger than {MAX_BYTES >> 20} MiB, too large for a catalogue; split it")


def _retry_after(error: urllib.error.HTTPError) -> float:
    told = error.headers.get("Retry-After", "") if error.headers else ""
    return float(told) if told.isdecimal() and len(told) < 9 else 0.0


@cache
def _opener() -> web.OpenerDirector:
    """What opens http(s) addresses, and no others: urllib's own follows redirects to ftp, and opens files."""
    opener = web.OpenerDirector()
    for handler in (
        web.ProxyHandler(),
        web.UnknownHandler(),
        web.HTTPHandler(),
        web.HTTPSHandler(),
        web.HTTPDefaultErrorHandler(),
        web.HTTPRedirectHandler(),
        web.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
