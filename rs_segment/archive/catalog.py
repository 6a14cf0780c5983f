"""Which scenes are there to be done? Files, folders, globs, lists, indexes and STAC catalogues become ``Source``s.

What a user names himself is taken as ``segment`` takes it. What a list, an index or a catalogue names is not trusted,
see ``hrefs``; a row that cannot be used becomes a source that is refused: it is told and counted, and does not stop the
others.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.errors import RasterioError

from ..errors import AreaError, OptionError, SceneError
from ..result import without_secrets
from ..scene import Scene
from . import index, stac
from .footprint import BBox, bbox, box_of, footprint
from .hrefs import DOCUMENTS, UnfitError, alike, ending, locate, safe_name, stem
from .period import Period
from .source import Candidate, Source

__all__ = ["Query", "Source", "find_scenes"]

FOLDER_ENDINGS = (".tif", ".tiff", ".jp2")
LISTS = (".txt", ".lst", ".list")
OPENERS = 8

_OURS = re.compile(r".+_classes(_confidence|_probabilities)?\.tif")


@dataclass(frozen=True, slots=True)
class Query:
    """Which scenes are wanted.

    Args:
        names: Names of the model's bands in its order; with them the assets of STAC Items are chosen.
        assets: Keys or roles of the assets to be read instead: one, or one for each band.
        pattern: Files of a folder, such as ``**/*.tif``; None takes .tif, .tiff and .jp2 that lie in the folder itself.
        location: Column of an index that holds paths or addresses; None looks for ``location``, ``path``, ``href``.
        bbox: (west, south, east, north) in degrees; east is less than west across the 180th meridian.
        datetime: A time or an interval of RFC 3339: "2020-05-01/2020-09-30", "2020-05-01/..", "2020-05".
        aoi: A vector file; scenes that do not meet its polygons are left out.
    """

    names: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    pattern: str | None = None
    location: str | None = None
    bbox: BBox | None = None
    datetime: str | None = None
    aoi: str | Path | None = None


def find_scenes(inputs: Sequence[str], query: Query | None = None) -> tuple[Source, ...]:
    """The scenes that inputs name, in their order, each once.

    Args:
        inputs: Files, folders, globs, addresses; ``-`` reads a list from stdin; a text list (.txt, .lst, .list); a STAC
            Item, ItemCollection, Catalog or Collection (.json, .geojson); an index (.gpkg, .fgb, .shp, .parquet).
            Of folders and globs, what an earlier run made is left out.
        query: Which of them are wanted.

    Raises:
        SceneError: An input does not exist or cannot be read, no scene is found, or two would get the same name.
        OptionError: A filter cannot be understood, or an index has no such column.
        AreaError: The area of interest cannot be read.
    """
    query = query or Query()
    wanted = _filter(query)
    found: list[Candidate] = []
    for given in inputs:
        here = list(_candidates(given, query))
        if not here:
            raise SceneError(_empty(given, query.pattern))
        found += here
    kept = wanted(found)
    if not kept:
        raise SceneError(f"none of {len(found):,} scenes lies in the time and the area that were asked for")
    return _settle(kept)


def _empty(given: str, pattern: str | None) -> str:
    what = pattern or ", ".join(f"*{ending}" for ending in FOLDER_ENDINGS)
    if Path(given).is_dir():
        return f"{given} holds no files {what} that are scenes; choose others with --pattern, such as '**/*.tif'"
    return f"{without_secrets(given):.300} names no scene"


def _candidates(given: str, query: Query) -> Iterator[Candidate]:
    """The scenes that one input names."""
    kind, choosing = ending(given), stac.Choosing(query.names, query.assets)
    if given == "-":
        yield from _listed(sys.stdin, "stdin")
    elif "://" in given or given.startswith("/vsi"):
        if kind in (*LISTS, *index.ENDINGS):
            raise SceneError(f"{without_secrets(given)} is read from a disk only; download it first")
        if kind not in DOCUMENTS:
            yield Candidate(Source(stem(given), given))
        elif given.lower().startswith(("http://", "https://")):
            yield from stac.walk(given, choosing)
        else:
            raise SceneError(f"{without_secrets(given)}: catalogues are read from a disk, or by http and https")
    elif Path(given).is_dir():
        yield from _in_folder(Path(given), query.pattern)
    elif not Path(given).exists() and glob.has_magic(given):
        for path in sorted(glob.glob(given, recursive=True)):
            if not _ours(Path(path)):
                yield from _candidates(path, query)
    elif kind in DOCUMENTS:
        yield from stac.walk(str(Path(given).absolute()), choosing)
    elif kind in index.ENDINGS:
        yield from index.rows(given, query.location, choosing)
    elif kind in LISTS:
        try:
            with open(given, encoding="utf-8-sig") as lines:
                yield from _listed(lines, given)
        except (OSError, UnicodeError) as error:
            raise SceneError(f"{given} cannot be read as a list: {error}") from None
    elif Path(given).exists() or re.match(r"[A-Za-z]\w+:", given):
        yield Candidate(Source(stem(given), given))
    else:
        raise SceneError(f"{given} does not exist")


def _in_folder(folder: Path, pattern: str | None) -> Iterator[Candidate]:
    """The rasters of a folder, but for hidden ones and for what an earlier run made."""
    try:
        paths = sorted(folder.glob(pattern or "*"))
    except (ValueError, NotImplementedError) as error:
        raise OptionError(f"--pattern {pattern}: {error}; it must be relative, such as **/*.tif") from None
    for path in paths:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or _ours(path):
            continue
        if pattern is not None or path.suffix.lower() in FOLDER_ENDINGS:
            yield Candidate(Source(path.stem, str(path)))


