"""What does a result say of itself? A STAC Item (https://stacspec.org, 1.1) beside it.

It tells where there is data, which classes there are and how much of each, what made them from what, and the checksum
of each file. The same result gives the same bytes.
"""

from __future__ import annotations

import json
import os
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rasterio
import shapely

from ..card import FILE, ModelCard
from ..errors import OutputError
from ..geobox import GeoBox
from ..result import UNCLASSIFIED_CLASS, Segmentation, without_secrets
from ..types import NODATA, PROBABILITY_STEPS, UNCLASSIFIED
from ..workfolder import disk_errors, note, sync
from .footprint import bbox, footprint
from .hrefs import beside, is_address
from .manifest import Output
from .period import Period
from .source import Source

CLASSIFICATION = "https://stac-extensions.github.io/classification/v1.1.0/schema.json"
PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
COLLECTION = "rs-segment-classes"
"""Id of the Collection that all results of a folder belong to; ``report`` writes it."""

_LOOK = 512
_TIFF = "image/tiff; application=geotiff"
_COG = f"{_TIFF}; profile=cloud-optimized"
_TYPES = {
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
    ".geojson": "application/geo+json",
}
# STAC wants a time. Of a scene that tells none, it was between these, as with the cards of models.
_ANY_TIME = {"start_datetime": "1970-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}


def describe(result: Segmentation, source: Source, card: ModelCard, outputs: Sequence[Output] = ()) -> Path:
    """The path of the Item, ``ID_classes.json`` beside the class raster, which is written whole.

    The model's card is laid beside it as ``model_NAME.json``, and linked.

    Args:
        result: What ``segment`` returned.
        source: What was segmented.
        card: Of the model.
        outputs: Sizes and checksums of the files of ``result`` as far as they are known; others are taken here.

    Raises:
        DiskFullError, OutputError: It cannot be written, or the results cannot be read.
    """
    folder = result.classes.parent
    known = {o.path: o for o in outputs}
    files = {path: known.get(path.name) or Output.of(path) for path in result.files}
    _lay(folder / f"model_{card.name}.json", dump(card.to_item()))
    path = result.classes.with_suffix(".json")
    write(path, dump(item(result, source, card, files)))
    return path


def item(result: Segmentation, source: Source, card: ModelCard, files: Mapping[Path, Output]) -> dict[str, Any]:
    """The Item that describes a result.

    Args:
        result: What ``segment`` returned.
        source: What was segmented.
        card: Of the model.
        files: What is known of each file of ``result``.

    Raises:
        OutputError: The class raster cannot be read.
    """
    place, told = _look(result)
    where = {} if place is None else {"bbox": list(bbox(place))}
    software, _, version = str(told.get("software", "rs-segment")).partition(" ")
    ground = result.geobox.ground_resolution
    pixel = {} if ground is None else {"raster:spatial_resolution": round(sum(ground) / 2, 9)}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [CLASSIFICATION, FILE, PROCESSING, PROJECTION, RASTER],
        "id": result.classes.stem,
        "collection": COLLECTION,
        "geometry": None if place is None else json.loads(shapely.to_geojson(place)),
        **where,
        "properties": {
            **_time(source.datetime),
            **_grid(result.geobox),
            "processing:software": {software: version or "unknown"},
            "processing:lineage": f"Each pixel has the class that the model {card.name} gives it.",
            "rs_segment:model": {"name": card.name, "sha256": card.weights_sha256},
            "rs_segment:areas": result.to_dict()["areas"],
            "rs_segment:nodata_pixels": result.nodata_pixels,
            "rs_segment:notes": list(result.notes),
            "rs_segment:run": told,
        },
        "links": list(_links(source, card, result.classes.parent)),
        "assets": dict(_assets(result, card, files, pixel, _TIFF if told.get("format") == "gtiff" else _COG)),
    }


def dump(told: Mapping[str, Any]) -> bytes:
    """JSON that people can read too."""
    return (json.dumps(told, indent=1, allow_nan=False) + "\n").encode()


def write(path: Path, data: bytes) -> None:
    """Write a small file so that it is there as a whole or as it was, however many do so at once.

    Raises:
        DiskFullError, OutputError: It cannot be written.
    """
    temp = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    note(temp)
    with disk_errors(path.parent):
        try:
            with open(temp, "xb") as file:
                file.write(data)
                sync(file)
            os.replace(temp, path)
        finally:
            temp.unlink(missing_ok=True)


def _lay(path: Path, data: bytes) -> None:
    """Write what all scenes of a batch write alike, unless it is there."""
    with disk_errors(path.parent):
        there = path.is_file() and path.read_bytes() == data
    if not there:
        write(path, data)


