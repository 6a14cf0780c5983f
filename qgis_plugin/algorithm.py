"""What do all algorithms share? Parameters become a command line, the engine runs it, and its files become outputs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsFeature,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterString,
    QgsProcessingUtils,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QThread
from qgis.PyQt.QtGui import QIcon

from .engine import EngineError, find
from .handshake import heard
from .host import JobCanceled, JobFailed, Outcome, run

ICONS = Path(__file__).parent / "icons"
GROUPS = {"maps": "Class maps", "quality": "Accuracy and areas", "models": "Models", "engine": "Engine"}
# What algorithms make options of by themselves, wherever they have such a parameter.
ELSEWHERE = {
    "-o": "OUTPUT",
    "--model": "MODEL",
    "--aoi": "AOI",
    "--confidence-file": "CONFIDENCE",
    "--polygons-file": "POLYGONS",
}


class Algorithm(QgsProcessingAlgorithm):
    """One command of the engine.

    A subclass names itself in the constants, adds its parameters in ``define``, says in ``job`` what the engine is to
    do, and in ``outputs`` what came of it.
    """

    NAME = ""
    TITLE = ""
    GROUP = "maps"
    ICON = "map"
    TAGS: tuple[str, ...] = ()
    SUMMARY = ""
    HELP = ""
    CANCELED = "canceled; nothing was written"
    NEEDS_ENGINE = True

    def __init__(self) -> None:
        super().__init__()
        self._options: dict[str, str] = {}
        self._layers: dict[str, str] = {}

    def define(self) -> None:
        """Add the parameters and the outputs."""
        raise NotImplementedError

    def check(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """A sentence on what is wrong with the parameters, or ""."""
        return ""

    def prepare_job(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        """Keep what only the main thread may ask of layers."""

    def job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """The command line, without the program."""
        raise NotImplementedError

    def outputs(
        self,
        outcome: Outcome,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """The values of the outputs; every path in ``promised`` has been seen to be there."""
        raise NotImplementedError

    def promised(self, outcome: Outcome) -> list[str]:
        """The files that have to be there now."""
        return [path for _, path in outcome.artifacts]

    def add(
        self, parameter: QgsProcessingParameterDefinition, option: str = "", help: str = "", advanced: bool = False
    ) -> None:
        """Add a parameter.

        Args:
            option: The option of the command line that its value becomes; "" where ``job`` does that.
            help: What it means, its unit, and what an empty value does.
        """
        parameter.setHelp(help)
        if advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
        if option:
            self._options[parameter.name()] = option
        self.addParameter(parameter)

    def options(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """The command line of all parameters that have an option and another value than their default."""
        line: list[str] = []
        for name, option in self._options.items():
            definition = self.parameterDefinition(name)
            value = parameters.get(name)
            if value in (None, "", []) or value == definition.defaultValue():
                continue
            kind = definition.type()
            if kind == "boolean":
                line += [option] if self.parameterAsBool(parameters, name, context) else []
            elif kind == "number":
                line += [option, format(self.parameterAsDouble(parameters, name, context), ".15g")]
            elif kind == "enum":
                line += [option, self.parameterAsEnumString(parameters, name, context)]
            elif kind == "band":
                line += [option, ",".join(str(b) for b in self.parameterAsInts(parameters, name, context))]
            else:
                text = self.parameterAsString(parameters, name, context).strip()
                line += [option, text] if text else []
        return line

    def prepareAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """See ``prepare_job``."""
        try:
            self.prepare_job(parameters, context)
        except QgsProcessingException as error:
            raise self._failure(str(error)) from None
        return True

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the job; every failure is an exception, because QGIS takes all else for success."""
        try:
            return self.work(parameters, context, feedback)
        except JobCanceled:
            if QgsApplication.platform() == "qgis_process":
                raise QgsProcessingException(self.CANCELED) from None
            feedback.pushInfo(self.CANCELED)
            return {}
        except (EngineError, JobFailed) as error:
            raise self._failure(str(error)) from None
        except QgsProcessingException as error:
            raise self._failure(str(error)) from None

    def work(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the job, look at its files, and make outputs of them."""
        engine = find()
        feedback.pushInfo(f"Engine: {engine}")
        outcome = run(engine, self.job(parameters, context, feedback), feedback)
        heard(outcome.hello)
        for path in self.promised(outcome):
            if not os.path.exists(path):
                raise JobFailed(f"the engine says that it wrote {path}, but nothing is there; run it again")
        return self.outputs(outcome, parameters, context, feedback)

    def file(
        self, parameters: dict[str, Any], name: str, context: QgsProcessingContext, endings: tuple[str, ...]
    ) -> str:
        """The path of a layer that is to be written, "" where none is wanted.

        Raises:
            QgsProcessingException: It has another ending, or is no file.
        """
        place = self.parameterAsOutputLayer(parameters, name, context)
        if place and os.path.splitext(place)[1].lower() not in endings:
            what = self.parameterDefinition(name).description()
            raise QgsProcessingException(f"{what}: {place} must be a file that ends in {' or '.join(endings)}")
        return os.path.abspath(place) if place else ""

    def load(self, path: str, name: str, context: QgsProcessingContext) -> str:
        """The path of the layer of a parameter, which QGIS may load when the run is over."""
        self._layers[path] = name
        return path

    def postProcessAlgorithm(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> dict[str, Any]:
        """Give the layers that QGIS loads the style in their data, and names that tell their scene.

        Processing itself passes over that style. A post-processor would come too late for the legend, and the context
        deletes it.
        """
        for path, name in self._layers.items():
            if context.willLoadLayerOnCompletion(path) and context.thread() == QThread.currentThread():
                layer = QgsProcessingUtils.mapLayerFromString(path, context)
                if layer is not None:
                    layer.loadDefaultStyle()
                details = context.layerToLoadOnCompletionDetails(path)
                if details.name == self.parameterDefinition(name).description():
                    details.name = f"{self.subject()}: {details.name}"
        return {}

    def subject(self) -> str:
        """What the run is about, for the names of layers."""
        return self.TITLE

    def table(
        self,
        parameters: dict[str, Any],
        name: str,
        fields: str,
        rows: list[list[Any]],
        context: QgsProcessingContext,
    ) -> str:
        """Rows without geometry in the sink of a parameter; "" where none is wanted.

        Args:
            fields: Names and types, as in the address of a memory layer: "value:integer,class:string".
        """
        # Without a size QGIS rounds to five decimals.
        sized = fields.replace("double", "double(0;0)").split(",")
        address = "None?" + "&".join(f"field={f.replace(';', ',')}" for f in sized)
        described = QgsVectorLayer(address, "", "memory")
        sink, place = self.parameterAsSink(
            parameters, name, context, described.fields(), described.wkbType(), described.crs()
        )
        if sink is None:
            if parameters.get(name):
                raise QgsProcessingException(self.invalidSinkError(parameters, name))
            return ""
        for row in rows:
            feature = QgsFeature(described.fields())
            feature.setAttributes(row)
            sink.addFeature(feature)
        return str(place)

    def page(self, parameters: dict[str, Any], name: str, context: QgsProcessingContext, body: str) -> str:
        """The path of a page that is written; "" where none is wanted."""
        place = self.parameterAsFileOutput(parameters, name, context)
        if place:
            try:
                Path(place).write_text(f'<!DOCTYPE html><meta charset="utf-8">{body}', encoding="utf-8")
            except OSError as error:
                raise QgsProcessingException(f"{place} cannot be written: {error.strerror}") from None
        return place

    def _failure(self, sentence: str) -> QgsProcessingException:
        """An exception with the sentence, which says what options are called here, and a word to the windows."""
        known = {**ELSEWHERE, **{option: name for name, option in self._options.items()}}
        named = {}
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", sentence):
            definition = self.parameterDefinition(known.get(option, ""))
            if definition is not None:
                named[option] = definition.description()
        if named:
            sentence += " (" + ", ".join(f"{o} is “{d}” here" for o, d in named.items()) + ")"
        provider = self.provider()
        if provider is not None and hasattr(provider, "failed"):
            provider.failed.emit(f"{self.TITLE}: {sentence}")
        return QgsProcessingException(sentence)

    def name(self) -> str:
        """The identifier, which never changes."""
        return self.NAME

    def displayName(self) -> str:
        """What people read."""
        return self.TITLE

    def group(self) -> str:
        """The group in the toolbox."""
        return GROUPS[self.GROUP]

    def groupId(self) -> str:
        """The identifier of the group."""
        return self.GROUP

    def tags(self) -> list[str]:
        """Words that people type."""
        return ["segmentation", "deep learning", "land cover", *self.TAGS]

    def shortDescription(self) -> str:
        """One sentence."""
        return self.SUMMARY

    def shortHelpString(self) -> str:
        """The help beside the dialog: what it does, then every parameter, which a terminal lists by itself."""
        if QgsApplication.platform() == "qgis_process":
            return self.HELP
        told = [f"<p>{self.SUMMARY}</p>", *([f"<p>{self.HELP}</p>"] if self.HELP else [])]
        for definition in self.parameterDefinitions():
            if definition.help():
                told.append(f"<h3>{definition.description()}</h3><p>{definition.help()}</p>")
        return "\n".join(told)

    def icon(self) -> QIcon:
        """The group's icon."""
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        """The file of the icon."""
        return str(ICONS / f"{self.ICON}.svg")

    def createInstance(self) -> Algorithm:
        """Another one."""
        return type(self)()

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """See ``define``."""
        self.define()

    def canExecute(self) -> tuple[bool, str]:
        """Whether there is an engine, and what to do where there is none."""
        if self.NEEDS_ENGINE:
            try:
                find()
            except EngineError as error:
                return False, str(error)
        return True, ""

    def checkParameterValues(self, parameters: dict[str, Any], context: QgsProcessingContext) -> tuple[bool, str]:
        """Whether the parameters can work, and a sentence where they cannot."""
        fine, told = super().checkParameterValues(parameters, context)
        if fine:
            told = self.check(parameters, context)
        return not told, told


def choice(name: str, description: str, values: list[str], default: str) -> QgsProcessingParameterEnum:
    """A parameter with one of some words."""
    return QgsProcessingParameterEnum(name, description, values, False, default, False, True)


def text(
    name: str, description: str, default: str | None = None, optional: bool = True, hints: list[str] | None = None
) -> QgsProcessingParameterString:
    """A parameter with a line of text; ``hints`` are values to choose from."""
    parameter = QgsProcessingParameterString(name, description, default, False, optional)
    if hints:
        parameter.setMetadata({"widget_wrapper": {"value_hints": hints}})
    return parameter