def _ours(path: Path) -> bool:
    """Whether a file is a result: by its name, and by what is written in it."""
    if not _OURS.fullmatch(path.name) or not path.is_file():
        return False
    try:
        with rasterio.open(path) as dataset:
            return "RS_SEGMENT" in dataset.tags()
    except RasterioError:
        return False


def _listed(lines: Iterable[str], home: str) -> Iterator[Candidate]:
    """The scenes of a text, one a line; empty lines and those that begin with # are passed over."""
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            place = locate(text, home)
            yield Candidate(Source(stem(place), place))
        except UnfitError as error:
            yield stac.refusal(f"{stem(home)}-line-{number}", home, str(error))


def _filter(query: Query) -> Callable[[list[Candidate]], list[Candidate]]:
    """A function that keeps of some scenes those that are wanted; those of which nobody can know are refused."""
    area, period = _area(query), _period(query.datetime)

    def judged(candidate: Candidate) -> Candidate | None:
        if period is not None and candidate.when is None:
            candidate = _refused(candidate, "nothing tells its time, so --datetime cannot choose it or leave it out")
        if area is not None and candidate.place is None:
            candidate = _looked_up(candidate)
        when, place = candidate.when, candidate.place
        apart = period is not None and when is not None and not when.meets(period)
        away = area is not None and place is not None and not area.intersects(place)
        return None if apart or away else candidate

    def keep(found: list[Candidate]) -> list[Candidate]:
        with ThreadPoolExecutor(OPENERS) as pool:
            return [candidate for candidate in pool.map(judged, found) if candidate is not None]

    return keep


def _looked_up(candidate: Candidate) -> Candidate:
    """A scene with the place that its file tells. One that cannot be opened is kept, and fails when its turn comes."""
    if candidate.source.refused:
        return candidate
    try:
        with Scene.open(candidate.source.files[0]) as scene:
            place = footprint(scene.geobox)
    except SceneError:
        return candidate
    if place is None:
        return _refused(candidate, "it has no CRS, so nobody knows whether it lies in the area that was asked for")
    return replace(candidate, source=replace(candidate.source, bbox=bbox(place)), place=place)


def _refused(candidate: Candidate, why: str) -> Candidate:
    source = candidate.source
    return replace(
        candidate, source=replace(source, refused=source.refused or f"{without_secrets(source.location)}: {why}")
    )


def _period(text: str | None) -> Period | None:
    if text is None:
        return None
    try:
        return Period.parse(text)
    except ValueError as error:
        raise OptionError(f"--datetime {text}: {error}") from None


def _area(query: Query) -> shapely.Geometry | None:
    """What scenes have to meet, in degrees, or None."""
    areas = []
    if query.bbox is not None:
        west, south, east, north = query.bbox
        if not (np.isfinite(query.bbox).all() and -90 <= south <= north <= 90 and max(abs(west), abs(east)) <= 180):
            raise OptionError(f"--bbox {query.bbox}: it must be west,south,east,north in degrees")
        areas.append(box_of(query.bbox))
    if query.aoi is not None:
        areas.append(_polygons(Path(query.aoi)))
    if not areas:
        return None
    area = shapely.intersection_all(areas)
    if area.is_empty:
        raise OptionError(f"--bbox {query.bbox} and --aoi {query.aoi} do not meet")
    shapely.prepare(area)
    return area


def _polygons(path: Path) -> shapely.Geometry:
    try:
        table, places = index.read_layer(str(path))
    except SceneError as error:
        raise AreaError(f"the area of interest cannot be read: {error}") from None
    shapes = [shapely.make_valid(place) for place in places if place is not None]
    if not shapes and len(table):
        raise AreaError(f"the area of interest {path} has no CRS or no geometries, so it cannot be placed")
    area = shapely.union_all([shape for shape in shapes if shape.area > 0])
    if area.is_empty:
        raise AreaError(f"the area of interest {path} holds no polygon")
    return area


def _settle(found: Sequence[Candidate]) -> tuple[Source, ...]:
    """The scenes with names that are safe, each scene once; a refused one gives way to another of the same name.

    Raises:
        SceneError: Two different ones would be called the same.
    """
    sources = [replace(c.source, id=safe_name(c.source.id)) for c in found]
    taken: dict[str, Source] = {}
    clashes = []
    for source in sources:
        if not source.refused:
            other = taken.setdefault(alike(source.id), source)
            if _place_of(other) != _place_of(source):
                clashes.append((other, source))
    if clashes:
        first, second = (without_secrets(s.item or s.location) for s in clashes[0])
        more = f" (and so on, {len(clashes):,} times)" if len(clashes) > 1 else ""
        raise SceneError(
            f"{first} and {second} would both be called {clashes[0][1].id}_classes.tif{more}; do them in two batches "
            "with a folder each, or name them in an index with an id column"
        )
    settled, numbers = [], Counter[str]()
    for source in sources:
        name = source.id
        while source.refused and alike(name) in taken:
            numbers[source.id] += 1
            name = f"{source.id}-{numbers[source.id] + 1}"
        if taken.setdefault(alike(name), source) is source:
            settled.append(replace(source, id=name))
    return tuple(settled)


def _place_of(source: Source) -> tuple[object, ...]:
    return (*(f if "://" in f else os.path.abspath(f) for f in source.files), source.bands)
