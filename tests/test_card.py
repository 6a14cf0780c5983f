"""A card says all that a model promises, survives the trip through STAC, and refuses what it does not understand."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import make_card
from hypothesis import given, settings
from hypothesis import strategies as st
from stac_schemas import problems

from rs_segment.card import DTYPES, FILE, MAX_CLASSES, MLM, RASTER, ClassInfo, ModelCard, Scaling
from rs_segment.errors import ModelError

NUMBER = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 6))


@st.composite
def scalings(draw: st.DrawFn, bands: int) -> Scaling:
    kind = draw(st.sampled_from(["none", "min-max", "z-score", "fixed", "percentile"]))
    count = draw(st.sampled_from([1, bands]))
    low = tuple(draw(st.lists(NUMBER, min_size=count, max_size=count)))
    above = draw(st.lists(st.floats(0.5, 1000), min_size=count, max_size=count))
    if kind == "min-max":
        return Scaling("min-max", low, tuple(a + b for a, b in zip(low, above, strict=True)), draw(st.booleans()))
    if kind == "z-score":
        return Scaling("z-score", low, tuple(above))
    if kind == "fixed":
        return Scaling("fixed", (0.0,), tuple(above))
    if kind == "percentile":
        return Scaling("percentile", (draw(st.floats(0, 49)),), (draw(st.floats(51, 100)),), draw(st.booleans()))
    return Scaling()


@st.composite
def cards(draw: st.DrawFn) -> ModelCard:
    bands = draw(st.integers(1, 5))
    stride = draw(st.sampled_from([1, 2, 16, 32]))
    return make_card(
        bands,
        draw(st.integers(1, 9)),
        name=draw(st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{1,20}[A-Za-z0-9]", fullmatch=True)),
        dtype=draw(st.sampled_from(DTYPES)),
        scaling=draw(scalings(bands)),
        value_range=draw(st.none() | st.just((0.0, 10000.0))),
        resolution=draw(st.none() | st.floats(0.01, 1000)),
        resolution_tolerance=draw(st.sampled_from([0.0, 0.1, 0.5])),
        resolution_limits=draw(st.none() | st.just((0.1, 30.0))),
        stride=stride,
        halo=stride * draw(st.integers(0, 8)),
        mode=draw(st.sampled_from(["exact", "blend"])),
        precisions=draw(st.sampled_from([{}, {"bf16": {"agreement": 0.999, "miou_change": -0.0002}}])),
        network={"arch": "Unet", "encoder": "resnet34"},
        description=draw(st.sampled_from(["", "Land cover of one city."])),
        licence=draw(st.sampled_from(["", "MIT"])),
        training={"epochs": 3},
        weights_sha256=draw(st.sampled_from(["", "0f" * 32])),
    )


@settings(deadline=None, max_examples=100)
@given(cards())
def test_a_card_survives_stac_and_json(card: ModelCard) -> None:
    again = ModelCard.from_item(json.loads(json.dumps(card.to_item(weights_size=7), allow_nan=False)))
    a, b = (np.broadcast_arrays(np.zeros(len(card.bands)), c.scaling.a, c.scaling.b) for c in (card, again))
    assert np.array_equal(a, b)
    assert again.replace(scaling=card.scaling) == card
    assert (again.scaling.kind, again.scaling.clip) == (card.scaling.kind, card.scaling.clip)


@settings(deadline=None, max_examples=15)
@given(card=cards())
def test_an_item_is_valid_stac_and_mlm(card: ModelCard) -> None:
    item = card.to_item(weights_size=7)
    assert item["stac_extensions"] == [MLM, FILE, RASTER]
    assert problems(item) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("properties", "mlm:name"), ""),
        (("properties", "bands"), [{"name": "red"}]),
        (("assets", "weights", "file:checksum"), "no checksum"),
        (("assets", "weights", "raster:bands"), []),
    ],
)
def test_the_schemas_do_find_faults(path: tuple[str, ...], value: Any) -> None:
    item = make_card().to_item()
    change(*path, to=value)(item)
    assert problems(item)


def test_cards_that_tell_of_their_bands_among_the_properties_are_read() -> None:
    card = make_card()
    item = card.to_item()
    item["properties"]["bands"] = item["assets"]["weights"].pop("raster:bands")
    assert ModelCard.from_item(item) == card


TWO = make_card().classes[:2]
REFUSED: dict[str, dict[str, Any]] = {
    "name with a slash": {"name": "../evil"},
    "name with a line": {"name": "fake\n"},
    "no name": {"name": ""},
    "no bands": {"bands": ()},
    "band twice": {"bands": ("red", "Red", "blue")},
    "band of spaces": {"bands": ("red", " ", "blue")},
    "band of a million letters": {"bands": ("red", "x" * 10**6, "blue")},
    "pixel type": {"dtype": "complex64"},
    "no classes": {"classes": ()},
    "too many classes": {"classes": tuple(ClassInfo(i, f"c{i}", "#000000") for i in range(MAX_CLASSES + 1))},
    "class values": {"classes": (ClassInfo(1, "a", "#000000"),)},
    "class without a name": {"classes": (ClassInfo(0, " ", "#000000"),)},
    "class name with a line": {"classes": (ClassInfo(0, "a\nb", "#000000"),)},
    "class name from right to left": {"classes": (ClassInfo(0, "a\u202eb", "#000000"),)},
    "colour": {"classes": (ClassInfo(0, "a", "red"),)},
    "colour without #": {"classes": (ClassInfo(0, "a", "123456"),)},
    "class name twice": {"classes": (TWO[0], ClassInfo(1, TWO[0].name, "#000000"))},
    "stride 0": {"stride": 0},
    "halo that is no multiple": {"stride": 4, "halo": 6},
    "halo below 0": {"stride": 4, "halo": -4},
    "mode": {"mode": "guess"},
    "resolution 0": {"resolution": 0.0},
    "resolution NaN": {"resolution": float("nan")},
    "tolerance": {"resolution_tolerance": float("nan")},
    "limits the wrong way round": {"resolution_limits": (3.0, 1.0)},
    "endless limits": {"resolution_limits": (0.0, float("inf"))},
    "value range": {"value_range": (5.0, 5.0)},
    "scaling by 0": {"scaling": Scaling("z-score", (0.0,), (0.0,))},
    "scaling of two bands": {"scaling": Scaling("min-max", (0.0, 0.0), (1.0, 1.0))},
    "scaling with NaN": {"scaling": Scaling("min-max", (float("nan"),), (1.0,))},
    "scaling upside down": {"scaling": Scaling("min-max", (2.0,), (1.0,))},
    "percentiles": {"scaling": Scaling("percentile", (-1.0,), (98.0,))},
    "unknown scaling": {"scaling": Scaling("log")},  # type: ignore[arg-type]
    "checksum": {"weights_sha256": "abc"},
    "precision that is no table": {"precisions": {"bf16": 5}},
    "precision without agreement": {"precisions": {"bf16": {"miou_change": 0.0}}},
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_card_that_cannot_be_is_refused_in_a_sentence(what: str) -> None:
    with pytest.raises(ModelError) as caught:
        make_card().replace(**REFUSED[what])
    assert 15 < len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def change(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(item: dict[str, Any]) -> None:
        here: Any = item
        for key in path[:-1]:
            here = here[key]
        here[path[-1]] = to

    return apply


PROPS, INPUT, OUTPUT = "properties", ("properties", "mlm:input", 0), ("properties", "mlm:output", 0)
CLASS = (*OUTPUT, "classification:classes", 0)
HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "a function to run before": change(
        *INPUT, "pre_processing_function", to={"format": "python", "expression": "os:system"}
    ),
    "a function to run behind": change(*OUTPUT, "post_processing_function", to={"format": "python", "expression": "x"}),
    "a band that is computed": change(*INPUT, "bands", 0, to={"name": "ndvi", "format": "python", "expression": "x"}),
    "scaling by a formula": change(
        *INPUT, "value_scaling", to=[{"type": "processing", "expression": "__import__('os')"}]
    ),
    "two inputs": lambda item: item[PROPS]["mlm:input"].append({}),
    "no output": change(PROPS, "mlm:output", to=[]),
    "properties that are a list": change(PROPS, to=[]),
    "assets that are a list": change("assets", to=[1]),
    "weights that are a word": change("assets", "weights", to="model.pt"),
    "checksum that is a number": change("assets", "weights", "file:checksum", to=12),
    "bands that are numbers": change(*INPUT, "bands", to=[1, 2, 3]),
    "bands that are one word": change(*INPUT, "bands", to="red"),
    "a class that is a word": change(*CLASS, to="water"),
    "a value that is a truth": change(*CLASS, "value", to=True),
    "a huge value": change(*CLASS, "value", to=10**400),
    "a huge resolution": change(PROPS, "rs_segment:resolution", to=10**400),
    "a huge scaling": change(*INPUT, "value_scaling", to=[{"type": "min-max", "minimum": 0, "maximum": 10**400}]),
    "a colour that is a script": change(*CLASS, "color_hint", to="<script>"),
    "a halo that is a word": change(PROPS, "rs_segment:halo", to="64"),
    "a mode that is a list": change(PROPS, "rs_segment:mode", to=["exact"]),
    "a pixel type that is a table": change(PROPS, "rs_segment:pixel_type", to={}),
    "scaling that is a number": change(*INPUT, "value_scaling", to=3),
    "scaling without ends": change(*INPUT, "value_scaling", to=[{"type": "min-max"}]),
    "percentiles that are words": change(
        PROPS, "rs_segment:scaling", to={"type": "percentile", "low": "2", "high": "98"}
    ),
    "precisions that are a list": change(PROPS, "rs_segment:precisions", to=[]),
    "limits that are words": change(PROPS, "rs_segment:resolution_limits", to=["a", "b"]),
    "limits of one": change(PROPS, "rs_segment:resolution_limits", to=[1]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_item_is_refused(what: str, tmp_path: Path) -> None:
    item = copy.deepcopy(make_card().to_item())
    HOSTILE[what](item)
    with pytest.raises(ModelError) as caught:
        ModelCard.from_item(item)
    assert len(str(caught.value)) < 400
    file = tmp_path / "model.json"
    file.write_text(json.dumps(item))
    with pytest.raises(ModelError, match=r"model\.json"):
        ModelCard.read(file)


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "null",
        "7",
        '{"properties": null}',
        nested(100_000),
        '{"properties": {"mlm:name": NaN}}',
        json.dumps(make_card(resolution=1.0).to_item()).replace(
            '"rs_segment:resolution": 1.0', '"rs_segment:resolution": NaN'
        ),
        "9" * 5000,
        " " * 4_000_001,
        "\x00",
    ],
    ids=[
        "empty",
        "words",
        "list",
        "null",
        "number",
        "no properties",
        "deep",
        "NaN",
        "NaN deep",
        "digits",
        "huge",
        "NUL",
    ],
)
def test_a_file_that_is_no_card_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_text(text)
    with pytest.raises(ModelError) as caught:
        ModelCard.read(file)
    assert len(str(caught.value)) < 500 + len(str(file))


def test_bytes_folders_and_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        ModelCard.read(tmp_path / "model.json")
    with pytest.raises(ModelError, match="cannot be read"):
        ModelCard.read(tmp_path)
    (tmp_path / "model.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ModelError, match="cannot be read"):
        ModelCard.read(tmp_path / "model.json")


def tree() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    return st.recursive(
        leaves, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=5), t, max_size=3), max_leaves=5
    )


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_whatever_replaces_a_part_is_read_or_refused(data: st.DataObject) -> None:
    item = copy.deepcopy(
        make_card(resolution=1.0, resolution_limits=(0.5, 2.0), scaling=Scaling("fixed", (0.0,), (255.0,))).to_item()
    )
    here: Any = item
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(here[key], (dict, list)) or not here[key] or data.draw(st.integers(0, 3)) == 0:
            break
        here = here[key]
    here[key] = data.draw(tree())
    try:
        found = ModelCard.from_item(item)
    except ModelError:
        return
    assert found.scaling.kind == "percentile" or np.isfinite(found.scaling.linear(len(found.bands))[1]).all()
    assert found.allows("bf16") in (True, False)
    json.dumps(found.to_item(), allow_nan=True)


def test_scalings_mean_what_they_say() -> None:
    x = np.array([10.0, 20.0, 40.0], np.float32)
    for scaling, want in [
        (Scaling(), x),
        (Scaling("min-max", (10.0,), (20.0,)), (x - 10) / 10),
        (Scaling("z-score", (1.0, 2.0, 3.0), (2.0, 4.0, 8.0)), (x - [1, 2, 3]) / [2, 4, 8]),
        (Scaling("fixed", (0.0,), (255.0,)), x / 255),
        (Scaling("percentile", (2.0,), (98.0,)).resolve(np.zeros(3), np.array([10.0, 0, 40])), x / [10, 1, 40]),
    ]:
        offset, factor = scaling.linear(3)
        assert (x - offset) * factor == pytest.approx(want)
        assert offset.dtype == factor.dtype == np.float32
    with pytest.raises(ModelError, match="resolved"):
        Scaling("percentile", (2.0,), (98.0,)).linear(3)


def test_reduced_precision_is_allowed_where_it_was_measured_to_cost_nothing() -> None:
    def allows(**found: float) -> bool:
        return make_card(precisions={"bf16": found}).allows("bf16")

    assert allows(agreement=0.996)
    assert allows(agreement=0.996, miou_change=-0.001)
    assert not allows(agreement=0.994)
    assert not allows(agreement=0.999, miou_change=-0.002)
    assert not make_card().allows("bf16")


def test_the_range_of_values_is_told_or_that_of_the_type() -> None:
    assert make_card().pixel_range == (0, 255)
    assert make_card(dtype="int16").pixel_range == (-32768, 32767)
    assert make_card(dtype="float32").pixel_range == (0, 1)
    assert make_card(dtype="uint16", value_range=(0.0, 10000.0)).pixel_range == (0, 10000)
