"""The laws of a whole run, with real GeoTIFFs and a network that needs no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from fakes import NORTH_UP, ROTATED, SOUTH_UP, FakePredictor, StopAfter, make_card, make_pixels, make_scene, one_pass
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

from rs_segment import NODATA, UNCLASSIFIED, Compute, Outputs, Plan, Scaling, Segmentation, View, products, segment
from rs_segment.errors import (
    BandError,
    CancelledError,
    DiskFullError,
    GridError,
    ModelError,
    OptionError,
    OutputExistsError,
    PixelTypeError,
    SceneError,
)
from rs_segment.polygons.sieve import sieve
from rs_segment.shaping import Length, Shapes, Size

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PREDICTOR = FakePredictor(make_card())
PLAN = Plan(tile=32, overlap=16)
SHAPED = Shapes(simplify=Length(1, "px"), smooth=Length(0.5, "px"), min_area=Size(12, "px"), sieve=5)


def run(scene: Path, output: Path | None = None, **options: Any) -> Segmentation:
    settings_ = {"model": PREDICTOR, "plan": PLAN, "outputs": Outputs(polygons=False, overwrite=True), **options}
    return segment(scene, output, **settings_)


def labels(path: Path) -> Any:
    with rasterio.open(path) as found:
        return found.read(1)


def whole(scene: Path, predictor: FakePredictor = PREDICTOR) -> Any:
    with rasterio.open(scene) as found:
        return one_pass(predictor, found.read(), found.dataset_mask() > 0)


def polygons(found: Segmentation) -> Any:
    assert found.polygons is not None
    return geopandas.read_file(found.polygons, layer=found.polygons.stem)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    tile=st.sampled_from([32, 48, 64]),
    readers=st.sampled_from([1, 4]),
    batch=st.sampled_from([1, 4]),
    tiled=st.booleans(),
)
def test_tiled_equals_whole(
    tmp_path_factory: pytest.TempPathFactory, shape: Any, tile: int, readers: int, batch: int, tiled: bool
) -> None:
    folder = tmp_path_factory.mktemp("law")
    blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tiled else {}
    scene = make_scene(folder / "scene.tif", shape, **blocks)
    found = run(
        scene,
        model=FakePredictor(make_card(), batch=batch),
        plan=Plan(tile=tile, overlap=16),
        compute=Compute(readers=readers),
    )
    np.testing.assert_array_equal(labels(found.classes), whole(scene))
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED, Affine.identity()])
@pytest.mark.parametrize("crs", ["EPSG:32640", "EPSG:4326", None])
@pytest.mark.parametrize("kind", ["cog", "gtiff"])
def test_the_grid_of_the_result_is_that_of_the_scene(tmp_path: Path, transform: Affine, crs: Any, kind: Any) -> None:
    if crs == "EPSG:4326" and transform != Affine.identity():
        transform = Affine.translation(55, 25) * Affine.scale(1e-5) * Affine(*transform[:2], 0, *transform[3:5], 0)
    scene = make_scene(tmp_path / "scene.tif", transform=transform, crs=crs)
    found = run(scene, outputs=Outputs(confidence=True, probabilities=True, format=kind))
    assert found.confidence is not None
    assert found.probabilities is not None
    with rasterio.open(scene) as source:
        for path in (found.classes, found.confidence, found.probabilities):
            with rasterio.open(path) as target:
                assert target.shape == source.shape
                assert target.transform.almost_equals(source.transform, 1e-9)
                assert target.crs == source.crs
                assert set(target.dtypes) == {"uint8"}
                assert target.nodata == NODATA
    assert (crs is None) == any("no CRS" in note for note in found.notes)


def test_no_data_stays_no_data_however_the_file_says_it(tmp_path: Path) -> None:
    holes = np.zeros((61, 47), np.bool_)
    holes[:20, :11] = holes[50:, 30:] = True
    pixels = make_pixels((61, 47))
    tagged = np.where(holes, 0, pixels).astype(np.uint8)
    tagged[0, 30, 30] = 0  # dark in one band only: data
    floats = np.where(holes, np.nan, pixels / 255).astype(np.float32)
    alpha = np.concatenate([pixels, np.where(holes, 0, 255)[None].astype(np.uint8)])
    ten = FakePredictor(make_card(dtype="float32"))
    scenes = {
        "tag": (make_scene(tmp_path / "tag.tif", pixels=tagged, nodata=0), PREDICTOR),
        "mask": (make_scene(tmp_path / "mask.tif", pixels=pixels, mask=~holes), PREDICTOR),
        "alpha": (make_scene(tmp_path / "alpha.tif", pixels=alpha, photometric="RGB", alpha="YES"), PREDICTOR),
        "nan": (make_scene(tmp_path / "nan.tif", pixels=floats), ten),
        "none": (make_scene(tmp_path / "none.tif", pixels=tagged), PREDICTOR),
    }
    for kind, (scene, predictor) in scenes.items():
        found = labels(run(scene, model=predictor).classes)
        missing = np.zeros_like(holes) if kind == "none" else holes
        np.testing.assert_array_equal(found == NODATA, missing, err_msg=kind)


def test_a_scene_without_any_data_gives_an_empty_map_and_says_so(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", pixels=np.zeros((3, 61, 47), np.uint8), nodata=0)
    predictor = FakePredictor(make_card())
    found = run(scene, model=predictor, outputs=Outputs())
    assert (labels(found.classes) == NODATA).all()
    assert predictor.seen == []
    assert any("no pixel" in note for note in found.notes)
    assert len(polygons(found)) == 0


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED])
def test_polygons_burnt_back_are_the_map(tmp_path: Path, transform: Affine) -> None:
    pixels = make_pixels((61, 47))
    pixels[:, :9, :9] = 0
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels, nodata=0, transform=transform)
    found = run(scene, outputs=Outputs(min_confidence=0.3, confidence=True))
    assert found.confidence is not None
    layer = polygons(found)
    classes, confidence = labels(found.classes), labels(found.confidence)
    burnt = rasterize(
        zip(layer.geometry, layer.class_id, strict=True), classes.shape, fill=NODATA, transform=transform, dtype="uint8"
    )
    np.testing.assert_array_equal(burnt, classes)
    assert layer.geometry.is_valid.all()
    for area in found.areas:
        mine = layer[layer.class_id == area.value]
        assert mine.pixels.sum() == area.pixels == (classes == area.value).sum()
        assert mine.area_m2.sum() == pytest.approx(area.area_m2)
        assert mine.geometry.area.sum() == pytest.approx(area.area_m2)
        if area.pixels:
            mean = confidence[classes == area.value].mean() / 254
            assert np.average(mine.confidence, weights=mine.pixels) == pytest.approx(mean, abs=1e-6)
    assert sum(a.share for a in found.areas) == pytest.approx(1)


def test_polygons_are_drawn_as_asked_and_the_map_is_sieved(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", (130, 90))
    plain = run(scene, tmp_path / "plain.tif", outputs=Outputs())
    found = run(scene, tmp_path / "shaped.tif", outputs=Outputs(shapes=SHAPED))
    sieved = sieve(labels(plain.classes), SHAPED.sieve)
    np.testing.assert_array_equal(labels(found.classes), sieved)
    assert [area.pixels for area in found.areas] == [int((sieved == area.value).sum()) for area in found.areas]
    layer, exact = polygons(found), polygons(plain)
    assert len(layer) < len(exact)
    assert layer.pixels.min() >= 12
    assert layer.pixels.sum() == exact.pixels.sum() == sieved.size
    assert shapely.coverage_is_valid(layer.geometry.values)
    assert shapely.get_num_coordinates(layer.geometry.values).sum() < 0.8 * exact.geometry.count_coordinates().sum()
    assert any("generalised" in note for note in found.notes)


def test_classes_can_be_left_out_of_the_polygons(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    found = run(scene, outputs=Outputs(shapes=Shapes(skip=("class 1", 2), dissolve=True)))
    assert set(polygons(found).class_id) == {0, 3} & set(labels(found.classes).ravel())
    assert set(polygons(found).geometry.geom_type) == {"MultiPolygon"}
    with pytest.raises(OptionError, match="no class 'Forest'"):
        run(scene, tmp_path / "other.tif", outputs=Outputs(shapes=Shapes(skip=("Forest",))))


def test_unclassified_is_a_value_of_its_own(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    sure = run(scene, tmp_path / "a.tif", outputs=Outputs(polygons=False, confidence=True))
    assert sure.confidence is not None
    before, confidence = labels(sure.classes), labels(sure.confidence)
    limit = float(np.median(confidence)) / 254
    found = run(scene, tmp_path / "b.tif", outputs=Outputs(polygons=False, min_confidence=limit))
    unsure = confidence < limit * 254
    assert 0 < unsure.sum() < unsure.size
    np.testing.assert_array_equal(labels(found.classes), np.where(unsure, UNCLASSIFIED, before))
    assert found.areas[-1].name == "unclassified"
    assert found.areas[-1].pixels == unsure.sum()


@pytest.mark.parametrize("mode", ["exact", "blend"])
def test_an_area_of_interest_has_the_labels_of_the_whole_and_reads_no_more_than_it_needs(
    tmp_path: Path, mode: Any
) -> None:
    scene = make_scene(tmp_path / "scene.tif", (150, 170))
    plan = Plan(mode, 32, 16)
    everywhere = labels(run(scene, tmp_path / "all.tif", plan=plan).classes)
    left, top = NORTH_UP * (31, 101)
    right, bottom = NORTH_UP * (40, 120)
    predictor = FakePredictor(make_card(), batch=1)
    found = run(
        scene, tmp_path / "aoi.tif", plan=plan, model=predictor, view=View(aoi=f"{left},{bottom},{right},{top}")
    )
    inside = np.zeros((150, 170), np.bool_)
    inside[101:120, 31:40] = True
    np.testing.assert_array_equal(labels(found.classes), np.where(inside, everywhere, NODATA))
    assert len(predictor.seen) <= 9


def test_the_same_run_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", (70, 130))
    outputs = Outputs(confidence=True, probabilities=True)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = run(scene, tmp_path / "a" / "map.tif", outputs=outputs, model=FakePredictor(make_card(), batch=1))
    second = run(scene, tmp_path / "b" / "map.tif", outputs=outputs, model=FakePredictor(make_card(), batch=5))
    assert [digest(f) for f in first.files] == [digest(f) for f in second.files]
    assert {f.name for f in (tmp_path / "a").iterdir()} == {f.name for f in (tmp_path / "b").iterdir()}


@pytest.mark.parametrize("shapes", [Shapes(), SHAPED], ids=["exact", "shaped"])
@pytest.mark.parametrize("mode", ["exact", "blend"])
@pytest.mark.parametrize("stop", [1, 40, 150, 250])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any, stop: int, shapes: Shapes
) -> None:
    monkeypatch.setattr(products, "COMMIT_SECONDS", 0.0)
    scene = make_scene(tmp_path / "scene.tif", (1400, 60))
    outputs = Outputs(confidence=True, shapes=shapes)
    plan = Plan(mode, 32, 16)
    straight = run(scene, tmp_path / "straight.tif", plan=plan, outputs=outputs)
    with pytest.raises(CancelledError):
        run(scene, tmp_path / "again.tif", plan=plan, outputs=outputs, track=StopAfter(stop))
    assert not (tmp_path / "again.tif").exists()
    predictor = FakePredictor(make_card(), batch=1)
    again = replace(outputs, resume=True)
    resumed = run(scene, tmp_path / "again.tif", plan=plan, outputs=again, model=predictor)
    whole_run = FakePredictor(make_card(), batch=1)
    run(scene, tmp_path / "count.tif", plan=plan, model=whole_run)
    if stop == 250:
        assert len(predictor.seen) < 0.8 * len(whole_run.seen)
    assert resumed.areas == straight.areas
    assert digest(resumed.classes) == digest(straight.classes)
    for a, b in zip(resumed.files[1:], straight.files[1:], strict=True):
        if a.suffix == ".tif":
            assert digest(a) == digest(b)
    assert polygons(resumed).equals(polygons(straight))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("mode", ["exact", "blend"])
def test_what_lies_ahead_is_told_before_the_first_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    monkeypatch.setattr(products, "COMMIT_SECONDS", 0.0)
    scene, told = make_scene(tmp_path / "scene.tif", (1400, 60)), list[Any]()

    def track(items: Any, total: int, label: str) -> Any:
        for item in items:
            told.append(item)
            if len(told) == 250:
                raise CancelledError("enough")
            yield item

    again = Outputs(polygons=False, resume=True)
    with pytest.raises(CancelledError):
        run(scene, plan=Plan(mode, 32, 16), track=track, begin=told.append)
    first, second = told[0], len(told)
    run(scene, plan=Plan(mode, 32, 16), outputs=again, track=track, begin=told.append)
    assert (first.width, first.height, first.mode, first.device) == (60, 1400, mode, "cpu")
    assert told[second].tiles == len(told[second + 1 :]) < first.tiles


def test_resuming_another_plan_is_refused_with_the_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "COMMIT_SECONDS", 0.0)
    scene = make_scene(tmp_path / "scene.tif", (1400, 60))
    with pytest.raises(CancelledError):
        run(scene, track=StopAfter(250))
    with pytest.raises(OptionError, match="tile"):
        run(scene, plan=Plan(tile=64, overlap=16), outputs=Outputs(polygons=False, resume=True))
    run(scene, plan=Plan(tile=64, overlap=16), outputs=Outputs(polygons=False))


def test_a_failing_stage_stops_the_run_cleanly_and_is_the_one_reported(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", (400, 300), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    raw = bytearray(scene.read_bytes())
    raw[len(raw) // 4 : len(raw) * 3 // 4] = b"\xff" * (len(raw) * 3 // 4 - len(raw) // 4)
    scene.write_bytes(raw)
    with pytest.raises(SceneError, match="rows .* columns"):
        run(scene)

    class Broken(FakePredictor):
        def scores(self, *args: Any) -> Any:
            raise RuntimeError("the network fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        run(make_scene(tmp_path / "good.tif"), model=Broken(make_card()))
    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif", "good.tif"}


def test_a_result_is_never_overwritten_unasked(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    first = run(scene, outputs=Outputs(polygons=False))
    before = digest(first.classes)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        run(scene, outputs=Outputs(polygons=False))
    with pytest.raises(OptionError, match="scene itself"):
        run(scene, scene)
    with pytest.raises(OptionError, match=r"\.tif"):
        run(scene, tmp_path / "map.jpg")
    assert digest(first.classes) == before
    run(scene, outputs=Outputs(polygons=False, overwrite=True))


def test_scenes_that_do_not_fit_the_model_are_refused_with_what_to_do(tmp_path: Path) -> None:
    four = make_scene(tmp_path / "four.tif", bands=4, photometric="MINISBLACK")
    with pytest.raises(BandError, match="--bidx 1,2,3"):
        run(four)
    run(four, view=View(bands=(1, 2, 3)))
    deep = make_scene(tmp_path / "deep.tif", dtype="uint16")
    with pytest.raises(PixelTypeError, match="--rescale"):
        run(deep)
    run(deep, view=View(rescale=(0, 10_000)))
    coarse = make_scene(tmp_path / "coarse.tif", transform=NORTH_UP * Affine.scale(60))
    with pytest.raises(GridError, match="30 x 30 m"):
        run(coarse, model=FakePredictor(make_card(resolution_limits=(0.1, 10.0))))
    assert not list(tmp_path.glob("*_classes.tif")) or len(list(tmp_path.glob("*_classes.tif"))) == 2


@pytest.mark.parametrize("factor", [0.5, 0.73, 2.3])
def test_a_warped_scene_gives_labels_on_its_own_grid(tmp_path: Path, factor: float) -> None:
    pixels = np.zeros((3, 90, 80), np.uint8)
    pixels[:, :, 40:] = 250
    pixels[:, :45, :] += 1
    pixels[:, 80:, :10] = 0
    mask = np.ones((90, 80), np.bool_)
    mask[80:, :10] = False
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels, mask=mask)
    predictor = FakePredictor(make_card(classes=2, resolution=0.5 * factor), radius=0)
    found = run(scene, model=predictor, plan=Plan(tile=32, overlap=8))
    result = labels(found.classes)
    assert result.shape == (90, 80)
    assert (result[~mask] == NODATA).all()
    assert (result[mask] != NODATA).all()
    far = mask & (np.abs(np.arange(80) - 39.5) > 10)[None, :]
    np.testing.assert_array_equal(result[far], (pixels[0] > 100)[far])
    assert any("warped" in note for note in found.notes)


def test_percentiles_are_those_of_the_scene_not_of_a_tile(tmp_path: Path) -> None:
    ramp = np.linspace(1000, 5000, 64)[None, None, :].repeat(3, 0).repeat(64, 1).astype(np.uint16)
    scene = make_scene(tmp_path / "scene.tif", pixels=ramp)
    card = make_card(classes=2, dtype="uint16", stride=1, halo=0, scaling=Scaling("percentile", (0.0,), (100.0,)))
    seen: list[Any] = []

    class Spy(FakePredictor):
        def with_scaling(self, scaling: Scaling) -> FakePredictor:
            seen.append(scaling)
            return self

    run(scene, model=Spy(card.replace(scaling=Scaling()), 0), plan=Plan(tile=16, overlap=0))
    with pytest.raises(ModelError, match="resolved"):  # the spy keeps the card that is not
        run(scene, model=Spy(card, 0), plan=Plan(tile=16, overlap=0))
    assert seen[-1].kind == "min-max"
    assert seen[-1].a == (1000.0,) * 3
    assert seen[-1].b == (5000.0,) * 3


def test_the_result_says_how_it_was_made(tmp_path: Path) -> None:
    found = run(make_scene(tmp_path / "scene.tif"), outputs=Outputs(probabilities=True, polygons=False))
    with rasterio.open(found.classes) as raster:
        told = json.loads(raster.tags()["RS_SEGMENT"])
        assert told["model"] == "fake"
        assert told["tile"] == 32
        assert raster.colormap(1)[1][:3] == (0x84, 0x29, 0xF6)
        assert raster.overviews(1) == []
    assert found.probabilities is not None
    with rasterio.open(found.probabilities) as raster:
        assert raster.descriptions == ("class 0", "class 1", "class 2", "class 3")
    assert json.loads(json.dumps(found.to_dict()))["areas"][0]["name"] == "class 0"


def test_resume_never_replaces_what_it_did_not_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "COMMIT_SECONDS", 0.0)
    scene, target = make_scene(tmp_path / "scene.tif", (1400, 60)), tmp_path / "map.tif"
    target.write_text("precious")
    for _ in range(2):
        with pytest.raises(OutputExistsError):
            run(scene, target, outputs=Outputs(polygons=False, resume=True))
    target.unlink()
    with pytest.raises(CancelledError):
        run(scene, target, track=StopAfter(250))
    target.write_text("precious")
    with pytest.raises(OutputExistsError):
        run(scene, target, outputs=Outputs(polygons=False, resume=True))
    assert target.read_text() == "precious"
    target.unlink()
    run(scene, target, outputs=Outputs(polygons=False, resume=True))


def test_another_scene_of_the_same_name_and_size_is_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "COMMIT_SECONDS", 0.0)
    scene = make_scene(tmp_path / "scene.tif", (1400, 60))
    with pytest.raises(CancelledError):
        run(scene, track=StopAfter(250))
    make_scene(scene, pixels=make_pixels((1400, 60), seed=5))
    with pytest.raises(OptionError, match="scene_modified"):
        run(scene, outputs=Outputs(polygons=False, resume=True))


def test_results_never_replace_what_is_read(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "map_confidence.tif")
    before = digest(scene)
    with pytest.raises(OptionError, match="scene itself"):
        run(scene, tmp_path / "map.tif", outputs=Outputs(confidence=True, polygons=False, overwrite=True))
    aoi = tmp_path / "other.gpkg"
    box = geopandas.GeoSeries.from_wkt(["POLYGON ((300000 2799980, 300010 2799980, 300010 2800000, 300000 2799980))"])
    box.set_crs("EPSG:32640").to_file(aoi)
    with pytest.raises(OptionError, match="area of interest"):
        run(scene, tmp_path / "other.tif", view=View(aoi=aoi), outputs=Outputs(overwrite=True))
    assert digest(scene) == before


def test_files_of_another_image_with_the_same_name_are_left_alone(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "z.tiff", transform=Affine.identity(), crs=None)
    (tmp_path / "z.tfw").write_text("0.5\n0\n0\n-0.5\n300000\n2800000\n")
    run(scene, tmp_path / "z.tif", outputs=Outputs(polygons=False))
    run(scene, tmp_path / "z.tif", outputs=Outputs(polygons=False, overwrite=True))
    assert (tmp_path / "z.tfw").exists()
    make_scene(tmp_path / "y.tiff")
    (tmp_path / "y.qml").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"y\.qml"):
        run(tmp_path / "y.tiff", tmp_path / "y.tif", outputs=Outputs(polygons=False))
    assert (tmp_path / "y.qml").read_text() == "mine"


def test_an_error_at_the_start_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene(tmp_path / "scene.tif")

    def full(*args: Any) -> Any:
        raise DiskFullError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(products, "open_layer", full)
        with pytest.raises(DiskFullError):
            run(scene, outputs=Outputs())
    assert not list(tmp_path.glob(".*"))
    run(scene, outputs=Outputs())


def test_a_scene_finer_than_the_model_comes_back_in_bands_of_a_few_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tall: list[int] = []
    write = products.Products.write

    def spy(self: Any, band: Any) -> None:
        tall.append(band.window.height)
        write(self, band)

    monkeypatch.setattr(products.Products, "write", spy)
    scene = make_scene(tmp_path / "scene.tif", (2000, 20))
    run(scene, model=FakePredictor(make_card(resolution=16.0), radius=0), plan=Plan(tile=32, overlap=8))
    assert sum(tall) == 2000
    assert max(tall) <= 512


def test_what_another_run_left_beside_the_result_is_named(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    run(scene, outputs=Outputs(confidence=True))
    found = run(scene, outputs=Outputs(polygons=False, overwrite=True))
    assert any("scene_classes_confidence.tif, scene_classes.gpkg" in note for note in found.notes)


def test_augmentation_is_the_business_of_a_predictor_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="tta"):
        run(make_scene(tmp_path / "scene.tif"), plan=Plan(tile=32, overlap=16, tta="d4"))
