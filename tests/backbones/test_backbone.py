"""Backbones against plain torchvision, their freezing, and how weight files are read and refused."""

from __future__ import annotations

import hashlib
import re
import urllib.error
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from core_fixtures import Malicious, plain_weights
from places import SHARED
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dpnet_lite.backbones import backbone as backbone_module
from dpnet_lite.backbones.backbone import ARCHITECTURES, build_backbone, load_weights
from dpnet_lite.backbones.fusing import fused
from dpnet_lite.backbones.tiny_resnet import TinyResNet
from dpnet_lite.checkpoints import save_checkpoint
from dpnet_lite.storage.files import load_tensors

REAL_WEIGHTS = SHARED / "weights"
# Where torchvision's own network has the middle and the deep stage that a backbone joins.
STAGES = {
    "resnet50": ("layer2", "layer3"),
    "resnet101": ("layer2", "layer3"),
    "vgg16": ("features.22", "features.29"),
    "mobilenet_v2": ("features.6", "features.14"),
}


def random_images(height: int, width: int, count: int = 1) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(3))


def plain_network(name: str) -> nn.Module:
    """Torchvision's unchanged network in eval mode, with random weights and random BatchNorm statistics."""
    with torch.device("meta"):  # VGG-16's classifier has 120 M parameters that nothing here looks at
        network = torchvision.models.get_model(name, weights=None, init_weights=False) if name == "vgg16" else None
    if network is None:
        network = torchvision.models.get_model(name, weights=None)
    else:
        network = nn.Sequential(OrderedDict(features=network.features)).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(11)
    for key, tensor in network.state_dict().items():
        if tensor.ndim == 4:  # He initialisation, so that the signal survives the depth
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif key.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1, generator=generator)
        elif tensor.ndim == 1:
            tensor.uniform_(0.7, 1.3, generator=generator)
    return network.eval()


def stage_outputs(network: nn.Module, stages: tuple[str, str], images: Tensor) -> list[Tensor]:
    """What torchvision's network itself computes at the named modules, by forward hooks."""
    outputs: list[Tensor] = []
    hooks = [
        network.get_submodule(stage).register_forward_hook(lambda _m, _i, output: outputs.append(output.clone()))
        for stage in stages
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return outputs


def assert_close_for_its_scale(found: Tensor, expected: Tensor) -> None:
    """Random residual networks grow with depth, so rounding errors are measured against the spread."""
    torch.testing.assert_close(found / expected.std(), expected / expected.std(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", STAGES)
def test_features_equal_plain_torchvision(name: str, tmp_path: Path) -> None:
    network = plain_network(name)
    torch.save(network.state_dict(), tmp_path / "plain.pth")  # with layer4 and classifier, except for VGG
    assert_stages_equal(name, network, tmp_path / "plain.pth")


def assert_stages_equal(name: str, network: nn.Module, path: Path) -> None:
    images = random_images(64, 96, count=2)
    middle, deep = stage_outputs(network, STAGES[name], images)
    features = build_backbone(name, path)(images)
    assert features.shape[1] == middle.shape[1] + deep.shape[1] == ARCHITECTURES[name].out_channels
    assert middle.std() > 0.1 and deep.std() > 0.1  # else closeness would mean nothing
    assert_close_for_its_scale(features[:, : middle.shape[1]], middle)
    # Dilation computes the strided network's values at every second or fourth position, and others in between.
    step = middle.shape[2] // deep.shape[2]
    assert step == (4 if name == "mobilenet_v2" else 2)
    assert_close_for_its_scale(features[:, middle.shape[1] :, ::step, ::step], deep)


def test_every_position_equals_torchvisions_own_dilated_network() -> None:
    backbone = build_backbone("resnet50", "random", seed=2)
    network = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True]).eval()
    missing, unexpected = network.load_state_dict(plain_weights("resnet50", seed=2), strict=False)
    assert not unexpected and {key.split(".")[0] for key in missing} == {"layer4", "fc"}
    images = random_images(57, 41)
    assert_close_for_its_scale(backbone(images), torch.cat(stage_outputs(network, STAGES["resnet50"], images), dim=1))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_grid_is_the_size_over_the_stride_rounded_up(name: str) -> None:
    backbone = build_backbone(name, "random")
    height, width = (119, 9) if name == "tiny" else (60, 5)
    features = backbone(random_images(473, 33))
    assert features.shape == (1, backbone.out_channels, height, width)
    assert backbone.stride == (4 if name == "tiny" else 8)
    assert features.dtype == torch.float32
    assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["tiny", "resnet50", "mobilenet_v2"])
