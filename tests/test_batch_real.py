"""Real archives: one place in four years, and a scene in three files that a STAC Item names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rasterio
from archives import fake_model as fake_model
from stac_schemas import problems

from rs_segment import Compute, Effort, Outputs, Plan, Query, Recipe, View, batch, find_scenes

pytestmark = pytest.mark.data
EFFORT, PLAN = Effort(workers=0), Plan(tile=512, overlap=16)


def test_the_naip_series(data: Path, tmp_path: Path) -> None:
    sources = find_scenes([str(data / "scenes" / "m_4709963*.tif")], Query(bbox=(-99.2, 47.0, -99.1, 47.1)))
    assert len(sources) == 4
    recipe = Recipe("fake", View(bands=(1, 2, 3)), PLAN, Compute(), Outputs())
    report = batch(sources, tmp_path, recipe, EFFORT)
    assert report.exit_code == 0
    with rasterio.open(tmp_path / "classes.vrt") as mosaic:
        assert mosaic.crs.to_epsg() == 26914
        assert (mosaic.read(1) != 255).mean() > 0.99
    collection = json.loads((tmp_path / "collection.json").read_text())
    assert problems(collection) == []
    west, south, east, north = collection["extent"]["spatial"]["bbox"][0]
    assert -99.2 < west < east < -99.1
    assert 47.0 < south < north < 47.1


def test_three_files_of_landsat_that_an_item_names(data: Path, tmp_path: Path) -> None:
    files = {band: data / "scenes" / f"LC80030172015001LGN00_{band}.tiff" for band in ("B2", "B3", "B4")}
    colors = {"B2": "blue", "B3": "green", "B4": "red"}
    item = {
        "type": "Feature",
        "id": "LC80030172015001LGN00",
        "properties": {"datetime": "2015-01-01T14:00:00Z"},
        "assets": {b: {"href": str(f), "eo:bands": [{"common_name": colors[b]}]} for b, f in files.items()},
    }
    (tmp_path / "item.json").write_text(json.dumps(item))
    sources = find_scenes([str(tmp_path / "item.json")], Query(names=("red", "green", "blue")))
    assert [Path(f).stem[-2:] for f in sources[0].files] == ["B4", "B3", "B2"]
    view = View(rescale=(5000, 20000), resolution=1)
    out = tmp_path / "out"
    report = batch(sources, out, Recipe("fake", view, PLAN, Compute(), Outputs(polygons=False)), EFFORT)
    assert report.exit_code == 0, [r.message for r in report.failed]
    made = json.loads((out / "LC80030172015001LGN00_classes.json").read_text())
    assert problems(made) == []
    assert made["properties"]["datetime"] == "2015-01-01T14:00:00Z"
    assert made["properties"]["proj:code"] == "EPSG:32622"