def _look(result: Segmentation) -> tuple[shapely.Geometry | None, dict[str, Any]]:
    """(where there is data, what the raster says of how it was made)."""
    height, width = result.geobox.shape
    try:
        with rasterio.open(result.classes) as dataset:
            told = json.loads(dataset.tags().get("RS_SEGMENT", "{}"))
            if result.nodata_pixels == 0:
                return footprint(result.geobox), told
            step = -(-max(height, width) // _LOOK)
            labels = dataset.read(1, out_shape=(-(-height // step), -(-width // step)))
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise OutputError(f"{result.classes} cannot be read back: {error}") from error
    if result.nodata_pixels == height * width:
        return None, told
    # A few pixels in a large scene may be on no overview; then it is somewhere in the scene.
    valid = labels != NODATA
    return footprint(result.geobox, valid if valid.any() else None), told


def _time(text: str | None) -> dict[str, Any]:
    if text is None:
        return {"datetime": None, **_ANY_TIME}
    period = Period.parse(text)
    if period.start == period.end:
        return {"datetime": str(period)}
    start, end = str(period).split("/")
    ends = {"start_datetime": start, "end_datetime": end}
    return {"datetime": None, **{k: _ANY_TIME[k] if v == ".." else v for k, v in ends.items()}}


def _grid(box: GeoBox) -> dict[str, Any]:
    authority = None if box.crs is None else box.crs.to_authority()
    told: dict[str, Any] = {"proj:code": None if authority is None else ":".join(authority)}
    if box.crs is not None and authority is None:
        told["proj:wkt2"] = box.crs.to_wkt(version="WKT2_2019")
    return {
        **told,
        "proj:shape": list(box.shape),
        "proj:transform": list(box.transform)[:6],
        "proj:bbox": list(box.bounds),
    }


def _links(source: Source, card: ModelCard, folder: Path) -> Iterator[dict[str, str]]:
    for relation in ("root", "parent", "collection"):
        yield {"rel": relation, "href": "./collection.json", "type": "application/json"}
    if source.item is not None:
        yield {"rel": "derived_from", "href": _href(source.item, folder), "type": "application/geo+json"}
    for file in source.files:
        yield {"rel": "via", "href": _href(file, folder), "title": "The scene"}
    model = beside(f"model_{card.name}.json")
    yield {"rel": "mlm:model", "href": model, "type": "application/geo+json", "title": card.name}


def _href(place: str, folder: Path) -> str:
    """Where a link leads from a folder; an address without what may be a password."""
    if is_address(place) or place.startswith("/vsi"):
        return without_secrets(place)
    try:
        beside = os.path.relpath(place, folder).replace(os.sep, "/")
    except ValueError:
        # On another drive of Windows.
        return Path(place).absolute().as_uri()
    return urllib.parse.quote(os.fsencode(beside))


def _assets(
    result: Segmentation, card: ModelCard, files: Mapping[Path, Output], pixel: Mapping[str, float], kind: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    def asset(path: Path, title: str, media: str, **more: Any) -> dict[str, Any]:
        told = {"href": beside(path.name), "title": title, "type": media, "roles": ["data"]}
        return told | {"file:size": files[path].bytes, "file:checksum": "1220" + files[path].sha256} | more

    def band(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "data_type": "uint8", "nodata": NODATA, "raster:sampling": "area", **pixel, **more}

    named = card.to_item()["properties"]["mlm:output"][0]["classification:classes"]
    unsure = [c for c in result.areas if c.value == UNCLASSIFIED]
    legend = [
        *named,
        *({"value": c.value, "name": c.name, "color_hint": UNCLASSIFIED_CLASS.color[1:]} for c in unsure),
        {"value": NODATA, "name": "nodata", "nodata": True},
    ]
    yield "classes", asset(result.classes, "Classes", kind, bands=[band("class")], **{"classification:classes": legend})
    scale = {"raster:scale": 1 / PROBABILITY_STEPS}
    if result.confidence is not None:
        yield (
            "confidence",
            asset(result.confidence, "Probability of each pixel's class", kind, bands=[band("confidence", **scale)]),
        )
    if result.probabilities is not None:
        each = [band(c["name"], description=c.get("title", ""), **scale) for c in named]
        yield "probabilities", asset(result.probabilities, "Probability of every class", kind, bands=each)
    if result.polygons is not None:
        media = _TYPES.get(result.polygons.suffix.lower(), "application/octet-stream")
        yield "polygons", asset(result.polygons, "Polygons", media)
