"""What a model promises: the bands it reads, the classes it knows, the context it needs.

A card is ``model.json`` in a model's folder: a STAC Item with the Machine Learning Model extension (MLM 1.5,
https://github.com/stac-extensions/mlm), plus a few ``rs_segment:`` properties for what MLM has no words for. It is
data: nothing in it is executed, and what it does not understand it refuses.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError

MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
MAX_CLASSES = 254
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{1,98}[A-Za-z0-9]")
_COLOR = re.compile(r"#?[0-9A-Fa-f]{6}")
_MAX_BYTES = 4_000_000

ScalingKind = Literal["none", "min-max", "z-score", "fixed", "percentile"]


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """One class: its value in the raster, its name, its colour as #RRGGBB."""

    value: int
    name: str
    color: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as (red, green, blue), 0 to 255."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How pixel values become what the network was trained on.

    Args:
        kind: "min-max": (x - a) / (b - a); "z-score": (x - a) / b, with mean a and standard deviation b;
            "fixed": x / b; "percentile": min-max between the a-th and b-th percentile of the scene, band by band;
            "none": x.
        a: One value a band, or one for all bands.
        b: Likewise.
        clip: Whether min-max and percentile cut values below 0 and above 1.
    """

    kind: ScalingKind = "none"
    a: tuple[float, ...] = (0.0,)
    b: tuple[float, ...] = (1.0,)
    clip: bool = False

    def linear(self, bands: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(offset, factor), float32 (band,) each, such that the scaled value is (x - offset) * factor."""
        if self.kind == "percentile":
            raise ModelError("a percentile scaling must be resolved against a scene first")
        a = np.broadcast_to(np.asarray(self.a, np.float64), (bands,))
        b = np.broadcast_to(np.asarray(self.b, np.float64), (bands,))
        zero = np.zeros(bands)
        offset, span = {
            "none": (zero, zero + 1),
            "min-max": (a, b - a),
            "z-score": (a, b),
            "fixed": (zero, b),
        }[self.kind]
        return offset.astype(np.float32), (1 / span).astype(np.float32)

    def resolve(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> Scaling:
        """The min-max scaling between the percentiles that a scene was found to have, (band,) each."""
        high = np.where(high > low, high, low + 1)
        return Scaling("min-max", tuple(map(float, low)), tuple(map(float, high)), self.clip)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model expects and means.

    Args:
        name: Letters, digits, dots, dashes.
        bands: Names of the bands in the order that the network reads them.
        dtype: Pixel type that the scaling is meant for.
        classes: In the order of the network's outputs; values 0, 1, 2 and so on.
        scaling: From pixel values to what the network reads.
        value_range: (low, high) of the pixel values, where they do not fill the pixel type.
        resolution: Ground resolution in metres that the network was trained on; None where it is not known.
        resolution_tolerance: Share by which a scene may differ before it is warped.
        resolution_limits: (finest, coarsest) ground resolution in metres that is accepted where ``resolution`` is None.
        resolution_expected: (finest, coarsest) ground resolution in metres of imagery like that of the training, where
            ``resolution`` is None; for other scenes the result says so.
        stride: Factor by which the network reduces the image, in pixels.
        halo: Context that a tile needs on each side, in pixels; measured, see ``rs_segment_models.measure``.
        mode: "exact", or "blend" for networks that fail the shift test.
        temperature: What logits are divided by before they become probabilities, so that confidence is the share of
            pixels that are right (Guo et al. 2017, On calibration of modern neural networks); labels stay the same.
        precisions: What was measured for reduced precisions on real imagery:
            {"bf16": {"agreement": share of labels as in fp32, "miou_change": ...}}.
        network: What builds the network: {"arch": ..., "encoder": ..., ...}; read by ``rs_segment_models`` only.
        description, licence, training: For people.
        weights_sha256: Of ``model.safetensors``, hexadecimal; empty while a model has none.
    """

    name: str
    bands: tuple[str, ...]
    classes: tuple[ClassInfo, ...]
    dtype: str = "uint8"
    scaling: Scaling = field(default_factory=Scaling)
    value_range: tuple[float, float] | None = None
    resolution: float | None = None
    resolution_tolerance: float = 0.1
    resolution_limits: tuple[float, float] | None = None
    resolution_expected: tuple[float, float] | None = None
    stride: int = 32
    halo: int = 64
    mode: Literal["exact", "blend"] = "exact"
    temperature: float = 1.0
    precisions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    licence: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        self._check()

    def replace(self, **changes: Any) -> ModelCard:
        """The same card with other values in some fields; checked again."""
        return replace(self, **changes)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """(low, high) of the pixel values that the scaling is meant for."""
        if self.value_range is not None:
            return self.value_range
        if np.dtype(self.dtype).kind == "f":
            return 0.0, 1.0
        info = np.iinfo(self.dtype)
        return float(info.min), float(info.max)

    def allows(self, precision: str) -> bool:
        """Whether a reduced precision may be the default: it was measured, and costs next to nothing.

        At least 99.5 % of the labels agree with fp32 and the mean IoU falls by no more than 0.001.
        """
        found = self.precisions.get(precision)
        return found is not None and found["agreement"] >= 0.995 and found.get("miou_change", 0.0) >= -0.001

    @classmethod
    def read(cls, path: str | Path) -> ModelCard:
        """The card in a ``model.json``.

        Raises:
            ModelError: The file is missing, is not JSON, or lacks or contradicts something.
        """
        path = Path(path)
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ModelError(f"{path} is larger than {_MAX_BYTES} bytes: this is no model card")
            item = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
        except FileNotFoundError:
            raise ModelError(f"{path.parent} has no {path.name}: this is no model folder") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read as JSON: {error}") from None
        try:
            return cls.from_item(item)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None

    @classmethod
    def from_item(cls, item: Any) -> ModelCard:
        """The card in a STAC Item with the MLM extension.

        Raises:
            ModelError: Something is missing, of the wrong type, or contradicts itself.
        """
        props = _get(item, "properties", dict)
        inputs = _one(_get(props, "mlm:input", list), "mlm:input")
        outputs = _one(_get(props, "mlm:output", list), "mlm:output")
        for where in (inputs.get("pre_processing_function"), outputs.get("post_processing_function")):
            if where:
                raise ModelError(f"it asks to run code ({where!r:.120}); rs-segment never does")
        classes = tuple(
            ClassInfo(
                _get(c, "value", int),
                _optional(c, "title", str) or _get(c, "name", str),
                "#" + _color(c.get("color_hint", _spare_color(i))),
            )
            for i, c in enumerate(_get(outputs, "classification:classes", list))
        )
        bands = tuple(_band(b) for b in _get(inputs, "bands", list))
        resolution = _optional(props, "rs_segment:resolution", (int, float))
        tolerance = _optional(props, "rs_segment:resolution_tolerance", (int, float))
        temperature = _optional(props, "rs_segment:temperature", (int, float))
        assets = _optional(item, "assets", dict) or {}
        checksum = _optional(_optional(assets, "weights", dict) or {}, "file:checksum", str) or ""
        return cls(
            name=_get(props, "mlm:name", str),
            bands=bands,
            classes=classes,
            dtype=_get(_get(inputs, "input", dict), "data_type", str)
            if "rs_segment:pixel_type" not in props
            else _get(props, "rs_segment:pixel_type", str),
            scaling=_scaling(inputs.get("value_scaling"), props.get("rs_segment:scaling")),
            value_range=_ends(props, "rs_segment:value_range"),
            resolution=None if resolution is None else float(resolution),
            resolution_tolerance=0.1 if tolerance is None else float(tolerance),
            resolution_limits=_ends(props, "rs_segment:resolution_limits"),
            resolution_expected=_ends(props, "rs_segment:resolution_expected"),
            stride=_get(props, "rs_segment:stride", int),
            halo=_get(props, "rs_segment:halo", int),
            mode=_get(props, "rs_segment:mode", str),
            temperature=1.0 if temperature is None else float(temperature),
            precisions=_optional(props, "rs_segment:precisions", dict) or {},
            network=_optional(props, "rs_segment:network", dict) or {},
            description=_optional(props, "description", str) or "",
            licence=_optional(props, "license", str) or "",
            training=_optional(props, "rs_segment:training", dict) or {},
            weights_sha256=checksum[4:] if checksum.startswith("1220") else "",
        )

    def to_item(self, weights_size: int | None = None) -> dict[str, Any]:
        """The card as a STAC Item with the MLM extension."""
        count, height = len(self.bands), -1
        scaling, extra = _scaling_item(self.scaling, count)
        properties: dict[str, Any] = {
            "datetime": None,
            "start_datetime": "1970-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "description": self.description,
            "license": self.licence,
            "mlm:name": self.name,
            "mlm:architecture": str(self.network.get("arch", "U-Net")),
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:framework": "pytorch",
            "mlm:input": [
                {
                    "name": "image",
                    "bands": list(self.bands),
                    "input": {
                        "shape": [-1, count, height, height],
                        "dim_order": ["batch", "bands", "height", "width"],
                        "data_type": "float32",
                    },
                    "value_scaling": scaling,
                    "resize_type": None,
                }
            ],
            "mlm:output": [
                {
                    "name": "classes",
                    "tasks": ["semantic-segmentation"],
                    "result": {
                        "shape": [-1, len(self.classes), height, height],
                        "dim_order": ["batch", "classes", "height", "width"],
                        "data_type": "float32",
                    },
                    "classification:classes": [
                        {"value": c.value, "name": _slug(c), "title": c.name, "color_hint": c.color[1:]}
                        for c in self.classes
                    ],
                    "post_processing_function": None,
                }
            ],
            "rs_segment:pixel_type": self.dtype,
            "rs_segment:stride": self.stride,
            "rs_segment:halo": self.halo,
            "rs_segment:mode": self.mode,
            "rs_segment:temperature": None if self.temperature == 1 else self.temperature,
            "rs_segment:resolution": self.resolution,
            "rs_segment:resolution_tolerance": self.resolution_tolerance,
            "rs_segment:resolution_limits": self.resolution_limits and list(self.resolution_limits),
            "rs_segment:resolution_expected": None
            if self.resolution_expected is None
            else list(self.resolution_expected),
            "rs_segment:value_range": self.value_range and list(self.value_range),
            "rs_segment:scaling": extra,
            "rs_segment:precisions": {k: dict(v) for k, v in self.precisions.items()},
            "rs_segment:network": dict(self.network),
            "rs_segment:training": dict(self.training),
        }
        asset: dict[str, Any] = {
            "href": "./model.safetensors",
            "type": "application/octet-stream; application=safetensors",
            "title": "Weights",
            "roles": ["mlm:model", "mlm:weights"],
            "mlm:artifact_type": "safetensors",
            # MLM wants bands described, and takes STAC's own "bands" only where STAC 1.1 has none: in the properties.
            "raster:bands": [{"name": b} for b in self.bands],
        }
        if self.weights_sha256:
            asset["file:checksum"] = "1220" + self.weights_sha256
        if weights_size is not None:
            asset["file:size"] = weights_size
        world = [[-180.0, -90.0], [180.0, -90.0], [180.0, 90.0], [-180.0, 90.0], [-180.0, -90.0]]
        return {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": [MLM, FILE, RASTER],
            "id": self.name,
            "geometry": {"type": "Polygon", "coordinates": [world]},
            "bbox": [-180.0, -90.0, 180.0, 90.0],
            "properties": {k: v for k, v in properties.items() if k == "datetime" or v not in (None, "")},
            "links": [],
            "assets": {"weights": asset},
        }

    def _check(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ModelError(f"the name {self.name!r:.120} must be 3 to 100 letters, digits, dots and dashes")
        if not 1 <= len(self.bands) <= 1024 or len({b.lower() for b in self.bands}) != len(self.bands):
            raise ModelError(f"the bands {self.bands!r:.120} must be one or more different names")
        if not all(b.strip() and b.isprintable() and len(b) <= 100 for b in self.bands):
            raise ModelError(f"the bands {self.bands!r:.120} must have short names that can be printed")
        if self.dtype not in DTYPES:
            raise ModelError(f"the pixel type {self.dtype!r:.60} is none of {', '.join(DTYPES)}")
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise ModelError(f"{len(self.classes)} classes; 1 to {MAX_CLASSES} can be written as uint8")
        if [c.value for c in self.classes] != list(range(len(self.classes))):
            raise ModelError(f"class values {[c.value for c in self.classes]} must be 0, 1, 2 and so on")
        for c in self.classes:
            if not c.name.strip() or not c.name.isprintable() or len(c.name) > 100:
                raise ModelError(f"class {c.value} has no usable name: {c.name[:100]!r}")
            if not re.fullmatch(_COLOR, c.color) or not c.color.startswith("#"):
                raise ModelError(f"class {c.name!r} has the colour {c.color!r}; it must be #RRGGBB")
        if len({c.name for c in self.classes}) != len(self.classes):
            raise ModelError("two classes have the same name")
        if self.stride < 1 or self.stride > 1024 or self.halo < 0 or self.halo % self.stride or self.halo > 8192:
            raise ModelError(f"stride {self.stride} and halo {self.halo}: the halo must be a multiple of the stride")
        if self.mode not in ("exact", "blend"):
            raise ModelError(f"the mode {self.mode!r:.60} is neither exact nor blend")
        if not (math.isfinite(self.temperature) and 0.01 <= self.temperature <= 100):
            raise ModelError(f"the temperature {self.temperature!r} must be a number from 0.01 to 100")
        if self.resolution is not None and not (math.isfinite(self.resolution) and self.resolution > 0):
            raise ModelError(f"the ground resolution {self.resolution!r} must be metres above 0")
        if not 0 <= self.resolution_tolerance < 1:
            raise ModelError(f"the resolution's tolerance {self.resolution_tolerance!r} must be a share of 1")
        for ends in (self.resolution_limits, self.resolution_expected, self.value_range):
            if ends is not None and not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
                raise ModelError(f"{ends!r:.60} must be a lower and an upper end")
        if self.weights_sha256 and not re.fullmatch("[0-9a-f]{64}", self.weights_sha256):
            raise ModelError(f"the checksum {self.weights_sha256!r:.80} of the weights is no SHA-256")
        for found in self.precisions.values():
            if not isinstance(found, Mapping) or not all(isinstance(v, (int, float)) for v in found.values()):
                raise ModelError("what was measured for a precision must be numbers")
            if "agreement" not in found:
                raise ModelError("a precision was measured without its agreement with fp32")
        self._check_scaling()

    def _check_scaling(self) -> None:
        s = self.scaling
        if s.kind not in ("none", "min-max", "z-score", "fixed", "percentile"):
            raise ModelError(f"the scaling {s.kind!r} is not known")
        for values in (s.a, s.b):
            if len(values) not in (1, len(self.bands)) or not all(math.isfinite(v) for v in values):
                raise ModelError(f"the scaling must have {len(self.bands)} finite values, one a band, or a single one")
        pairs = np.broadcast_arrays(np.asarray(s.a), np.asarray(s.b))
        if s.kind in ("z-score", "fixed") and not np.all(np.asarray(s.b) > 0):
            raise ModelError(f"the scaling divides by {s.b}; every value must be above 0")
        if s.kind in ("min-max", "percentile") and not np.all(pairs[0] < pairs[1]):
            raise ModelError(f"the scaling's lower ends {s.a} must lie below its upper ends {s.b}")
        if s.kind == "percentile" and not (min(s.a) >= 0 and max(s.b) <= 100):
            raise ModelError(f"percentiles {s.a} and {s.b} must lie between 0 and 100")


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _get(item: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(item, Mapping) or key not in item:
        raise ModelError(f"{key} is missing")
    value = item[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ModelError(f"{key} is {value!r:.60}, of the wrong type")
    if isinstance(value, int) and abs(value) > 2**53:
        raise ModelError(f"{key} is a whole number that is too large")
    return value


def _optional(item: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    return None if isinstance(item, Mapping) and item.get(key) is None else _get(item, key, kind)


def _one(items: list[Any], name: str) -> Mapping[str, Any]:
    if len(items) != 1 or not isinstance(items[0], dict):
        raise ModelError(f"{name} must have exactly one entry, not {len(items)}")
    return items[0]


def _pair(values: list[Any]) -> tuple[float, float]:
    if len(values) != 2:
        raise ModelError(f"{values!r:.60} must be a lower and an upper end")
    low, high = (float(_get({"end": v}, "end", (int, float))) for v in values)
    return low, high


def _band(band: Any) -> str:
    if isinstance(band, Mapping) and (band.get("expression") is not None or band.get("format") is not None):
        raise ModelError(f"band {band.get('name')!r:.60} asks to run an expression; rs-segment never does")
    return band if isinstance(band, str) else str(_get(band, "name", str))


def _slug(c: ClassInfo) -> str:
    """The name of a class as STAC wants it: letters, digits, dashes."""
    return re.sub(r"[^0-9A-Za-z_-]+", "-", c.name).strip("-") or f"class-{c.value}"


def _ends(item: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    return None if item.get(key) is None else _pair(_get(item, key, list))


def _color(text: Any) -> str:
    if not isinstance(text, str) or not re.fullmatch(_COLOR, text):
        raise ModelError(f"the colour {text!r:.60} must be RRGGBB in hexadecimal")
    return text.removeprefix("#").upper()


def _spare_color(index: int) -> str:
    """A colour for a class that has none: steps of the golden angle around the hue circle."""
    import colorsys

    r, g, b = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.6, 0.9)
    return f"{round(r * 255):02X}{round(g * 255):02X}{round(b * 255):02X}"


_MLM_SCALINGS = {"min-max": ("minimum", "maximum"), "z-score": ("mean", "stddev"), "scale": ("value", "value")}


def _scaling(entries: Any, extra: Any) -> Scaling:
    clip = bool(extra.get("clip", False)) if isinstance(extra, Mapping) else False
    if isinstance(extra, Mapping) and extra.get("type") == "percentile":
        low, high = (float(_get(extra, end, (int, float))) for end in ("low", "high"))
        return Scaling("percentile", (low,), (high,), clip)
    if not entries:
        return Scaling()
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ModelError("value_scaling must be a list of objects")
    kinds = {str(e.get("type")) for e in entries}
    if len(kinds) != 1 or not kinds <= set(_MLM_SCALINGS):
        told = ", ".join(sorted(kinds))
        raise ModelError(f"value_scaling of type {told:.60} is not supported; use {', '.join(_MLM_SCALINGS)}")
    kind = kinds.pop()
    first, second = _MLM_SCALINGS[kind]
    a = tuple(float(_get(e, first, (int, float))) for e in entries)
    b = tuple(float(_get(e, second, (int, float))) for e in entries)
    return Scaling("fixed", (0.0,), b) if kind == "scale" else Scaling(kind, a, b, clip)  # type: ignore[arg-type]


def _scaling_item(scaling: Scaling, bands: int) -> tuple[list[dict[str, Any]] | None, dict[str, Any] | None]:
    """(MLM's value_scaling, what it has no words for)."""
    extra = {"clip": True} if scaling.clip else None
    if scaling.kind == "none":
        return None, extra
    if scaling.kind == "percentile":
        return None, {"type": "percentile", "low": scaling.a[0], "high": scaling.b[0], "clip": scaling.clip}
    kind = "scale" if scaling.kind == "fixed" else scaling.kind
    first, second = _MLM_SCALINGS[kind]
    count = max(len(scaling.a), len(scaling.b))
    a, b = np.broadcast_to(scaling.a, count), np.broadcast_to(scaling.b, count)
    return [{"type": kind, first: float(x), second: float(y)} for x, y in zip(a, b, strict=True)], extra
