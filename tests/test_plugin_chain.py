"""A chain of the model designer, without windows: a class map, its polygons, and the areas of its classes in zones."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from fakes import make_scene
from qgis_desktop import engine
from qgis_headless import Headless
from shapely.geometry import box

pytestmark = pytest.mark.qgis

CHAIN = Path(__file__).parent / "qgis_chain.model3"


def test_outputs_of_one_algorithm_are_inputs_of_the_next(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    with rasterio.open(scene) as source:
        left, bottom, right, top = source.bounds
    halves = [box(left, bottom, left + 10, top), box(left + 10, bottom, right, top)]
    zones = tmp_path / "zones.gpkg"
    geopandas.GeoDataFrame({"name": ["west", "east"]}, geometry=halves, crs="EPSG:32640").to_file(zones)
    made = {
        "classes": tmp_path / "classes.tif",
        "polygons": tmp_path / "polygons.gpkg",
        "areas": tmp_path / "areas.csv",
    }
    outputs = {"predict:classes": made["classes"], "polygons:polygons": made["polygons"], "areas:areas": made["areas"]}
    inputs: dict[str, object] = {"scene": scene, "zones": zones, "model": "fake", **outputs}
    done = Headless.make(tmp_path / "home", engine(tmp_path)).run(str(CHAIN), inputs)
    assert done.code == 0, done.said
    with rasterio.open(made["classes"]) as source:
        labels = source.read(1)
    polygons, areas = geopandas.read_file(made["polygons"], layer="polygons"), geopandas.read_file(made["areas"])
    counted = {int(v): int(n) for v, n in zip(*np.unique(labels, return_counts=True), strict=True)}
    assert len(counted) > 1
    assert polygons.groupby("class_id")["pixels"].sum().to_dict() == counted
    found = areas.astype({"class_id": int, "pixels": int}).groupby("class_id")["pixels"].sum()
    assert found[found > 0].to_dict() == counted
    assert set(areas["zone"]) == {"1", "2"}
