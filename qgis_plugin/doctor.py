"""``rssegment:doctor``: what is installed, what computes, what is missing and what to do."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    Qgis,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputString,
    QgsProcessingParameterFileDestination,
)

from .algorithm import Algorithm
from .engine import find
from .handshake import ask
from .host import Outcome
from .modelinfo import listed


class Doctor(Algorithm):
    """See the module."""

    NAME = "doctor"
    TITLE = "Check the engine"
    GROUP = "engine"
    ICON = "engine"
    TAGS = ("doctor", "diagnostics", "install", "gpu", "cuda", "torch", "version", "problem")
    SUMMARY = "What the engine is, what it computes on, which models it has, and what to do where something is missing."
    # Without an engine it runs all the same, and says what to do.
    NEEDS_ENGINE = False

    def define(self) -> None:
        """Add the parameters and the outputs."""
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", "Report", "HTML files (*.html)", None, True),
            "",
            "A page with all of it, for a report of a problem.",
        )
        self.addOutput(QgsProcessingOutputString("VERSION", "Version of the engine"))
        self.addOutput(QgsProcessingOutputString("DEVICES", "Devices"))
        self.addOutput(QgsProcessingOutputString("MODELS", "Models"))

    def job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """``doctor``."""
        return ["doctor"]

    def outputs(
        self,
        outcome: Outcome,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """The page; what the engine has is remembered for the lists of models and devices."""
        engine = find()
        hello = ask(engine, feedback)
        facts = {
            "QGIS": Qgis.QGIS_VERSION,
            "engine": str(engine),
            "rs-segment": outcome.hello.get("version"),
            **outcome.result,
        }
        return {
            "OUTPUT": self.page(parameters, "OUTPUT", context, f"<h1>RS Segment</h1>{listed(facts)}"),
            "VERSION": outcome.hello.get("version"),
            "DEVICES": ", ".join(d["id"] for d in hello.get("devices", [])),
            "MODELS": ", ".join(m["name"] for m in hello.get("models", [])),
        }
