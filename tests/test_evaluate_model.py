"""Models on training sets: the score is of what ``segment`` writes; comparisons; reports that need nothing else."""

from __future__ import annotations

import csv
import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from fakes import COLORS, FakePredictor, make_card, make_pixels, make_scene
from rasterio.io import MemoryFile
from rasterio.windows import Window
from training_sets import grouped, patches, tif

from rs_segment import Outputs, Plan, segment
from rs_segment.accuracy import Confusion, Reliability
from rs_segment.card import ClassInfo, Scaling
from rs_segment.dataset import Dataset, Part, open_dataset
from rs_segment.errors import BandError, CancelledError, OptionError
from rs_segment.evaluation import (
    Evaluation,
    Pairs,
    Scoring,
    compare_csv,
    compare_figure,
    compare_models,
    compare_page,
    compare_text,
    evaluate_map,
    evaluate_model,
    evaluation_page,
    table_csv,
    table_text,
    training_report,
)
from rs_segment.pictures import Example, encoded

ORDER = Pairs.parse(["0=0", "1=1", "2=2"])


def predictor(classes: int = 4, names: tuple[str, ...] = (), **fields: Any) -> FakePredictor:
    card = make_card(classes=classes, **fields)
    if names:
        card = card.replace(classes=tuple(ClassInfo(i, name, COLORS[i]) for i, name in enumerate(names)))
    net = FakePredictor(card)
    return FakePredictor(card.replace(halo=net.halo))


def pairs_of_values(root: Path, sizes: list[tuple[int, int]], dtype: str = "uint8", **profile: Any) -> Dataset:
    """GeoTIFFs beside masks of values 0 to 2, one group."""
    for i, shape in enumerate(sizes):
        tif(root / "images" / f"p{i}.tif", make_pixels(shape, dtype=dtype, seed=i), **profile)
        tif(root / "masks" / f"p{i}.tif", patches(shape, 3, i), **profile)
    return open_dataset(root)


def written(net: FakePredictor, dataset: Dataset, folder: Path, plan: Plan, kind: str = "classes") -> list[Any]:
    """What ``segment`` writes for each image: "classes", or their "confidence"."""
    found = []
    for pair in dataset.pairs:
        target = folder / f"{pair.name.replace('/', '_')}.tif"
        outputs = Outputs(polygons=False, confidence=True, overwrite=True)
        result = segment(pair.image.path, target, net, plan=plan, outputs=outputs)
        with rasterio.open(getattr(result, kind)) as raster:
            found.append(raster.read(1))
    return found


@pytest.mark.parametrize("mode", ["exact", "blend"])
def test_the_score_is_of_what_segment_writes(tmp_path: Path, mode: Any) -> None:
    net, dataset = predictor(), pairs_of_values(tmp_path / "data", [(70, 45), (33, 90)])
    plan = Plan(mode=mode, tile=32, overlap=16)
    found = evaluate_model(net, dataset, scoring=Scoring(plan, pairs=ORDER))
    for said, pair, one in zip(written(net, dataset, tmp_path, plan), dataset.pairs, found.images, strict=True):
        truth = pair.read(pair.geobox.window).labels
        wanted = Confusion.of(truth, said, found.confusion.names)
        np.testing.assert_array_equal(one.confusion.matrix, wanted.matrix)
    assert found.confusion.total == 70 * 45 + 33 * 90
    assert found.hectares is not None
    assert found.hectares.sum() == pytest.approx(found.confusion.total * 0.25 / 10_000)
    assert found.reliability is not None
    assert found.reliability.count.sum() == found.confusion.total
    assert found.reliability.hits.sum() == found.confusion.hits.sum()


