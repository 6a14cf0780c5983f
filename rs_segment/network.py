"""What may a server do to a run? How long it may take, which of its failures may pass, and how they are forgotten."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress

import rasterio
from rasterio.errors import RasterioError

from .errors import SceneError

GDAL_HTTP_TIMEOUT = 300
"""Seconds that one request for pixels may take in all; silence ends it after 30, see ``scene.GDAL_OPTIONS``."""

FORGET_SECONDS = 3

_PASSING = (408, 425, 429)
_STATUS = re.compile(r"HTTP (?:response|error) code\D{0,3}(\d{3})")
_FINAL = re.compile(
    r"not supported by this server|access ?denied|credentials|_ACCESS_KEY|specified (?:key|bucket)", re.I
)
_WITHOUT_MEMORY = "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/:/vsiadls/"


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
        return int(status[1]) in _PASSING or int(status[1]) >= 500
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
