"""Which scenes does a STAC catalogue name? Items, ItemCollections, Catalogs and Collections that are files.

Links are followed from document to document, each once, several at a time, and no further than ``MAX_DOCUMENTS`` and
``MAX_DEPTH``. What is found comes in the order of the links.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import shapely

from ..errors import SceneError
from ..result import without_secrets
from .assets import choose
from .footprint import BBox, bbox, box_of
from .hrefs import DOCUMENTS, UnfitError, is_address, locate, stem
from .network import read_json
from .period import Period
from .source import Candidate, Source

READERS = 8
MAX_DOCUMENTS = 100_000
MAX_DEPTH = 30
_DOWN = ("child", "item")


@dataclass(frozen=True, slots=True)
class Choosing:
    """What is read of an Item.

    Args:
        names: Names of the model's bands, in its order.
        assets: Keys or roles of assets that are read instead of what the names say.
    """

    names: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Document:
    """What one document says: scenes, and where to go on."""

    found: tuple[Candidate, ...] = ()
    links: tuple[str, ...] = ()


def walk(root: str, choosing: Choosing) -> Iterator[Candidate]:
    """The scenes of a document, and of all that it links to.

    A document further down that cannot be read becomes a scene that is refused: what it holds is not known.

    Args:
        root: Path or address.
        choosing: Which assets are read.

    Raises:
        SceneError: The root cannot be read, is no STAC, or there are too many documents.
    """
    seen, level, depth = {root}, [root], 0
    pool = ThreadPoolExecutor(READERS)
    try:
        while level:
            below: list[str] = []
            for document in pool.map(lambda place: _read(place, choosing, place == root), level):
                yield from document.found
                below += [link for link in document.links if link not in seen]
                seen.update(document.links)
            level, depth = list(dict.fromkeys(below)), depth + 1
            if len(seen) > MAX_DOCUMENTS or (level and depth > MAX_DEPTH):
                raise SceneError(
                    f"{without_secrets(root)} leads to more than {MAX_DOCUMENTS:,} documents, or deeper than "
                    f"{MAX_DEPTH} levels; name the catalogues inside it instead"
                )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def from_item(item: Any, home: str, address: str | None, choosing: Choosing) -> Candidate:
    """The scene that an Item describes, refused where it cannot be used.

    Args:
        item: The Item.
        home: What its relative addresses are relative to.
        address: Where the Item is, if it is a document of its own.
        choosing: Which assets are read.
    """
    told = item if isinstance(item, Mapping) else {}
    own = told.get("id")
    name = own if isinstance(own, str) and own else stem(address or home)
    place, when = _place(told), when_of(told.get("properties"))
    try:
        chosen = choose(told.get("assets"), choosing.names, choosing.assets)
        files = tuple(locate(asset.href, home) for asset in chosen.assets)
    except UnfitError as error:
        refused = refusal(name, address or home, str(error))
        return Candidate(replace(refused.source, item=address), place, when)
    return Candidate(
        Source(
            id=name,
            location=files[0],
            assets=files if len(files) > 1 else (),
            bands=chosen.bands,
            names=choosing.names if len(files) > 1 else (),
            bbox=None if place is None else bbox(place),
            datetime=None if when is None else str(when),
            item=address,
            nodata=chosen.nodata,
        ),
        place,
        when,
    )


def refusal(name: str, location: str, why: str) -> Candidate:
    """A scene that a catalogue names, and that cannot be done."""
    return Candidate(Source(name, location, refused=f"{name!r:.120}: {why}"))


def when_of(properties: Any) -> Period | None:
    """The time that the properties of an Item tell."""
    told = properties if isinstance(properties, Mapping) else {}
    ends = told.get("start_datetime"), told.get("end_datetime")
    if isinstance(told.get("datetime"), str):
        text = told["datetime"]
    elif any(isinstance(end, str) for end in ends):
        text = "/".join(end if isinstance(end, str) else ".." for end in ends)
    else:
        return None
    try:
        return Period.parse(text)
    except ValueError:
        return None


def box_in(numbers: Any) -> BBox | None:
    """The box in a list of four or six numbers, or None."""
    if not isinstance(numbers, (list, tuple)) or len(numbers) not in (4, 6):
        return None
    flat = [numbers[0], numbers[1], numbers[2], numbers[3]] if len(numbers) == 4 else [numbers[i] for i in (0, 1, 3, 4)]
    if not all(isinstance(v, (int, float)) and abs(v) < 1e6 and math.isfinite(v) for v in flat):
        return None
    west, south, east, north = map(float, flat)
    return (west, south, east, north) if south <= north else None


def _read(place: str, choosing: Choosing, is_root: bool) -> _Document:
    try:
        return _document(read_json(place), place, choosing)
    except SceneError as error:
        if is_root:
            raise
        return _Document((refusal(stem(place), place, str(error)),))


def _document(told: Any, place: str, choosing: Choosing) -> _Document:
    kind = told.get("type") if isinstance(told, Mapping) else None
    if kind == "Feature":
        return _Document((from_item(told, place, place, choosing),))
    if kind == "FeatureCollection":
        features = told.get("features")
        items = features if isinstance(features, list) else []
        homes = [_self(item, place) for item in items]
        found = tuple(from_item(i, home or place, home, choosing) for i, home in zip(items, homes, strict=True))
        # A page that was saved is all there is; a page that is read from a server has others behind it.
        return _followed(told, place, ("next",), found) if is_address(place) else _Document(found)
    if kind in ("Catalog", "Collection") or (isinstance(told, Mapping) and "stac_version" in told and "links" in told):
        return _followed(told, place, _DOWN, ())
    raise SceneError(
        f"{without_secrets(place)} is no STAC Item, ItemCollection, Catalog or Collection (its type is {kind!r:.40})"
    )


def _followed(
    told: Mapping[str, Any], place: str, relations: tuple[str, ...], found: tuple[Candidate, ...]
) -> _Document:
    links = told.get("links")
    places, refused = [], []
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") in relations and link.get("method", "GET") == "GET":
            try:
                places.append(locate(link.get("href"), place, DOCUMENTS))
            except UnfitError as error:
                refused.append(refusal(stem(place), place, str(error)))
    return _Document((*found, *refused), tuple(places))


def _self(item: Any, place: str) -> str | None:
    """Where an Item of a collection is by itself, if it says so in a way that can be trusted."""
    links = item.get("links") if isinstance(item, Mapping) else None
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == "self" and isinstance(link.get("href"), str):
            try:
                found = locate(link["href"], place, DOCUMENTS)
            except UnfitError:
                return None
            return found if is_address(found) else None
    return None


def _place(item: Mapping[str, Any]) -> shapely.Geometry | None:
    """Where an Item lies: its geometry, or its box where that cannot be used."""
    try:
        shape = shapely.from_geojson(json.dumps(item.get("geometry")))
        if shape is not None and shape.is_valid and not shape.is_empty:
            return shape
    except (shapely.errors.ShapelyError, ValueError, TypeError, RecursionError):
        pass
    box = box_in(item.get("bbox"))
    return None if box is None else box_of(box)
