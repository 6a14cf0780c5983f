"""Networks: what is built, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.errors import ModelError
from rs_segment_models import measure
from rs_segment_models.networks import BUILDERS, NAMED, NO_ENCODER, build, named

SMALL = {"arch": "unet", "encoder": "mobilenet_v2", "decoder_channels": [16, 8, 8, 8, 8]}


@pytest.mark.parametrize("arch", sorted(set(BUILDERS) - {"conv1x1"}))
def test_every_architecture_builds_without_memory(arch: str) -> None:
    with torch.device("meta"):
        net = build(named(arch, None if arch in (*NO_ENCODER, "fcn") else "mobilenet_v2"), 4, 7).eval()
        logits = net(torch.zeros(1, 4, 128, 192))
    assert logits.shape == (1, 7, 128, 192)


def test_real_network_gives_a_score_for_every_pixel_and_class() -> None:
    net = build(SMALL, 2, 5).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 2, 32, 64)).shape == (1, 5, 32, 64)
    assert build({"arch": "conv1x1"}, 3, 6)(torch.zeros(1, 3, 1, 5)).shape == (1, 6, 1, 5)


def test_timm_encoder_builds_without_network_access(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    with torch.device("meta"):
        build({"arch": "unet", "encoder": "tu-resnet18.a1_in1k"}, 3, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arch": "resunet"}, "conv1x1"),
        ({"arch": "dpt"}, "not known"),
        ({"arch": ["unet"]}, "not known"),
        ({"encoder": None}, "encoder"),
        ({"encoder": "tu-hf-hub:evil/repo"}, "hub"),
        ({"encoder": "tu-local-dir:/etc"}, "hub"),
        ({"encoder": "../../etc/passwd"}, "hub"),
        ({"encoder": "mobilenet_v2\n"}, "hub"),
        ({"encoder": "tu-no_such_network"}, "not known"),
        ({"encoder": "resnet1999"}, "not known"),
        ({"encoder_weights": "imagenet"}, "encoder_weights"),
        ({"activation": "softmax"}, "activation"),
        ({"aux_params": {"classes": 1}}, "aux_params"),
        ({"upsampling": 4}, "upsampling"),
        ({"decoder_channels": [10**9] * 5}, "2048"),
        ({"decoder_channels": [16] * 50}, "2048"),
        ({"decoder_channels": [16, 8]}, "cannot be built"),
        ({"decoder_channels": "os.system"}, "2048"),
        ({"encoder_depth": True}, "whole number"),
        ({"encoder_depth": 0}, "whole number"),
        ({"decoder_use_norm": {"type": "inplace"}}, "batchnorm"),
        ({"decoder_use_norm": 1}, "batchnorm"),
    ],
)
def test_what_is_not_known_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        build({**SMALL, **change}, 3, 6)


@pytest.mark.parametrize(("bands", "classes"), [(0, 6), (3, 0), (3, 255), (3, 10**9), (10**6, 6), (True, 6)])
def test_absurd_numbers_of_bands_and_classes_are_refused(bands: int, classes: int) -> None:
    with pytest.raises(ModelError, match="possible"):
        build({"arch": "conv1x1"}, bands, classes)


def test_conv1x1_takes_no_options() -> None:
    with pytest.raises(ModelError, match="encoder"):
        build({"arch": "conv1x1", "encoder": "resnet18"}, 3, 6)


@pytest.mark.parametrize("name", NAMED)
def test_networks_of_the_study_build_by_name(name: str) -> None:
    with torch.device("meta"):
        assert build(named(name), 5, 3).eval()(torch.zeros(1, 5, 64, 96)).shape == (1, 3, 64, 96)


def test_unet_without_an_encoder_is_the_published_one() -> None:
    with torch.device("meta"):
        net = build({"arch": "unet"}, 1, 2)
    # As published for one band and two classes.
    assert sum(p.numel() for p in net.parameters()) == 31_030_658
    assert type(build({**SMALL, "arch": "unet"}, 3, 2)).__module__.startswith("segmentation_models_pytorch")


@pytest.mark.parametrize(
    ("arch", "encoder", "says"),
    [
        ("dpt", None, "dpt is left out: it fixes the size of the image"),
        ("unet-vgg91", None, "did you mean unet-vgg19"),
        ("unet-vgg19", "resnet18", "encoder in its name"),
        ("segnet", "resnet18", "no encoder"),
    ],
)
def test_names_that_do_not_fit_are_refused(arch: str, encoder: str | None, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        named(arch, encoder)


@pytest.mark.parametrize("network", [{"arch": "unet", "features": [4, 8, 8]}, {"arch": "segnet", "features": [4, 8]}])
def test_our_networks_say_the_same_of_a_shifted_image(network: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = build(network, 2, 3)
    stride = measure.stride_of(net)
    assert stride == 4
    assert measure.shift_test(net, stride, 256).passed


def test_inception_is_padded_so_that_each_map_halves_the_one_before() -> None:
    with torch.device("meta"):
        maps = build(named("unet-inceptionv3"), 3, 2).eval().encoder(torch.zeros(1, 3, 256, 320))
    assert [tuple(m.shape[2:]) for m in maps] == [(256 >> i, 320 >> i) for i in range(6)]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["arch", "encoder", "encoder_depth", "decoder_channels", "decoder_use_norm", "decoder_interpolation"]
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(KEYS | st.text(max_size=10), JUNK, max_size=3))
def test_junk_is_built_or_refused(change: dict[str, object]) -> None:
    with contextlib.suppress(ModelError), torch.device("meta"):
        build({**SMALL, **change}, 3, 2)
