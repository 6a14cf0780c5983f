"""The plugin on a real scene with the shipped model: each tool by ``qgis_process``, one on what another has made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from qgis_desktop import engine
from qgis_headless import Headless
from rasterio.windows import Window
from shapely.geometry import box

pytestmark = pytest.mark.qgis

SCENE = Path(__file__).resolve().parents[1] / "examples" / "dubai_tile3.tif"
# Water, a road, buildings and plants.
PIECE = Window(900, 1250, 256, 224)


def test_every_tool_works_on_a_real_scene(tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    with rasterio.open(SCENE) as source:
        pixels, transform = source.read(window=PIECE), source.window_transform(PIECE)
        profile = {"count": 3, "dtype": "uint8", "crs": source.crs, "transform": transform}
    scene = scenes / "dubai.tif"
    with rasterio.open(scene, "w", driver="GTiff", height=PIECE.height, width=PIECE.width, **profile) as target:
        target.write(pixels)
        left, bottom, right, top = target.bounds
    halves = [box(left, bottom, left + 50, top), box(left + 50, bottom, right, top)]
    zones = tmp_path / "zones.gpkg"
    geopandas.GeoDataFrame({"side": ["west", "east"]}, geometry=halves, crs="EPSG:32640").to_file(zones)
    qgis = Headless.make(tmp_path / "home", engine(tmp_path))

    def run(name: str, **inputs: Any) -> dict[str, Any]:
        done = qgis.run(f"rssegment:{name}", inputs)
        assert done.code == 0, done.said
        return done.results

    classes, polygons, areas = (tmp_path / name for name in ("classes.tif", "polygons.gpkg", "areas.csv"))
    run("predict", INPUT=scene, OUTPUT=classes)
    with rasterio.open(classes) as source:
        labels = source.read(1)
        assert (source.transform, source.shape) == (transform, (PIECE.height, PIECE.width))
    counted = {int(v): int(n) for v, n in zip(*np.unique(labels, return_counts=True), strict=True)}
    assert len(counted) > 2

    run("predictbatch", FOLDER=scenes, PATTERN="*.tif", OUTPUT=tmp_path / "maps")
    with rasterio.open(tmp_path / "maps" / "dubai_classes.tif") as source:
        assert (source.read(1) == labels).all()

    run("polygonize", INPUT=classes, OUTPUT=polygons)
    made = geopandas.read_file(polygons, layer="polygons")
    assert made.groupby("class_id")["pixels"].sum().to_dict() == counted

    run("classstats", INPUT=classes, ZONES=zones, FIELD="side", OUTPUT=areas)
    found = geopandas.read_file(areas).astype({"class_id": int, "pixels": int})
    assert set(found["zone"]) == {"west", "east"}
    assert found.groupby("class_id")["pixels"].sum().to_dict() == counted

    scores = run("evaluate", INPUT=classes, POLYGONS=polygons, FIELD="class", HTML=tmp_path / "scores.html")
    assert scores["ACCURACY"] == 1
    assert (tmp_path / "scores.html").stat().st_size > 10_000

    trained = run(
        "train",
        INPUT=scene,
        LABELS=polygons,
        FIELD="class",
        OUTPUT=tmp_path / "model",
        EPOCHS=1,
        SIZE=64,
        BATCH=4,
        BLOCK=64,
        BUFFER=8,
    )
    assert 0 < trained["ACCURACY"] <= 1
    assert run("modelinfo", MODEL="dubai-landcover")["NAME"] == "dubai-landcover"
    assert "dubai-landcover" in run("doctor")["MODELS"]
    again = tmp_path / "again.tif"
    run("predict", INPUT=scene, MODEL_FOLDER=tmp_path / "model", OUTPUT=again)
    with rasterio.open(again) as source:
        assert set(np.unique(source.read(1))) <= set(range(len(counted)))
