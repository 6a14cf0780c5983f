"""The Item beside a result is valid STAC, says the truth about the files, and is the same each time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP, FakePredictor, make_card, make_scene
from pyproj import Transformer
from stac_schemas import problems

from rs_segment import ModelCard, Outputs, Plan, Segmentation, segment
from rs_segment.archive.describe import describe
from rs_segment.archive.manifest import Output
from rs_segment.archive.rows import Row
from rs_segment.archive.source import Source
from rs_segment.geobox import GeoBox

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SHAPE = (61, 47)
HALF = np.arange(47)[None, :] > np.arange(61)[:, None]
SCENES: dict[str, dict[str, Any]] = {
    "ordinary": {},
    "rotated": {"transform": ROTATED},
    "south up": {"transform": SOUTH_UP},
    "degrees": {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 179.9998, 0, -1e-5, 50)},
    "a CRS without a code": {"crs": "+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84"},
    "no CRS": {"crs": None},
    "nowhere": {"crs": None, "transform": Affine.identity()},
    "half": {"mask": HALF},
    "empty": {"mask": np.zeros(SHAPE, np.bool_)},
    "one pixel": {"shape": (1, 1)},
}
CARD = make_card(classes=5, weights_sha256="0f" * 32)
EVERYTHING = Outputs(confidence=True, probabilities=True, min_confidence=0.4)


def make(folder: Path, outputs: Outputs = EVERYTHING, source: Mapping[str, Any] | None = None, **scene: Any) -> Made:
    path = make_scene(folder / "scene & 1.tif", **{"shape": SHAPE, **scene})
    told = Source("s", str(path), **(source or {}))
    (folder / "out").mkdir(exist_ok=True)
    final = folder / "out" / "s_classes.tif"
    plan = Plan(tile=32 if "shape" not in scene else 512, overlap=16)
    result = segment(path, final, FakePredictor(CARD, radius=1), plan=plan, outputs=outputs)
    return result, told, describe(result, told, CARD)


Made = tuple[Segmentation, Source, Path]


def link(item: Mapping[str, Any], relation: str) -> str:
    found = [entry["href"] for entry in item["links"] if entry["rel"] == relation]
    assert len(found) == 1
    return str(found[0])


@pytest.mark.parametrize("kind", SCENES)
def test_an_item_is_valid_and_true(kind: str, tmp_path: Path) -> None:
    result, _, path = make(tmp_path, **SCENES[kind])
    item = json.loads(path.read_text())
    assert path.name == "s_classes.json"
    assert problems(item) == []
    for asset in item["assets"].values():
        file = path.parent / asset["href"]
        assert asset["file:size"] == file.stat().st_size
        assert asset["file:checksum"] == "1220" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert set(item["assets"]) == {"classes", "confidence", "probabilities", "polygons"}
    with rasterio.open(result.classes) as dataset:
        labels, tags = dataset.read(1), json.loads(dataset.tags()["RS_SEGMENT"])
    props = item["properties"]
    assert props["rs_segment:run"] == tags
    assert {a["value"]: a["pixels"] for a in props["rs_segment:areas"]} | {255: props["rs_segment:nodata_pixels"]} == {
        v: int((labels == v).sum()) for v in [*range(5), *({254} & set(np.unique(labels).tolist())), 255]
    }
    legend = {c["value"]: c.get("title", c["name"]) for c in item["assets"]["classes"]["classification:classes"]}
    assert set(np.unique(labels).tolist()) <= set(legend)
    assert (legend[4], legend[255]) == ("class 4", "nodata")


@pytest.mark.parametrize("kind", SCENES)
def test_it_lies_where_its_pixels_with_data_are(kind: str, tmp_path: Path) -> None:
    result, _, path = make(tmp_path, Outputs(polygons=False), **SCENES[kind])
    item = json.loads(path.read_text())
    if result.geobox.crs is None or kind == "empty":
        assert item["geometry"] is None
        assert "bbox" not in item
        return
    place = shapely.from_geojson(json.dumps(item["geometry"]))
    with rasterio.open(result.classes) as dataset:
        valid = dataset.read(1) != 255
    rows, cols = np.nonzero(valid)
    x, y = result.geobox.transform * (cols + 0.5, rows + 0.5)
    lon, lat = Transformer.from_crs(result.geobox.crs.to_wkt(), "OGC:CRS84", always_xy=True).transform(x, y)
    points = shapely.points((np.asarray(lon) + 180) % 360 - 180, lat)
    apart = shapely.distance(place, points) * 111_000
    assert apart.max() <= max(result.geobox.ground_resolution or (0,))
    assert (
        shapely.area(place) < 1.3 * max(valid.mean(), 0.5) * shapely.area(shapely.box(*place.bounds)) or kind != "half"
    )
    west, _, east, _ = item["bbox"]
    assert (east < west) == (kind == "degrees")


@pytest.mark.parametrize("kind", SCENES)
def test_the_grid_survives(kind: str, tmp_path: Path) -> None:
    result, _, path = make(tmp_path, Outputs(polygons=False), **SCENES[kind])
    record: Any = None
    found = Row(record, json.loads(path.read_text())).box
    assert found == GeoBox(result.geobox.shape, result.geobox.transform, result.geobox.crs)


def test_the_same_result_has_the_same_item_and_checksums_are_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, source, path = make(tmp_path)
    before = path.read_bytes()
    outputs = [Output.of(file) for file in result.files]
    monkeypatch.setattr(Output, "of", None)
    assert describe(result, source, CARD, outputs).read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir() if p.suffix == ".json") == ["model_fake.json", "s_classes.json"]
    assert not [p for p in path.parent.iterdir() if p.name.startswith(".")]


def test_it_is_linked_with_the_model_the_scene_and_the_item(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    item_of_scene = tmp_path / "items" / "x.json"
    item_of_scene.write_text("{}")
    _, source, path = make(tmp_path, source={"item": str(item_of_scene)})
    item = json.loads(path.read_text())
    assert ModelCard.read(path.parent / link(item, "mlm:model")) == CARD
    assert os.path.normpath(path.parent / link(item, "derived_from")) == str(item_of_scene)
    assert os.path.normpath(path.parent / link(item, "via").replace("%20", " ").replace("%26", "&")) == source.location
    assert link(item, "collection") == "./collection.json"


def test_no_secret_is_told(tmp_path: Path) -> None:
    told = {
        "item": "https://user:secret@h/i.json?sig=secret",
        "assets": ("https://h/B4.tif?sig=secret", "s3://b/B3.tif"),
    }
    _, _, path = make(tmp_path, source=told)
    assert "secret" not in path.read_text()
    item = json.loads(path.read_text())
    assert link(item, "derived_from") == "https://h/i.json"
    assert [entry["href"] for entry in item["links"] if entry["rel"] == "via"] == ["https://h/B4.tif", "s3://b/B3.tif"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2020-05-01T10:00:00Z", ("2020-05-01T10:00:00Z", None, None)),
        ("2020-05-01T10:00:00Z/2020-05-02T10:00:00Z", (None, "2020-05-01T10:00:00Z", "2020-05-02T10:00:00Z")),
        ("2020-05-01T10:00:00Z/..", (None, "2020-05-01T10:00:00Z", "9999-12-31T23:59:59Z")),
        (None, (None, "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z")),
    ],
)
def test_its_time_is_that_of_the_scene(text: str | None, told: tuple[str | None, ...], tmp_path: Path) -> None:
    _, _, path = make(tmp_path, Outputs(polygons=False), source={"datetime": text})
    item = json.loads(path.read_text())
    props = item["properties"]
    assert (props["datetime"], props.get("start_datetime"), props.get("end_datetime")) == told
    assert problems(item) == []


@pytest.mark.parametrize("form", ["cog", "gtiff"])
def test_only_a_cog_is_called_one(form: Any, tmp_path: Path) -> None:
    _, _, path = make(tmp_path, Outputs(polygons=False, format=form))
    kind = json.loads(path.read_text())["assets"]["classes"]["type"]
    assert ("cloud-optimized" in kind) == (form == "cog")
    assert kind.startswith("image/tiff; application=geotiff")


def test_a_few_pixels_that_no_overview_shows_are_somewhere_in_the_scene(tmp_path: Path) -> None:
    mask = np.zeros((600, 520), np.bool_)
    mask[501, 401] = True
    result, _, path = make(tmp_path, Outputs(polygons=False), shape=(600, 520), mask=mask, transform=NORTH_UP)
    assert result.nodata_pixels == 600 * 520 - 1
    assert json.loads(path.read_text())["geometry"] is not None


def test_an_item_that_breaks_a_rule_is_found_out(tmp_path: Path) -> None:
    """The check itself works: each of the schemas is asked."""
    _, _, path = make(tmp_path)
    wrong: list[Callable[[Any], object]] = [
        lambda i: i.pop("links"),
        lambda i: i["properties"].pop("start_datetime"),
        lambda i: i["properties"].update({"proj:shape": [1]}),
        lambda i: i["properties"].update({"processing:software": "x"}),
        lambda i: i["assets"]["classes"].update({"file:checksum": "x"}),
        lambda i: i["assets"]["classes"]["classification:classes"].append({"value": 1}),
        lambda i: i["assets"]["classes"]["bands"][0].update({"raster:sampling": "x"}),
    ]
    for breaking in wrong:
        item = json.loads(path.read_text())
        breaking(item)
        assert problems(item)
