"""Which networks are there, and how does a card's ``network`` mapping become one?

The mapping is data from a file that may be hostile, so only what is named here is built: architectures by explicit
name, encoders that smp or timm know without asking the internet, and options whose values have a known kind and size.
Weights are never fetched; ``rs_segment_models.folder`` puts them in.
"""

from __future__ import annotations

import difflib
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import nn

from rs_segment.card import MAX_CLASSES
from rs_segment.errors import ModelError

from . import fcn, inception
from .segnet import SegNet
from .unet import UNet

MAX_BANDS = 1024
MAX_CHANNELS = 2048
MAX_DEPTH = 6
_ENCODER = re.compile(r"(tu-)?[A-Za-z0-9_.\-]{1,100}")

Builder = Callable[[Mapping[str, Any], int, int], nn.Module]
Check = Callable[[Any], bool]


def _whole(low: int, high: int) -> Check:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _wholes(high: int) -> Check:
    one = _whole(1, high)
    return lambda v: isinstance(v, (list, tuple)) and 1 <= len(v) <= MAX_DEPTH and all(map(one, v))


def _among(*choices: Any) -> Check:
    return lambda v: any(v is c if c is None or isinstance(c, bool) else v == c for c in choices)


def _share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1


_OPTIONS: dict[str, tuple[str, Check]] = {
    "encoder_depth": (f"a whole number, 1 to {MAX_DEPTH}", _whole(1, MAX_DEPTH)),
    "encoder_output_stride": ("8, 16 or 32", _among(8, 16, 32)),
    "decoder_use_norm": (
        "true, false, batchnorm, layernorm, instancenorm or identity",
        _among(True, False, "batchnorm", "layernorm", "instancenorm", "identity"),
    ),
    "decoder_channels": (
        f"one or a list of whole numbers, 1 to {MAX_CHANNELS}",
        lambda v: _whole(1, MAX_CHANNELS)(v) or _wholes(MAX_CHANNELS)(v),
    ),
    "decoder_attention_type": ("null or scse", _among(None, "scse")),
    "decoder_interpolation": ("nearest, bilinear or bicubic", _among("nearest", "bilinear", "bicubic")),
    "decoder_pab_channels": (f"a whole number, 1 to {MAX_CHANNELS}", _whole(1, MAX_CHANNELS)),
    "decoder_pyramid_channels": (f"a whole number, 1 to {MAX_CHANNELS}", _whole(1, MAX_CHANNELS)),
    "decoder_segmentation_channels": (f"a whole number, 1 to {MAX_CHANNELS}", _whole(1, MAX_CHANNELS)),
    "decoder_merge_policy": ("add or cat", _among("add", "cat")),
    "decoder_dropout": ("a share from 0, below 1", _share),
    "decoder_atrous_rates": ("a list of whole numbers, 1 to 64", _wholes(64)),
    "decoder_aspp_separable": ("true or false", _among(True, False)),
    "decoder_aspp_dropout": ("a share from 0, below 1", _share),
    "psp_out_channels": (f"a whole number, 1 to {MAX_CHANNELS}", _whole(1, MAX_CHANNELS)),
    "psp_dropout": ("a share from 0, below 1", _share),
    "upsampling": ("1, 2, 4, 8, 16 or 32", _among(1, 2, 4, 8, 16, 32)),
    "features": (
        f"a list of 2 to {MAX_DEPTH} whole numbers, 1 to {MAX_CHANNELS}",
        lambda v: _wholes(MAX_CHANNELS)(v) and len(v) > 1,
    ),
    "norm": ("none or batchnorm", _among("none", "batchnorm")),
}


def build(network: Mapping[str, Any], bands: int, classes: int) -> nn.Module:
    """A network with fresh weights that turns (n, band, row, col) into logits (n, class, row, col).

    Under ``with torch.device("meta")`` it takes no memory.

    Args:
        network: A card's ``network``: "arch" is a key of ``BUILDERS``; the smp architectures want "encoder" and take
            those of smp's own options that change the weights or what is done with them; ours take "features" (channels
            a level), and "unet" also "norm".
        bands: Number of input channels.
        classes: Number of output channels.

    Raises:
        ModelError: The mapping names something unknown, or a value that cannot work.
    """
    if not isinstance(network, Mapping):
        raise ModelError(f"the network is {network!r:.60}, not a mapping with arch and encoder")
    arch = network.get("arch")
    if not isinstance(arch, str) or arch not in BUILDERS:
        raise ModelError(f"the architecture {arch!r:.60} is not known; known are {', '.join(sorted(BUILDERS))}")
    if not _whole(1, MAX_BANDS)(bands) or not _whole(1, MAX_CLASSES)(classes):
        raise ModelError(
            f"a network with {bands!r:.20} bands and {classes!r:.20} classes; 1 to {MAX_BANDS} bands "
            f"and 1 to {MAX_CLASSES} classes are possible"
        )
    return BUILDERS[arch](network, bands, classes)


def _conv1x1(network: Mapping[str, Any], bands: int, classes: int) -> nn.Module:
    _refuse_unknown(network, {"arch"})
    return nn.Conv2d(bands, classes, 1)


def _smp(kind: type[nn.Module]) -> Builder:
    """A builder for one of smp's architectures; an option is taken if smp has it and ``_OPTIONS`` can check it."""
    known = set(inspect.signature(kind).parameters) & set(_OPTIONS)

    def builder(network: Mapping[str, Any], bands: int, classes: int) -> nn.Module:
        _refuse_unknown(network, {"arch", "encoder", *known})
        options = _checked(network)
        encoder = _encoder(network.get("encoder"))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                net = kind(encoder, encoder_weights=None, in_channels=bands, classes=classes, **options)
                return inception.pad(net) if encoder.startswith("tu-inception_v3") else net
        # smp and timm raise whatever their internals trip over when the options do not fit each other.
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).strip()}"
            raise ModelError(f"{network['arch']} cannot be built on {encoder} with {options}: {reason:.200}") from error

    return builder


