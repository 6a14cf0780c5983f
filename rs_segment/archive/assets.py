"""Which files of a STAC Item are what a model reads? One file with all its bands, or one file a band.

Bands are told by ``bands`` (STAC 1.1) or ``eo:bands`` (1.0), by their names and their common names; else by the keys of
the assets. What fits in two ways is not chosen but refused, with what there is to choose from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .hrefs import IMAGES, UnfitError, ending

# What stands beside the imagery, and pictures made of it for the eye: the latter only where nothing else fits.
_ASIDE = frozenset({"thumbnail", "overview", "metadata", "mask", "quality"})
_LOOKS = frozenset({"visual", "tci", "preview"})


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of an Item.

    Args:
        key: Its name in the Item.
        href: Where it is, as the Item has it.
        roles: In lower case.
        bands: Names that each of its bands goes by, in lower case.
        pixel: Ground resolution in metres as far as it is told, else infinity.
        nodata: Value of missing pixels, where it is told and the same for all bands.
    """

    key: str
    href: str
    roles: frozenset[str]
    bands: tuple[frozenset[str], ...]
    pixel: float
    nodata: float | None = None

    def find(self, name: str) -> int:
        """1-based index of the band of a name, 0 where there is none."""
        return next((i for i, names in enumerate(self.bands, start=1) if name in names), 0)

    def __str__(self) -> str:
        told = "/".join(min(names, key=lambda n: (-len(n), n)) for names in self.bands if names)
        return f"{self.key} ({told})" if told and told != self.key.lower() else self.key


@dataclass(frozen=True, slots=True)
class Choice:
    """The assets of a scene, and the 1-based band to read of each.

    A single asset may have as many bands as the model, or none where the file itself has to tell.
    """

    assets: tuple[Asset, ...]
    bands: tuple[int, ...]

    @property
    def nodata(self) -> float | None:
        """Value of missing pixels, where all assets tell the same."""
        values = {asset.nodata for asset in self.assets}
        return values.pop() if len(values) == 1 else None


def choose(assets: Any, names: Sequence[str], wanted: Sequence[str]) -> Choice:
    """The files of an Item that make a scene.

    Args:
        assets: The Item's ``assets``.
        names: Names of the model's bands, in its order; may be empty where no model is known.
        wanted: Keys or roles to be read instead of what the names say: one, or one a band.

    Raises:
        UnfitError: Nothing fits, or too much does.
    """
    lowered = [name.lower() for name in names]
    images = [a for a in _parsed(assets) if _is_image(a, assets[a.key])]
    if wanted:
        return _asked(images, lowered, wanted)
    shown = [a for a in images if not a.roles & _ASIDE]
    plain = [a for a in shown if not {*a.roles, *re.split("[-_]", a.key.lower())} & _LOOKS]
    found = _by_bands(plain, lowered) or _by_bands(shown, lowered)
    if found is None and len(plain) == 1:
        found = Choice((plain[0],), ())
    if found is None:
        raise UnfitError(f"no assets have the bands {', '.join(names)}; {_there(images)}")
    return found


def _asked(images: Sequence[Asset], names: Sequence[str], wanted: Sequence[str]) -> Choice:
    """The assets with the keys or the role that were asked for."""
    keys = {a.key: a for a in images}
    missing = [w for w in wanted if w not in keys]
    if missing:
        of_role = [a for a in images if missing[0].lower() in a.roles]
        if len(wanted) > 1 or not of_role:
            what = "key" if len(wanted) > 1 else "key or role"
            raise UnfitError(f"no asset has the {what} {missing[0]}; {_there(images)}")
        found = Choice((of_role[0],), ()) if len(of_role) == 1 else _by_bands(of_role, names)
        if found is None:
            raise UnfitError(f"{len(of_role)} assets have the role {missing[0]}; {_there(of_role)}")
        return found
    if len(wanted) == 1:
        asset = keys[wanted[0]]
        bands = tuple(asset.find(name) for name in names)
        return Choice((asset,), bands if bands and all(bands) else ())
    if len(wanted) != len(names):
        raise UnfitError(f"{len(wanted)} assets were asked for, but the model reads {len(names)} ({', '.join(names)})")
    assets = tuple(keys[w] for w in wanted)
    return Choice(assets, tuple(a.find(name) or 1 for a, name in zip(assets, names, strict=True)))


