"""``rs-segment models``: the models that are there, and their cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from .command import Command


@click.group()
def models() -> None:
    """The models that are there, and their cards."""


@models.command("list", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def list_models(as_json: bool) -> None:
    """All models: those that came with packages, and those in the folders of RS_SEGMENT_MODELS."""
    from rs_segment.registry import models as all_models

    found = all_models()
    if as_json:
        rows = [{"name": m.card.name, "path": str(m.path), "shipped": m.shipped} for m in found]
        click.echo(json.dumps(rows, indent=2))
        return
    if not found:
        click.echo("no models; put folders with a model.json into a folder and name that in RS_SEGMENT_MODELS")
    for m in found:
        classes = ", ".join(c.name for c in m.card.classes)
        click.echo(f"{m.card.name}  ({'shipped' if m.shipped else m.path})")
        click.echo(f"  {m.card.description}")
        click.echo(f"  reads {', '.join(m.card.bands)} ({m.card.dtype}); knows {classes}")


@models.command("show", cls=Command)
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="The card as it is stored: a STAC Item with the MLM extension.")
def show_model(model: str, as_json: bool) -> None:
    """The card of MODEL, a name or a folder: what it reads, what it knows, how good it is."""
    from rs_segment.registry import find

    found = find(model)
    if as_json:
        click.echo((found.path / "model.json").read_text(encoding="utf-8"))
        return
    card = found.card
    click.echo(f"{card.name}\n  {card.description}")
    click.echo(f"  folder       {found.path}")
    low, high = card.pixel_range
    click.echo(f"  reads        {', '.join(card.bands)} as {card.dtype}, {low:g} to {high:g}")
    click.echo(f"  resolution   {_resolution(card)}")
    click.echo(f"  tiles        stride {card.stride} px, context {card.halo} px on each side, {card.mode}")
    click.echo(f"  licence      {card.licence or 'not stated'}")
    for c in card.classes:
        click.echo(f"  class {c.value:<6} {c.color}  {c.name}")
    tell(card.training, "  ")


def tell(facts: Mapping[str, Any], indent: str) -> None:
    """Print facts, one a line, those within others farther in."""
    for key, value in facts.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            click.echo(f"{indent}{name}")
            tell(value, indent + "  ")
        else:
            click.echo(f"{indent}{name}: {value}")


def _resolution(card: Any) -> str:
    if card.resolution is not None:
        return f"{card.resolution:g} m; other scenes are warped to it"
    if card.resolution_limits is None:
        return "not stated"
    return f"not known; scenes between {card.resolution_limits[0]:g} and {card.resolution_limits[1]:g} m are accepted"