@pytest.mark.parametrize("mode", ["exact", "blend"])
def test_parts_of_an_image_see_what_lies_around_them(tmp_path: Path, mode: Any) -> None:
    net, dataset = predictor(), pairs_of_values(tmp_path / "data", [(150, 130)])
    scoring = Scoring(Plan(mode=mode, tile=32, overlap=16), pairs=ORDER)
    pair = dataset.pairs[0]
    # They begin and end inside the overlaps of tiles.
    some = ([Window(27, 41, 30, 21)], [Window(70, 5, 33, 17), Window(3, 100, 50, 20)])
    whole = evaluate_model(net, dataset, scoring=scoring)
    parts = [evaluate_model(net, dataset, [Part(pair, w) for w in windows], scoring) for windows in some]
    mask = np.zeros(pair.shape, np.bool_)
    for window in (*some[0], *some[1]):
        rows, cols = window.toslices()
        mask[rows, cols] = True
    assert sum(p.confusion.total for p in parts) == int(mask.sum()) <= whole.confusion.total
    said = written(net, dataset, tmp_path, scoring.plan)[0]
    truth = np.where(mask, pair.read(pair.geobox.window).labels, 255)
    wanted = Confusion.of(truth, said, whole.confusion.names)
    np.testing.assert_array_equal(sum(p.confusion.matrix for p in parts), wanted.matrix)
    sure = written(net, dataset, tmp_path, scoring.plan, "confidence")[0][truth != 255] / 254
    told = Reliability.of(sure, (said == truth)[truth != 255])
    found = [p.reliability for p in parts if p.reliability is not None]
    np.testing.assert_array_equal(sum(r.count for r in found), told.count)
    np.testing.assert_array_equal(sum(r.hits for r in found), told.hits)


def test_a_scene_that_is_warped_is_scored_on_its_own_grid(tmp_path: Path) -> None:
    net, dataset = predictor(resolution=1.0), pairs_of_values(tmp_path / "data", [(90, 64)])
    plan = Plan(tile=32, overlap=16)
    found = evaluate_model(net, dataset, scoring=Scoring(plan, pairs=ORDER))
    said = written(net, dataset, tmp_path, plan)[0]
    wanted = Confusion.of(dataset.pairs[0].read(dataset.pairs[0].geobox.window).labels, said, found.confusion.names)
    np.testing.assert_array_equal(found.confusion.matrix, wanted.matrix)
    assert found.examples[0].image.shape[:2] == found.examples[0].reference.shape


def test_percentiles_are_those_of_each_image(tmp_path: Path) -> None:
    net = predictor(scaling=Scaling("percentile", (2.0,), (98.0,), True), dtype="uint16", value_range=(0, 10_000))
    dataset = pairs_of_values(tmp_path / "data", [(40, 40), (44, 36)], dtype="uint16")
    plan = Plan(tile=32, overlap=16)
    found = evaluate_model(net, dataset, scoring=Scoring(plan, pairs=ORDER))
    for said, pair, one in zip(written(net, dataset, tmp_path, plan), dataset.pairs, found.images, strict=True):
        wanted = Confusion.of(pair.read(pair.geobox.window).labels, said, found.confusion.names)
        np.testing.assert_array_equal(one.confusion.matrix, wanted.matrix)


def test_nodata_and_classes_left_out_do_not_count(tmp_path: Path) -> None:
    pixels = make_pixels((40, 50))
    pixels[:, 10:20] = 0
    make_scene(tmp_path / "a_rgb.tif", pixels=pixels, nodata=0)
    make_scene(tmp_path / "a_labels.tif", pixels=patches((40, 50), 3)[None])
    dataset = open_dataset(tmp_path)
    truth = patches((40, 50), 3)
    truth[10:20] = 255
    found = evaluate_model(predictor(), dataset, scoring=Scoring(pairs=Pairs.parse(["0=0", "1=1"], ["2"])))
    assert found.confusion.reference.tolist() == [int((truth == 0).sum()), int((truth == 1).sum()), 0, 0]
    assert "(left out)" in found.matching


