"""``rssegment:modelinfo``: the card of a model."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterFileDestination,
)

from .algorithm import Algorithm
from .host import Outcome
from .parameters import add_model, model

PREFIX = "rs_segment:"


class ModelInfo(Algorithm):
    """See the module."""

    NAME = "modelinfo"
    TITLE = "Model card"
    GROUP = "models"
    ICON = "engine"
    TAGS = ("model", "card", "classes", "bands", "legend", "accuracy", "licence")
    SUMMARY = "What a model reads, which classes it knows, on what it was trained, and how good it was found to be."

    def define(self) -> None:
        """Add the parameters and the outputs."""
        add_model(self)
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", "Card", "HTML files (*.html)", None, True),
            "",
            "A page with all of it.",
        )
        self.addOutput(QgsProcessingOutputString("NAME", "Name"))
        self.addOutput(QgsProcessingOutputString("BANDS", "Bands, in order"))
        self.addOutput(QgsProcessingOutputString("CLASSES", "Classes, by value"))
        self.addOutput(QgsProcessingOutputNumber("CLASS_COUNT", "Number of classes"))

    def job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """``models show MODEL``."""
        return ["models", "show", model(self, parameters, context)]

    def outputs(
        self,
        outcome: Outcome,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """The page, and what models of the designer may want."""
        told = outcome.result["properties"]
        bands = [b if isinstance(b, str) else b["name"] for b in told["mlm:input"][0]["bands"]]
        classes = told["mlm:output"][0]["classification:classes"]
        return {
            "OUTPUT": self.page(parameters, "OUTPUT", context, "".join(card(told, bands, classes))),
            "NAME": told["mlm:name"],
            "BANDS": ", ".join(bands),
            "CLASSES": ", ".join(f"{c['value']} {title(c)}" for c in classes),
            "CLASS_COUNT": len(classes),
        }


def card(told: dict[str, Any], bands: list[str], classes: list[dict[str, Any]]) -> Iterator[str]:
    """The card as HTML."""
    yield f"<h1>{escape(told['mlm:name'])}</h1><p>{escape(told.get('description') or '')}</p>"
    yield f"<p>Reads {escape(', '.join(bands))}. Licence: {escape(told.get('license') or 'not stated')}.</p>"
    yield "<table><tr><th></th><th>Value</th><th>Class</th></tr>"
    for c in classes:
        color = escape(c.get("color_hint") or "FFFFFF")
        yield f'<tr><td style="background:#{color}">&#160;&#160;&#160;</td><td>{c["value"]}</td>'
        yield f"<td>{escape(title(c))}</td></tr>"
    yield "</table>"
    yield listed({k[len(PREFIX) :]: v for k, v in told.items() if k.startswith(PREFIX)})


def title(info: dict[str, Any]) -> str:
    """What people call a class."""
    return str(info.get("title") or info["name"])


def listed(value: Any) -> str:
    """Plain data as HTML: lists in lists."""
    if isinstance(value, dict):
        inner = "".join(f"<li>{escape(str(k).replace('_', ' '))}: {listed(v)}</li>" for k, v in value.items())
        return f"<ul>{inner}</ul>"
    if isinstance(value, list):
        return escape(", ".join(map(str, value)))
    return escape(str(value))
