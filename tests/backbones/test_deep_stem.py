"""Deep-stem ResNets (PFENet's resnet50_v2.pth): features against an independent network, and which files are refused.

The weight files are made up: random numbers under the keys and shapes that PFENet's model/resnet.py has.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
from safetensors.torch import save_file
from torch import Tensor

from dpnet_lite.backbones.backbone import ARCHITECTURES, build_backbone, load_weights

Weights = dict[str, Tensor]
DEPTHS = {"resnet50_v2": (3, 4, 6, 3), "resnet101_v2": (3, 4, 23, 1)}  # layer4 is not kept: one block of it is enough
STEM = ("conv1", "bn1", None, "conv2", "bn2", None, "conv3", "bn3")  # places in PFENet's and BAM's layer0


def made_up(blocks: tuple[int, ...], *, deep: bool = True, seed: int = 0) -> Weights:
    """Random weights of a whole bottleneck ResNet, key by key."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}

    def convolution(key: str, out: int, channels: int, kernel: int) -> None:
        spread = (2 / (channels * kernel**2)) ** 0.5  # He: the signal survives the depth
        weights[f"{key}.weight"] = torch.randn(out, channels, kernel, kernel, generator=generator) * spread

    def norm(key: str, channels: int) -> None:
        draws = torch.rand(4, channels, generator=generator)
        weights[f"{key}.weight"], weights[f"{key}.bias"] = 0.7 + 0.6 * draws[0], 0.4 * draws[1] - 0.2
        weights[f"{key}.running_mean"], weights[f"{key}.running_var"] = 0.4 * draws[2] - 0.2, 0.7 + 0.6 * draws[3]

    stem = ((64, 3), (64, 64), (128, 64)) if deep else ((64, 3),)
    for index, (out, channels) in enumerate(stem, start=1):
        convolution(f"conv{index}", out, channels, 3 if deep else 7)
        norm(f"bn{index}", out)
    channels = stem[-1][0]
    for layer, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
        for block in range(count):
            key, before = f"layer{layer}.{block}", channels if block == 0 else 4 * width
            for index, (out, into, kernel) in enumerate(
                [(width, before, 1), (width, width, 3), (4 * width, width, 1)], start=1
            ):
                convolution(f"{key}.conv{index}", out, into, kernel)
                norm(f"{key}.bn{index}", out)
            if block == 0:
                convolution(f"{key}.downsample.0", 4 * width, before, 1)
                norm(f"{key}.downsample.1", 4 * width)
        channels = 4 * width
    weights["fc.weight"], weights["fc.bias"] = torch.zeros(1000, channels), torch.zeros(1000)
    return weights