def test_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    dataset = open_dataset(grouped(tmp_path))
    with pytest.raises(OptionError, match=r"has class .* but fake has 0 class 0.*--map"):
        evaluate_model(predictor(), dataset)
    named = Pairs.parse([f"{c.name}={c.value}" for c in dataset.classes])
    with pytest.raises(OptionError, match="fake has no class 9; it has 0 class 0, 1 class 1"):
        evaluate_model(
            predictor(), dataset, scoring=Scoring(pairs=Pairs.parse([f"{c.name}=9" for c in dataset.classes]))
        )
    with pytest.raises(BandError, match="3 bands were chosen"):
        evaluate_model(predictor(bands=4), dataset, scoring=Scoring(pairs=named))
    with pytest.raises(OptionError, match="no pixel of the images"):
        evaluate_model(
            predictor(), dataset, scoring=Scoring(pairs=Pairs(ignore=tuple(c.name for c in dataset.classes)))
        )
    with pytest.raises(OptionError, match="test-time augmentation"):
        evaluate_model(predictor(), dataset, scoring=Scoring(Plan(tta="d4"), pairs=named))
    with pytest.raises(OptionError, match="no image 'nowhere' to show"):
        compare_models([predictor()], dataset, scoring=Scoring(pairs=named, examples=("nowhere",)))


def test_a_run_can_be_stopped(tmp_path: Path) -> None:
    def stop(items: Any, total: int, label: str) -> Any:
        for i, item in enumerate(items):
            if i == 1:
                raise CancelledError("enough")
            yield item

    dataset = pairs_of_values(tmp_path, [(40, 40)] * 3)
    with pytest.raises(CancelledError):
        evaluate_model(predictor(), dataset, scoring=Scoring(pairs=ORDER), track=stop)


def test_progress_adds_up(tmp_path: Path) -> None:
    done = []

    def count(items: Any, total: int, label: str) -> Any:
        for item in items:
            done.append((item.work, total))
            yield item

    dataset = pairs_of_values(tmp_path, [(70, 40), (40, 40)])
    evaluate_model(predictor(), dataset, scoring=Scoring(Plan(tile=32, overlap=16), pairs=ORDER), track=count)
    assert sum(work for work, _ in done) == done[0][1] == 70 * 40 + 40 * 40