def _by_bands(assets: Sequence[Asset], names: Sequence[str]) -> Choice | None:
    """One file with all bands, or one file for each, or None."""
    if not names:
        return None
    whole = [a for a in assets if all(a.find(name) for name in names)]
    if whole:
        asset = _best(whole, "the bands " + ", ".join(names))
        return Choice((asset,), tuple(asset.find(name) for name in names))
    chosen = []
    for name in names:
        having = [a for a in assets if a.find(name)] or [a for a in assets if a.key.lower() == name]
        if not having:
            return None
        chosen.append(_best(having, name, name))
    return Choice(tuple(chosen), tuple(a.find(n) or 1 for a, n in zip(chosen, names, strict=True)))


def _best(assets: Sequence[Asset], what: str, key: str = "") -> Asset:
    """The one that is called so, else the one with the smallest pixels."""
    named = [a for a in assets if a.key.lower() == key]
    finest = min(a.pixel for a in assets)
    left = named or [a for a in assets if a.pixel == finest]
    if len(left) > 1:
        raise UnfitError(f"{' and '.join(a.key for a in left[:3])} all hold {what}; {_there(left)}")
    return left[0]


def _there(assets: Iterable[Asset]) -> str:
    told = ", ".join(str(a) for a in list(assets)[:12])
    return f"choose with --assets from {told}"[:500] if told else "it has no asset that is an image"


def _parsed(assets: Any) -> list[Asset]:
    if not isinstance(assets, Mapping):
        raise UnfitError("it has no assets")
    found = []
    for key, told in assets.items():
        if isinstance(told, Mapping) and isinstance(told.get("href"), str):
            listed = told.get("roles")
            roles = [r.lower() for r in listed if isinstance(r, str)] if isinstance(listed, list) else []
            found.append(Asset(str(key), told["href"], frozenset(roles), _bands(told), _pixel(told), _nodata(told)))
    return found


def _bands(asset: Mapping[str, Any]) -> tuple[frozenset[str], ...]:
    listed = asset.get("bands") or asset.get("eo:bands") or []
    bands: list[Any] = listed if isinstance(listed, list) else []
    if len(bands) <= 1 and isinstance(asset.get("eo:common_name"), str):
        # What holds for all bands of an asset may stand with the asset.
        bands = [{**(bands[0] if bands and isinstance(bands[0], dict) else {}), "common_name": asset["eo:common_name"]}]
    keys = ("name", "common_name", "eo:common_name")
    told = [[b.get(k) for k in keys] if isinstance(b, Mapping) else [] for b in bands]
    return tuple(frozenset(name.lower() for name in names if isinstance(name, str)) for names in told)


def _pixel(asset: Mapping[str, Any]) -> float:
    transform = asset.get("proj:transform")
    told = [asset.get("gsd"), asset.get("raster:spatial_resolution")]
    for bands in (asset.get("bands"), asset.get("raster:bands")):
        if isinstance(bands, list) and bands and isinstance(bands[0], Mapping):
            told += [bands[0].get("gsd"), bands[0].get("raster:spatial_resolution"), bands[0].get("spatial_resolution")]
    told += transform[:1] if isinstance(transform, list) else []
    sizes = (float(v) for v in told if isinstance(v, (int, float)) and abs(v) < 1e9)
    return next((size for size in sizes if math.isfinite(size) and size > 0), math.inf)


def _nodata(asset: Mapping[str, Any]) -> float | None:
    told = [asset.get("nodata")]
    for bands in (asset.get("bands"), asset.get("raster:bands")):
        if isinstance(bands, list):
            told += [band.get("nodata") for band in bands if isinstance(band, Mapping)]
    values = {v for v in told if v is not None and isinstance(v, (int, float)) and not isinstance(v, bool)}
    return float(values.pop()) if len(values) == 1 and abs(max(values)) < 1e18 else None


def _is_image(asset: Asset, told: Mapping[str, Any]) -> bool:
    kind = told.get("type")
    if isinstance(kind, str):
        return kind.startswith("image/")
    return ending(asset.href) in IMAGES