def reference(weights: Weights, images: Tensor, *, first_dilation: int = 2) -> tuple[Tensor, Tensor]:
    """Layer2 and layer3 as PFENet computes them, in float64, from plain function calls."""

    def step(x: Tensor, conv: str, norm: str, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = weights[f"{conv}.weight"].double()
        padding = dilation * (weight.shape[-1] // 2)
        x = functional.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation)
        mean, var, scale, shift = (
            weights[f"{norm}.{part}"].double() for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, var, scale, shift)

    x = images.double()
    for index in (1, 2, 3):
        x = step(x, f"conv{index}", f"bn{index}", stride=2 if index == 1 else 1).relu()
    x = functional.max_pool2d(x, 3, stride=2, padding=1)
    outputs = []
    for layer in (1, 2, 3):
        block = 0
        while f"layer{layer}.{block}.conv1.weight" in weights:
            key, stride = f"layer{layer}.{block}", 2 if layer == 2 and block == 0 else 1
            dilation = 1 if layer < 3 else (first_dilation if block == 0 else 2)
            y = step(x, f"{key}.conv1", f"{key}.bn1").relu()
            y = step(y, f"{key}.conv2", f"{key}.bn2", stride, dilation).relu()
            y = step(y, f"{key}.conv3", f"{key}.bn3")
            x = (y + (step(x, f"{key}.downsample.0", f"{key}.downsample.1", stride) if block == 0 else x)).relu()
            block += 1
        outputs.append(x)
    return outputs[1], outputs[2]


def photographs(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", DEPTHS)
def test_features_equal_an_independent_network(name: str, tmp_path: Path) -> None:
    weights, images = made_up(DEPTHS[name]), photographs(57, 41)  # odd sides that no stride divides
    torch.save({"state_dict": weights}, tmp_path / f"{name}.pth")
    features = build_backbone(name, tmp_path / f"{name}.pth")(images)
    middle, deep = reference(weights, images)
    assert features.shape == (2, 1536, 8, 6) and deep.shape[1] == ARCHITECTURES[name].deep_channels
    for found, expected in ((features[:, :512], middle), (features[:, 512:], deep)):
        assert expected.std() > 0.1  # else closeness would mean nothing
        spread = expected.std()
        torch.testing.assert_close(found.double() / spread, expected / spread, rtol=1e-5, atol=1e-5)


def test_the_first_block_of_layer3_is_dilated_as_in_the_repository_not_as_in_torchvision(tmp_path: Path) -> None:
    weights, images = made_up(DEPTHS["resnet50_v2"], seed=1), photographs(33, 33)
    save_file(weights, tmp_path / "v2.safetensors")
    found = build_backbone("resnet50_v2", tmp_path / "v2.safetensors")(images)[:, 512:]
    ours, torchvisions = (reference(weights, images, first_dilation=dilation)[1] for dilation in (2, 1))
    assert (found - ours).norm() / ours.norm() < 1e-5
    assert (found - torchvisions).norm() / ours.norm() > 0.1


def test_whole_networks_of_pfenet_and_bam_give_the_same_backbone(tmp_path: Path) -> None:
    weights = made_up(DEPTHS["resnet50_v2"])
    save_file(weights, tmp_path / "plain.safetensors")
    places = {f"{name}.": f"layer0.{place}." for place, name in enumerate(STEM) if name}
    whole: Weights = {}
    for key, tensor in weights.items():
        if not key.startswith("fc."):
            start = key[: key.index(".") + 1]
            key = places.get(start, start) + key.removeprefix(start)
            whole[f"module.{key}"] = tensor
            whole[f"module.encoder.{key.removeprefix('layer')}"] = tensor  # BAM's PSPNet names every layer twice
    whole["module.cls.0.weight"] = torch.zeros(512, 4096, 3, 3)
    torch.save({"epoch": 7, "state_dict": whole, "optimizer": {"state": {}}}, tmp_path / "best.pth")
    del whole["module.cls.0.weight"]
    one_gpu = {key.removeprefix("module."): tensor for key, tensor in whole.items()}
    torch.save({"state_dict": one_gpu}, tmp_path / "one.pth")
    files = ("plain.safetensors", "best.pth", "one.pth")
    assert len({build_backbone("resnet50_v2", tmp_path / file).fingerprint for file in files}) == 1


def refusal(name: str, weights: Weights) -> str:
    with pytest.raises(ValueError) as caught:
        load_weights(name, ARCHITECTURES[name].build(), weights, source="given.pth")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_of_another_architecture_is_named() -> None:
    deep, plain = made_up((1, 1, 6, 1)), made_up((1, 1, 6, 1), deep=False)
    assert refusal("resnet50", deep) == (
        "given.pth does not fit resnet50: it holds a ResNet-50 with a deep stem of three 3x3 convolutions "
        "(as PFENet's); choose --backbone resnet50_v2"
    )
    assert refusal("resnet50_v2", plain) == (
        "given.pth does not fit resnet50_v2: it holds a ResNet-50 with torchvision's stem, one 7x7 convolution; "
        "choose --backbone resnet50"
    )
    assert "ResNet-101" in (message := refusal("resnet50", made_up((1, 1, 23, 1), deep=False)))
    assert message.endswith("choose --backbone resnet101")
    assert refusal("resnet50_v2", made_up((1, 1, 23, 1))).endswith("choose --backbone resnet101_v2")
    assert refusal("resnet101_v2", deep).endswith("choose --backbone resnet50_v2")
    assert refusal("resnet50_v2", made_up((1, 1, 36, 1))).endswith(
        "there is no such backbone here, give resnet50_v2's weights"
    )
    assert refusal("vgg16", plain).endswith("choose --backbone resnet50")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_vgg_with_batch_norm_is_named(prefix: str) -> None:
    vgg16_bn = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.1.running_mean": torch.zeros(64)}
    base_learner = {"layer0.0.weight": torch.zeros(64, 3, 3, 3), "layer1.0.weight": torch.zeros(128, 64, 3, 3)}
    for weights in (vgg16_bn, base_learner):
        message = refusal("vgg16", {prefix + key: tensor for key, tensor in weights.items()})
        assert message == (
            "given.pth does not fit vgg16: it holds a VGG with BatchNorm (as PFENet's vgg16_bn.pth); "
            "there is no such backbone here, give vgg16's weights"
        )


@pytest.mark.parametrize("name", DEPTHS)
def test_no_default_weights(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"{name} has no default weights")) as caught:
        build_backbone(name)
    assert "--backbone-weights FILE" in str(caught.value) and "\n" not in str(caught.value)
