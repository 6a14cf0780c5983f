"""``rs-segment models``: the models that are there, and their cards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .command import Command, answer

if TYPE_CHECKING:
    from rs_segment import ModelCard


@click.group()
def models() -> None:
    """The models that are there, and their cards."""


@models.command("list", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def list_models(as_json: bool) -> None:
    """All models: those that came with packages, and those in the folders of RS_SEGMENT_MODELS."""
    from rs_segment.registry import models as all_models

    found = all_models()
    lines = []
    for m in found:
        classes = ", ".join(c.name for c in m.card.classes)
        lines.append(f"{m.card.name}  ({'shipped' if m.shipped else m.path})")
        lines.append(f"  {m.card.description}")
        lines.append(f"  reads {', '.join(m.card.bands)} ({m.card.dtype}); knows {classes}")
    none = "no models; put folders with a model.json into a folder and name that in RS_SEGMENT_MODELS"
    rows = [{"name": m.card.name, "path": str(m.path), "shipped": m.shipped} for m in found]
    answer(rows, "\n".join(lines) or none, as_json, err=False)


@models.command("show", cls=Command)
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="The card as it is stored: a STAC Item with the MLM extension.")
def show_model(model: str, as_json: bool) -> None:
    """The card of MODEL, a name or a folder: what it reads, what it knows, how good it is."""
    from rs_segment.registry import find

    found = find(model)
    stored = json.loads((found.path / "model.json").read_text(encoding="utf-8"))
    answer(stored, "\n".join(described(found.card, str(found.path))), as_json, err=False)


def described(card: ModelCard, folder: str) -> Iterator[str]:
    """A card for people, line by line."""
    low, high = card.pixel_range
    yield f"{card.name}\n  {card.description}"
    yield f"  folder       {folder}"
    yield f"  reads        {', '.join(card.bands)} as {card.dtype}, {low:g} to {high:g}"
    yield f"  resolution   {_resolution(card)}"
    yield f"  tiles        stride {card.stride} px, context {card.halo} px on each side, {card.mode}"
    yield f"  licence      {card.licence or 'not stated'}"
    for c in card.classes:
        yield f"  class {c.value:<6} {c.color}  {c.name}"
    yield from listed(card.training, "  ")


def listed(facts: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Facts, one a line, those within others farther in."""
    for key, value in facts.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from listed(value, indent + "  ")
        else:
            yield f"{indent}{name}: {value}"


def _resolution(card: Any) -> str:
    if card.resolution is not None:
        return f"{card.resolution:g} m; other scenes are warped to it"
    if card.resolution_limits is None:
        return "not stated"
    return f"not known; scenes between {card.resolution_limits[0]:g} and {card.resolution_limits[1]:g} m are accepted"
