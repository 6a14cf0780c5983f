"""A scene that is done in parts gives the bytes of one run, whichever parts there are and whoever did them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import FakePredictor, StopAfter, make_card, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment import Length, Outputs, Plan, Shapes, View, segment
from rs_segment.errors import CancelledError, OutputExistsError
from rs_segment.parts import Share, folder_of
from rs_segment.segment import segment_part

PLAN = Plan(tile=32, overlap=16)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_parts_joined_are_the_bytes_of_one_run(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("parts")
    shape = data.draw(st.tuples(st.integers(1, 200), st.integers(1, 60)), "shape")
    scene = make_scene(folder / "scene.tif", shape, nodata=data.draw(st.sampled_from([None, 0])))
    card = make_card(**data.draw(st.sampled_from([{}, {"resolution": 1.0}, {"resolution": 0.3}]), "card"))
    predictor, plan = FakePredictor(card), Plan(data.draw(st.sampled_from(["exact", "blend"])), 32, 16)
    view = View(
        aoi=data.draw(st.sampled_from([None, (300000, 2799960, 300020, 2799995)]) if shape[0] > 90 else st.none())
    )
    outputs = data.draw(
        st.sampled_from(
            [
                Outputs(polygons=False),
                Outputs(confidence=True, probabilities=True, min_confidence=0.3),
                Outputs(shapes=Shapes(sieve=5, simplify=Length(2, "px"))),
            ]
        ),
        "outputs",
    )
    one, parts = folder / "one", folder / "parts"
    one.mkdir()
    parts.mkdir()
    segment(scene, one / "x.tif", predictor, view, plan, outputs=outputs)
    count = data.draw(st.integers(1, 9), "count")
    target = parts / "x.tif"
    folder_of(target).mkdir()
    for index in data.draw(st.lists(st.integers(1, count), max_size=12), "done"):
        segment_part(scene, Share(target, index, count), predictor, view, plan, outputs=outputs)
    segment(scene, target, predictor, view, plan, outputs=Outputs(**settings_of(outputs), resume=True))
    assert bytes_of(parts) == bytes_of(one)


def settings_of(outputs: Outputs) -> dict[str, Any]:
    names = ("confidence", "probabilities", "polygons", "min_confidence", "shapes")
    return {name: getattr(outputs, name) for name in names}


def looked_at(tmp_path: Path, parts: list[int], outputs: Outputs) -> int:
    """How many tiles the network sees when some of four parts are there."""
    scene, target = tmp_path / "scene.tif", tmp_path / "x.tif"
    folder_of(target).mkdir()
    for index in parts:
        segment_part(scene, Share(target, index, 4), FakePredictor(make_card()), None, PLAN, outputs=outputs)
    predictor = FakePredictor(make_card(), batch=1)
    segment(scene, target, predictor, None, PLAN, outputs=Outputs(polygons=False, resume=True, overwrite=True))
    assert not folder_of(target).exists()
    return len(predictor.seen)


def test_what_is_there_is_not_done_again_and_what_was_decided_otherwise_is(tmp_path: Path) -> None:
    make_scene(tmp_path / "scene.tif", (144, 30))
    plain = Outputs(polygons=False)
    assert looked_at(tmp_path, [], plain) == 8
    assert looked_at(tmp_path, [2, 3], plain) == 4
    assert looked_at(tmp_path, [1, 2, 3, 4], plain) == 0
    assert looked_at(tmp_path, [1, 2, 3, 4], Outputs(polygons=False, min_confidence=0.2)) == 8


def test_a_part_is_whole_or_absent_and_made_once(tmp_path: Path) -> None:
    scene, share = make_scene(tmp_path / "scene.tif", (144, 30)), Share(tmp_path / "x.tif", 2, 3)
    with pytest.raises(OutputExistsError, match="another process has put the parts"):
        segment_part(scene, share, FakePredictor(make_card()), None, PLAN)
    share.folder.mkdir()
    with pytest.raises(CancelledError):
        segment_part(scene, share, FakePredictor(make_card()), None, PLAN, track=StopAfter(1))
    assert not list(share.folder.iterdir())
    segment_part(scene, share, FakePredictor(make_card()), None, PLAN)
    again = FakePredictor(make_card())
    segment_part(scene, share, again, None, PLAN)
    assert not again.seen
    (made,) = share.folder.iterdir()
    made.write_bytes(made.read_bytes()[:500])
    assert looked_at_whole(scene, share) == 8


def looked_at_whole(scene: Path, share: Share) -> int:
    predictor = FakePredictor(make_card(), batch=1)
    segment(scene, share.target, predictor, None, PLAN, outputs=Outputs(resume=True))
    return len(predictor.seen)


def test_shares_are_all_rows_once() -> None:
    for count in range(1, 9):
        for tiles in range(20):
            rows = [row for index in range(1, count + 1) for row in Share(Path("x"), index, count).rows(tiles)]
            assert rows == list(range(tiles))