def _own(kind: Callable[..., nn.Module]) -> Builder:
    """A builder for one of our networks, which has no encoder by name."""
    known = set(inspect.signature(kind).parameters) & set(_OPTIONS)

    def builder(network: Mapping[str, Any], bands: int, classes: int) -> nn.Module:
        _refuse_unknown(network, {"arch", *known})
        return kind(bands, classes, **_checked(network))

    return builder


def _unet(network: Mapping[str, Any], bands: int, classes: int) -> nn.Module:
    return (_smp(smp.Unet) if "encoder" in network else _own(UNet))(network, bands, classes)


def _fcn(network: Mapping[str, Any], bands: int, classes: int) -> nn.Module:
    _refuse_unknown(network, {"arch", "encoder"})
    encoder = network.get("encoder", fcn.ENCODERS[0])
    if encoder not in fcn.ENCODERS:
        raise ModelError(f"the encoder {encoder!r:.60} of fcn is none of {', '.join(fcn.ENCODERS)}")
    return fcn.FCN(bands, classes, encoder)


def _checked(network: Mapping[str, Any]) -> dict[str, Any]:
    """The network's options, each of its kind and size."""
    options = {k: v for k, v in network.items() if k not in ("arch", "encoder")}
    for key, value in options.items():
        wanted, check = _OPTIONS[key]
        if not check(value):
            raise ModelError(f"the network's {key} is {value!r:.60}; it must be {wanted}")
    return options


def _encoder(name: Any) -> str:
    """The name, if smp or timm know it on their own."""
    if not isinstance(name, str) or not _ENCODER.fullmatch(name):
        raise ModelError(f"the encoder {name!r:.60} is no plain name; rs-segment takes none from a hub or a folder")
    if name in smp.encoders.encoders:
        return name
    if name.startswith("tu-") and timm.is_model(name[3:].split(".")[0]):
        return name
    raise ModelError(
        f"the encoder {name!r} is not known to smp {smp.__version__}, nor (as tu-NAME) to timm {timm.__version__}"
    )


def _refuse_unknown(network: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(str(k) for k in set(network) - known)
    if unknown:
        raise ModelError(
            f"the network has {', '.join(unknown):.100}, which {network['arch']} does not take; "
            f"it takes {', '.join(sorted(known))}"
        )


BUILDERS: dict[str, Builder] = {
    "conv1x1": _conv1x1,
    "unet": _unet,
    "segnet": _own(SegNet),
    "fcn": _fcn,
    "unetplusplus": _smp(smp.UnetPlusPlus),
    "manet": _smp(smp.MAnet),
    "linknet": _smp(smp.Linknet),
    "fpn": _smp(smp.FPN),
    "pspnet": _smp(smp.PSPNet),
    "deeplabv3": _smp(smp.DeepLabV3),
    "deeplabv3plus": _smp(smp.DeepLabV3Plus),
    "pan": _smp(smp.PAN),
    "upernet": _smp(smp.UPerNet),
    "segformer": _smp(smp.Segformer),
}
"""The architectures by name; a new one is one function (network, bands, classes) -> module in this table.

"unet" is the published network where the card names no encoder, and smp's where it does.
"""

NAMED: dict[str, dict[str, Any]] = {
    "unet": {"arch": "unet"},
    "unet-resnet50": {"arch": "unet", "encoder": "resnet50"},
    "unet-vgg19": {"arch": "unet", "encoder": "vgg19"},
    "unet-inceptionv3": {"arch": "unet", "encoder": "tu-inception_v3"},
}
"""Networks that have a name of their own: the four that the study compares."""

NO_ENCODER = ("conv1x1", "segnet")

LEFT_OUT = {"dpt": "it fixes the size of the image, and tiles have any size"}
"""Architectures of smp that cannot be had, and why."""


def named(arch: str, encoder: str | None = None, default: str = "mobilenet_v2") -> dict[str, Any]:
    """A card's ``network`` for names that people write.

    Args:
        arch: A key of ``NAMED`` or of ``BUILDERS``.
        encoder: Name of an encoder; None where ``arch`` says it or needs none.
        default: Encoder for architectures that need one when nobody names it.

    Raises:
        ModelError: A name is not known, or two contradict each other.
    """
    if arch in NAMED and encoder is None:
        return dict(NAMED[arch])
    if arch in NAMED and "encoder" in NAMED[arch]:
        raise ModelError(
            f"the network {arch} has its encoder in its name; name {arch.split('-')[0]} to choose {encoder}"
        )
    if arch in LEFT_OUT:
        raise ModelError(f"the architecture {arch} is left out: {LEFT_OUT[arch]}")
    if arch not in BUILDERS:
        near = difflib.get_close_matches(arch, [*BUILDERS, *NAMED], 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted({*BUILDERS, *NAMED}))}"
        raise ModelError(f"the architecture {arch!r:.60} is not known; {hint}")
    if arch in NO_ENCODER:
        if encoder is not None:
            raise ModelError(f"the network {arch} has no encoder to choose; leave out {encoder}")
        return {"arch": arch}
    return {"arch": arch, "encoder": encoder or (fcn.ENCODERS[0] if arch == "fcn" else default)}
