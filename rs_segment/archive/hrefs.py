"""What may a catalogue say? Nothing of it is trusted but that an image may lie in some place, and is called something.

Files, if the catalogue lies on this machine itself; http, https, s3, gs and az addresses. Images, by their endings:
formats that cannot reach for other files. Not what GDAL takes for a driver or for one of its virtual file systems, and
no shares of Windows, which would be told who asks. Ids become names that every file system takes and keeps apart.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
import urllib.parse
import urllib.request
from pathlib import PurePosixPath

from ..result import without_secrets

IMAGES = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".bmp", ".gif", ".webp")
DOCUMENTS = (".json", ".geojson")
SCHEMES = {"http": "/vsicurl/http://", "https": "/vsicurl/https://", "s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
"""What addresses begin with, and what GDAL calls them."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*):")
_MAX_LENGTH = 4096
MAX_NAME_BYTES = 100
"""Names are cut to this; file systems take 255, and endings, hidden work folders and temporary names need some."""

_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"}
)


class UnfitError(Exception):
    """What a catalogue says cannot be used; the message is a sentence."""


def locate(href: object, home: str, endings: tuple[str, ...] = IMAGES) -> str:
    """Where a row of a catalogue points: an address, or an absolute path.

    Args:
        href: What the row says.
        home: Path or address of the catalogue; what is relative lies beside it.
        endings: What names may end in, in lower case; those without any ending may too.

    Raises:
        UnfitError: It must not be used.
    """
    if not isinstance(href, str) or not href.strip() or len(href) > _MAX_LENGTH or not href.isprintable():
        raise UnfitError(f"{href!r:.80} is no path or address")
    href = href.strip()
    place = _address(href, home) or _path(href, home)
    if ending(place) not in ("", *endings):
        raise UnfitError(f"{without_secrets(href):.300} is not used: a catalogue may name {', '.join(endings)} only")
    return place


def is_address(place: str) -> bool:
    """Whether a place is an address, and no path."""
    return "://" in place and place.split("://", 1)[0].lower() in SCHEMES


def gdal_name(place: str) -> str:
    """What GDAL calls a path or an address."""
    if not is_address(place):
        return place
    scheme, rest = place.split("://", 1)
    return SCHEMES[scheme.lower()] + rest


def beside(name: str) -> str:
    """What a link to a file of the same folder says."""
    return "./" + urllib.parse.quote(name)


def ending(place: str) -> str:
    """The ending of a path or an address, in lower case, with its dot; "" where there is none."""
    return PurePosixPath(_last(place)).suffix.lower()


def stem(place: str) -> str:
    """The last part of a path or an address without its ending."""
    return PurePosixPath(_last(place)).stem


def safe_name(text: str) -> str:
    """A text as a name: letters and digits of any script, dots, dashes and underscores.

    What else is in it becomes a dash, none at either end. A long text is cut, and ends in a checksum of the whole. The
    name is neither a hidden file, nor a device of Windows, nor the way up to another folder.
    """
    kept = "".join(c if _usable(c) else "-" for c in unicodedata.normalize("NFC", text))
    while ".." in kept or "--" in kept:
        kept = kept.replace("..", ".").replace("--", "-")
    kept = kept.strip(".-") or "scene"
    first, dot, rest = kept.partition(".")
    if first.lower() in _RESERVED:
        kept = f"{first}_{dot}{rest}"
    if len(kept.encode()) > MAX_NAME_BYTES:
        mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        kept = kept.encode()[: MAX_NAME_BYTES - 9].decode("utf-8", "ignore").rstrip(".-") + "-" + mark
    return kept


def alike(name: str) -> str:
    """What two names have in common that some file system takes for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _last(place: str) -> str:
    path = re.split("[?#]", place)[0] if "://" in place else place
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def _address(href: str, home: str) -> str | None:
    """The address that is meant, or None where it is a path."""
    scheme = _SCHEME.match(href)
    told = scheme[1].lower() if scheme else ""
    if told in SCHEMES and href[len(told) :].startswith("://") and len(href) > len(told) + 3:
        return href
    if is_address(home):
        if scheme is None and "\\" not in href:
            return urllib.parse.urljoin(home, href)
    elif scheme is None or told == "file" or (len(told) == 1 and sys.platform == "win32"):
        return None
    names = ", ".join(SCHEMES)
    raise UnfitError(f"{href:.300} is not used: {_home(home)} may name files beside it and {names} addresses only")


def _path(href: str, home: str) -> str:
    if href.lower().startswith("file:"):
        parts = urllib.parse.urlsplit(href)
        if parts.netloc not in ("", "localhost"):
            raise UnfitError(f"{href:.300} is not used: it names another machine")
        href = urllib.request.url2pathname(parts.path)
    if href.startswith(("//", "\\\\")):
        raise UnfitError(f"{href:.300} is not used: it names another machine")
    path = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(home)), href))
    if path.replace("\\", "/").lower().startswith("/vsi"):
        raise UnfitError(f"{href:.300} is not used: it names one of GDAL's virtual file systems")
    return path


def _home(home: str) -> str:
    return "a catalogue from the web" if is_address(home) else "a catalogue"


def _usable(char: str) -> bool:
    # Vowel signs of many scripts are marks, no letters.
    return char.isalnum() or char in "._-" or unicodedata.category(char) in ("Mn", "Mc")
