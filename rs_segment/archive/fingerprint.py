"""Is it still the same? What is known of a file or an address without reading it, and of a recipe as a checksum."""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rasterio

from ..card import ModelCard
from ..result import without_secrets
from ..types import Compute, Outputs, Plan, View
from .network import remote

SECONDS = 10.0
"""How long a server may take to say what it has."""

Facts = list[dict[str, Any]]


def of_files(files: Iterable[str]) -> Facts:
    """What is known of each file or address: its name, and size and time of the last change, or what the server tells.

    Of a file only the last part of its path counts, so that an archive may move. Of a VRT, its sources are looked at
    too. Where nothing can be known, as of s3 addresses, there is only the name.
    """
    found = []
    for name in files:
        if remote(name):
            found.append({"name": without_secrets(name), **_of_address(name)})
            continue
        inside = _parts(name) if name.lower().endswith(".vrt") else []
        found += [{"name": Path(part).name, **_of_file(Path(part))} for part in (name, *inside)]
    return found


def differ(old: Any, new: Facts) -> bool:
    """Whether what is known of files now contradicts what was known then.

    What is known on one side only proves nothing: a server that is away does not make a map wrong.
    """
    if not isinstance(old, list) or len(old) != len(new):
        return True
    pairs = zip(old, new, strict=True)
    return any(not isinstance(a, Mapping) or any(a[k] != b[k] for k in a.keys() & b.keys()) for a, b in pairs)


def of_card(card: ModelCard) -> str:
    """Checksum of a model: all that its card says, the checksum of its weights with it."""
    return _digest(card.to_item())


def of_options(view: View, plan: Plan, compute: Compute, outputs: Outputs) -> str:
    """Checksum of the options that decide what a result is.

    Not those that only decide where and how fast it is computed, and not what is done about earlier results.
    """
    seen = asdict(view)
    if isinstance(view.aoi, (str, Path)) and Path(view.aoi).is_file():
        seen["aoi"] = hashlib.sha256(Path(view.aoi).read_bytes()).hexdigest()
    written = {name: value for name, value in asdict(outputs).items() if name not in ("overwrite", "resume")}
    return _digest({"view": seen, "plan": asdict(plan), "precision": compute.precision, "outputs": written})


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _of_file(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name, file in (("", path), ("mask_", path.with_name(path.name + ".msk"))):
        with suppress(OSError, ValueError):
            stat = file.stat()
            facts |= {f"{name}bytes": stat.st_size, f"{name}modified": stat.st_mtime_ns}
    return facts


def _parts(vrt: str) -> list[str]:
    with suppress(rasterio.errors.RasterioError, OSError), rasterio.open(vrt) as dataset:
        return [name for name in dataset.files[1:] if "://" not in name and not name.startswith("/vsi")]
    return []


def _of_address(address: str) -> dict[str, Any]:
    if not address.lower().startswith(("http://", "https://")):
        return {}
    # Some signed addresses may only be got, not asked about; then one byte is got.
    for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
        request = urllib.request.Request(address, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                told = {"etag": answer.headers.get("ETag"), "modified": answer.headers.get("Last-Modified")}
                size = (answer.headers.get("Content-Range") or answer.headers.get("Content-Length") or "").split("/")[
                    -1
                ]
                told["bytes"] = int(size) if size.isdecimal() else None
                return {k: v for k, v in told.items() if v is not None}
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in (400, 401, 403, 405, 501):
                return {}
        except (OSError, ValueError, http.client.HTTPException):
            return {}
    return {}