def test_frozen_even_while_the_head_trains(name: str) -> None:
    model = nn.ModuleDict({"backbone": build_backbone(name, "random")})
    backbone = model["backbone"]
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    model.train()
    assert model.training
    assert not any(module.training for module in backbone.modules())
    images = random_images(32, 32).requires_grad_()
    features = backbone(images)
    assert not features.requires_grad and features.grad_fn is None
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert before.keys() == backbone.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_half_precision_file_loads_as_float32(tmp_path: Path) -> None:
    network = plain_network("mobilenet_v2")
    half = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    full = {key: value.float() if value.is_floating_point() else value for key, value in half.items()}
    save_file(full, tmp_path / "full.safetensors")
    found = [build_backbone("mobilenet_v2", tmp_path / f"{name}.safetensors") for name in ("half", "full")]
    assert all(parameter.dtype == torch.float32 for parameter in found[0].parameters())
    assert found[0].fingerprint == found[1].fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v2"])
def test_real_weights(name: str) -> None:
    path = REAL_WEIGHTS / f"{name}_features_imagenet_fp16.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} lies beside this checkout only on the project's own machines")
    stored = {key: value.float() for key, value in load_file(path).items() if value.is_floating_point()}
    network = plain_network(name)
    network.load_state_dict(stored, strict=False)
    assert_stages_equal(name, network, path)
    if name == "mobilenet_v2":  # what comes with the package is these, to the bit
        assert build_backbone(name).fingerprint == build_backbone(name, path).fingerprint


def test_wrong_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    body = ARCHITECTURES["resnet50"].build()
    state = body.state_dict()
    deep_stem = {**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}  # as PFENet's resnet50_v2.pth
    too_deep = {**state, "layer3.6.conv1.weight": torch.zeros(2, 2)}  # as ResNet-101
    incomplete = {key: value for key, value in state.items() if key != "layer2.0.bn1.running_mean"}
    for message, wrong in {
        "conv1.weight is [64, 3, 3, 3], expected [64, 3, 7, 7]": deep_stem,
        "layer3.6.conv1.weight [2, 2] is not expected": too_deep,
        "layer2.0.bn1.running_mean [128] is missing": incomplete,
    }.items():
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            load_weights("resnet50", body, wrong, source="wrong.pth")
        assert "\n" not in str(caught.value) and str(caught.value).startswith("wrong.pth does not fit resnet50")
        assert "choose another backbone" in str(caught.value)
    save_file(TinyResNet((8, 8, 8)).state_dict(), tmp_path / "thin.safetensors")
    with pytest.raises(ValueError, match=r"thin\.safetensors does not fit tiny: stem\.0\.weight is \[8, 3, 3, 3\]"):
        build_backbone("tiny", tmp_path / "thin.safetensors")


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="'alexnet': choose one of tiny, resnet50, resnet101, resnet50_v2"):
        build_backbone("alexnet")
    with pytest.raises(ValueError, match="precision 'fp16': choose one of fp32, bf16"):
        build_backbone("tiny", "random", precision="fp16")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        build_backbone("tiny", "nowhere.safetensors")
    backbone = build_backbone("tiny", "random")
    for images in (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8)):
        with pytest.raises(ValueError, match="give normalised float32"):
            backbone(images)


def test_default_weights_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_module, "TINY_WEIGHTS", tmp_path / "tiny.safetensors")
    with pytest.raises(FileNotFoundError, match="`dpnet-lite pretrain`"):
        build_backbone("tiny")

    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torchvision.models.ResNet50_Weights, "get_state_dict", no_network)
    with pytest.raises(FileNotFoundError, match=r"no route.*--backbone-weights FILE"):
        build_backbone("resnet50")
    monkeypatch.setattr(torchvision.models.MobileNet_V2_Weights, "get_state_dict", no_network)
    assert build_backbone("mobilenet_v2").fingerprint != build_backbone("mobilenet_v2", "random").fingerprint