class Outline(HTMLParser):
    """What a page holds: its elements, whether they are balanced, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "action")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def check_page(text: str) -> Outline:
    page = Outline(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(link.startswith("data:image/") for link in page.links)
    assert "url(" not in text
    assert "nan" not in {t.strip().casefold() for t in page.texts}
    return page


EVIL = ("<b>a</b>", 'b"&', "c'</style><script>", "dé ü")


def evaluated(tmp_path: Path) -> Evaluation:
    return evaluate_model(
        predictor(names=EVIL), pairs_of_values(tmp_path, [(40, 52), (30, 30)]), scoring=Scoring(pairs=ORDER)
    )


def test_pages_hold_all_that_they_need_and_names_are_only_text(tmp_path: Path) -> None:
    found = evaluated(tmp_path)
    text = evaluation_page(found, "rs-segment evaluate 'a<b>'")
    page = check_page(text)
    assert text == evaluation_page(found, "rs-segment evaluate 'a<b>'")
    for name in (*EVIL, "rs-segment evaluate 'a<b>'"):
        assert any(name in t for t in page.texts), name
    assert page.tags.count("img") == 4 * len(found.examples) == 8
    map_page = check_page(evaluation_page(on_disk(tmp_path), "rs-segment"))
    assert map_page.tags.count("img") == 3


def on_disk(tmp_path: Path) -> Evaluation:
    folder = tmp_path / "masks"
    return evaluate_map(folder / "p0.tif", folder / "p0.tif")


def test_tables_say_what_the_evaluation_says(tmp_path: Path) -> None:
    found = evaluated(tmp_path)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["accuracy"] == found.confusion.accuracy
    assert [c["name"] for c in told["classes"]] == list(EVIL)
    assert np.array(told["confusion"]["matrix"]).sum() == found.confusion.total
    rows = list(csv.DictReader(io.StringIO(table_csv(found))))
    assert len(rows) == 3 * (1 + len(EVIL))
    assert rows[0]["class"] == "all"
    assert float(rows[0]["accuracy"]) == pytest.approx(found.confusion.accuracy, abs=1e-6)
    assert {r["image"] for r in rows} == {"all", *(i.name for i in found.images)}
    lines = table_text(found)
    assert f"accuracy {found.confusion.accuracy:.3f}" in "\n".join(lines)


def test_the_figure_shows_each_model_beside_the_reference(tmp_path: Path) -> None:
    dataset = pairs_of_values(tmp_path, [(40, 52)] * 6)
    two, five = predictor(3), predictor(5, names=("class 0", "class 2", "class 1", "x", "y"))
    pairs = Pairs.parse(["0=class 0", "1=class 1", "2=class 2"])
    found = compare_models([two, five], dataset, scoring=Scoring(pairs=pairs))
    assert [c.name for c in found.classes] == ["class 0", "class 1", "class 2", "x", "y"]
    assert [row[0].name for row in found.examples] == ["p0", "p2", "p3", "p5"]
    assert found.names == ("fake (1)", "fake (2)")
    for row, place in zip(found.examples, (0, 2, 3, 5), strict=True):
        np.testing.assert_array_equal(row[0].reference, patches((40, 52), 3, place))
        np.testing.assert_array_equal(row[0].reference, row[1].reference)
    figure = compare_figure(found)
    assert figure.shape[1] == 4 * 310 + 10
    shown = {tuple(c) for c in figure.reshape(-1, 3).tolist()}
    assert {c.rgb for c in found.classes} <= shown
    data = encoded(figure)
    assert data == encoded(compare_figure(found))
    with MemoryFile(data) as memory, pytest.warns(rasterio.errors.NotGeoreferencedWarning), memory.open() as opened:
        np.testing.assert_array_equal(opened.read().transpose(1, 2, 0), figure)
    page = check_page(compare_page(found, "rs-segment compare"))
    assert page.tags.count("img") == 4 * 4
    rows = list(csv.DictReader(io.StringIO(compare_csv(found))))
    assert {r["model"] for r in rows} == set(found.names)
    assert len(compare_text(found)) == 3
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_report_of_a_training_takes_what_there_is() -> None:
    card = make_card(classes=3, name="my-model", description="<fields>", network={"arch": "unet"})
    confusion = Confusion(np.array([[5, 1, 0], [0, 7, 0], [0, 0, 0]]), ("class 0", "class 1", "class 2"))
    labels = np.zeros((20, 30), np.uint8)
    sample = Example("a<1>", np.zeros((20, 30, 3), np.uint8), labels, labels, math.nan)
    history = [
        {"epoch": 1, "train loss": 2.0, "learning rate": 0.1},
        {"epoch": 2, "train loss": math.nan, "validation loss": 1.5, "learning rate": 0.1},
        {"epoch": 3, "train loss": 1.0, "validation loss": 1.2, "mean IoU": 0.4, "learning rate": 0.05},
    ]
    reliability = Reliability.of(np.linspace(0.3, 1, 50), np.arange(50) > 20)
    text = training_report(
        history, confusion, reliability, [sample], card, "rs-segment train x", [("data", "x")], ["it leaks"]
    )
    page = check_page(text)
    for wanted in ("it leaks", "rs-segment train x", "a<1>", "Learning rate", "train loss", "<fields>"):
        assert any(wanted in t for t in page.texts), wanted
    assert page.tags.count("svg") == 5
    check_page(training_report([], Confusion.empty(("a", "b", "c")), None, [], card, ""))
    check_page(training_report([{"loss": 1.0}], confusion, Reliability.empty(), [], card, ""))
