"""What may a result be called? Ids from anywhere become names that every file system takes and keeps apart."""

from __future__ import annotations

import hashlib
import unicodedata

MAX_BYTES = 100
"""Names are cut to this; file systems take 255, and endings, hidden work folders and temporary names need some."""

_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"}
)


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
    if len(kept.encode()) > MAX_BYTES:
        mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        kept = kept.encode()[: MAX_BYTES - 9].decode("utf-8", "ignore").rstrip(".-") + "-" + mark
    return kept


def _usable(char: str) -> bool:
    # Vowel signs of many scripts are marks, no letters.
    return char.isalnum() or char in "._-" or unicodedata.category(char) in ("Mn", "Mc")


def alike(name: str) -> str:
    """What two names have in common that some file system takes for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