@pytest.mark.parametrize("name", ["vgg16-397923af.pth", "vgg16-HASH.pth"])
def test_a_file_in_pytorchs_cache_is_no_more_trusted_than_any_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision looks at the hash only as it downloads, and runs what is pickled in its file."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    torch.save({"features.0.weight": Malicious(tmp_path / "ran")}, tmp_path / "file")
    digest = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    path = tmp_path / "checkpoints" / name.replace("HASH", digest[:8])
    path.parent.mkdir()
    (tmp_path / "file").rename(path)
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights.value, "url", f"https://nowhere.invalid/{path.name}", raising=False)
    message = r"\.pth (is not what was published .* delete it to get it again|cannot be read as plain tensors)"
    with pytest.raises(ValueError, match=message):
        build_backbone("vgg16")
    assert not (tmp_path / "ran").exists()


def test_shipped_mobilenet_is_fifteen_trained_blocks_in_float16() -> None:
    backbone = build_backbone("mobilenet_v2")
    weights = load_tensors(backbone_module.MOBILENET_WEIGHTS)
    assert {key.split(".")[1] for key in weights} == {str(block) for block in range(15)}
    assert all(tensor.dtype == torch.float16 for tensor in weights.values())
    norms = backbone.state_dict()["body.features.0.0.weight"].flatten(1).norm(dim=1)
    assert norms.max() > 10 * norms.min()  # those of random filters are nearly alike


def test_shipped_tiny_weights_are_what_pretraining_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = TinyResNet(n_classes=7).eval()
    save_checkpoint(tmp_path / "tiny.safetensors", pretrained.state_dict(), {"seed": 0})
    monkeypatch.setattr(backbone_module, "TINY_WEIGHTS", tmp_path / "tiny.safetensors")
    images = random_images(96, 96)
    with torch.no_grad():
        expected = pretrained.features(images)
        assert pretrained(images).shape == (1, 7, 24, 24)
    torch.testing.assert_close(build_backbone("tiny")(images), expected, rtol=1e-4, atol=1e-4)


def test_tiny_resnet_is_tiny_and_learns() -> None:
    network = TinyResNet(n_classes=5)
    assert 0.35e6 < sum(parameter.numel() for parameter in network.parameters()) < 0.45e6
    network(random_images(16, 16, count=2)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_seed_decides_and_the_global_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (build_backbone("tiny", "random", seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(first(random_images(16, 16)), again(random_images(16, 16)))


def test_fingerprint_sees_one_changed_weight(tmp_path: Path) -> None:
    state = TinyResNet().state_dict()
    save_file(state, tmp_path / "a.safetensors")
    state["stage3.1.conv2.weight"][0, 0, 0, 0] += 1e-3
    save_file(state, tmp_path / "b.safetensors")
    first, second = (build_backbone("tiny", tmp_path / f"{letter}.safetensors") for letter in "ab")
    assert first.fingerprint != second.fingerprint
    assert len(first.fingerprint) == 64


def test_bf16_is_close_and_returns_float32() -> None:
    exact, fast = (build_backbone("tiny", "random", precision=precision) for precision in ("fp32", "bf16"))
    images = random_images(32, 32)
    features = fast(images)
    assert features.dtype == torch.float32
    relative_error = (features - exact(images)).norm() / exact(images).norm()
    assert 1e-4 < relative_error < 0.03  # exactly equal would mean that bfloat16 was never used
    assert exact.fingerprint == fast.fingerprint and exact.cache_key != fast.cache_key
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the caller's mixed precision must not leak in
        assert torch.equal(exact(images), exact(images))
        inside = exact(images)
    assert torch.equal(inside, exact(images))


def test_few_pixels_go_through_at_once_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, images, sizes = build_backbone("tiny", "random"), random_images(32, 40, count=7), []
    whole = backbone(images)
    monkeypatch.setitem(backbone_module._AT_ONCE, "cpu", 3 * 32 * 40 + 1)
    backbone.body.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    torch.testing.assert_close(backbone(images), whole)
    assert sizes == [3, 3, 1] and whole.is_contiguous(memory_format=torch.channels_last)


class _Odd(nn.Module):
    """A sum with a number, which is not fused; one with the convolution last; a convolution that has two users."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2 = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.conv3, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.bn1(self.conv1(x)) + 1.0)
        second = self.relu(first + self.conv2(first))
        third = self.conv3(second)
        return torch.relu(third) + third


def test_fused_networks_equal_plain_ones_whatever_stands_around_a_convolution() -> None:
    torch.manual_seed(0)
    network, x = _Odd().eval(), torch.randn(2, 3, 5, 4)
    network.bn1.running_mean.normal_()
    network.bn1.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(fused(network)(x), expected, rtol=1e-5, atol=1e-5)
